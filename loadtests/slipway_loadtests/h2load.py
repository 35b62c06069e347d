"""What h2load is told and what it tells: its command line, its last lines and its log. Pure."""

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway_wire.loads import LoadOrder, LoadWindow
from slipway_wire.payloads import Payload
from slipway_wire.samples import Samples

PROGRAM = "h2load"
# What it says when the load begins.
STARTED = "Main benchmark duration is started"
# Before the window begins and after it ends, for the window is announced when the load has begun; and on a busy machine its end
# is seen late: what an h2load that has gone used cannot be read any more.
_LONGER_S = 0.5
LOST = "connection lost"
_OK = 200
_GRPC_PREFIX_BYTES = 5


def is_here() -> bool:
    """Say whether h2load is installed (Debian: nghttp2-client)."""
    return shutil.which(PROGRAM) is not None


@dataclass(frozen=True, slots=True)
class Told:
    """
    What h2load prints at its end.

    Attributes:
        done: Requests that were answered.
        lost: Requests that got no answer.
        data_bytes: Received as bodies.
    """

    done: int
    lost: int
    data_bytes: int


def command(order: LoadOrder, payload: Payload, body: Path, log: Path) -> list[str]:
    """
    Write the command line that makes the load of *order*.

    Args:
        order: A closed loop, or a rate; every connection has an equal share of it, at even intervals.
        payload: What is sent.
        body: File with the request's body; of gRPC with the five bytes in front of a message.
        log: File for a line per request; h2load appends to it.
    """
    seconds = order.warmup_s + order.window_s + _LONGER_S
    words = [PROGRAM, "-t1", f"-c{order.users}", "-m1", "-D", f"{round(seconds * 1000)}ms"]
    words += ["-d", str(body), f"--log-file={log}"]
    if order.rate is not None:
        words += ["--rps", f"{order.rate / order.users:g}"]
    if order.protocol == "rest":
        words += ["--h1", "-H", "content-type: application/json"]
        path = payload.rest_path
    else:
        words += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        path = payload.grpc_method
    host = f"[{order.host}]" if ":" in order.host else order.host
    return [*words, f"http://{host}:{order.port}{path}"]


def parse_told(output: str) -> Told:
    """
    Read what h2load printed.

    Raises:
        ValueError: If its last lines are not there.
    """
    requests = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    traffic = re.search(r"traffic: .*\((\d+)\) data", output)
    if requests is None or traffic is None:
        raise ValueError(f"{PROGRAM} ended without its numbers; its last words: {output.strip()[-300:] or 'none'}")
    return Told(int(requests[1]), int(requests[4]) + int(requests[5]), int(traffic[1]))


def parse_log(text: str, window: LoadWindow, wall_ns: int) -> tuple[Samples, Counter[str]]:
    """
    Make samples of h2load's log.

    Args:
        text: A line for each request: when it left (µs since the epoch), status, µs until its answer was complete.
        window: When the load took place.
        wall_ns: What the wall clock shows when CLOCK_MONOTONIC shows 0.

    Returns:
        The samples, in which every request was due when it left; and the errors by kind.
    """
    # A later h2load may add columns.
    columns = len(text.partition("\n")[0].split()) or 3
    rows = np.array(text.split(), np.int64).reshape(-1, columns)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    planned_us = rows[:, 0] - (wall_ns + window.origin_ns) // 1000
    end_us = (window.end_ns - window.origin_ns) // 1000
    # It begins before the load that was announced, and ends after it.
    ours = (planned_us >= 0) & (planned_us < end_us)
    rows, planned_us = rows[ours], planned_us[ours]
    failed = rows[:, 1] != _OK
    errors = Counter(f"HTTP {status}" if status > 0 else LOST for status in rows[failed, 1].tolist())
    made = Samples(
        origin_ns=window.origin_ns,
        begin_us=(window.begin_ns - window.origin_ns) // 1000,
        end_us=end_us,
        planned_us=planned_us,
        slip_us=np.zeros(len(rows), np.int64),
        service_us=rows[:, 2],
        failed=failed,
    )
    return made, errors


def wrong_size(order: LoadOrder, told: Told, answer_bytes: int) -> str | None:
    """Say how the answers' size differs from that of the right answer, *answer_bytes* each; None if it does not."""
    each = answer_bytes + (_GRPC_PREFIX_BYTES if order.protocol == "grpc" else 0)
    # Each connection may end within an answer.
    if abs(told.data_bytes - told.done * each) <= order.users * each:
        return None
    return f"{told.data_bytes} bytes are no {told.done} answers of {each} bytes"

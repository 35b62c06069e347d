"""
h2load behind the same orders: a load generator in C that shares no line with ours, and so can tell whether ours is right.

It sends one payload again and again, and looks at no answer. So the payload is sent once by our own client first, and that
answer is judged; h2load's must then be of the same size, for to h2load a gRPC error is a success like any other. It tells
when a request left, never when it was due, and says nothing of requests that were under way when its time was over.
"""

import contextlib
import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gevent

from slipway_loadtests import grpc_user, rest_user
from slipway_loadtests.alarm import Alarm, now_ns
from slipway_loadtests.answers import Answers
from slipway_loadtests.connections import RequestFailed
from slipway_loadtests.h2c import message
from slipway_loadtests.h2load import LOST, PROGRAM, STARTED, Told, command, parse_log, parse_told, wrong_size
from slipway_wire import samples
from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow
from slipway_wire.payloads import Payload

_NOTICE_NS = 20_000_000
# To write its log and its numbers.
_PATIENCE_S = 30.0
# For one answer.
_ANSWER_S = 60.0
# What h2load did if it ended without its numbers, or did not end: an error of this order; the next one is served.
FAILED = f"{PROGRAM} failed"
# The window, h2load's log, what it told, and its CPU time at the begin and at the end of the window.
_Loaded = tuple[LoadWindow, str, Told, list[tuple[int, int]]]


def run(order: LoadOrder, payload: Payload, answers: Answers, announce: Callable[[LoadWindow], object]) -> LoadOutcome:
    """
    Run one load to its end and write its samples.

    Args:
        order: What to do.
        payload: The first of those that *order* is about; the others are not sent.
        answers: Where the answer to our own client is judged.
        announce: Told of the window before the first request leaves.

    Raises:
        ValueError: If *order* asks for what h2load cannot do. An h2load that fails is an error of the outcome.
    """
    told_when = order.requests is not None or order.steps or order.origin_ns or order.generators > 1
    if told_when or order.encoding != "prebuilt" or order.tls:
        raise ValueError(
            f"{PROGRAM} makes a closed loop or one rate, from when it has started, of a request made beforehand, without TLS"
        )
    if order.alternatives or order.numbered:
        raise ValueError(f"{PROGRAM} sees no answers and sends one payload: it cannot tell one from another")
    answer, refusal = _ask(order, payload)
    if answer is not None:
        answers.see(0, answer)
        loaded, refusal = _try_to_load(order, payload, announce)
    else:
        # A server that does not answer once gets no load.
        loaded = _nothing(announce)
    window, text, told, cpu = loaded
    wall_ns = time.time_ns() - now_ns()
    found, errors = parse_log(text, window, wall_ns)
    samples.write(Path(order.samples), found)
    fault = None
    if refusal is not None:
        errors[refusal.kind] += 1
    elif told.lost > errors[LOST]:
        errors[LOST] = told.lost
    elif answer is not None and not errors and (fault := wrong_size(order, told, len(answer))):
        errors["answers of another size"] += 1
    verdict = answers.judge()
    (cpu_from, cpu_before), (cpu_to, cpu_after) = cpu
    return LoadOutcome(
        requests=len(found.planned_us),
        errors=dict(errors),
        first_error=str(refusal) if refusal else fault or next(iter(errors), None),
        checked_answers=verdict.checked,
        wrong_answers=verdict.wrong,
        first_wrong=verdict.first_wrong,
        connections=order.users,
        bytes_sent=None,
        bytes_received=None,
        cpu_ns=max(cpu_after - cpu_before, 0),
        cpu_from_ns=cpu_from,
        cpu_to_ns=cpu_to,
        lag_p99_us=0.0,
        lag_max_us=0.0,
    )


def _ask(order: LoadOrder, payload: Payload) -> tuple[bytes | None, RequestFailed | None]:
    """Send *payload* once by our own client; give the answer, or why there is none."""
    user = rest_user if order.protocol == "rest" else grpc_user
    try:
        connection = user.connect(order.host, order.port, payload)
        try:
            with gevent.Timeout(_ANSWER_S, RequestFailed("timeout", f"no answer within {_ANSWER_S:.0f} s")):
                body = user.encode(payload, "prebuilt")
                return connection.call(user.frame(payload, order.host, order.port, body)), None
        finally:
            connection.close()
    except RequestFailed as failure:
        return None, failure


def _try_to_load(
    order: LoadOrder, payload: Payload, announce: Callable[[LoadWindow], object]
) -> tuple[_Loaded, RequestFailed | None]:
    """Run h2load; if it fails, give a load of nothing and what failed."""
    announced: list[LoadWindow] = []

    def announce_once(window: LoadWindow) -> None:
        announced.append(window)
        announce(window)

    try:
        return _load(order, payload, announce_once), None
    except (OSError, ValueError, subprocess.TimeoutExpired) as failure:
        return _nothing(announce, *announced), RequestFailed(FAILED, str(failure))


def _nothing(announce: Callable[[LoadWindow], object], window: LoadWindow | None = None) -> _Loaded:
    """Give a load without a request, in *window* if one was announced."""
    if window is None:
        window = LoadWindow(origin_ns=now_ns(), begin_ns=now_ns(), end_ns=now_ns())
        announce(window)
    return window, "", Told(0, 0, 0), [(window.begin_ns, 0), (window.end_ns, 0)]


def _load(order: LoadOrder, payload: Payload, announce: Callable[[LoadWindow], object]) -> _Loaded:
    """Run h2load to its end."""
    with tempfile.TemporaryDirectory(prefix="slipway-h2load-") as directory:
        body, log = Path(directory, "body"), Path(directory, "log")
        body.write_bytes(payload.rest_body if order.protocol == "rest" else message(payload.grpc_message))
        process = subprocess.Popen(
            command(order, payload, body, log), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        try:
            # On a busy machine a program may take longer to start than the whole window.
            begun = list(itertools.takewhile(lambda line: STARTED not in line, process.stdout))
            origin = now_ns() + _NOTICE_NS
            begin = origin + round(order.warmup_s * 1e9)
            window = LoadWindow(origin_ns=origin, begin_ns=begin, end_ns=begin + round(order.window_s * 1e9))
            announce(window)
            cpu = []
            for moment in (window.begin_ns, window.end_ns):
                _sleep_until(moment)
                cpu.append((now_ns(), _cpu_ns(process.pid)))
            output, _ = process.communicate(timeout=order.drain_s + _PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        text = log.read_text(encoding="ascii") if log.exists() else ""
        return window, text, parse_told("".join(begun) + output), cpu


def _cpu_ns(pid: int) -> int:
    """CPU time of a process with all its threads; 0 once it has ended."""
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(file.read_text(encoding="ascii").split()[0])
    return total


def _sleep_until(time_ns: int) -> None:
    alarm = Alarm()
    try:
        alarm.wait_until(time_ns)
    finally:
        alarm.close()

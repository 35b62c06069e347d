"""A line for each answered request, written by a thread of its own."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway_server.background import Background
from slipway_server.metrics import STAGES
from slipway_server.serving import Exchange
from slipway_wire.status import Code

logger = logging.getLogger("slipway_server.access")

# Of lines that wait to be written; some 10 MB.
_MAX_LINES = 20_000

# The server's own faults; everything else is the caller's, or the times'.
_FAULTS = frozenset({Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS})


@dataclass(frozen=True, slots=True)
class _Line:
    when: float
    is_fault: bool
    fields: Mapping[str, Any]


class AccessLog:
    """
    An observer of `Serving`.

    Lines tell protocol, method, model, version, signature, status, latency and stages (ms), rows, sizes (bytes), request id,
    trace id and, if something went wrong, the message that the caller got.
    """

    def __init__(self, mode: str, sample_rate: float, dropped: Callable[[], None]) -> None:
        """
        Start the writing thread.

        Args:
            mode: `errors`: only of requests that were not answered OK; `all`: of those and the others.
            sample_rate: Share, 0 to 1, of the requests answered OK that get a line.
            dropped: Told of each line for which there was no room.
        """
        self._rate = sample_rate if mode == "all" else 0.0
        self._writer = Background("access_log", _write, max_items=_MAX_LINES, max_bytes=1 << 62, dropped=dropped)

    def __call__(self, exchange: Exchange) -> None:
        """Take note of one request that has ended."""
        if exchange.code is Code.OK and self._rate < 1.0 and random.random() >= self._rate:  # noqa: S311  # no secret
            return
        self._writer.put(_Line(time.time(), exchange.code in _FAULTS, fields_of(exchange)))

    def stop(self, timeout_s: float) -> None:
        """Write what waits."""
        self._writer.stop(timeout_s)


def fields_of(exchange: Exchange) -> dict[str, Any]:
    """Return what a line tells of *exchange*, in the order it tells it; what is not known is left out."""
    caller = exchange.caller
    found: dict[str, Any] = {
        "protocol": exchange.protocol,
        "method": exchange.api,
        "model": exchange.model,
        "version": exchange.version and int(exchange.version),
        "signature": exchange.signature,
        "status": exchange.code.name,
        "latency_ms": _milliseconds(exchange.latency_s),
    }
    for stage, seconds in zip(STAGES, exchange.stages_s, strict=True):
        found[f"{stage}_ms"] = None if seconds is None else _milliseconds(seconds)
    found |= {
        "rows": exchange.rows,
        "request_bytes": len(exchange.body),
        "response_bytes": len(exchange.response),
        "request_id": caller.request_id if caller else "",
        "trace_id": caller.trace.trace_id if caller and caller.trace else "",
        "peer": caller.peer if caller else "",
        "error": exchange.message,
    }
    return {name: value for name, value in found.items() if value not in {None, ""}}


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _write(lines: Sequence[_Line]) -> None:
    for line in lines:
        level = logging.ERROR if line.is_fault else logging.INFO
        text = " ".join(f"{name}={_quoted(value)}" for name, value in line.fields.items())
        record = logger.makeRecord(logger.name, level, "access", 0, "%s", (text,), None, extra={"fields": line.fields})
        record.created, record.msecs = line.when, (line.when % 1) * 1000
        logger.handle(record)


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and not set(text) & set(' "=\n\r\t') else '"' + text.translate(_ESCAPES) + '"'


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})

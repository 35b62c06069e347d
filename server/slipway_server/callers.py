"""What a request says of whoever sent it: a request id and W3C trace context. Text in, values out."""

import itertools
import re
import secrets
from typing import NamedTuple

REQUEST_ID = "x-request-id"
"""The REST header and the gRPC metadata key, both ways."""

TRACEPARENT = "traceparent"

# What can stand in a header, a log line and a shell without being quoted, and is no longer than any id in use.
_USABLE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# Source: https://www.w3.org/TR/trace-context/#traceparent-header. Later versions may add fields behind the flags.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


class TraceParent(NamedTuple):
    """The caller's span."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    is_sampled: bool


class Caller(NamedTuple):
    """Who sent a request."""

    request_id: str = ""
    trace: TraceParent | None = None
    peer: str = ""


class Callers:
    """Finds out who sent a request, as far as somebody wants to know; else it costs two look-ups of headers."""

    def __init__(self, *, makes_ids: bool = False) -> None:
        """
        Begin.

        Args:
            makes_ids: Give an id to a request that brings none.
        """
        self.makes_ids = makes_ids
        # A server's ids begin alike, and no two servers' do.
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def of(self, request_id: str | bytes | None, traceparent: str | bytes | None, peer: str = "") -> Caller | None:
        """
        Make a Caller, or None if there is nothing to say.

        Args:
            request_id: As sent. One that is too long or could not stand in a log line is passed over.
            traceparent: As sent; passed over if malformed, as the standard demands.
            peer: Where the request came from.
        """
        if request_id is None and traceparent is None and not self.makes_ids:
            return None
        found = _usable(request_id) or (self.new_id() if self.makes_ids else "")
        trace = parse_traceparent(_text(traceparent)) if traceparent is not None else None
        return Caller(found, trace, peer) if found or trace else None

    def new_id(self) -> str:
        """Make a request id that no other request has."""
        return f"{self._prefix}{next(self._numbers):08x}"


def parse_traceparent(text: str) -> TraceParent | None:
    """Read a traceparent header; None if it is malformed."""
    match = _TRACEPARENT.fullmatch(text.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def _usable(request_id: str | bytes | None) -> str:
    text = _text(request_id)
    return text if _USABLE_ID.fullmatch(text) else ""


def _text(value: str | bytes | None) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value or ""

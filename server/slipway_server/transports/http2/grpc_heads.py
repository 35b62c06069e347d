"""
What the head of a gRPC call says, and the heads and trailers of its answer.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import base64
import binascii
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from slipway_server.callers import REQUEST_ID, TRACEPARENT, Callers
from slipway_server.transports.http2.headers import Block, Field, Head
from slipway_server.transports.rpc import Incoming, Method, Services, Together, Unary, besides, details
from slipway_wire.status import Code, Internal, InvalidArgument, ResourceExhausted, Unimplemented, WireError

Encoding = Literal["identity", "gzip", "deflate"]
Routes = Mapping[bytes, Method]

_ENCODINGS: dict[bytes, Encoding] = {b"identity": "identity", b"gzip": "gzip", b"deflate": "deflate"}
_ACCEPTED = (b"grpc-accept-encoding", b"identity, deflate, gzip")
_CONTENT_TYPE = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# What belongs to the protocol and is no metadata of the caller's.
_RESERVED = frozenset({b"content-type", b"te", b"content-length", b"host"})
_NOT_PLAIN = re.compile(rb"[^ -$&-~]")

_NO_ONE = Incoming()

_RESPONSE: tuple[Field, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
ANSWER_HEAD = Block((*_RESPONSE, _ACCEPTED), ends_stream=False)
OK_TRAILERS = Block([(b"grpc-status", b"0")], ends_stream=True)


@dataclass(frozen=True, slots=True)
class CallHead:
    """
    What a call's head means.

    Attributes:
        method: What answers it; None if it is refused.
        incoming: For the method. Its timeout counts from the head on.
        encoding: How messages with the compressed flag are compressed.
        refusal: What it is answered instead, as it stands.
        needs_id: It has no request id and gets one; all else is the same for every call with this head.
        together: Where calls with this head may go on together with others.
    """

    method: Method | None
    incoming: Incoming = _NO_ONE
    encoding: Encoding = "identity"
    refusal: Block | None = None
    needs_id: bool = False
    together: Together | None = None


def routes_of(services: Services) -> Routes:
    """Return `:path` -> method."""
    return {
        f"/{service}/{name}".encode(): method
        for service, methods in services.items()
        for name, method in methods.items()
    }


def reader_of(routes: Routes, peer: str, callers: Callers) -> Callable[[Head], CallHead]:
    """Return what reads the heads of a connection with *peer*; it never raises."""

    def read(head: Head) -> CallHead:
        try:
            return _read(head, routes, peer, callers)
        except WireError as error:
            return CallHead(None, refusal=trailers_only(error))

    return read


def _read(head: Head, routes: Routes, peer: str, callers: Callers) -> CallHead:
    if head.is_too_large:
        raise ResourceExhausted("received metadata size exceeds the limit (grpc.max_metadata_size)")
    if head.method != b"POST":
        return CallHead(None, refusal=Block([(b":status", b"405"), (b"allow", b"POST")], ends_stream=True))
    fields = dict(head.fields)
    if not _CONTENT_TYPE.fullmatch(fields.get(b"content-type", b"")):
        return CallHead(None, refusal=Block([(b":status", b"415")], ends_stream=True))
    method = routes.get(head.path)
    if method is None:
        raise Unimplemented("Method not found!")
    encoding = _ENCODINGS.get(fields.get(b"grpc-encoding", b"identity"))
    if encoding is None:
        raise Unimplemented(
            f"grpc-encoding {fields[b'grpc-encoding'][:50]!r} is not known; send identity, deflate or gzip"
        )
    timeout_s = math.inf
    if (timeout := fields.get(b"grpc-timeout")) is not None:
        timeout_s = read_timeout(timeout)
    metadata = _metadata(head)
    incoming = with_caller(Incoming(timeout_s, metadata, peer), callers)
    # An id that is made is another one for each call; one that was sent is part of the head.
    needs_id = callers.makes_ids and (incoming.caller is None or incoming.caller.request_id != metadata.get(REQUEST_ID))
    # What is said back to one caller, another must not hear.
    together = method.together if isinstance(method, Unary) and not needs_id and incoming.caller is None else None
    return CallHead(method, incoming, encoding, needs_id=needs_id, together=together)


def with_caller(incoming: Incoming, callers: Callers) -> Incoming:
    """Return *incoming* with its caller."""
    caller = callers.of(incoming.metadata.get(REQUEST_ID), incoming.metadata.get(TRACEPARENT), incoming.peer)
    return incoming if caller is None else dataclasses.replace(incoming, caller=caller)


def read_timeout(text: bytes) -> float:
    """
    Read `grpc-timeout`, in seconds.

    Raises:
        Internal: It is malformed; the code is what gRPC's other servers answer.
    """
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise Internal(f"malformed grpc-timeout {text[:20]!r}; at most eight digits and one of H, M, S, m, u, n")
    return int(match[1]) * _UNITS_S[match[2]]


def _metadata(head: Head) -> dict[str, str | bytes]:
    metadata: dict[str, str | bytes] = {}
    for name, value in head.fields:
        if name in _RESERVED or name.startswith(b"grpc-"):
            continue
        if name.endswith(b"-bin"):
            # Repeated values may be joined by commas; the last counts.
            metadata[name.decode()] = _from_base64(name, value.rsplit(b",", 1)[-1].strip())
        else:
            metadata[name.decode()] = value.strip(b" \t").decode("latin-1")
    return metadata


def _from_base64(name: bytes, value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"metadata {name.decode()}: the value is not base64") from error


def ok_trailers(request_id: str) -> Block:
    """Make the end of a good answer."""
    if not request_id:
        return OK_TRAILERS
    return Block([(b"grpc-status", b"0"), (REQUEST_ID.encode(), request_id.encode())], ends_stream=True)


def trailers(error: WireError, request_id: str = "") -> Block:
    """Make the end of an answer that has begun."""
    return _trailers(error.code, details(error.message), besides(error), request_id, is_only=False)


def trailers_only(error: WireError, request_id: str = "") -> Block:
    """Make a whole answer that tells *error*."""
    return _trailers(error.code, details(error.message), besides(error), request_id, is_only=True)


@lru_cache(maxsize=256)
def _trailers(
    code: Code, message: str, more: tuple[tuple[str, str | bytes], ...], request_id: str, *, is_only: bool
) -> Block:
    fields: list[Field] = [*_RESPONSE, _ACCEPTED] if is_only else []
    fields.append((b"grpc-status", b"%d" % code))
    if message:
        fields.append((b"grpc-message", percent_encoded(message)))
    for name, value in more:
        encoded = base64.b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode()
        fields.append((name.encode(), encoded))
    if request_id:
        fields.append((REQUEST_ID.encode(), request_id.encode()))
    return Block(fields, ends_stream=True)


def percent_encoded(message: str) -> bytes:
    """Write `grpc-message`: UTF-8, what is not printable ASCII and `%` as %XX."""
    return _NOT_PLAIN.sub(lambda match: b"%%%02X" % match[0][0], message.encode(errors="replace"))

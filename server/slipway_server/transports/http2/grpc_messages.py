"""
gRPC's messages in a body: five bytes in front of each say whether it is compressed, and its length.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import struct
import zlib

from slipway_server.transports.http2.connection import Chunk
from slipway_server.transports.http2.grpc_heads import Encoding
from slipway_server.transports.http2.limits import Held, Limits
from slipway_wire.status import Internal, ResourceExhausted

PREFIX_BYTES = 5
prefix = struct.Struct(">BL").pack
_read_prefix = struct.Struct(">BL").unpack_from

# Chunks shorter than this are put together as they come: as objects of their own they would take many times their length.
_SHORT = 4096
# The `wbits` of zlib for each encoding.
_FORMATS = {"gzip": 31, "deflate": 15}


class MessageReader:
    """Puts the messages of one body together; `forget` it when they are not needed any more."""

    __slots__ = ("_have", "_held", "_held_bytes", "_limit", "_need", "_parts")

    def __init__(self, limits: Limits, held: Held) -> None:
        self._limit = limits.max_message_bytes
        self._held = held
        self._held_bytes = 0
        self._parts: list[Chunk | bytearray] = []
        self._have = 0
        self._need = 0

    def feed(self, chunk: Chunk) -> list[tuple[int, bytes]]:
        """
        Take the next part of the body.

        Returns:
            The messages that it completes: flag, message as sent.

        Raises:
            ResourceExhausted: A message is too long, or the server holds too much already.
        """
        self._hold(len(chunk))
        self._have += len(chunk)
        parts = self._parts
        if len(chunk) >= _SHORT or not parts:
            parts.append(chunk)
        elif isinstance(parts[-1], bytearray):
            parts[-1] += chunk
        else:
            parts.append(bytearray(chunk))
        if self._have < (self._need or PREFIX_BYTES):
            return []
        if not self._need:
            if len(parts[0]) < PREFIX_BYTES:
                parts[:] = [b"".join(parts)]
            self._need = self._need_of(parts[0], 0)
            if self._have < self._need:
                return []
        return self._cut()

    def _cut(self) -> list[tuple[int, bytes]]:
        messages = []
        if self._have == self._need:
            # The usual case: one message and nothing behind it; copied once.
            flag = self._parts[0][0]
            first = memoryview(self._parts[0])[PREFIX_BYTES:]
            messages.append((flag, b"".join([first, *self._parts[1:]])))
            self._parts, self._have, self._need = [], 0, 0
            return messages
        data = b"".join(self._parts)
        at = 0
        while self._need and len(data) - at >= self._need:
            messages.append((data[at], data[at + PREFIX_BYTES : at + self._need]))
            at += self._need
            self._need = self._need_of(data, at) if len(data) - at >= PREFIX_BYTES else 0
        rest = data[at:]
        self._parts, self._have = [rest] if rest else [], len(rest)
        return messages

    def _need_of(self, data: Chunk | bytearray, at: int) -> int:
        length: int = _read_prefix(data, at)[1]
        if length > self._limit:
            raise ResourceExhausted(f"SERVER: Received message larger than max ({length} vs. {self._limit})")
        return PREFIX_BYTES + length

    def _hold(self, number: int) -> None:
        self._held.now += number
        self._held_bytes += number
        if self._held.is_full:
            raise self._held.refusal()

    @property
    def missing(self) -> int:
        """Bytes that the present message lacks; 0 while its length is unknown."""
        return max(self._need - self._have, 0)

    @property
    def is_between(self) -> bool:
        """Whether no message has begun."""
        return not self._have

    def release(self, number: int) -> None:
        """Count *number* bytes out: they have been used."""
        number = min(number, self._held_bytes)
        self._held.now -= number
        self._held_bytes -= number

    def forget(self) -> None:
        """Count everything out."""
        self._held.now -= self._held_bytes
        self._held_bytes = 0
        self._parts = []


def decompressed(flag: int, message: bytes, encoding: Encoding, limit: int) -> bytes:
    """
    Return what a message stands for.

    Args:
        flag: In front of the message; 1 if it is compressed.
        message: As sent.
        encoding: What the head said.
        limit: Longest result, bytes.

    Raises:
        Internal: Flag and encoding, or encoding and message, do not fit.
        ResourceExhausted: The result is longer than *limit*.
    """
    if not flag:
        return message
    if flag != 1 or encoding == "identity":
        raise Internal("a message is flagged as compressed, and the head named no grpc-encoding")
    stream = zlib.decompressobj(_FORMATS[encoding])
    try:
        plain = stream.decompress(message, limit + 1)
    except zlib.error as error:
        raise Internal(f"Failed to decompress message: {error}") from error
    if len(plain) > limit:
        raise ResourceExhausted(
            f"SERVER: Received message larger than max after decompression (more than {limit} bytes)"
        )
    if not stream.eof or stream.unused_data:
        raise Internal(f"Failed to decompress message: no whole {encoding} stream")
    return plain

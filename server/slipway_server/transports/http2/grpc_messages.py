"""
gRPC's messages in a body: five bytes in front of each say whether it is compressed, and its length.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import io
import struct
import zlib

from slipway_server.transports.held import Held
from slipway_server.transports.http2.connection import Chunk
from slipway_server.transports.http2.grpc_heads import Encoding
from slipway_server.transports.http2.limits import Limits
from slipway_wire.status import Internal, ResourceExhausted

PREFIX_BYTES = 5
prefix = struct.Struct(">BL").pack
_read_prefix = struct.Struct(">BL").unpack_from

# Chunks shorter than this are put together as they come: as objects of their own they would take many times their length.
_SHORT = 4096
# What is handed to zlib at a time.
_PIECE_BYTES = 64 * 1024
# The `wbits` of zlib for each encoding.
_FORMATS = {"gzip": 31, "deflate": 15}


class MessageReader:
    """Puts the messages of one body together; `forget` it when they are not needed any more."""

    __slots__ = ("_have", "_held", "_held_bytes", "_limit", "_need", "_parts")

    def __init__(self, limits: Limits, held: Held) -> None:
        # What can never be held is not a matter of trying again later.
        self._limit = min(limits.max_message_bytes, held.limit)
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
        self.hold(len(chunk))
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

    def hold(self, number: int) -> None:
        """Count *number* bytes in; ResourceExhausted if that is more than there may be, and they count all the same."""
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


class Inflater:
    """What a compressed message stands for, made in steps: none takes long, and what each takes can be asked for first."""

    def __init__(self, flag: int, message: bytes, encoding: Encoding, limit: int) -> None:
        """
        Begin.

        Args:
            flag: In front of the message, not 0; 1 says that it is compressed.
            message: As sent.
            encoding: What the head said.
            limit: Longest result, bytes.

        Raises:
            Internal: Flag and encoding do not fit.
        """
        if flag != 1 or encoding == "identity":
            raise Internal("a message is flagged as compressed, and the head named no grpc-encoding")
        self._compressed = memoryview(message)
        self._at = 0
        self._encoding = encoding
        self._stream = zlib.decompressobj(_FORMATS[encoding])
        # Grows in place, and gives what it has without a copy.
        self._plain = io.BytesIO()
        self._limit = limit

    @property
    def is_done(self) -> bool:
        """Whether `plain` is all of it."""
        return self._stream.eof

    def step(self, most: int) -> int:
        """
        Inflate until *most* bytes more have come, or about as many have been read: of some, nothing comes.

        Not on two threads at once.

        Returns:
            How many came.

        Raises:
            Internal: Encoding and message do not fit.
            ResourceExhausted: The result is longer than the limit.
        """
        stream, came, read = self._stream, 0, 0
        room = min(most, self._limit + 1 - self._plain.tell())
        while came < room and read < most and not stream.eof:
            # A piece at a time: what is left of it is copied with each call.
            piece: Chunk = stream.unconsumed_tail
            if not piece:
                piece = self._compressed[self._at : self._at + _PIECE_BYTES]
                self._at += len(piece)
                read += len(piece)
            try:
                plain = stream.decompress(piece, room - came)
            except zlib.error as error:
                raise Internal(f"Failed to decompress message: {error}") from error
            if not plain and not piece:
                raise self._no_whole_stream()
            came += len(plain)
            self._plain.write(plain)
        if self._plain.tell() > self._limit:
            raise ResourceExhausted(
                f"SERVER: Received message larger than max after decompression (more than {self._limit} bytes)"
            )
        if stream.eof and (stream.unused_data or self._at < len(self._compressed)):
            raise self._no_whole_stream()
        return came

    def _no_whole_stream(self) -> Internal:
        return Internal(f"Failed to decompress message: no whole {self._encoding} stream")

    def plain(self) -> bytes:
        """Return what there is."""
        return self._plain.getvalue()

    def forget(self) -> None:
        """Let go of everything: a queue may hold on to a step that was cancelled."""
        self._compressed, self._plain = memoryview(b""), io.BytesIO()

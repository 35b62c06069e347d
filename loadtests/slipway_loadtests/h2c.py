"""
gRPC for load: unary calls over HTTP/2, plain or over TLS, one connection with one call in flight.

Prepared messages go out, whole messages come back; nothing is parsed that need not be. It keeps HTTP/2's
obligations: settings and pings are acknowledged, windows respected in both directions, resets and GOAWAY
are errors, and so is every grpc-status but 0.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import struct
from urllib.parse import unquote

import hpack

from slipway_loadtests.connections import RequestFailed, open_socket, receive, send
from slipway_loadtests.tls import Handshake

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    0, 1, 3, 4, 5, 6, 7, 8, 9,
)  # fmt: skip
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 2, 4, 5

_DEFAULT_WINDOW = 65535
_DEFAULT_TABLE = 4096
_MAX_WINDOW = 2**31 - 1
# What the server may send on one connection before it needs leave; renewed when a quarter is used up.
_CONNECTION_WINDOW = 2**30
_RENEW_AFTER = 2**28

# What stands in for `:method POST` and `:scheme http` or `https` (RFC 7541, appendix A).
_POST_HTTP, _POST_HTTPS = b"\x83\x86", b"\x83\x87"

# Header blocks that were decoded once and found good. With a dynamic table of size 0 a block means the same
# on every connection, so that equal bytes need no second look.
_good_blocks: set[tuple[bool, bytes]] = set()
# A server whose headers never repeat may not fill the memory.
_MAX_GOOD_BLOCKS = 1024


def message(payload: bytes) -> bytes:
    """Prepare a serialized message: the five bytes in front say that it is not compressed, and its length."""
    return b"\0" + struct.pack(">I", len(payload)) + payload


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _string(value: bytes) -> bytes:
    """A string of HPACK, not Huffman-coded; its length is an integer with a 7-bit prefix."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, out = len(value) - 127, bytearray([127])
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes(out) + bytes([rest]) + value


class _RequestHeaders:
    """The header block of every call: literal the first time, four bytes of the dynamic table after that."""

    def __init__(self, method: str, authority: str, table_size: int, post: bytes = _POST_HTTP) -> None:
        fields = [
            (b":path", method.encode()),
            (b":authority", authority.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
        # A table smaller than at the start must be acknowledged in the first block (section 4.2): then we use none.
        shrunk = table_size < _DEFAULT_TABLE
        # 32 bytes per entry: RFC 7541, section 4.1.
        indexed = not shrunk and sum(len(name) + len(value) + 32 for name, value in fields) <= _DEFAULT_TABLE
        literal = b"\x40" if indexed else b"\x00"
        block = post + b"".join(literal + _string(name) + _string(value) for name, value in fields)
        self.first = b"\x20" + block if shrunk else block
        # The newest entry of the dynamic table has index 62, the one before 63, …
        self.again = post + bytes([0x80 | index for index in (65, 64, 63, 62)]) if indexed else block


class GrpcConnection:
    """
    One HTTP/2 connection to *host*:*port* for calls of *method*; opened, and settings exchanged, by making it.

    With a *handshake* it is one of TLS, and calls are addressed to the name that the server's certificate is for.
    """

    def __init__(self, host: str, port: int, method: str, handshake: Handshake | None = None) -> None:
        self.socket = open_socket(host, port, handshake)
        self._data = b""
        self._at = 0
        self._stream = -1
        self._next_stream = 1
        self.usable = True
        self._window = self._stream_window = self._initial_window = _DEFAULT_WINDOW
        self._max_frame = 16384
        self._table_size = _DEFAULT_TABLE
        self._received = 0
        self._parts: list[bytes] = []
        self._ended = False
        # A table of size 0 makes every header block of the server stand for itself.
        settings = {_HEADER_TABLE_SIZE: 0, _ENABLE_PUSH: 0, _INITIAL_WINDOW_SIZE: _MAX_WINDOW}
        send(
            self.socket,
            _PREFACE
            + frame(_SETTINGS, 0, 0, b"".join(struct.pack(">HI", *setting) for setting in settings.items()))
            + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _CONNECTION_WINDOW - _DEFAULT_WINDOW)),
        )
        self._settled = self._acknowledged = False
        while not (self._settled and self._acknowledged):
            self._take_frame()
        named = handshake.server_name if handshake else host
        post = _POST_HTTPS if handshake else _POST_HTTP
        self._headers = _RequestHeaders(method, f"{named}:{port}", self._table_size, post)

    def call(self, request: bytes) -> bytes:
        """
        Send a prepared message and give the one that answers it; see `connections.Connection`.

        Args:
            request: What `message` made.
        """
        stream = self._stream = self._next_stream
        self._next_stream += 2
        block = self._headers.first if stream == 1 else self._headers.again
        self._stream_window = self._initial_window
        self._parts = []
        self._ended = False
        head = frame(_HEADERS, _END_HEADERS, stream, block)
        length = len(request)
        if length <= self._max_frame and length <= self._window and length <= self._stream_window:
            send(self.socket, head + frame(_DATA, _END_STREAM, stream, request))
            self._window -= length
        else:
            send(self.socket, head)
            self._send_in_parts(stream, request)
        while not self._ended:
            self._take_frame()
        return self._only_message()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _send_in_parts(self, stream: int, request: bytes) -> None:
        at = 0
        while at < len(request) and not self._ended:
            size = min(len(request) - at, self._window, self._stream_window, self._max_frame)
            if size <= 0:
                self._take_frame()
                continue
            last = at + size == len(request)
            send(self.socket, frame(_DATA, _END_STREAM if last else 0, stream, request[at : at + size]))
            at += size
            self._window -= size
            self._stream_window -= size

    def _only_message(self) -> bytes:
        answer = b"".join(self._parts)
        if len(answer) < 5:
            raise RequestFailed("protocol error", "grpc-status 0 without a message")
        if answer[0]:
            raise RequestFailed("protocol error", "a compressed message that nobody asked for")
        (length,) = struct.unpack_from(">I", answer, 1)
        if length != len(answer) - 5:
            raise RequestFailed("protocol error", f"a message of {length} bytes came as {len(answer) - 5}")
        return answer[5:]

    # --- frames in ----------------------------------------------------------------------------------

    def _need(self, size: int) -> None:
        """Have *size* unread bytes in `_data` from `_at` on."""
        missing = size - (len(self._data) - self._at)
        if missing <= 0:
            return
        parts = [self._data[self._at :]]
        while missing > 0:
            parts.append(receive(self.socket))
            missing -= len(parts[-1])
        self._data = b"".join(parts)
        self._at = 0

    def _read_frame(self) -> tuple[int, int, int, bytes]:
        self._need(9)
        data, at = self._data, self._at
        size = int.from_bytes(data[at : at + 3], "big")
        kind, flags = data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
        self._need(9 + size)
        at = self._at + 9
        payload = self._data[at : at + size]
        self._at = at + size
        return kind, flags, stream, payload

    def _take_frame(self) -> None:
        kind, flags, stream, payload = self._read_frame()
        if kind == _DATA:
            self._take_data(flags, stream, payload)
        elif kind == _HEADERS:
            self._take_headers(flags, stream, payload)
        elif kind == _WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
            if stream == 0:
                self._window += increment
            elif stream == self._stream:
                self._stream_window += increment
        elif kind == _SETTINGS:
            self._take_settings(flags, payload)
        elif kind == _PING:
            if not flags & _ACK:
                send(self.socket, frame(_PING, _ACK, 0, payload))
        elif kind == _RST_STREAM:
            # After a complete answer a server may reset a stream whose request it did not need to the end.
            if stream == self._stream and not self._ended:
                code = int.from_bytes(payload, "big")
                raise RequestFailed(f"RST_STREAM {code}", reusable=True)
        elif kind == _GOAWAY:
            self.usable = False
            last, code = struct.unpack_from(">II", payload)
            if self._stream > last & 0x7FFFFFFF:
                raise RequestFailed("GOAWAY", f"code {code} {payload[8:200].decode(errors='replace')}".rstrip())
        elif kind in (_PUSH_PROMISE, _CONTINUATION):
            raise RequestFailed("protocol error", f"frame of type {kind} where none may be")
        # What else there is may be ignored (RFC 9113, section 4.1).

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received >= _RENEW_AFTER:
            send(self.socket, frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)))
            self._received = 0
        if stream != self._stream or self._ended:
            return
        self._parts.append(_unpadded(flags, payload))
        if flags & _END_STREAM:
            raise RequestFailed("protocol error", "the answer ended without trailers", reusable=True)

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & _PRIORITY:
            block = block[5:]
        end = flags & _END_STREAM
        while not flags & _END_HEADERS:
            kind, flags, continued, payload = self._read_frame()
            if kind != _CONTINUATION or continued != stream:
                raise RequestFailed("protocol error", "a header block was interrupted")
            block += payload
        if stream != self._stream:
            return
        self._ended = bool(end)
        if (self._ended, block) not in _good_blocks:
            _check_block(block, ends=self._ended)
            if len(_good_blocks) < _MAX_GOOD_BLOCKS:
                _good_blocks.add((self._ended, block))

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            self._acknowledged = True
            return
        for setting, value in struct.iter_unpack(">HI", payload):
            if setting == _INITIAL_WINDOW_SIZE:
                # Holds for the stream that is open, too (RFC 9113, section 6.9.2).
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif setting == _MAX_FRAME_SIZE:
                self._max_frame = value
            elif setting == _HEADER_TABLE_SIZE and not self._settled:
                self._table_size = value
        self._settled = True
        send(self.socket, frame(_SETTINGS, _ACK, 0))


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload


def _check_block(block: bytes, *, ends: bool) -> None:
    """Raise RequestFailed unless these are the headers (or, if the stream *ends*, the trailers) of a good answer."""
    decoder = hpack.Decoder()
    decoder.header_table_size = 0
    try:
        headers = dict(decoder.decode(block, raw=True))
    except hpack.HPACKError as error:
        raise RequestFailed("protocol error", f"headers cannot be decoded: {error}") from error
    status = headers.get(b":status", b"200")
    if status != b"200":
        raise RequestFailed(f"HTTP {status.decode(errors='replace')}", "in answer to a gRPC call", reusable=ends)
    if not ends:
        return
    code = headers.get(b"grpc-status")
    if code != b"0":
        said = unquote(headers.get(b"grpc-message", b"").decode(errors="replace"))
        kind = "protocol error" if code is None else f"grpc-status {code.decode(errors='replace')}"
        raise RequestFailed(kind, said if code else "trailers without grpc-status", reusable=True)

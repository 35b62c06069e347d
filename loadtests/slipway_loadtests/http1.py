"""
HTTP/1.1 for load: prepared requests over one keep-alive connection, as little work per answer as honesty allows.

Through the usual clients of Locust a REST request costs the generator 46 to 345 µs of CPU and a gRPC call 107;
here 20 and 25. What remains in a comparison of the two protocols is then the server.
"""

from dataclasses import dataclass

from slipway_loadtests.connections import RequestFailed, open_socket, receive, send
from slipway_loadtests.tls import Handshake

_END_OF_HEAD = b"\r\n\r\n"
_MAX_HEAD_BYTES = 65536


def post(host: str, port: int, path: str, body: bytes) -> bytes:
    """Prepare a POST of a JSON *body*, to be sent as often as one likes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(host: str, port: int, path: str) -> bytes:
    """Prepare a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Head:
    """
    Status line and headers, as far as they matter.

    Attributes:
        status: Such as 200.
        length: Bytes of the body; None: it is chunked or ends with the connection.
        chunked: Whether the body comes in chunks.
        closes: Whether the server closes the connection after this answer.
    """

    status: int
    length: int | None
    chunked: bool
    closes: bool


def parse_head(head: bytes) -> Head:
    """
    Read everything in front of the empty line.

    Raises:
        RequestFailed: If this is not HTTP/1.x.

    Source: RFC 9112, sections 4 and 6.3.
    """
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise RequestFailed("protocol error", f"not an HTTP/1.1 answer: {first[:80]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    status = int(rest[:3])
    chunked = headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
    length: int | None = None
    if status in (204, 304) or status < 200:
        length = 0
    elif not chunked and (given := headers.get(b"content-length")) is not None:
        if not given.isdigit():
            raise RequestFailed("protocol error", f"Content-Length: {given[:80]!r}")
        length = int(given)
    tokens = headers.get(b"connection", b"").lower()
    closes = b"close" in tokens or (version == b"HTTP/1.0" and b"keep-alive" not in tokens)
    return Head(status, length, chunked, closes or (length is None and not chunked))


class HttpConnection:
    """One keep-alive connection to *host*:*port*, of TLS with a *handshake*; opened by making it."""

    def __init__(self, host: str, port: int, handshake: Handshake | None = None) -> None:
        self.socket = open_socket(host, port, handshake)
        self.usable = True
        self._buffer = b""
        # Servers repeat their headers; the same bytes need no second look.
        self._known_head = b""
        self._known = Head(0, None, chunked=False, closes=True)

    def call(self, request: bytes) -> bytes:
        """Send *request* and give the body of its 200; see `connections.Connection`."""
        send(self.socket, request)
        head = self._read_head()
        while head.status < 200:
            head = self._read_head()
        if head.length is not None:
            body = self._read(head.length)
        elif head.chunked:
            body = self._read_chunks()
        else:
            body = self._read_to_end()
        if self._buffer:
            raise RequestFailed("protocol error", f"{len(self._buffer)} bytes after the end of the answer")
        if head.status != 200:
            raise RequestFailed(f"HTTP {head.status}", body[:500].decode(errors="replace"), reusable=not head.closes)
        # A server that closes after each answer is measured with the connections it costs.
        self.usable = not head.closes
        return body

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _read_head(self) -> Head:
        data = self._buffer or receive(self.socket)
        while (end := data.find(_END_OF_HEAD)) < 0:
            if len(data) > _MAX_HEAD_BYTES:
                raise RequestFailed("protocol error", f"no end of headers within {_MAX_HEAD_BYTES} bytes")
            data += receive(self.socket)
        head, self._buffer = data[:end], data[end + len(_END_OF_HEAD) :]
        if head != self._known_head:
            self._known = parse_head(head)
            self._known_head = head
        return self._known

    def _read(self, length: int) -> bytes:
        data = self._buffer
        if len(data) < length:
            parts, missing = [data], length - len(data)
            while missing > 0:
                parts.append(receive(self.socket))
                missing -= len(parts[-1])
            data = b"".join(parts)
        self._buffer = data[length:]
        return data[:length]

    def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise RequestFailed("protocol error", "a chunk without a size")
            self._buffer += receive(self.socket)
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _read_chunks(self) -> bytes:
        parts = []
        while size := self._chunk_size():
            parts.append(self._read(size))
            self._read_line()
        while self._read_line():  # trailers
            pass
        return b"".join(parts)

    def _chunk_size(self) -> int:
        line = self._read_line()
        try:
            return int(line.split(b";")[0], 16)
        except ValueError:
            raise RequestFailed("protocol error", f"chunk size {line[:80]!r}") from None

    def _read_to_end(self) -> bytes:
        parts = [self._buffer]
        self._buffer = b""
        try:
            while True:
                parts.append(receive(self.socket))
        except RequestFailed as over:
            if over.kind != "connection closed":
                raise
        return b"".join(parts)

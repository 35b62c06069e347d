"""
Requests at a given rate, whatever becomes of those before: what wrk cannot do, and h2load does in bursts of 10 ms.

Arrivals are a Poisson process, and a request's time runs from when it was due: one that waits for the generator, or for a
connection, is not counted as quicker than it was. One thread, `select` and bytes made beforehand, some 30 µs a request.
"""

import collections
import random
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_MAX_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_MAX_STREAMS = 100
# Before the first request and after the last.
_SETTLE_S = 0.05
_PATIENCE_S = 10.0


@dataclass
class Http2:
    """
    A connection that sends one gRPC call again and again.

    Attributes:
        socket: Connected.
        path: The method.
        body: The message, with its five bytes in front.
    """

    socket: socket.socket
    path: str
    body: bytes
    _due: dict[int, float] = field(default_factory=dict)
    _waiting: collections.deque[float] = field(default_factory=collections.deque)
    _read: bytes = b""
    _stream: int = -1
    _window: int = _DEFAULT_WINDOW

    def __post_init__(self) -> None:
        names = {":method": "POST", ":scheme": "http", ":path": self.path, ":authority": "localhost"}
        names |= {"content-type": "application/grpc", "te": "trailers"}
        # Literals without indexing, so that the block is the same each time (RFC 7541, 6.2.2).
        self._block = b"".join(b"\0" + _text(name) + _text(value) for name, value in names.items())
        settings = struct.pack(">HI", 4, _MAX_WINDOW)
        growth = struct.pack(">I", _MAX_WINDOW - _DEFAULT_WINDOW)
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, growth))

    @property
    def room(self) -> int:
        """How many more requests it takes now: servers refuse more streams than a few hundred, or 1024."""
        return _MAX_STREAMS - self.load

    @property
    def load(self) -> int:
        """How many requests are not answered."""
        return len(self._due) + len(self._waiting)

    def ask(self, due: float) -> None:
        """Send a request that was due then, or keep it until the server's window has room."""
        self._waiting.append(due)
        self._send()

    def _send(self) -> None:
        while self._waiting and self._window >= len(self.body):
            self._window -= len(self.body)
            self._stream += 2
            self._due[self._stream] = self._waiting.popleft()
            head = _frame(_HEADERS, _END_HEADERS, self._stream, self._block)
            self.socket.sendall(head + _frame(_DATA, _END_STREAM, self._stream, self.body))

    def answered(self) -> Iterator[float]:
        """Read what is there; yield when each request that is answered by it was due."""
        self._read += _received(self.socket)
        at, read = 0, self._read
        while len(read) - at >= 9:
            size = int.from_bytes(read[at : at + 3])
            if len(read) - at < 9 + size:
                break
            kind, flags, stream = read[at + 3], read[at + 4], int.from_bytes(read[at + 5 : at + 9])
            content = read[at + 9 : at + 9 + size]
            at += 9 + size
            if kind in {_GOAWAY, _RST_STREAM}:
                raise SystemExit(f"the server ended a call or the connection: frame {kind}, {content!r}")
            if kind == _SETTINGS and not flags & _ACK:
                self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING and not flags & _ACK:
                self.socket.sendall(_frame(_PING, _ACK, 0, content))
            elif kind == _WINDOW_UPDATE and stream == 0:
                self._window += int.from_bytes(content)
                self._send()
            elif kind == _HEADERS and flags & _END_STREAM:
                yield self._due.pop(stream)
        self._read = read[at:]


@dataclass
class Http1:
    """
    A connection that posts one body again and again, one at a time.

    Attributes:
        socket: Connected.
        path: Where to.
        body: JSON.
    """

    socket: socket.socket
    path: str
    body: bytes
    _due: float | None = None
    _read: bytes = b""

    def __post_init__(self) -> None:
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body

    @property
    def room(self) -> int:
        """How many more requests it takes now."""
        return int(self._due is None)

    @property
    def load(self) -> int:
        """How many requests are not answered."""
        return int(self._due is not None)

    def ask(self, due: float) -> None:
        """Send a request that was due then."""
        self._due = due
        self.socket.sendall(self._request)

    def answered(self) -> Iterator[float]:
        """Read what is there; yield when the request was due if its answer is whole."""
        self._read += _received(self.socket)
        head, end, content = self._read.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"the server answered {head.splitlines()[0]!r}: {content[:200]!r}")
        (size,) = (int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        if len(content) >= size and self._due is not None:
            due, self._due, self._read = self._due, None, content[size:]
            yield due


Connection = Http1 | Http2


def connected(protocol: str, port: int, path: str, body: bytes, count: int) -> list[Connection]:
    """Open *count* connections over `grpc` or `rest`."""
    kind = Http2 if protocol == "grpc" else Http1
    made: list[Connection] = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.append(kind(one, path, body))
    return made


def paced(connections: list[Connection], per_s: float, seconds: float, seed: int) -> dict[str, float]:
    """
    Send *per_s* requests a second for *seconds*; *seed* is of the arrivals.

    Returns:
        `per_s` answered, `answers` in all, `p50_ms` and `p99_ms` from due to answered, and `late_p99_ms`: from due to sent, the
        generator's own.
    """
    gaps = random.Random(seed)  # noqa: S311  # arrivals, no secret
    by_socket = {one.socket: one for one in connections}
    began = time.perf_counter() + _SETTLE_S
    due, end = began, began + seconds
    waiting: collections.deque[float] = collections.deque()
    took: list[float] = []
    late: list[float] = []
    turn = 0
    while True:
        now = time.perf_counter()
        while due <= min(now, end):
            waiting.append(due)
            due += gaps.expovariate(per_s)
        while waiting:
            free = next((c for c in connections[turn:] + connections[:turn] if c.room), None)
            if free is None:
                break
            turn = (connections.index(free) + 1) % len(connections)
            late.append(time.perf_counter() - waiting[0])
            free.ask(waiting.popleft())
        if due > end and not waiting and not any(one.load for one in connections):
            break
        if now > end + _PATIENCE_S:
            raise SystemExit(f"{sum(one.load for one in connections) + len(waiting)} requests were not answered")
        pause = max(due - time.perf_counter(), 0.0) if due <= end else 1.0
        for ready in select.select(by_socket, [], [], pause)[0]:
            took.extend(time.perf_counter() - was_due for was_due in by_socket[ready].answered())
    p50, p99 = np.percentile(took, [50, 99]) * 1e3
    return {
        "per_s": len(took) / seconds,
        "answers": len(took),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "late_p99_ms": float(np.percentile(late, 99) * 1e3),
    }


def _text(value: str) -> bytes:
    """Write a string as HPACK does, without Huffman's code; it is shorter than 127 bytes."""
    return bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


def _received(one: socket.socket) -> bytes:
    received = one.recv(2**18)
    if not received:
        raise SystemExit("the server closed the connection")
    return received

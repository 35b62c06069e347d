"""What both protocols' connections share: how one is opened, how a request fails, and the bytes that TCP counted."""

import socket
import struct
from typing import Protocol

import gevent.socket

from slipway_loadtests.tls import Handshake

CONNECT_TIMEOUT_S = 10.0

# <linux/tcp.h>, struct tcp_info: since Linux 4.19 the counters below stand at these offsets on every architecture.
_TCP_INFO_BYTES = 256
_BYTES_RECEIVED_AT = 128
_BYTES_SENT_AT = 200
_BYTES_SENT_AGAIN_AT = 208


class RequestFailed(Exception):
    """
    A request that got no answer worth having.

    Attributes:
        kind: What errors are counted by, e.g. `HTTP 503` or `grpc-status 8`.
        reusable: Whether the connection may carry another request.
    """

    def __init__(self, kind: str, detail: str = "", *, reusable: bool = False) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.reusable = reusable


class Connection(Protocol):
    """
    One connection with at most one request in flight.

    Attributes:
        socket: For those who ask the kernel about it; None where a library hides it.
        usable: Whether it can carry another request; looked at after an answer.
    """

    socket: gevent.socket.socket | None
    usable: bool

    def call(self, request: bytes) -> bytes:
        """
        Send a prepared request and wait for its whole answer.

        Returns:
            The body or message, without headers or framing.

        Raises:
            RequestFailed: If the answer is an error, malformed, or does not come.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


def open_socket(host: str, port: int, handshake: Handshake | None = None) -> gevent.socket.socket:
    """
    Connect, with Nagle's algorithm off: it would hold back the last part of a request for an acknowledgement.

    Args:
        host: Whom to.
        port: Likewise.
        handshake: What makes the connection one of TLS; None: it stays plain.

    Raises:
        RequestFailed: If nobody listens there, or TLS does not come about.
    """
    try:
        connected = gevent.socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
    except OSError as error:
        raise RequestFailed("connection refused", f"{host}:{port}: {error}") from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if handshake is not None:
        try:
            connected = handshake.shake(connected)
        except OSError as error:
            connected.close()
            raise RequestFailed("TLS handshake failed", f"{host}:{port}: {error}") from error
    # Without a timeout from here on: a timer for each read would cost as much as the read. Who waits too
    # long is ended from outside, when the load is over.
    connected.settimeout(None)
    return connected


def receive(connected: gevent.socket.socket, limit: int = 262144) -> bytes:
    """Read what has come, at least one byte, or raise RequestFailed if the connection is over."""
    try:
        data: bytes = connected.recv(limit)
    except OSError as error:
        raise RequestFailed("connection lost", str(error)) from error
    if not data:
        raise RequestFailed("connection closed", "before the answer was complete")
    return data


def send(connected: gevent.socket.socket, data: bytes) -> None:
    """Write all of *data*, or raise RequestFailed if the connection is over."""
    try:
        connected.sendall(data)
    except OSError as error:
        raise RequestFailed("connection lost", str(error)) from error


def transferred(connected: gevent.socket.socket | None) -> tuple[int, int] | None:
    """
    Ask the kernel what has crossed this connection.

    Returns:
        Bytes sent and received above TCP; None where the kernel does not say. What TCP sent again, as it does when an
        answer to it is late on a busy machine, is not counted: it says nothing of the protocol.
    """
    found = _tcp_info(connected)
    if found is None:
        return None
    (received,) = struct.unpack_from("=Q", found, _BYTES_RECEIVED_AT)
    (sent,) = struct.unpack_from("=Q", found, _BYTES_SENT_AT)
    (again,) = struct.unpack_from("=Q", found, _BYTES_SENT_AGAIN_AT)
    return sent - again, received


def sent_again(connected: gevent.socket.socket | None) -> int | None:
    """Ask the kernel how many bytes TCP has sent more than once on this connection; None where it does not say."""
    found = _tcp_info(connected)
    return None if found is None else int(struct.unpack_from("=Q", found, _BYTES_SENT_AGAIN_AT)[0])


def _tcp_info(connected: gevent.socket.socket | None) -> bytes | None:
    if connected is None:
        return None
    try:
        found: bytes = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    return found if len(found) >= _BYTES_SENT_AGAIN_AT + 8 else None

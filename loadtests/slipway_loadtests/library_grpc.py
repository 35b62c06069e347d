"""gRPC through grpcio's stub, made to work with gevent: what a Python client pays."""

import os
import socket
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import grpc
import grpc.experimental.gevent

from slipway_loadtests.connections import CONNECT_TIMEOUT_S, RequestFailed
from slipway_loadtests.users import MAX_CONNECTIONS

# A connection for each user, as over REST; no proxy from the environment, no limit to a message.
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_NOBODYS = "/slipway.LoadTests/Connect"

# Without it everything works, with one call in flight per process. Only now: a process that was forked after the first
# call, as Locust's workers are, never ends.
grpc.experimental.gevent.init_gevent()
# Each channel that connects holds a thread of gevent's pool for 0.2 s, and of ten calls would wait for one.
gevent.get_hub().threadpool.maxsize = MAX_CONNECTIONS

# The local ends of connections that some channel has.
_known: set[Any] = set()


class LibraryGrpc:
    """A channel with one connection to *host*:*port* for calls of *method*; opened by making it."""

    def __init__(self, host: str, port: int, method: str) -> None:
        self._channel = grpc.insecure_channel(f"{f'[{host}]' if ':' in host else host}:{port}", options=_OPTIONS)
        try:
            # grpcio connects with the first call. Any answer to one that nobody serves tells that it has; to be told by
            # the channel itself takes a thread that polls, and sticks when what waits for it is ended.
            self._channel.unary_unary(_NOBODYS)(b"", timeout=CONNECT_TIMEOUT_S)  # type: ignore[call-arg]
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                self._channel.close()
                raise RequestFailed("connection refused", f"{host}:{port}: {error.details()}") from error
        self.socket = _new_socket(port)
        self._local = self.socket.getsockname() if self.socket else None
        _known.add(self._local)
        # Bytes in, bytes out; the stubs for mypy know only calls of messages.
        self._call: Any = self._channel.unary_unary(method)  # type: ignore[call-arg]
        self.usable = True

    def call(self, request: bytes) -> bytes:
        """Send a serialized message and give the one that answers it; see `connections.Connection`."""
        try:
            answer: bytes = self._call(request)
        except grpc.RpcError as error:
            code = error.code()
            # A channel that has lost its server refuses calls at once until it has another: that would be a busy loop.
            again = code is not grpc.StatusCode.UNAVAILABLE
            raise RequestFailed(f"grpc-status {code.value[0]}", error.details() or "", reusable=again) from error
        return answer

    def close(self) -> None:
        """Hang up."""
        self._channel.close()
        if self.socket:
            # Ours is a second descriptor: the connection would stay open by it.
            self.socket.close()
        _known.discard(self._local)


def _new_socket(port: int) -> gevent.socket.socket | None:
    """Find a connection of this process to *port* that no channel has yet: grpcio does not tell its own."""
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            if not str(descriptor.readlink()).startswith("socket:"):
                continue
            found = gevent.socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:  # closed meanwhile, or no socket of a kind that Python knows
            continue
        try:
            if (
                found.family in (socket.AF_INET, socket.AF_INET6)
                and found.type == socket.SOCK_STREAM
                and found.getpeername()[1] == port
                and found.getsockname() not in _known
            ):
                return found
        except OSError:  # not connected
            pass
        found.close()
    return None

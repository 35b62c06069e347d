"""REST through the client that Locust's FastHttpUser has, geventhttpclient behind Locust's session: what a Python client pays."""

import gevent.socket
from geventhttpclient.url import URL
from locust.contrib.fasthttp import FastHttpSession
from locust.event import EventHook

from slipway_loadtests.connections import CONNECT_TIMEOUT_S, RequestFailed

# Without compression, as the other clients: they would be compared in something else.
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class LibraryHttp:
    """
    A session of one connection to *host*:*port* for requests of *path*; opened by making it.

    It tells its requests to nobody: they are recorded by whoever calls, as those of the other tiers.
    """

    def __init__(self, host: str, port: int, path: str) -> None:
        self._path = path
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._session = FastHttpSession(
            address, EventHook(), user=None, concurrency=1, connection_timeout=CONNECT_TIMEOUT_S, network_timeout=60.0
        )
        # It would connect with the first request, and hides where.
        pool = self._session.client.clientpool.get_client(URL(address))._connection_pool  # noqa: SLF001
        try:
            self.socket: gevent.socket.socket | None = pool.get_socket()
        except OSError as error:
            raise RequestFailed("connection refused", f"{host}:{port}: {error}") from error
        pool.return_socket(self.socket)
        self.usable = True

    def call(self, request: bytes) -> bytes:
        """Post a body and give that of its 200; see `connections.Connection`."""
        response = self._session.post(self._path, data=request, headers=_HEADERS)
        status = response.status_code
        if not status:
            error = response.error
            kind = "timeout" if isinstance(error, TimeoutError) else "connection lost"
            raise RequestFailed(kind, str(error) or type(error).__name__)
        body: bytes = response.content or b""
        # Where the server has hung up, the next request would open another connection without a word.
        self.usable = self.socket is not None and self.socket.fileno() >= 0
        if status != 200:
            raise RequestFailed(f"HTTP {status}", body[:500].decode(errors="replace"), reusable=self.usable)
        return body

    def close(self) -> None:
        """Hang up."""
        self._session.client.clientpool.close()

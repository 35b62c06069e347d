"""Listens for gRPC, by TCP or UNIX socket, with or without TLS, and ends connections in good order."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence

from slipway_server.transports.http2.calls import Deadlines, Site
from slipway_server.transports.http2.grpc_heads import routes_of
from slipway_server.transports.http2.limits import Held, Limits, default_held_bytes
from slipway_server.transports.http2.protocol import Http2Protocol
from slipway_server.transports.rpc import Services

_BACKLOG = 1024


class Http2Server:
    """gRPC's services on sockets; made and used on the loop that it serves on."""

    def __init__(
        self, services: Services, limits: Limits, *, tls: ssl.SSLContext | None = None, held_bytes: int | None = None
    ) -> None:
        """
        Put together.

        Args:
            services: What answers.
            limits: What one client may take.
            tls: How clients are to be encrypted; its ALPN must offer h2.
            held_bytes: Bytes of unanswered requests that all clients together may have here.
        """
        loop = asyncio.get_running_loop()
        held = Held(default_held_bytes() if held_bytes is None else held_bytes)
        self.site = Site(loop, routes_of(services), limits, held, Deadlines(loop))
        self._tls = tls
        self._listening: list[asyncio.Server] = []
        self._open_connections: set[Http2Protocol] = set()
        self._timer: asyncio.TimerHandle | None = None
        # Set once `stop` waits for it.
        self._emptied: asyncio.Future[None] | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """
        Listen.

        Args:
            sockets: Bound, of TCP or UNIX; closed with the server.

        Raises:
            OSError: One of them cannot be listened on.
        """
        loop = self.site.loop
        for bound in sockets:
            create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
            self._listening.append(await create(self._protocol, sock=bound, ssl=self._tls, backlog=_BACKLOG))

    async def stop(self, grace_s: float) -> None:
        """
        Take no new connections, say goodbye on those that are open, and close them.

        Args:
            grace_s: How long calls that have begun may take; what is left then is cut off.
        """
        for listening in self._listening:
            listening.close()
        for connection in list(self._open_connections):
            connection.leave()
        if self._open_connections:
            self._emptied = self.site.loop.create_future()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._emptied, grace_s)
        for connection in list(self._open_connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open_connections)

    def _protocol(self) -> Http2Protocol:
        return Http2Protocol(self.site, self._entered, self._left)

    def _entered(self, connection: Http2Protocol) -> None:
        self._open_connections.add(connection)
        if self._emptied is not None:
            # Accepted while the server was closing.
            connection.leave()
        self._keep_time()

    def _left(self, connection: Http2Protocol) -> None:
        self._open_connections.discard(connection)
        if not self._open_connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _keep_time(self) -> None:
        if self._timer is None:
            self._timer = self.site.loop.call_later(self.site.limits.tick_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.site.loop.time()
        for connection in list(self._open_connections):
            connection.tick(now)
        if self._open_connections:
            self._keep_time()

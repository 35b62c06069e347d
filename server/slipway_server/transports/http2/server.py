"""Listens for gRPC, by TCP or UNIX socket, with or without TLS, and ends connections in good order."""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from slipway_server.callers import Callers
from slipway_server.transports import descriptors, ports
from slipway_server.transports.held import Held, default_limit_bytes
from slipway_server.transports.http2.calls import Deadlines, Site
from slipway_server.transports.http2.frames import ConnectionFault, ErrorCode
from slipway_server.transports.http2.grpc_heads import routes_of
from slipway_server.transports.http2.limits import Limits, limits_of
from slipway_server.transports.http2.protocol import Http2Protocol
from slipway_server.transports.rpc import Services
from slipway_server.transports.tls import Tls

logger = logging.getLogger(__name__)

_BACKLOG = 1024
# Of the connections, when no more are taken.
_PART_ASKED_TO_LEAVE = 32


async def start_server(
    services: Services,
    places: Sequence[str | socket.socket],
    options: Mapping[str, int | str],
    callers: Callers | None = None,
    tls: Tls | None = None,
    max_connections: int | None = None,
    held: Held | None = None,
) -> "tuple[Http2Server, list[int]]":
    """
    Listen on *places* and answer; the sibling of the function in grpcio_server.

    Args:
        services: What answers.
        places: `host:port` (port 0: any), `unix:path`, or a socket that is bound.
        options: gRPC's channel arguments; those that mean nothing here are logged.
        callers: Finds out who calls.
        tls: Speak TLS on all of them, and believe these clients only.
        max_connections: Open at once; None: as many as file descriptors allow.
        held: The account of what clients hold, if others share it.

    Returns:
        The running server, and the port of each place; 0 for a UNIX socket.

    Raises:
        Unavailable: A place cannot be listened on.
    """
    limits, unknown = limits_of(options)
    if unknown:
        logger.warning("--grpc_channel_arguments: of no effect with --grpc_transport=slipway: %s", ", ".join(unknown))
    context = tls.context(["h2"]) if tls else None
    server = Http2Server(services, limits, callers=callers, tls=context, held=held, max_connections=max_connections)
    sockets = [_bound(place) if isinstance(place, str) else place for place in places]
    await server.start(sockets)
    return server, [0 if one.family == socket.AF_UNIX else one.getsockname()[1] for one in sockets]


def _bound(place: str) -> socket.socket:
    if place.startswith("unix:"):
        return ports.bind_unix(place.removeprefix("unix:"))
    host, _, port = place.rpartition(":")
    return ports.bind(host.strip("[]"), int(port), flag="port")


class Http2Server:
    """gRPC's services on sockets; made and used on the loop that it serves on."""

    def __init__(
        self,
        services: Services,
        limits: Limits,
        *,
        callers: Callers | None = None,
        tls: ssl.SSLContext | None = None,
        held: Held | None = None,
        max_connections: int | None = None,
    ) -> None:
        """
        Put together.

        Args:
            services: What answers.
            limits: What one client may take.
            callers: Finds out who calls.
            tls: How clients are to be encrypted; its ALPN must offer h2.
            held: The account of what all clients together hold; None: one of its own.
            max_connections: Open at once; one more is sent away. None: as many as file descriptors allow.
        """
        loop = asyncio.get_running_loop()
        held = held or Held(default_limit_bytes())
        self.site = Site(loop, routes_of(services), limits, held, Deadlines(loop), callers or Callers())
        self._asks_again_at = -math.inf
        self._max_connections = descriptors.max_grpc_connections() if max_connections is None else max_connections
        self._tls = tls
        self._listening: list[asyncio.Server] = []
        self._paths: list[Path] = []
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
            if bound.family == socket.AF_UNIX:
                self._paths.append(Path(bound.getsockname()))
            create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
            self._listening.append(
                await create(
                    self._protocol,
                    sock=bound,
                    ssl=self._tls,
                    backlog=_BACKLOG,
                    # Who connects and says nothing must not hold a connection for long.
                    ssl_handshake_timeout=self.site.limits.handshake_s if self._tls else None,
                )
            )

    async def stop(self, grace: float | None) -> None:
        """
        Take no new connections, say goodbye on those that are open, and close them.

        Args:
            grace: How long (s) calls that have begun may take; what is left then is cut off. None: not at all.
        """
        for listening in self._listening:
            listening.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
        for connection in list(self._open_connections):
            connection.leave()
        if self._open_connections:
            self._emptied = self.site.loop.create_future()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._emptied, grace or 0)
        for connection in list(self._open_connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open_connections)

    def _protocol(self) -> Http2Protocol:
        return Http2Protocol(self.site, self._refusal, self._entered, self._left)

    def _refusal(self) -> ConnectionFault | None:
        if len(self._open_connections) < self._max_connections:
            return None
        self._ask_idle_ones_to_leave()
        return ConnectionFault(
            ErrorCode.ENHANCE_YOUR_CALM,
            f"the server has {self._max_connections} connections open, as many as it takes",
        )

    def _ask_idle_ones_to_leave(self) -> None:
        """Make room for who comes next, as nginx does: clients take no harm, and those that leak connections do none."""
        now = self.site.loop.time()
        if now < self._asks_again_at:
            return
        self._asks_again_at = now + self.site.limits.tick_s
        idle = [(since, one) for one in self._open_connections if (since := one.idle_since) is not None]
        idle.sort(key=itemgetter(0))
        for _, connection in idle[: self._max_connections // _PART_ASKED_TO_LEAVE + 1]:
            connection.leave()

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

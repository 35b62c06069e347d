"""One client's socket: bytes to the connection and from it, one write for all that is ready in a turn of the loop."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.calls import Calls, Site
from slipway_server.transports.http2.frames import ConnectionFault

logger = logging.getLogger(__name__)

# Bytes in the transport's buffer at which nothing is read or sent any more, and at which it goes on.
_HIGH_WATER, _LOW_WATER = 512 * 1024, 128 * 1024
# Queued DATA that is cut into frames at a time.
_PORTION = 256 * 1024
# How long a client may take to notice that the connection is over, before the socket is closed on it.
_LINGER_S = 1.0


class Http2Protocol(asyncio.Protocol):
    """The protocol of one accepted connection."""

    def __init__(
        self,
        site: Site,
        refusal: Callable[[], ConnectionFault | None],
        on_open: "Callable[[Http2Protocol], None]",
        on_lost: "Callable[[Http2Protocol], None]",
    ) -> None:
        """
        Prepare.

        Args:
            site: What all connections share.
            refusal: Asked when a connection has been made; says why it cannot be taken, or None.
            on_open: Is told when the connection has been made and taken.
            on_lost: Is told when it is lost.
        """
        self._site = site
        self._loop = site.loop
        self._refusal = refusal
        self._on_open = on_open
        self._on_lost = on_lost
        self._calls: Calls | None = None
        self._is_awake = False
        self._is_writable = True
        self._paused_since = 0.0
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over an accepted connection."""
        # uvloop's transports have the methods, not the base class.
        self._transport = cast(asyncio.Transport, transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            # RFC 9113, section 3.3; gRPC's own servers insist on it, too.
            self._is_closing = True
            self._transport.close()
            return
        self._peer = peer_of(transport.get_extra_info("peername"))
        if (refusal := self._refusal()) is not None:
            self._turn_away(refusal)
            return
        self._transport.set_write_buffer_limits(_HIGH_WATER, _LOW_WATER)
        self._calls = Calls(self._site, self._peer, self._wake)
        self._connection = self._calls.connection
        self._on_open(self)
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Read on; complete requests begin to be answered from here."""
        if self._is_closing:
            return
        self._connection.receive(data, self._loop.time())
        self._wake()

    def eof_received(self) -> bool:
        """Close: a client that has closed its half cannot be told from one that has gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up whatever nobody waits for any more."""
        self._is_closing = True
        self._on_lost(self)
        if self._calls is not None:
            self._connection.lost()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not take its answers."""
        self._is_writable = False
        self._paused_since = self._loop.time()
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_writable = True
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._wake()

    @property
    def idle_since(self) -> float | None:
        """See `Connection.idle_since`."""
        return None if self._calls is None or self._is_closing else self._connection.idle_since

    def leave(self) -> None:
        """Say goodbye, and close when all calls are answered."""
        if self._calls is not None and not self._is_closing:
            self._connection.leave(self._loop.time())
            self._wake()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def tick(self, now: float) -> None:
        """Look at what has taken too long."""
        if not self._is_writable and now - self._paused_since > self._site.limits.stall_s:
            self._transport.abort()
        elif not self._is_closing:
            self._connection.tick(now)
            self._wake()

    def _wake(self) -> None:
        if self._is_awake or not self._is_writable or self._is_closing:
            return
        if self._connection.has_output or self._connection.is_over:
            self._is_awake = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_awake = False
        if not self._is_writable or self._is_closing:
            return
        connection = self._connection
        if out := connection.take(_PORTION):
            self._transport.write(b"".join(out))
        if connection.is_over:
            self._close()
        else:
            self._wake()

    def _turn_away(self, fault: ConnectionFault) -> None:
        """
        End a connection before it begins.

        At once, though the client may then be reset before it has read why: what is short is what it would wait with.
        """
        self._is_closing = True
        self._site.tell_of(fault, self._peer)
        self._transport.write(frames.settings_frame({}) + frames.goaway(0, fault.code, fault.reason))
        self._transport.close()

    def _close(self) -> None:
        """
        End the connection after what has been written.

        A socket that is closed with unread bytes in it resets the connection, and the client never reads why it ended;
        so for a moment they are read and thrown away.
        """
        self._is_closing = True
        self._site.tell_of(self._connection.fault, self._peer)
        if self._connection.fault is not None and self._transport.can_write_eof():
            self._transport.write_eof()
            self._loop.call_later(_LINGER_S, self._transport.abort)
        else:
            self._transport.close()


def peer_of(name: object) -> str:
    """Write the address that a socket gives as gRPC does."""
    match name:
        case (str(host), int(port), *_):
            return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
        case _:
            return "unix:"

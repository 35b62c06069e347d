"""
HTTP/1.1 as an asyncio protocol around httptools: requests in, responses out in the same order. Knows no path.

A protocol class instead of a web framework: on this machine it costs 9 µs of CPU a request where the leanest ASGI server
costs 19 and a framework 58.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools

from slipway_server.transports import descriptors
from slipway_server.transports.held import Held, default_limit_bytes
from slipway_server.transports.known_heads import KnownHead, KnownHeads

logger = logging.getLogger(__name__)

# Of a request's line and headers, and once more of what is beside its body: extensions of chunks, and trailers.
MAX_HEAD_BYTES = 64 * 1024
# A chunk's size, 16 hexadecimal digits at most, and two line ends; not counted, for bodies may come in chunks of any size.
_CHUNK_FRAME_BYTES = 20
# A piece of a body takes some 50 bytes beside what is in it, which is all that is counted: so many small ones become one.
_SMALL_PART_BYTES = 512
_SMALL_PARTS = 1024
# As large as a gRPC message may be; numpy and TensorFlow set the practical limit.
MAX_BODY_BYTES = 2**31 - 1
_HANDSHAKE_S = 10.0
# Requests of one connection that are under way at once (pipelining); then its socket is no longer read.
MAX_PIPELINED = 16

# From this size on, an answer's body is handed to the transport beside its head instead of being copied behind it.
_COPIED_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What clients may take.

    Attributes:
        connections: Open at once; one more is answered 503 and closed.
        bodies_bytes: Of all requests together that are being received or answered; what goes beyond is answered 503. Of
            no effect where the account of them is shared with others.
        idle_s: Between two requests of a connection; it is closed without a word. Longer than what load balancers
            keep their side (60 s mostly), so that it is they who close.
        request_s: From the first byte of a request to its last, and a second more for each `slowest_bytes_per_s`.
        slowest_bytes_per_s: See `request_s`.
        unread_s: Without any of the answer's bytes being taken by the client; then the connection is cut.
        sweep_s: Between two looks at all connections, and so how exact the times above are kept.
    """

    connections: int = field(default_factory=descriptors.max_rest_connections)
    bodies_bytes: int = field(default_factory=default_limit_bytes)
    idle_s: float = 300.0
    request_s: float = 30.0
    slowest_bytes_per_s: int = 4096
    unread_s: float = 60.0
    sweep_s: float = 5.0


@dataclass(slots=True)
class Request:
    """One request, read whole."""

    method: str
    target: str
    """In origin form: path and query, percent-encoded as received."""
    headers: dict[bytes, bytes]
    """Lower-case name -> value; of repeated names the last."""
    body: bytes
    peer: str = ""
    """Who sent it, as gRPC writes it: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`."""
    head: KnownHead | None = None
    """Its head, if it has come before."""


@dataclass(slots=True)
class Response:
    """One answer."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    closes: bool = False
    """End the connection after this answer, or after those to requests behind it that are being answered, too."""


Handler = Callable[[Request], Coroutine[Any, Any, Response]]
"""
Answers a request. Its coroutine is driven without an asyncio.Task, which would cost as much as reading the request: it may
await futures and what is made of them (sleep, to_thread, events), but nothing that asks for the current task
(asyncio.timeout, TaskGroup). If the client goes away, CancelledError is raised in it.
"""
MakeError = Callable[[int, str], Response]


class Place(Protocol):
    """A request's place among others."""

    def cancel(self) -> None:
        """Take note that nobody waits for its answer any more."""


class Gatherer(Protocol):
    """Answers requests that come together as one."""

    def take(self, request: Request, turn: "Turn") -> Place | None:
        """Take *request* in; *turn* is told what came of it later than in this turn of the loop. None if it is for the handler."""


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
# nginx's number, which TF Serving uses for CANCELLED.
_STATUS_LINES[499] = b"HTTP/1.1 499 Client Closed Request\r\n"


class Connections:
    """The open connections of one listening socket, and what they share: limits, and who keeps to them."""

    def __init__(self, limits: Limits | None = None, held: Held | None = None) -> None:
        self.limits = limits or Limits()
        self.held = held or Held(self.limits.bodies_bytes)
        """The bodies of requests that are being received or answered now."""
        self.known_heads = KnownHeads()
        self._open: set[HttpConnection] = set()
        self._due: list[HttpConnection] = []
        self.gatherer: Gatherer | None = None
        """Is asked first what is to become of a request."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def no_room(self) -> str:
        """Say why a body is refused for which there is no room now."""
        return f"The bodies of all requests that are being answered exceed {self.held.limit} bytes; try again later"

    def add(self, connection: "HttpConnection") -> None:
        """Take note of a connection that opened; from the first to the last, look at them now and then."""
        self._open.add(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self.limits.sweep_s, self._sweep)

    def discard(self, connection: "HttpConnection") -> None:
        """Forget one that closed."""
        self._open.discard(connection)
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def all_closed(self) -> None:
        """Wait until none is open."""
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def attend_to(self, connection: "HttpConnection") -> None:
        """
        Begin its new requests and send its answers, in this round of the event loop, together with those of others.

        Together, because every send lets go of the interpreter: a batch thread would take it up for the first request
        and run a batch of one, again and again.
        """
        if not self._due:
            asyncio.get_running_loop().call_soon(self._attend)
        self._due.append(connection)

    def _attend(self) -> None:
        due, self._due = self._due, []
        for connection in due:
            connection.begin_requests()
        for connection in due:
            connection.send_answers()

    def close_when_idle(self) -> None:
        """Close those that have nothing to answer; the others end with their last answer, which says `closes`."""
        for connection in tuple(self._open):
            connection.close_when_idle()

    def _sweep(self) -> None:
        self._sweeping = None
        for connection in tuple(self._open):
            connection.grow_older(self.limits.sweep_s)
        if self._open:
            self._sweeping = asyncio.get_running_loop().call_later(self.limits.sweep_s, self._sweep)


class HttpServer:
    """A listening socket and the connections it brought."""

    def __init__(
        self, handler: Handler, make_error: MakeError, limits: Limits | None = None, held: Held | None = None
    ) -> None:
        """Put together, with the account of what clients hold, if others share it; see HttpConnection."""
        self._handler = handler
        self._make_error = make_error
        self.connections = Connections(limits, held)

    async def start(self, bound: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """
        Listen on *bound*.

        Raises:
            OSError: Somebody else listens there.
        """
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self._handler, self._make_error, self.connections),
            sock=bound,
            backlog=1024,
            ssl=tls,
            # Who connects and says nothing must not hold a connection for long.
            ssl_handshake_timeout=_HANDSHAKE_S if tls else None,
        )

    def stop(self) -> None:
        """Take no more connections; end the open ones, each after its last answer."""
        self._server.close()
        self.connections.close_when_idle()

    async def flush(self, timeout_s: float) -> None:
        """After `stop`: wait until clients have been sent their last answers, but not longer than *timeout_s*."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.connections.all_closed(), timeout_s)


class Turn:
    """A request's place in the order of answers, and the driver of the coroutine that answers it."""

    __slots__ = (
        "_connection",
        "_coroutine",
        "_waits_for",
        "body_bytes",
        "is_head",
        "is_http_1_0",
        "keeps_alive",
        "request",
        "response",
    )

    def __init__(
        self,
        connection: "HttpConnection",
        *,
        keeps_alive: bool,
        is_http_1_0: bool = False,
        is_head: bool = False,
        request: Request | None = None,
        response: Response | None = None,
        body_bytes: int = 0,
    ) -> None:
        self._connection = connection
        self._coroutine: Coroutine[Any, Any, Response] | None = None
        self._waits_for: asyncio.Future[Any] | Place | None = None
        self.keeps_alive = keeps_alive
        self.is_http_1_0 = is_http_1_0
        self.is_head = is_head
        self.body_bytes = body_bytes
        self.request = request
        self.response = response

    def begin(self, handler: Handler, gatherer: Gatherer | None) -> None:
        """Hand the request over: to *gatherer*, if it takes it, else to *handler*."""
        request, self.request = self.request, None
        assert request is not None
        if gatherer is None or (place := gatherer.take(request, self)) is None:
            self._run(handler(request))
        else:
            self._waits_for = place

    def respond(self, response: Response) -> None:
        """Take the answer of a request that went together with others."""
        self._waits_for = None
        self.response = response
        self._connection.attend()

    def begin_alone(self, coroutine: Coroutine[Any, Any, Response]) -> None:
        """Let *coroutine* answer a request that was to go together with others."""
        self._run(coroutine)
        if self.response is not None:
            self._connection.attend()

    def _run(self, coroutine: Coroutine[Any, Any, Response]) -> None:
        """Run *coroutine* as far as it goes without waiting, and on whenever that for which it waits is there."""
        self._coroutine = coroutine
        self._step()

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits."""
        if self._waits_for is not None:
            self._waits_for.cancel()

    def _step(self) -> None:
        coroutine = self._coroutine
        assert coroutine is not None  # begin has set it
        self._waits_for = None
        try:
            # Result, error or cancellation: the awaiting expression takes it from its future by itself.
            waits_for = coroutine.send(None)
        except StopIteration as answered:
            self.response = answered.value
        except asyncio.CancelledError:
            self.response = self._connection.make_error(499, "The request was cancelled")
        except Exception as error:
            self.response = self._connection.failed(error)
        else:
            if waits_for is None:
                # sleep(0): go on in the next round of the loop.
                waits_for = asyncio.get_running_loop().create_future()
                waits_for.set_result(None)
            # What a future sets when it is awaited, and a task when it has seen to it.
            waits_for._asyncio_future_blocking = False  # noqa: SLF001
            self._waits_for = waits_for
            waits_for.add_done_callback(self._resume)

    def _resume(self, _: asyncio.Future[Any]) -> None:
        self._step()
        if self.response is not None:
            self._connection.attend()


class HttpConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, handler: Handler, make_error: MakeError, connections: Connections) -> None:
        """
        Prepare for a connection.

        Args:
            handler: Answers a request; what it raises is answered 500.
            make_error: (status, message) -> answer, for what is wrong before a request is complete.
            connections: Where the connection enters itself while it is open.
        """
        self._handler = handler
        self.make_error = make_error
        self._connections = connections
        self._limits = connections.limits
        self._parser = httptools.HttpRequestParser(self)
        self._turns: deque[Turn] = deque()
        # How many of them are of requests that have not begun to be answered.
        self._unbegun = 0
        self._messages = 0
        self._is_reading = True
        self._is_writable = True
        self._is_done = False
        self._has_ended_message = False
        self._is_in_message = False
        # Whether the client has sent its last request, as it said.
        self._has_last = False
        # What was going on when `grow_older` last looked, and for how long it had.
        self._going_on: tuple[str, int] = ("", 0)
        self._age_s = 0.0
        self._begin_message()

    def _begin_message(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._small_parts = 0
        self._beside_bytes = 0
        self._is_in_body = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over an accepted connection."""
        # uvloop's transports have the methods, not the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._peer = _peer_of(transport)
        if len(self._connections) >= self._limits.connections:
            self._refuse(503, f"The server has {self._limits.connections} connections open, as many as it takes")
            return
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Forget the connection, and whatever nobody waits for any more.

        This is also the end for a client that closes only its half: it cannot be told from one that has gone, and
        work for clients that have gone would hold up the others.
        """
        self._is_done = True
        self._connections.discard(self)
        self._connections.held.now -= self._body_bytes
        self._begin_message()
        self._give_up_turns()

    def data_received(self, data: bytes) -> None:
        """Parse what came; complete requests are answered from here."""
        if self._is_done:
            return
        is_begin = not self._is_in_message and not self._has_last
        if is_begin and (known := self._connections.known_heads.find(data)) is not None and self._has_room_for(known):
            self._take_known(known, data)
            return
        self._has_ended_message = False
        before, body_before, was_in_body = self._messages, self._body_bytes, self._is_in_body
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_over_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._is_done:
                self._refuse(400, f"Malformed HTTP request: {error}")
        else:
            if self._has_ended_message and is_begin and self._messages == before + 1:
                self._remember_head(data)
            # Data that end a message are mostly its body; a head that begins behind it counts from the next data on.
            if self._has_ended_message or self._is_done:
                return
            if not self._is_in_body:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._refuse(431, f"Request line and headers exceed {MAX_HEAD_BYTES} bytes")
            elif was_in_body:
                # The parser puts a long trailer together before it tells of it. Small chunks earn nothing for later.
                beside = self._beside_bytes + len(data) - (self._body_bytes - body_before)
                self._beside_bytes = max(beside, 0)
                if beside > MAX_HEAD_BYTES:
                    self._refuse(431, f"Extensions of chunks and trailers exceed {MAX_HEAD_BYTES} bytes")

    def _has_room_for(self, known: KnownHead) -> bool:
        return known.body_bytes <= self._connections.held.free

    def _take_known(self, known: KnownHead, data: bytes) -> None:
        """Hand over the request in *data*, as the parser would."""
        self._messages += 1
        self._head_bytes = 0
        self._connections.held.now += known.body_bytes
        request = Request(known.method, known.target, known.headers, data[known.size :], self._peer, known)
        is_head = known.method == "HEAD"
        self._turns.append(Turn(self, keeps_alive=True, is_head=is_head, request=request, body_bytes=known.body_bytes))
        self._unbegun += 1
        self.attend()

    def _remember_head(self, data: bytes) -> None:
        """Remember the head of the one request that *data* are, if nothing about it is special."""
        if self._is_done or not self._turns:
            return
        turn = self._turns[-1]
        request = turn.request
        if request is not None and turn.keeps_alive and not turn.is_http_1_0:
            self._connections.known_heads.remember(
                data, request.method, request.target, request.headers, turn.body_bytes
            )

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """
        Read a request that asks for another protocol as if it did not: nothing is upgraded to.

        The parser has stopped behind its head; another one gets the head again, without what stopped the first.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT is for proxies")
            return
        connection = self._headers.pop(b"connection", b"").lower()
        self._headers.pop(b"upgrade", None)
        lines = [b"%b %b HTTP/1.1" % (method, self._url), *[b"%b: %b" % header for header in self._headers.items()]]
        if b"close" in connection:
            lines.append(b"connection: close")
        self._parser = httptools.HttpRequestParser(self)
        self._begin_message()
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def pause_writing(self) -> None:
        """Stop reading from a client that does not take its answers."""
        self._is_writable = False
        self._read_or_wait()

    def resume_writing(self) -> None:
        """Read on."""
        self._is_writable = True
        self._read_or_wait()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._messages += 1
        self._is_in_message = True

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is dropped, for it must not become one (RFC 9110, 6.5.1)."""
        if not self._is_in_body:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Refuse what is too large before it is sent; tell who asks that it may be sent."""
        self._is_in_body = True
        headers = self._headers
        length = int(headers.get(b"content-length", b"0"))
        most = min(MAX_BODY_BYTES, self._connections.held.limit)
        if length > most:
            self._refuse(413, f"The body exceeds {most} bytes")
        # What has no body is answered though others hold too much: who asks whether we are well, and for metrics.
        elif length and length > self._connections.held.free:
            self._refuse_for_now()
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue" and not self._turns:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """Keep a piece of the body."""
        if self._is_done:
            return
        self._body_bytes += len(part)
        self._connections.held.now += len(part)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refuse(413, f"The body exceeds {MAX_BODY_BYTES} bytes")
        elif self._connections.held.is_full:
            self._refuse_for_now()
        else:
            self._parts.append(part)
            if len(part) < _SMALL_PART_BYTES:
                self._small_parts += 1
                if self._small_parts == _SMALL_PARTS:
                    # All of these came since this was done before, so that nothing is copied twice.
                    self._parts[-_SMALL_PARTS:] = [b"".join(self._parts[-_SMALL_PARTS:])]
                    self._small_parts = 0

    def on_chunk_header(self) -> None:
        """Pass over what every chunk has."""
        self._beside_bytes -= _CHUNK_FRAME_BYTES

    def on_message_complete(self) -> None:
        """Hand the request over."""
        if self._is_done or self._parser.should_upgrade():
            return
        self._is_in_message = False
        self._has_ended_message = True
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        parser = self._parser
        method = parser.get_method().decode("latin-1")
        target = self._url.decode("latin-1")
        if target[:1] != "/":
            target = _origin_form(target)
        request = Request(method, target, self._headers, body, self._peer)
        keeps_alive = parser.should_keep_alive()
        self._has_last = not keeps_alive
        self._turns.append(
            Turn(
                self,
                keeps_alive=keeps_alive,
                is_http_1_0=parser.get_http_version() == "1.0",
                is_head=method == "HEAD",
                request=request,
                body_bytes=self._body_bytes,
            )
        )
        self._unbegun += 1
        self._begin_message()
        self.attend()

    # Answers.

    def failed(self, error: Exception) -> Response:
        """Make the answer for a fault of the handler."""
        logger.error("answering a request failed", exc_info=error)
        return self.make_error(500, "internal error")

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be read on, after what was asked before it."""
        self._is_done = True
        self._connections.held.now -= self._body_bytes
        self._begin_message()
        self._turns.append(Turn(self, keeps_alive=False, response=self.make_error(status, message)))
        self.send_answers()

    def _refuse_for_now(self) -> None:
        self._refuse(503, self._connections.no_room())

    def attend(self) -> None:
        """Begin and send soon what can be."""
        self._connections.attend_to(self)

    def begin_requests(self) -> None:
        """Begin as many requests as may be under way at once."""
        if not self._unbegun:
            return
        for turn in itertools.islice(self._turns, MAX_PIPELINED):
            if turn.request is not None:
                self._unbegun -= 1
                turn.begin(self._handler, self._connections.gatherer)

    def send_answers(self) -> None:
        """Send the answers that are ready and have no earlier one to wait for; begin what that gives room to."""
        turns = self._turns
        while turns and turns[0].response is not None:
            self._send_ready()
            self.begin_requests()
        self._read_or_wait()

    def _send_ready(self) -> None:
        turns = self._turns
        if len(turns) == 1 and self._send_only(turns[0]):
            return
        out: list[bytes] = []
        while turns and (response := turns[0].response) is not None:
            turn = turns.popleft()
            self._connections.held.now -= turn.body_bytes
            # A server that drains refuses what is new; what it has begun to answer, it answers.
            keeps_alive = turn.keeps_alive and not (response.closes and not self._has_begun_more())
            out.append(_head(response, turn, keeps_alive=keeps_alive))
            if not turn.is_head:
                out.append(response.body)
            if not keeps_alive:
                self._is_done = True
                self._give_up_turns()
        transport = self._transport
        if not transport.is_closing():
            if len(out[-1]) < _COPIED_BYTES:
                transport.write(b"".join(out))
            else:
                transport.writelines(out)
            if self._is_done and not turns:
                transport.close()

    def _send_only(self, turn: Turn) -> bool:
        """Send the answer to the only request there is, if nothing about it is special; say whether it was."""
        response = turn.response
        assert response is not None
        if not turn.keeps_alive or response.closes or turn.is_head or len(response.body) >= _COPIED_BYTES:
            return False
        self._turns.clear()
        self._connections.held.now -= turn.body_bytes
        if not self._transport.is_closing():
            self._transport.write(_head(response, turn, keeps_alive=True) + response.body)
        return True

    def _has_begun_more(self) -> bool:
        """Say whether requests behind the one that is being sent its answer are under way."""
        return any(turn.request is None for turn in self._turns)

    def _give_up_turns(self) -> None:
        turns = tuple(self._turns)
        self._turns.clear()
        self._unbegun = 0
        for turn in turns:
            self._connections.held.now -= turn.body_bytes
            turn.cancel()

    def _read_or_wait(self) -> None:
        """Read on only while the client takes its answers and has not asked for too many at once."""
        wants = self._is_writable and len(self._turns) < MAX_PIPELINED
        if wants != self._is_reading and not self._transport.is_closing():
            self._is_reading = wants
            if wants:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close_when_idle(self) -> None:
        """Close now if nothing is being answered; else the answers say `closes` and end the connection."""
        if not self._turns:
            self._is_done = True
            self._transport.close()

    def grow_older(self, by_s: float) -> None:
        """End the connection if its client has let us wait for too long."""
        limits = self._limits
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            going_on, allowed_s = ("unread", unsent), limits.unread_s
        elif self._turns:
            going_on, allowed_s = ("answering", self._messages), float("inf")
        elif self._is_in_message:
            # The time grows with what came, or a large body over a thin line could never arrive.
            allowed_s = limits.request_s + self._body_bytes / limits.slowest_bytes_per_s
            going_on = ("receiving", self._messages)
        else:
            going_on, allowed_s = ("idle", self._messages), limits.idle_s
        if going_on != self._going_on:
            self._going_on, self._age_s = going_on, 0.0
            return
        self._age_s += by_s
        if self._age_s <= allowed_s:
            return
        if going_on[0] == "unread":
            self._transport.abort()
        elif going_on[0] == "receiving" and not self._is_done:
            self._refuse(408, f"The request did not arrive within {allowed_s:.0f} s")
        else:
            self.close_when_idle()


def _origin_form(target: str) -> str:
    """Cut scheme and host off `http://host/path`, as which a client may send to any server (RFC 9112, 3.2.2)."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        return target
    return "/" + rest.partition("/")[2]


def _peer_of(transport: asyncio.BaseTransport) -> str:
    """Name the other end; an IPv4 client of a dual-stack socket by its IPv4 address."""
    address = transport.get_extra_info("peername")
    if not isinstance(address, tuple) or len(address) not in {2, 4}:
        return ""
    host = address[0].removeprefix("::ffff:")
    return f"ipv6:[{host}]:{address[1]}" if ":" in host else f"ipv4:{host}:{address[1]}"


def _head(response: Response, turn: Turn, *, keeps_alive: bool) -> bytes:
    length = len(response.body)
    headers = response.headers
    if len(headers) < 2 and keeps_alive and not turn.is_http_1_0:
        beginning = _beginning(response.status, response.content_type)
        if headers:
            return b"%b%d\r\n%b: %b\r\n\r\n" % (beginning, length, *headers[0])
        return b"%b%d\r\n\r\n" % (beginning, length)
    lines = [_beginning(response.status, response.content_type), b"%d\r\n" % length]
    lines += [b"%b: %b\r\n" % header for header in headers]
    if not keeps_alive:
        lines.append(b"Connection: close\r\n")
    elif turn.is_http_1_0:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


@lru_cache(maxsize=256)
def _beginning(status: int, content_type: bytes) -> bytes:
    return b"%bContent-Type: %b\r\nContent-Length: " % (_STATUS_LINES[status], content_type)

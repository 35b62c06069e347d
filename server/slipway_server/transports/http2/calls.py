"""gRPC calls of one connection: from complete messages to the services and back. Knows asyncio, but no socket."""

import asyncio
import dataclasses
import heapq
import itertools
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from slipway_server.callers import Callers
from slipway_server.errors import told
from slipway_server.transports.held import Held
from slipway_server.transports.http2.connection import Chunk, Connection
from slipway_server.transports.http2.connection import Stream as HttpStream
from slipway_server.transports.http2.frames import ConnectionFault, ErrorCode
from slipway_server.transports.http2.grpc_heads import (
    ANSWER_HEAD,
    CallHead,
    Routes,
    ok_trailers,
    reader_of,
    trailers,
    trailers_only,
    with_caller,
)
from slipway_server.transports.http2.grpc_messages import PREFIX_BYTES, Inflater, MessageReader, prefix
from slipway_server.transports.http2.headers import Block
from slipway_server.transports.http2.limits import Limits
from slipway_server.transports.rpc import Bidirectional, Incoming, Leaving, ServerStreaming, Together, Unary
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unimplemented, WireError

logger = logging.getLogger(__name__)

Stream = HttpStream[CallHead]

# Answers of a streaming call that wait for the client to take them; then its handler waits.
_MAX_QUEUED_BYTES = 64 * 1024
# What a compressed message becomes up to this size is made at once; the rest on other threads, in such steps.
_AT_ONCE_BYTES = 128 * 1024
_STEP_BYTES = 4 * 1024 * 1024
_INFLATING_THREADS = 2
# What a message that waits takes besides its bytes: two objects and a place in a queue.
_MESSAGE_BYTES = 128

_DEADLINE = DeadlineExceeded("Deadline Exceeded")


def _none_sent() -> Unimplemented:
    return Unimplemented("the call ended without a message; it takes exactly one")


def _many_sent() -> Unimplemented:
    return Unimplemented("the call brought more than one message; it takes exactly one")


class Deadlines:
    """Ends calls whose time is over: one timer for all, set to the earliest."""

    # Entries of calls that were answered in time stay until they are this many, or as many as the others.
    _SWEEP_AT: Final = 4096

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Calls, Stream]] = []
        self._numbers = itertools.count()
        self._sweep_at = self._SWEEP_AT
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, calls: "Calls", stream: Stream) -> None:
        """End *stream* at *deadline* (loop time, s) if it is still open then."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[3].is_open]
            heapq.heapify(self._heap)
            self._sweep_at = max(self._SWEEP_AT, 2 * len(self._heap))
        heapq.heappush(self._heap, (deadline, next(self._numbers), calls, stream))
        if deadline < self._rings_at:
            self._ring_at(deadline)

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = self._loop.time()
        # Timers may ring a millisecond early.
        while self._heap and (self._heap[0][0] <= now + 1e-3 or not self._heap[0][3].is_open):
            _, _, calls, stream = heapq.heappop(self._heap)
            if stream.is_open:
                calls.expire(stream)
        if self._heap:
            self._ring_at(self._heap[0][0])


class Complaints:
    """Log lines about clients that break rules; so few that the log cannot be flooded by them."""

    _PAUSE_S: Final = 10.0

    def __init__(self) -> None:
        self._next_at = -math.inf
        self._untold = 0

    def tell(self, now: float, peer: str, fault: ConnectionFault) -> None:
        """Log *fault* of *peer*, or count it into the next line; *now* in seconds, monotonic."""
        if now < self._next_at:
            self._untold += 1
            return
        more = f" ({self._untold} more connections were ended since the last such line)" if self._untold else ""
        logger.warning("%s: connection ended, %s%s", peer, fault, more)
        self._next_at, self._untold = now + self._PAUSE_S, 0


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What all connections of a server share."""

    loop: asyncio.AbstractEventLoop
    routes: Routes
    limits: Limits
    held: Held
    deadlines: Deadlines
    callers: Callers
    complaints: Complaints = dataclasses.field(default_factory=Complaints)
    # Not the loop's own threads: bombs are not to keep what else runs there waiting.
    inflating: ThreadPoolExecutor = dataclasses.field(
        default_factory=lambda: ThreadPoolExecutor(_INFLATING_THREADS, thread_name_prefix="inflate")
    )

    def tell_of(self, fault: ConnectionFault | None, peer: str) -> None:
        """Log why the connection of *peer* was ended, unless it was in peace."""
        if fault is not None and fault.code is not ErrorCode.NO_ERROR:
            self.complaints.tell(self.loop.time(), peer, fault)


class Calls:
    """The listener of one connection."""

    def __init__(self, site: Site, peer: str, wake: Callable[[], None]) -> None:
        """
        Begin.

        Args:
            site: What answers, and within which limits.
            peer: Who is at the other end, as gRPC writes it.
            wake: Called when there may be something to send.
        """
        self._site = site
        self._wake = wake
        self.connection: Connection[CallHead] = Connection(
            site.limits, reader_of(site.routes, peer, site.callers), self, site.loop.time()
        )
        self._answer = self.connection.answer
        self._max_sent_bytes = site.limits.max_sent_message_bytes

    # What the connection tells.

    def opened(self, stream: Stream) -> None:
        """See `Listener.opened`."""
        head = stream.head
        if head.refusal is not None:
            self.connection.send_head(stream, head.refusal)
            return
        if self._site.held.is_full and not (isinstance(head.method, Unary) and head.method.is_probe):
            self.refuse(stream, self._site.held.refusal())
            return
        if head.incoming.timeout_s != math.inf:
            deadline = self._site.loop.time() + head.incoming.timeout_s
            self._site.deadlines.add(deadline, self, stream)
        if type(head.method) is not Unary:
            stream.call = _StreamingCall(self, stream)

    def received(self, stream: Stream, chunk: Chunk, *, ends: bool) -> None:
        """See `Listener.received`."""
        call = stream.call
        # The usual request: one message, not compressed, in one piece.
        if (
            call is None
            and ends
            and len(chunk) >= PREFIX_BYTES
            and not chunk[0]
            and int.from_bytes(chunk[1:5], "big") == len(chunk) - PREFIX_BYTES <= self._site.limits.max_message_bytes
        ):
            body = bytes(chunk[PREFIX_BYTES:])
            if stream.head.together is None or not self._join(stream, body, stream.head.together):
                self.start(stream, body, stream.head.incoming)
            return
        if call is None:
            call = stream.call = _Receiving(self, stream)
        try:
            call.receive(chunk, ends=ends)
        except WireError as error:
            self.refuse(stream, error)

    def reset(self, stream: Stream) -> None:
        """See `Listener.reset`."""
        if stream.call is not None:
            call, stream.call = stream.call, None
            call.cancel()

    def taken(self, stream: Stream) -> None:
        """See `Listener.taken`."""
        call = stream.call
        if isinstance(call, _Sending):
            stream.call = None
            call.cancel()
        elif isinstance(call, _StreamingCall):
            call.taken()

    # What calls do.

    def _join(self, stream: Stream, body: bytes, together: Together) -> bool:
        """Let a call go on with others that came with it; say whether it does."""
        call = _JoinedCall(self, stream, body)
        leaving = together.take(body, stream.head.incoming, call)
        if leaving is None:
            return False
        stream.is_awaited = False
        stream.call = call
        call.leaving = leaving
        return True

    def start(self, stream: Stream, body: bytes, incoming: Incoming) -> None:
        """Begin to answer a unary call."""
        method = stream.head.method
        assert isinstance(method, Unary)
        stream.is_awaited = False
        if stream.head.needs_id:
            incoming = with_caller(incoming, self._site.callers)
        request_id = incoming.caller.request_id if incoming.caller else ""
        if method.is_stepwise:
            call = stream.call = _SteppedCall(self, stream, method.handle(body, incoming), request_id)
            call.step()
        else:
            stream.call = _TaskCall(self, stream, method.handle(body, incoming), request_id)

    def answer(self, stream: Stream, message: bytes, request_id: str) -> None:
        """End a unary call well."""
        stream.call = None
        if not stream.is_open:
            return
        if len(message) > self._max_sent_bytes:
            self.refuse(
                stream,
                ResourceExhausted(f"SERVER: Sent message larger than max ({len(message)} vs. {self._max_sent_bytes})"),
                request_id,
            )
            return
        self._answer(stream, ANSWER_HEAD, prefix(0, len(message)), message, ok_trailers(request_id))
        if stream.is_open:
            stream.call = _Sending(self._site.held, len(message))
        self._wake()

    def refuse(self, stream: Stream, error: BaseException, request_id: str = "") -> None:
        """End a call badly."""
        call, stream.call = stream.call, None
        if call is not None:
            call.cancel()
        if not stream.is_open:
            return
        if not request_id and (caller := stream.head.incoming.caller) is not None:
            request_id = caller.request_id
        is_cancelled = isinstance(error, asyncio.CancelledError)
        fault = Cancelled("the call was cancelled") if is_cancelled else told(error, request_id)
        if not (isinstance(call, _StreamingCall) and call.has_begun):
            self.connection.send_head(stream, trailers_only(fault, request_id))
        else:
            # Behind what was answered before, however long the client takes for it.
            self.finish(stream, trailers(fault, request_id))
        self._wake()

    def finish(self, stream: Stream, block: Block) -> None:
        """End a call that has been answered in part."""
        self.connection.finish(stream, block)
        # While the last answers wait to be taken, the client may go on sending.
        stream.call = _PASSED_OVER if stream.is_open else None

    def expire(self, stream: Stream) -> None:
        """End a call because its time is over."""
        if stream.queued:
            # What the client does not take is in the way of trailers.
            self.connection.reset(stream, ErrorCode.CANCEL)
            self.reset(stream)
            self._wake()
        else:
            self.refuse(stream, _DEADLINE)

    def inflater(self, stream: Stream, flag: int, message: bytes) -> Inflater:
        """Begin to make what a compressed message of *stream* stands for."""
        limits = self._site.limits
        limit = min(limits.max_decompressed_bytes, limits.max_message_bytes, self._site.held.limit)
        return Inflater(flag, message, stream.head.encoding, limit)

    @property
    def site(self) -> Site:
        """What all connections share."""
        return self._site

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._wake()


class _Receiving:
    """A unary call of which not all has come."""

    __slots__ = ("_calls", "_inflating", "_message", "_reader", "_since", "_stream")

    def __init__(self, calls: Calls, stream: Stream) -> None:
        self._calls = calls
        self._stream = stream
        self._reader = MessageReader(calls.site.limits, calls.site.held)
        self._message: tuple[int, bytes] | None = None
        self._inflating: asyncio.Task[None] | None = None
        self._since = calls.site.loop.time()

    def receive(self, chunk: Chunk, *, ends: bool) -> None:
        if chunk:
            if self._message is not None:
                raise _many_sent()
            messages = self._reader.feed(chunk)
            if len(messages) > 1 or (messages and not self._reader.is_between):
                raise _many_sent()
            if messages:
                self._message = messages[0]
            elif self._reader.missing > self._stream.receive_window + self._stream.granted:
                window = self._stream.receive_window + self._stream.granted
                self._calls.connection.grant(self._stream, self._reader.missing - window)
        if not ends:
            return
        if self._message is None:
            raise _none_sent() if self._reader.is_between else Internal("the call ended in the middle of a message")
        (flag, message), self._message = self._message, None
        if not flag:
            self._start(message)
            return
        inflater = self._calls.inflater(self._stream, flag, message)
        self._reader.hold(inflater.step(_AT_ONCE_BYTES))
        if inflater.is_done:
            self._start(inflater.plain())
        else:
            self._stream.is_awaited = False
            self._inflating = self._calls.site.loop.create_task(self._start_inflated(inflater))

    async def _start_inflated(self, inflater: Inflater) -> None:
        error: BaseException | None = None
        try:
            await _inflate(self._calls.site, inflater, self._reader)
        except BaseException as raised:
            error = raised
        # From here on, nothing is left to be cancelled.
        self._inflating = None
        if not self._stream.is_open or self._stream.call is not self:
            self._reader.forget()
        elif error is not None:
            self._calls.refuse(self._stream, error)
        else:
            self._start(inflater.plain())
        # Its traceback holds this frame, which holds it.
        error = None

    def _start(self, body: bytes) -> None:
        calls, stream = self._calls, self._stream
        incoming = stream.head.incoming
        if incoming.timeout_s != math.inf:
            passed = calls.site.loop.time() - self._since
            incoming = dataclasses.replace(incoming, timeout_s=max(incoming.timeout_s - passed, 0.0))
        stream.call = None
        calls.start(stream, body, incoming)
        if isinstance(stream.call, _SteppedCall | _TaskCall):
            # What was received counts until it is answered.
            stream.call.reader = self._reader
        else:
            self._reader.forget()

    def cancel(self) -> None:
        if self._inflating is None:
            self._reader.forget()
        else:
            self._inflating.cancel()


async def _inflate(site: Site, inflater: Inflater, reader: MessageReader) -> None:
    """
    Inflate to the end, on other threads; each step is counted in before it is made.

    Raises:
        ResourceExhausted: It becomes too long, or the server holds too much already.
        Internal: It is no whole compressed message.
    """
    while not inflater.is_done:
        reader.hold(_STEP_BYTES)
        step = site.inflating.submit(inflater.step, _STEP_BYTES)
        try:
            came = await asyncio.wrap_future(step)
        except asyncio.CancelledError:
            # One that runs cannot be stopped, and what it takes counts as long as it does.
            if not step.cancel():
                await asyncio.gather(asyncio.wrap_future(step), return_exceptions=True)
            inflater.forget()
            raise
        reader.release(_STEP_BYTES - came)


class _PassedOver:
    """A call that is over but for answers that wait to be taken: what else comes of it is of no use."""

    def receive(self, chunk: Chunk, *, ends: bool) -> None:
        """Pass it over."""

    def cancel(self) -> None:
        """There is nothing to cancel."""


_PASSED_OVER: Final = _PassedOver()


class _Sending:
    """An answer that waits for the client to take it; it counts to what the server holds."""

    __slots__ = ("_bytes", "_held")

    def __init__(self, held: Held, number: int) -> None:
        self._held = held
        self._bytes = number
        held.now += number

    def cancel(self) -> None:
        self._held.now -= self._bytes
        self._bytes = 0


class _JoinedCall:
    """A call that goes on together with others."""

    __slots__ = ("_body", "_calls", "_stream", "leaving")

    leaving: Leaving

    def __init__(self, calls: Calls, stream: Stream, body: bytes) -> None:
        self._calls = calls
        self._stream = stream
        self._body = body

    def answer(self, body: bytes, _spec: ModelSpec) -> None:
        self._calls.answer(self._stream, body, "")

    def refuse(self, error: BaseException) -> None:
        self._calls.refuse(self._stream, error)

    def alone(self) -> None:
        stream = self._stream
        stream.call = None
        self._calls.start(stream, self._body, stream.head.incoming)

    def cancel(self) -> None:
        self.leaving.cancel()


class _SteppedCall:
    """
    A handler's coroutine, run by hand.

    A Task would do, and costs two turns of the loop and some microseconds more; handlers that await nothing but
    futures need none.
    """

    __slots__ = ("_calls", "_coroutine", "_request_id", "_stream", "_waiter", "reader")

    def __init__(self, calls: Calls, stream: Stream, coroutine: Awaitable[bytes], request_id: str) -> None:
        self._request_id = request_id
        self._calls = calls
        self._stream = stream
        self._coroutine: Any = coroutine
        self._waiter: asyncio.Future[Any] | None = None
        self.reader: MessageReader | None = None

    def step(self, _waited_for: object = None) -> None:
        try:
            waiter = self._coroutine.send(None)
        except StopIteration as end:
            self._release()
            self._calls.answer(self._stream, end.value, self._request_id)
        except BaseException as error:
            self._release()
            self._calls.refuse(self._stream, error, self._request_id)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        else:
            if waiter is None:
                # A bare `yield`, as of asyncio.sleep(0).
                self._calls.site.loop.call_soon(self.step)
                return
            self._waiter = waiter
            # What a Task does with a future that it is given.
            waiter._asyncio_future_blocking = False  # noqa: SLF001
            waiter.add_done_callback(self.step)

    def _release(self) -> None:
        self._waiter = None
        self._coroutine = None
        if self.reader is not None:
            self.reader.forget()

    def cancel(self) -> None:
        if self._waiter is not None:
            self._waiter.cancel()


class _TaskCall:
    """A handler in a task of its own."""

    __slots__ = ("_calls", "_request_id", "_stream", "_task", "reader")

    def __init__(self, calls: Calls, stream: Stream, handling: Awaitable[bytes], request_id: str) -> None:
        self._request_id = request_id
        self._calls = calls
        self._stream = stream
        self.reader: MessageReader | None = None
        self._task = calls.site.loop.create_task(_as_coroutine(handling))
        self._task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[bytes]") -> None:
        if self.reader is not None:
            self.reader.forget()
        if task.cancelled():
            self._calls.refuse(self._stream, asyncio.CancelledError(), self._request_id)
        elif error := task.exception():
            self._calls.refuse(self._stream, error, self._request_id)
        else:
            self._calls.answer(self._stream, task.result(), self._request_id)

    def cancel(self) -> None:
        self._task.cancel()


def _as_coroutine(handling: Awaitable[bytes]) -> Coroutine[Any, Any, bytes]:
    async def wait() -> bytes:
        return await handling

    return handling if asyncio.iscoroutine(handling) else wait()


class _StreamingCall:
    """A call with any number of messages in one or both directions."""

    def __init__(self, calls: Calls, stream: Stream) -> None:
        self._calls = calls
        self._stream = stream
        self._reader = MessageReader(calls.site.limits, calls.site.held)
        self._messages: deque[tuple[int, bytes]] = deque()
        self._has_ended = False
        self._came = asyncio.Event()
        self._went = asyncio.Event()
        self.has_begun = False
        incoming = stream.head.incoming
        self._incoming = with_caller(incoming, calls.site.callers) if stream.head.needs_id else incoming
        self._request_id = self._incoming.caller.request_id if self._incoming.caller else ""
        # A client may be silent for as long as it likes.
        stream.is_awaited = False
        self._task = calls.site.loop.create_task(self._run())

    def receive(self, chunk: Chunk, *, ends: bool) -> None:
        if chunk:
            messages = self._reader.feed(chunk)
            self._reader.hold(_MESSAGE_BYTES * len(messages))
            self._messages += messages
            window = self._stream.receive_window + self._stream.granted
            if self._reader.missing > window:
                self._calls.connection.grant(self._stream, self._reader.missing - window)
        self._has_ended = self._has_ended or ends
        self._came.set()

    def taken(self) -> None:
        self._went.set()

    def cancel(self) -> None:
        if self._task is not asyncio.current_task():
            self._task.cancel()

    async def _run(self) -> None:
        calls, stream = self._calls, self._stream
        answers: Any = None
        error: BaseException | None = None
        try:
            answers = await self._answers()
            async for message in answers:
                await self._send(message)
        except BaseException as raised:
            error = raised
        finally:
            self._reader.forget()
            if answers is not None:
                with suppress(BaseException):
                    await answers.aclose()
        if error is not None:
            calls.refuse(stream, error, self._request_id)
            # Its traceback holds this frame, which holds it.
            error = None
        elif stream.is_open:
            self._begin()
            calls.finish(stream, ok_trailers(self._request_id))
            calls.wake()

    async def _answers(self) -> AsyncIterator[bytes]:
        incoming = self._incoming
        method = self._stream.head.method
        if isinstance(method, Bidirectional):
            return method.handle(self._received(), incoming)
        assert isinstance(method, ServerStreaming)
        received = self._received()
        only = await anext(received, None)
        if only is None:
            raise _none_sent()
        if await anext(received, None) is not None:
            raise _many_sent()
        return method.handle(only, incoming)

    async def _received(self) -> AsyncIterator[bytes]:
        while True:
            while self._messages:
                flag, message = self._messages.popleft()
                self._reader.release(PREFIX_BYTES + len(message) + _MESSAGE_BYTES)
                if self._stream.is_receiving:
                    self._calls.connection.grant(self._stream, len(message) + PREFIX_BYTES)
                    self._calls.wake()
                if flag:
                    message = await self._inflated(flag, message)
                    yield message
                    self._reader.release(len(message))
                else:
                    yield message
            if self._has_ended:
                if not self._reader.is_between:
                    raise Internal("the call ended in the middle of a message")
                return
            self._came.clear()
            await self._came.wait()

    async def _inflated(self, flag: int, message: bytes) -> bytes:
        """Return what a compressed message stands for, which counts until it is released."""
        inflater = self._calls.inflater(self._stream, flag, message)
        self._reader.hold(inflater.step(_AT_ONCE_BYTES))
        await _inflate(self._calls.site, inflater, self._reader)
        return inflater.plain()

    def _begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._calls.connection.send_head(self._stream, ANSWER_HEAD)

    async def _send(self, message: bytes) -> None:
        if not self._stream.is_open:
            raise asyncio.CancelledError
        limit = self._calls.site.limits.max_sent_message_bytes
        if len(message) > limit:
            raise ResourceExhausted(f"SERVER: Sent message larger than max ({len(message)} vs. {limit})")
        self._begin()
        self._calls.connection.send_data(self._stream, prefix(0, len(message)), message)
        self._calls.wake()
        while self._stream.queued > _MAX_QUEUED_BYTES:
            self._went.clear()
            await self._went.wait()

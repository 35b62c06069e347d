"""
The server's end of one HTTP/2 connection, without a socket: bytes in, calls of a listener and bytes out.

Knows streams, windows and limits; what headers and bodies mean is the listener's business. Time is an argument, in
seconds, monotonic.

Source: RFC 9113.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.frames import ConnectionFault, ErrorCode, StreamFault
from slipway_server.transports.http2.headers import Block, Head, HeaderReader, Known
from slipway_server.transports.http2.limits import Allowance, Limits

M = TypeVar("M")
Chunk = bytes | memoryview

# How many streams that have ended are remembered, to tell what comes late from what is wrong.
_REMEMBERED = 1024
# Returned to the client once so much of a window is used up.
_RENEW_PART = 2
# A part of a body this long is not copied out of what was received.
_LONG = 32 * 1024
# At once granted to a stream whose message is longer than its window.
_GRANT_BYTES = 2**24

_DRAIN_PING = b"slipwayD"
_ALIVE_PING = b"slipwayA"

_read_head = frames.read_head
_DATA, _HEADERS = frames.DATA, frames.HEADERS
_END_STREAM, _END_HEADERS = frames.END_STREAM, frames.END_HEADERS


# For each answer, gRPC's own clients enlarge the windows of its stream and of the connection, and measure with a PING.
_CONTROLS_PER_ANSWER = 4


class Stream(Generic[M]):
    """
    One request and its answer.

    Attributes:
        id: Odd; wire_id is the same as 4 bytes.
        head: What the head means.
        call: The listener's own.
        is_receiving: The client may send more.
        is_open: Its answer is not complete.
        is_awaited: Somebody waits for the rest of the body; a client that sends none of it for long is given up.
        received: Bytes of body so far, without padding.
        queued: Bytes of the answer that wait for leave to be sent.
    """

    __slots__ = (
        "call",
        "content_length",
        "granted",
        "head",
        "id",
        "is_awaited",
        "is_open",
        "is_receiving",
        "outgoing",
        "queued",
        "receive_window",
        "received",
        "send_window",
        "touched",
        "trailers",
        "wire_id",
    )

    def __init__(self, number: int, head: M, content_length: int | None, receive_window: int, send_window: int) -> None:
        self.id = number
        self.wire_id = number.to_bytes(4, "big")
        self.head = head
        self.content_length = content_length
        self.receive_window = receive_window
        self.send_window = send_window
        self.received = 0
        self.granted = 0
        self.queued = 0
        self.is_receiving = self.is_open = True
        self.is_awaited = True
        self.call: Any = None
        self.outgoing: deque[Chunk] | None = None
        self.trailers: Block | None = None
        self.touched = 0.0


class Listener(Protocol[M]):
    """Who is told what a connection has read."""

    def opened(self, stream: Stream[M]) -> None:
        """Take note of a request's head; `received` follows, with `ends` in the end, unless the client gives it up."""

    def received(self, stream: Stream[M], chunk: Chunk, *, ends: bool) -> None:
        """Take the next part of the body, maybe empty; the last if it *ends*."""

    def reset(self, stream: Stream[M]) -> None:
        """Give the request up: nobody waits for its answer."""

    def taken(self, stream: Stream[M]) -> None:
        """Take note that all that was queued on *stream* is on its way."""


class Connection(Generic[M]):
    """The protocol's state; not usable again once `is_over`."""

    def __init__(self, limits: Limits, interpret: Callable[[Head], M], listener: Listener[M], now: float) -> None:
        """
        Begin; the server's SETTINGS are the first bytes out.

        Args:
            limits: What the client may take.
            interpret: From a head to what it means, purely.
            listener: Is told what came.
            now: When the connection was made.
        """
        self._limits = limits
        self._listener = listener
        self._reader = HeaderReader(limits, interpret)
        self._known = self._reader.known
        self.streams: dict[int, Stream[M]] = {}
        self.is_over = False
        self.fault: ConnectionFault | None = None
        self.answered = 0
        """Streams that were answered to the end."""

        self._rest = b""
        self._is_greeted = False
        self._is_settled = False
        self._last = 0
        self._ended: deque[int] = deque(maxlen=_REMEMBERED)
        # Stream -> whether it was we who reset it.
        self._were_reset: dict[int, bool] = {}

        # The header block that is being received.
        self._block_stream = 0
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._block_ends = False
        self._block_since = 0.0

        # The DATA frame (or one that is passed over) of which the rest is still to come.
        self._long_left = 0
        self._long_padding = 0
        self._long_stream: Stream[M] | None = None
        self._long_ends = False

        self._receive_window = limits.connection_window_bytes
        self._renew_below = limits.connection_window_bytes // _RENEW_PART
        self._send_window = frames.DEFAULT_WINDOW
        self._initial_send_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.DEFAULT_MAX_FRAME
        # Stands in front of our first block: we make no use of the client's table, of whatever size.
        self._first_in_block = b"\x20"
        self._sending: dict[int, Stream[M]] = {}

        self._resets = Allowance(limits.reset_burst, limits.resets_per_s, now)
        self._controls = Allowance(limits.control_burst, limits.controls_per_s, now)
        self._useful = 0

        self._now = now
        self._begun = self._idle_since = self._heard = now
        self._pinged: float | None = None
        self._leaving_since: float | None = None
        self._last_taken: int | None = None
        self._peer_leaves = False

        settings = {
            frames.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
            frames.INITIAL_WINDOW_SIZE: limits.initial_window_bytes,
            frames.MAX_FRAME_SIZE: limits.max_frame_bytes,
            frames.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
        }
        more = limits.connection_window_bytes - frames.DEFAULT_WINDOW
        self._out: list[Chunk] = [frames.settings_frame(settings)]
        if more > 0:
            self._out.append(frames.window_update(0, more))

    # --- bytes in -----------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take what came from the client; the listener is called from here."""
        if self.is_over:
            return
        self._now = self._heard = now
        try:
            self._read(data)
        except ConnectionFault as fault:
            self._fail(fault)

    def _read(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        if not self._is_greeted:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2; gRPC needs it")
            if end < len(frames.PREFACE):
                self._rest = data
                return
            self._is_greeted = True
            at = len(frames.PREFACE)
        if self._long_left:
            at = self._read_on(data, at, end)
        known = self._known
        max_frame = self._limits.max_frame_bytes
        while end - at >= 9:
            high, low, kind, flags, number = _read_head(data, at)
            length = high << 16 | low
            number &= 0x7FFFFFFF
            start = at + 9
            stop = start + length
            if kind == _DATA:
                if length > max_frame:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"DATA of {length} bytes")
                if stop > end or flags & frames.PADDED or not length or self._block_stream or not self._is_settled:
                    if flags & frames.PADDED and length and start == end:
                        break
                    at = self._read_odd_data(data, start, end, length, flags, number)
                    continue
                stream = self._begin_data(number, length)
                at = stop
                if stream is not None:
                    chunk: Chunk = (
                        data[start:stop] if length < _LONG or length < end >> 2 else memoryview(data)[start:stop]
                    )
                    self._pass_on(stream, chunk, ends=bool(flags & _END_STREAM))
                continue
            if stop > end:
                if self._can_wait_for(kind, length, data, start, number):
                    break
                return
            at = stop
            # The usual request: a whole block, known already, on a new stream.
            if kind == _HEADERS and flags & ~_END_STREAM == _END_HEADERS and not self._block_stream:
                block = data[start:stop]
                found = known.get(block)
                if (
                    found is not None
                    and number > self._last
                    and number & 1
                    and self._last_taken is None
                    and len(self.streams) < self._limits.max_concurrent_streams
                ):
                    self._last = number
                    self._open(number, found, ends=bool(flags & _END_STREAM))
                    continue
                self._check_length(kind, length)
                self._take_headers(block, number, ends=bool(flags & _END_STREAM))
                continue
            self._check_length(kind, length)
            self._take(kind, flags, number, data[start:stop])
            if self.is_over:
                return
        if at < end:
            self._rest = data[at:]

    def _can_wait_for(self, kind: int, length: int, data: bytes, start: int, number: int) -> bool:
        """Say whether the rest of a frame that is no DATA is to be waited for; otherwise it has been passed over."""
        if self._block_stream and (kind != frames.CONTINUATION or number != self._block_stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        self._check_length(kind, length)
        if kind > frames.CONTINUATION and self._is_settled:
            self._control("frames of unknown type")
            self._long_stream, self._long_padding = None, 0
            self._long_left = length - (len(data) - start)
            return False
        return True

    def _check_length(self, kind: int, length: int) -> None:
        """
        Refuse a frame that is no DATA for its length, whether it is there to its end or only its head (section 4.2).

        A block that is known has been through here: it needs no second look.
        """
        if length > self._limits.max_frame_bytes:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        if kind == frames.SETTINGS:
            # Each entry costs a look at every stream (CVE-2020-11080).
            if length > frames.MAX_SETTINGS * frames.SETTING_BYTES:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"SETTINGS of {length} bytes")
        elif length > self._limits.max_header_block_bytes and (kind <= frames.CONTINUATION or not self._is_settled):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"a frame of type {kind} with {length} bytes")

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Take a frame that is no DATA."""
        if self._block_stream and (kind != frames.CONTINUATION or number != self._block_stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._is_settled and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == frames.HEADERS:
            self._begin_block(flags, number, payload)
        elif kind == frames.CONTINUATION:
            self._continue_block(flags, number, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._take_window_update(number, payload)
        elif kind == frames.RST_STREAM:
            self._take_reset(number, payload)
        elif kind == frames.SETTINGS:
            self._take_settings(flags, number, payload)
        elif kind == frames.PING:
            self._take_ping(flags, number, payload)
        elif kind == frames.GOAWAY:
            if number or len(payload) < 8:
                raise ConnectionFault(
                    ErrorCode.PROTOCOL_ERROR if number else ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is malformed"
                )
            self._control("GOAWAY frames")
            self._peer_leaves = True
            self._may_be_over()
        elif kind == frames.PRIORITY:
            self._control("PRIORITY frames")
            if not number:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
            if len(payload) != 5:
                self._reset_id(number, ErrorCode.FRAME_SIZE_ERROR)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
        else:
            # Unknown types are for extensions (RFC 9113, section 5.5).
            self._control("frames of unknown type")

    # Bodies.

    def _begin_data(self, number: int, length: int) -> Stream[M] | None:
        """Count *length* bytes of DATA in; return the stream if they are wanted."""
        self._receive_window -= length
        if self._receive_window < self._renew_below:
            if self._receive_window < 0:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window allows")
            self._out.append(frames.window_update(0, self._limits.connection_window_bytes - self._receive_window))
            self._receive_window = self._limits.connection_window_bytes
        stream = self.streams.get(number)
        if stream is None or not stream.is_receiving:
            self._is_late(number, "DATA")
            return None
        stream.receive_window -= length
        if stream.receive_window < 0:
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return None
        return stream

    def _read_odd_data(self, data: bytes, start: int, end: int, length: int, flags: int, number: int) -> int:
        """Take a DATA frame that is padded, empty, not there to its end, or out of place; return where the next begins."""
        if self._block_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._is_settled:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        padding = 0
        left = length
        if flags & frames.PADDED:
            if not length or data[start] >= length:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
            padding = data[start]
            start += 1
            left -= 1
        if left == padding and not flags & _END_STREAM:
            self._control("empty DATA frames")
        stream = self._begin_data(number, length)
        if stream is not None and length > left - padding:
            # Whoever counts on the window for a message does not count on padding in it.
            self.grant(stream, length - left + padding)
        self._long_stream = stream
        self._long_left = left
        self._long_padding = padding
        self._long_ends = bool(flags & _END_STREAM)
        return self._read_on(data, start, end) if left else self._end_long(start)

    def _read_on(self, data: bytes, at: int, end: int) -> int:
        """Take more of the frame that has begun; return where the next one begins, or *end*."""
        stop = min(end, at + self._long_left)
        body = min(stop - at, self._long_left - self._long_padding)
        self._long_left -= stop - at
        stream = self._long_stream
        is_last = not self._long_left
        # It may have been reset in the meantime.
        if stream is not None and stream.is_receiving and self.streams.get(stream.id) is stream:
            chunk: Chunk = b""
            if body > 0:
                chunk = data[at : at + body] if body < _LONG or body < end >> 2 else memoryview(data)[at : at + body]
            ends = is_last and self._long_ends
            if chunk or ends:
                self._pass_on(stream, chunk, ends=ends)
        if is_last:
            self._long_stream = None
        return stop

    def _end_long(self, at: int) -> int:
        stream, self._long_stream = self._long_stream, None
        if stream is not None and self._long_ends:
            self._pass_on(stream, b"", ends=True)
        return at

    def _pass_on(self, stream: Stream[M], chunk: Chunk, *, ends: bool) -> None:
        stream.received += len(chunk)
        if ends:
            self._end(stream, chunk)
        else:
            stream.touched = self._now
            self._useful += 1
            if stream.granted and stream.receive_window < _GRANT_BYTES // _RENEW_PART:
                self._grant_more(stream)
            self._listener.received(stream, chunk, ends=False)

    def _end(self, stream: Stream[M], chunk: Chunk) -> None:
        stream.is_receiving = False
        if stream.content_length is not None and stream.content_length != stream.received:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
            return
        self._listener.received(stream, chunk, ends=True)

    def grant(self, stream: Stream[M], number: int) -> None:
        """Let the client send *number* bytes more on *stream*, a part of them at a time."""
        stream.granted += number
        self._grant_more(stream)

    def _grant_more(self, stream: Stream[M]) -> None:
        if not stream.is_receiving or not stream.granted:
            return
        part = min(stream.granted, _GRANT_BYTES)
        stream.granted -= part
        stream.receive_window += part
        self._out.append(frames.window_update(stream.id, part))

    # Headers.

    def _begin_block(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        at, end = 0, len(payload)
        if flags & frames.PADDED:
            if not payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded HEADERS without padding")
            at, end = 1, end - payload[0]
        if flags & frames.PRIORITISED:
            # Deprecated; taken off and passed over (RFC 9113, section 5.3.2).
            at += 5
        if at > end:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
        block = payload[at:end]
        ends = bool(flags & _END_STREAM)
        if flags & _END_HEADERS:
            self._take_headers(block, number, ends=ends)
            return
        self._block_stream = number
        self._block = [block]
        self._block_bytes = len(block)
        self._block_ends = ends
        self._block_since = self._now

    def _continue_block(self, flags: int, number: int, payload: bytes) -> None:
        if not self._block_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self._limits.max_header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if len(self._block) > self._limits.max_continuations:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATION frames")
        if flags & _END_HEADERS:
            block, self._block, self._block_stream = b"".join(self._block), [], 0
            self._take_headers(block, number, ends=self._block_ends)

    def _take_headers(self, block: bytes, number: int, *, ends: bool) -> None:
        if not self._is_settled:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {number}, which is none of a client's")
        if number <= self._last:
            self._take_trailers(block, number, ends=ends)
            return
        self._last = number
        try:
            found = self._known.get(block) or self._reader.read(block)
        except StreamFault as fault:
            self._reset_id(number, fault.code)
            return
        if self._last_taken is not None and number > self._last_taken:
            # Begun before the client knew that we leave; it may repeat the call elsewhere (section 6.8).
            self._remember_reset(number, by_us=True)
            return
        if len(self.streams) >= self._limits.max_concurrent_streams:
            self._reset_id(number, ErrorCode.REFUSED_STREAM)
            return
        self._open(number, found, ends=ends)

    def _open(self, number: int, found: Known[M], *, ends: bool) -> None:
        limits = self._limits
        stream = Stream(
            number, found.meaning, found.content_length, limits.initial_window_bytes, self._initial_send_window
        )
        stream.touched = self._now
        stream.is_receiving = not ends
        self.streams[number] = stream
        self._listener.opened(stream)
        if ends and stream.is_open:
            self._end(stream, b"")

    def _take_trailers(self, block: bytes, number: int, *, ends: bool) -> None:
        stream = self.streams.get(number)
        try:
            self._reader.read_trailers(block)
        except StreamFault as fault:
            if stream is not None:
                self._break(stream, fault.code)
                return
        if stream is None:
            if number not in self._were_reset and number not in self._ended:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"stream {number} begins after stream {self._last}")
            self._is_late(number, "HEADERS")
        elif not stream.is_receiving:
            self._break(stream, ErrorCode.STREAM_CLOSED)
        elif not ends:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._end(stream, b"")

    # What steers.

    def _take_window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is malformed")
        self._control("WINDOW_UPDATE frames")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if not number:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._send_window += increment
            if self._send_window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window exceeds 2**31 - 1")
            return
        stream = self.streams.get(number)
        if stream is None:
            if number > self._last or not number & 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE on idle stream {number}")
            return
        if not increment:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)
        elif stream.outgoing:
            self._sending[number] = stream

    def _take_reset(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is malformed")
        if not number or number > self._last or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on idle stream {number}")
        stream = self.streams.get(number)
        if stream is None:
            self._control("RST_STREAM frames")
            return
        self._count_reset()
        self._forget(stream)
        self._remember_reset(number, by_us=False)
        self._listener.reset(stream)

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS on stream {number}")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with settings in it")
            self._control("SETTINGS frames")
            return
        self._control("SETTINGS frames")
        windows = []
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                windows.append(value)
            elif name == frames.MAX_FRAME_SIZE:
                self._max_frame = value
        if windows:
            self._set_initial_send_window(windows[-1], max(windows))
        self._is_settled = True
        self._out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _set_initial_send_window(self, size: int, largest: int) -> None:
        """
        Let *size* hold, for the streams that are open, too (section 6.9.2).

        Args:
            size: The last that the frame names.
            largest: That it names on the way there; no stream's window may overflow then either.
        """
        before, self._initial_send_window = self._initial_send_window, size
        if size == largest == before:
            return
        for stream in self.streams.values():
            if stream.send_window + largest - before > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window exceeds 2**31 - 1")
            stream.send_window += size - before
            if stream.outgoing:
                self._sending[stream.id] = stream

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"PING on stream {number}")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is malformed")
        # gRPC's clients take these very words as a request to ping less.
        self._control("too_many_pings")
        if not flags & frames.ACK:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _DRAIN_PING and self._leaving_since is not None and self._last_taken is None:
            self._take_no_more()
        elif payload == _ALIVE_PING:
            self._pinged = None

    # --- limits -------------------------------------------------------------------------------------

    def _control(self, what: str) -> None:
        if not self._controls.take(self._now, self._useful + _CONTROLS_PER_ANSWER * self.answered):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, what)

    def _count_reset(self) -> None:
        if not self._resets.take(self._now, self.answered):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams are reset before they are answered")

    def _is_late(self, number: int, what: str) -> None:
        """Judge a frame on a stream that takes none: on its way when the stream ended, or wrong."""
        if not number or number > self._last or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{what} on stream {number}, which is not open")
        stream = self.streams.get(number)
        if stream is not None:
            self._break(stream, ErrorCode.STREAM_CLOSED)
        elif number not in self._were_reset:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"{what} on stream {number}, which has ended")
        elif not self._were_reset[number]:
            self._reset_id(number, ErrorCode.STREAM_CLOSED)

    def _fail(self, fault: ConnectionFault) -> None:
        """End the connection, and say why."""
        self.fault = fault
        self.is_over = True
        self._sending.clear()
        self._out.append(frames.goaway(self._last, fault.code, fault.reason))
        self._give_up_all()

    def _give_up_all(self) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.is_open = stream.is_receiving = False
            stream.outgoing = None
            self._listener.reset(stream)

    def lost(self) -> None:
        """Take note that the client has gone."""
        self.is_over = True
        self._sending.clear()
        self._out.clear()
        self._give_up_all()

    # --- bytes out ----------------------------------------------------------------------------------

    def answer(self, stream: Stream[M], head: Block, prefix: bytes, body: bytes, trailers: Block) -> None:
        """
        Send a whole answer.

        Args:
            stream: Open.
            head: The first block.
            prefix: Stands in front of *body*.
            body: DATA; as large as it is, it leaves when the client's windows allow.
            trailers: Ends the stream.
        """
        size = len(body) + len(prefix)
        if (
            size > self._max_frame
            or size > self._send_window
            or size > stream.send_window
            or self._first_in_block
            or stream.outgoing
        ):
            self.send_head(stream, head)
            self.send_data(stream, prefix, body)
            self.finish(stream, trailers)
            return
        self._send_window -= size
        wire_id = stream.wire_id
        self._out += (
            head.begin,
            wire_id,
            head.end,
            size.to_bytes(3, "big"),
            b"\0\0",
            wire_id,
            prefix,
            body,
            trailers.begin,
            wire_id,
            trailers.end,
        )
        self._close(stream)

    def send_head(self, stream: Stream[M], head: Block) -> None:
        """Send the first block of an answer; the only one if it ends the stream."""
        self._send_block(stream, head)
        if head.ends_stream:
            self._close(stream)

    def send_data(self, stream: Stream[M], prefix: bytes, body: bytes) -> None:
        """Queue DATA; `taken` says when all of it has gone."""
        if stream.outgoing is None:
            stream.outgoing = deque()
        if len(body) <= self._max_frame:
            body, prefix = prefix + body, b""
        if prefix:
            stream.outgoing.append(prefix)
        if body:
            stream.outgoing.append(memoryview(body))
        if not stream.outgoing:
            return
        if not stream.queued:
            stream.touched = self._now
        stream.queued += len(prefix) + len(body)
        self._sending[stream.id] = stream

    def finish(self, stream: Stream[M], trailers: Block) -> None:
        """End the stream once what is queued has gone."""
        if stream.outgoing:
            stream.trailers = trailers
        else:
            self._send_block(stream, trailers)
            self._close(stream)

    def reset(self, stream: Stream[M], code: ErrorCode) -> None:
        """End the stream without (the rest of) an answer; the listener knows."""
        self._forget(stream)
        self._remember_reset(stream.id, by_us=True)
        self._out.append(frames.rst_stream(stream.id, code))

    def take(self, limit: int) -> list[Chunk]:
        """
        Take what is to be sent now.

        Args:
            limit: About how many bytes of queued DATA; everything else is always there.
        """
        if self._sending:
            self._pump(limit)
        out, self._out = self._out, []
        return out

    @property
    def has_output(self) -> bool:
        """Whether `take` would give anything."""
        return bool(self._out) or (bool(self._sending) and self._send_window > 0)

    def _pump(self, limit: int) -> None:
        """Cut queued DATA into frames, a frame of each stream in turn."""
        sending, out = self._sending, self._out
        while sending and limit > 0 and self._send_window > 0:
            number = next(iter(sending))
            stream = sending.pop(number)
            outgoing = stream.outgoing
            assert outgoing
            chunk = outgoing[0]
            size = min(len(chunk), self._send_window, stream.send_window, self._max_frame)
            if size <= 0:
                # Back with its next WINDOW_UPDATE.
                continue
            out.append(frames.frame_head(size, _DATA, 0, number))
            if size == len(chunk):
                out.append(chunk)
                outgoing.popleft()
            else:
                out.append(chunk[:size])
                outgoing[0] = chunk[size:]
            self._send_window -= size
            stream.send_window -= size
            stream.queued -= size
            stream.touched = self._now
            self._useful += 1
            limit -= size
            if outgoing:
                sending[number] = stream
            else:
                if stream.trailers is not None:
                    self._send_block(stream, stream.trailers)
                    self._close(stream)
                self._listener.taken(stream)

    def _send_block(self, stream: Stream[M], block: Block) -> None:
        if self._first_in_block or len(block.end) > self._max_frame:
            self._out.append(block.split(stream.wire_id, self._first_in_block, self._max_frame))
            self._first_in_block = b""
        else:
            self._out += (block.begin, stream.wire_id, block.end)

    # Ends of streams.

    def _close(self, stream: Stream[M]) -> None:
        """Take note that the answer is complete; a client that is still sending is told to stop."""
        self.answered += 1
        if stream.is_receiving:
            self.reset(stream, ErrorCode.NO_ERROR)
            return
        stream.is_open = False
        number = stream.id
        del self.streams[number]
        self._ended.append(number)
        if not self.streams:
            self._idle_since = self._now
            if self._peer_leaves or self._leaving_since is not None:
                self._may_be_over()

    def _forget(self, stream: Stream[M]) -> None:
        stream.is_open = stream.is_receiving = False
        stream.outgoing = None
        stream.queued = 0
        self._sending.pop(stream.id, None)
        self.streams.pop(stream.id, None)
        if not self.streams:
            self._idle_since = self._now
            self._may_be_over()

    def _break(self, stream: Stream[M], code: ErrorCode) -> None:
        """Reset a stream through the client's fault."""
        self._forget(stream)
        self._reset_id(stream.id, code)
        self._listener.reset(stream)

    def _reset_id(self, number: int, code: ErrorCode) -> None:
        """Reset a stream through the client's fault; that too costs work, so it counts as if the client had done it."""
        self._count_reset()
        self._remember_reset(number, by_us=True)
        self._out.append(frames.rst_stream(number, code))

    def _remember_reset(self, number: int, *, by_us: bool) -> None:
        if len(self._were_reset) >= _REMEMBERED:
            del self._were_reset[next(iter(self._were_reset))]
        self._were_reset[number] = by_us

    @property
    def idle_since(self) -> float | None:
        """Since when there has been no call; None while there is one, or when the connection is about to end."""
        return None if self.streams or self.is_over or self._leaving_since is not None else self._idle_since

    # --- time ---------------------------------------------------------------------------------------

    def leave(self, now: float) -> None:
        """Say goodbye: calls that have begun are answered, and those on their way, then the connection is over."""
        self._now = now
        if self.is_over or self._leaving_since is not None:
            return
        self._leaving_since = now
        # Streams that cross this on the wire are still taken; the PING tells when there can be no more (section 6.8).
        self._out += [
            frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR),
            frames.frame(frames.PING, 0, 0, _DRAIN_PING),
        ]

    def _take_no_more(self) -> None:
        self._last_taken = self._last
        self._out.append(frames.goaway(self._last, ErrorCode.NO_ERROR))
        self._may_be_over()

    def _may_be_over(self) -> None:
        if not self.streams and (self._peer_leaves or self._last_taken is not None):
            self.is_over = True
            if self._last_taken is None:
                # What the same bytes may bring behind this begins nothing any more.
                self._last_taken = self._last

    def tick(self, now: float) -> None:
        """Look at what has taken too long; call it every `Limits.tick_s`."""
        if self.is_over:
            return
        self._now = now
        try:
            self._tick(now)
        except ConnectionFault as fault:
            self._fail(fault)

    def _tick(self, now: float) -> None:
        limits = self._limits
        if not self._is_settled and now - self._begun > limits.handshake_s:
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS came")
        if self._block_stream and now - self._block_since > limits.header_block_s:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block does not come to its end")
        for stream in list(self.streams.values()):
            is_stuck = (stream.is_receiving and stream.is_awaited and not stream.outgoing) or stream.queued
            if is_stuck and now - stream.touched > limits.stall_s:
                self.reset(stream, ErrorCode.CANCEL)
                self._listener.reset(stream)
        if self._pinged is None:
            if now - self._heard > limits.keepalive_time_s:
                self._pinged = now
                self._out.append(frames.frame(frames.PING, 0, 0, _ALIVE_PING))
        elif self._heard > self._pinged:
            self._pinged = None
        elif now - self._pinged > limits.keepalive_timeout_s:
            raise ConnectionFault(ErrorCode.NO_ERROR, "keepalive: no sign of life")
        is_old = now - self._begun > limits.max_age_s
        if is_old or (not self.streams and now - self._idle_since > limits.max_idle_s):
            self.leave(now)
        if self._leaving_since is not None:
            if self._last_taken is None and now - self._leaving_since > limits.tick_s:
                self._take_no_more()
            if is_old and now - self._leaving_since > limits.age_grace_s:
                raise ConnectionFault(ErrorCode.NO_ERROR, "max_age")

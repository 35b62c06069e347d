"""One load as all of its users see it: prepared requests, connections, the window, and what is taken down."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import gevent
import gevent.event

from slipway_loadtests.alarm import now_ns
from slipway_loadtests.answers import Answers
from slipway_loadtests.arrivals import poisson, stepped
from slipway_loadtests.connections import Connection, RequestFailed, sent_again, transferred
from slipway_loadtests.recording import Recorder
from slipway_wire.status import WireError

# A server that refuses connections must not turn its users into a busy loop.
_PAUSE_AFTER_REFUSAL_S = 0.02


class Observer(Protocol):
    """Somebody who is told of each request: Locust's own statistics, when Locust is run by hand."""

    def __call__(self, response_ns: int, answer_bytes: int, failure: RequestFailed | None) -> None:
        """Hear of a request that took *response_ns* and was answered with *answer_bytes*, or failed."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """
    How an open loop offers requests.

    Attributes:
        rate: Requests per second.
        seed: Of the schedule.
        connections: Opened before the load begins.
        steps: Rates that follow one another instead, with the seconds that each lasts; an arrival that would be one too
            many in flight is then an error by itself, and does not end the load.
        generators: Processes that offer requests together, each at such a rate: what is in flight and what is connected at
            most is of all of them.
    """

    rate: float
    seed: str
    connections: int
    steps: tuple[tuple[float, float], ...] = ()
    generators: int = 1

    def schedule(self, user: int) -> Iterator[int]:
        """Draw when the requests of one user (from 0; as a rule each generator has one) are due, in nanoseconds since the begin."""
        seed = f"{self.seed}/user{user}" if user else self.seed
        return stepped(self.steps, seed) if self.steps else poisson(self.rate, seed)


class Session:
    """
    A load.

    Args:
        requests: Prepared requests; payload number -> bytes, or what makes them each time anew.
        connect: Opens a connection, or raises RequestFailed.
        answers: Where answers go to be judged.
        arrivals: The schedule of an open loop; None: closed loop.
        limit: End after so many requests; None: no limit.
        observer: Told of each request; None: nobody.
        numbered: Whether each request is taken down with the number of its payload.
        read: Reads an answer (payload number, its bytes) before it counts as done; None: nothing is read. What it
            raises is for the judge of answers to find again.
        first_user: Number of the first user; those below are other generators'.
    """

    def __init__(
        self,
        requests: Sequence[bytes | Callable[[], bytes]],
        connect: Callable[[], Connection],
        answers: Answers,
        *,
        arrivals: Arrivals | None = None,
        limit: int | None = None,
        observer: Observer | None = None,
        read: Callable[[int, bytes], object] | None = None,
        first_user: int = 0,
        numbered: bool = False,
    ) -> None:
        self.recorder = Recorder(follows=answers.follows, numbered=numbered)
        self.answers = answers
        self.first_error: str | None = None
        self.connections: list[Connection] = []
        self.reconnects = 0
        self._arrivals = arrivals
        self._requests = requests
        self._connect = connect
        self._observer = observer
        self._read = read
        self._left = limit
        self._numbers = itertools.count(first_user)
        self._ready = 0
        self._abandoned = False
        self._entered = gevent.event.Event()
        self._end_ns: int | None = None
        self._origin_ns = 0
        self._began = gevent.event.Event()
        self._transferred_before: list[tuple[int, int] | None] = []
        self._again_before = 0

    # --- for whoever runs the load ------------------------------------------------------------------

    def begin(self, origin_ns: int, end_ns: int | None) -> None:
        """Let all users loose; nothing is sent at or after *end_ns* (None: until Locust stops them)."""
        self._origin_ns, self._end_ns = origin_ns, end_ns
        self._transferred_before = [transferred(connection.socket) for connection in self.connections]
        self._again_before = self._sent_again() or 0
        self._began.set()

    def abandon(self) -> None:
        """End the load without waiting for answers: what is in flight is forgotten, not failed."""
        self._abandoned = True
        self._left = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether `abandon` has ended it."""
        return self._abandoned

    def wait_for_users(self, count: int, timeout_s: float) -> None:
        """
        Sleep until *count* users are ready.

        Raises:
            TimeoutError: If they are not within *timeout_s*.
        """
        deadline_ns = now_ns() + round(timeout_s * 1e9)
        while self._ready < count:
            self._entered.clear()
            if not self._entered.wait((deadline_ns - now_ns()) / 1e9):
                raise TimeoutError(f"{self._ready} of {count} users are ready after {timeout_s} s")

    def bytes_transferred(self) -> tuple[int, int] | None:
        """Bytes sent and received since `begin` on all connections; None if one of them does not tell."""
        now = [transferred(connection.socket) for connection in self.connections]
        # Connections that were opened later count with all they carried, their opening included.
        before = self._transferred_before + [(0, 0)] * (len(now) - len(self._transferred_before))
        sent = received = 0
        for then, since in zip(before, now, strict=True):
            if then is None or since is None:
                return None
            sent += since[0] - then[0]
            received += since[1] - then[1]
        return sent, received

    def bytes_sent_again(self) -> int | None:
        """Bytes that TCP has sent more than once since `begin`; None if a connection does not tell."""
        now = self._sent_again()
        return None if now is None else now - self._again_before

    def _sent_again(self) -> int | None:
        told = [sent_again(connection.socket) for connection in self.connections]
        known = [count for count in told if count is not None]
        return sum(known) if len(known) == len(told) else None

    # --- for users ----------------------------------------------------------------------------------

    @property
    def origin_ns(self) -> int:
        """When the load began."""
        return self._origin_ns

    @property
    def arrivals(self) -> Arrivals:
        """The schedule; only an open loop has one."""
        assert self._arrivals is not None  # whoever makes the environment pairs users and sessions
        return self._arrivals

    def enter(self) -> int:
        """Give a user its number, from the first one's on."""
        return next(self._numbers)

    def first_payload(self, user: int) -> int:
        """Give the payload that an open loop's *user* begins with: those of several generators are as far apart as can be."""
        return user * len(self._requests) // self.arrivals.generators

    def wait_for_begin(self) -> int:
        """
        Count a user, connected, as ready; sleep until the load begins.

        Returns:
            When it began for this user, in nanoseconds: for one that comes later, as when Locust replaces a worker that is
            gone, it begins now, and what was due before is not its to send.
        """
        came_later = self._began.is_set()
        self._ready += 1
        self._entered.set()
        self._began.wait()
        return now_ns() if came_later else self._origin_ns

    def is_over(self, time_ns: int) -> bool:
        """Say whether nothing may be sent any more at *time_ns*."""
        return (self._end_ns is not None and time_ns >= self._end_ns) or self._left == 0

    def connect(self) -> Connection | None:
        """Open a connection; if that fails, take it down as a failed request, pause, and give None."""
        began = now_ns()
        try:
            connection = self._connect()
        except RequestFailed as failure:
            self._fail(began, began, failure)
            gevent.sleep(_PAUSE_AFTER_REFUSAL_S)
            return None
        self.connections.append(connection)
        return connection

    def reconnect(self) -> Connection | None:
        """Open a connection in place of one that is gone, as `connect` does, and count it: it costs what no request should."""
        self.reconnects += 1
        return self.connect()

    def exchange(self, connection: Connection, number: int, planned_ns: int | None = None) -> bool:
        """
        Send one request, wait for its answer and take both down.

        Args:
            connection: A free one.
            number: Of the request in its user's or the schedule's count; chooses the payload.
            planned_ns: When it was due; None: now (closed loop).

        Returns:
            Whether the connection may be used again.
        """
        payload = number % len(self._requests)
        if self._left:
            self._left -= 1
        sent = now_ns()
        planned = sent if planned_ns is None else planned_ns
        request = self._requests[payload]
        try:
            answer = connection.call(request if isinstance(request, bytes) else request())
        except RequestFailed as failure:
            self._fail(planned, sent, failure)
            return failure.reusable
        except gevent.GreenletExit:
            # The load is over and this answer still is not here.
            self.give_up(planned, sent, "timeout")
            raise
        if self._read is not None:
            with contextlib.suppress(WireError, ValueError):
                self._read(payload, answer)
        done = now_ns()
        if self.answers.follows:
            self.recorder.answered(planned, sent, done, self.answers.follow(payload, answer), payload)
        else:
            self.recorder.answered(planned, sent, done, payload=payload)
            self.answers.see(payload, answer)
        if self._observer is not None:
            self._observer(done - planned, len(answer), None)
        return connection.usable

    def give_up(self, planned_ns: int, sent_ns: int, kind: str) -> None:
        """Take down a request that nobody waits for any longer; one that was never sent has *sent_ns* of now."""
        if not self._abandoned:
            self._fail(planned_ns, sent_ns, RequestFailed(kind, "no answer until the end of the load"))

    def _fail(self, planned_ns: int, sent_ns: int, failure: RequestFailed) -> None:
        done = now_ns()
        self.recorder.failed(planned_ns, sent_ns, done, failure.kind)
        self.first_error = self.first_error or str(failure)
        if self._observer is not None:
            self._observer(done - planned_ns, 0, failure)

"""
The two ways to load a server, as Locust users: a closed loop of patient callers, or arrivals that wait for nobody.

What they send and to whom is their session's affair; `rest_user` and `grpc_user` name the protocol.
"""

from collections.abc import Callable

import gevent
import gevent.pool
import gevent.queue
from locust import User, task
from locust.exception import StopUser

from slipway_loadtests.alarm import Alarm, now_ns
from slipway_loadtests.connections import Connection
from slipway_loadtests.session import Session
from slipway_wire.loads import Protocol

# A server this far behind is overloaded; waiting for more would measure the queue in front of it. Both are of a whole load.
MAX_OUTSTANDING = 10_000
MAX_CONNECTIONS = 512


class LoadUser(User):  # type: ignore[misc]  # Locust ships types for its callers, not for strict subclasses
    """A user of a session; the session comes through the environment, as everything does in Locust."""

    abstract = True
    protocol: Protocol

    session: Session | None = None

    def on_start(self) -> None:
        """Find the session; where there was nothing to send there is none, and the user stops at its first task."""
        self.session = self.environment.sessions.get(self.protocol)


class ClosedLoopUser(LoadUser):
    """One connection, one request in flight: the next request leaves when the answer to the last one is in."""

    abstract = True

    def on_start(self) -> None:
        """Connect, and wait for the others."""
        super().on_start()
        if self.session is None:
            return
        # Each user begins with another payload, so that no two users ever ask the same at once.
        self._number = self.session.enter()
        self._connection = self.session.connect()
        self.session.wait_for_begin()

    @task  # type: ignore[untyped-decorator]
    def predict(self) -> None:
        """Send one request."""
        session = self.session
        if session is None or session.is_over(now_ns()):
            raise StopUser
        connection = self._connection or session.reconnect()
        if connection is not None and not session.exchange(connection, self._number):
            connection.close()
            connection = None
        self._connection = connection
        self._number += 1


class OpenLoopUser(LoadUser):
    """
    Arrivals on an absolute schedule, each on a connection of its own; one such user makes all that its process sends.

    A latency counts from the planned time. An arrival that finds all connections busy waits for one, and the
    wait is part of its latency, as is everything that a stalling server makes it wait for.
    """

    abstract = True

    def on_start(self) -> None:
        """Open connections before the load begins, and wait for it."""
        super().on_start()
        self._outstanding = gevent.pool.Group()
        if self.session is None:
            return
        self._idle: gevent.queue.LifoQueue[Connection] = gevent.queue.LifoQueue()
        self._opened = 0
        for _ in range(self.session.arrivals.connections):
            self._open(self.session)
        self._number = self.session.enter()
        self._origin_ns = self.session.wait_for_begin()

    @task  # type: ignore[untyped-decorator]
    def dispatch(self) -> None:
        """Follow the schedule to the end of the load, then wait for the last answer."""
        session = self.session
        if session is None:
            raise StopUser
        arrivals, alarm = session.arrivals.schedule(self._number), Alarm()
        most = MAX_OUTSTANDING // session.arrivals.generators
        try:
            for number, after_ns in enumerate(arrivals, session.first_payload(self._number)):
                planned = self._origin_ns + after_ns
                if session.is_over(planned):
                    break
                if len(self._outstanding) >= most:
                    if session.arrivals.steps:
                        alarm.wait_until(planned)
                        session.give_up(planned, now_ns(), "overload")
                        continue
                    session.give_up(planned, now_ns(), "overload")
                    break
                alarm.wait_until(planned)
                self._outstanding.spawn(self._arrive, session, number, planned)
            self._outstanding.join()
        finally:
            alarm.close()
        raise StopUser

    def on_stop(self) -> None:
        """End what is still waiting; each request takes itself down as a timeout."""
        self._outstanding.kill()

    def _open(self, session: Session, connect: Callable[[], Connection | None] | None = None) -> None:
        connection = (connect or session.connect)()
        if connection is not None:
            self._opened += 1
            self._idle.put(connection)

    def _arrive(self, session: Session, number: int, planned_ns: int) -> None:
        try:
            if self._idle.empty() and self._opened < max(MAX_CONNECTIONS // session.arrivals.generators, 1):
                self._open(session)
            connection = self._idle.get()
        except gevent.GreenletExit:
            session.give_up(planned_ns, now_ns(), "timeout")
            raise
        if session.exchange(connection, number, planned_ns):
            self._idle.put(connection)
        else:
            connection.close()
            self._opened -= 1
            # Somebody may wait for the connection that is gone.
            self._open(session, session.reconnect)

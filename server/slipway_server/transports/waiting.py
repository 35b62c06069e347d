"""From futures that end on other threads to the event loop, with one wake-up for all that end together."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Overdue(TimeoutError):
    """A waiting took longer than it may: told apart from what a model raises."""


class Timeout:
    """
    Ends the waiting that takes longer than a fixed time, with a single timer for all who wait.

    A timer for each would be most of what waiting costs; with one time for all, whoever came first is due first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        """Begin with nobody; an infinite *timeout_s* ends nothing."""
        self.timeout_s = timeout_s
        self._loop = loop
        self._due_at: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiter: "asyncio.Future[Any]") -> None:
        """Raise Overdue for *waiter* once its time is over, unless it is taken out before."""
        if self.timeout_s == float("inf"):
            return
        due_at = self._due_at[waiter] = self._loop.time() + self.timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(due_at, self._ring)

    def discard(self, waiter: "asyncio.Future[Any]") -> None:
        """Take *waiter* out."""
        self._due_at.pop(waiter, None)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        late = []
        for waiter, due_at in self._due_at.items():
            if due_at > now:
                self._timer = self._loop.call_at(due_at, self._ring)
                break
            late.append(waiter)
        for waiter in late:
            del self._due_at[waiter]
            if not waiter.done():
                waiter.set_exception(Overdue())


class Arrivals:
    """
    Lets coroutines of one loop wait for futures of other threads.

    `asyncio.wrap_future` wakes the loop once per future, each time through a pipe; here a batch of answers costs one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._arrived: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._is_woken = False

    async def of(
        self,
        future: "Future[T]",
        within: Timeout | None = None,
        expire: "Callable[[Future[T]], Exception] | None" = None,
    ) -> T:
        """
        Wait for *future*; if the waiting is cancelled, cancel it, too.

        Args:
            future: Ends on another thread.
            within: Whose time ends the waiting.
            expire: Given *future* then; makes what is raised.

        Raises:
            Overdue: The time of *within* is over, and there is no *expire*; the future is as it was.
        """
        if future.done() and not future.cancelled():
            return future.result()
        waiter = self.waiter(future)
        if within is not None:
            within.add(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Overdue:
            if expire is None:
                raise
            raise expire(future) from None
        finally:
            if within is not None:
                within.discard(waiter)

    def waiter(self, future: "Future[T]") -> "asyncio.Future[T]":
        """Return a future of the loop that ends as *future* does, soon afterwards; to cancel it cancels nothing else."""
        waiter: asyncio.Future[T] = self.loop.create_future()
        future.add_done_callback(partial(self._arrive, waiter))
        return waiter

    async def begun_on(self, threads: Executor, begin: "Callable[[], Future[T]]") -> T:
        """
        Have *begin* called on one of *threads* and wait for the future that it returns.

        If the waiting is cancelled, so is that future, however far *begin* has come.
        """
        beginning = threads.submit(begin)
        try:
            future = await self.of(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_withdraw)
            raise
        return await self.of(future)

    def _arrive(self, waiter: "asyncio.Future[Any]", future: "Future[Any]") -> None:
        self._arrived.append((future, waiter))
        # Two threads may both see False; then the loop wakes once too often, never too rarely.
        if not self._is_woken:
            self._is_woken = True
            self.loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        self._is_woken = False
        while self._arrived:
            future, waiter = self._arrived.popleft()
            if waiter.done():
                continue
            # One question, not three: each takes the future's lock.
            try:
                waiter.set_result(future.result())
            except CancelledError:
                waiter.cancel()
            except Exception as error:
                waiter.set_exception(error)


def soon_on(loop: asyncio.AbstractEventLoop) -> Callable[[Callable[[], None]], bool]:
    """
    Let the scheduler have something called by *loop* when it has read what has come in meanwhile.

    Returns:
        A function that takes what is to be called, and says False on any thread but this one, which is to be the loop's.
    """
    mine = threading.get_ident()

    def soon(call: Callable[[], None]) -> bool:
        if threading.get_ident() != mine:
            return False
        loop.call_soon(call)
        return True

    return soon


def _withdraw(beginning: "Future[Future[Any]]") -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().cancel()

"""From futures that end on other threads to the event loop, with one wake-up for all that end together."""

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Arrivals:
    """
    Lets coroutines of one loop wait for futures of other threads.

    `asyncio.wrap_future` wakes the loop once per future, each time through a pipe; here a batch of answers costs one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._is_woken = False

    async def of(self, future: "Future[T]") -> T:
        """Wait for *future*; if the waiting is cancelled, cancel it, too."""
        waiter: asyncio.Future[T] = self._loop.create_future()
        future.add_done_callback(lambda done: self._arrive(done, waiter))
        try:
            return await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise

    def _arrive(self, future: "Future[Any]", waiter: "asyncio.Future[Any]") -> None:
        self._arrived.append((future, waiter))
        # Two threads may both see False; then the loop wakes once too often, never too rarely.
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        self._is_woken = False
        while self._arrived:
            future, waiter = self._arrived.popleft()
            if waiter.done():
                continue
            if future.cancelled():
                waiter.cancel()
            elif error := future.exception():
                waiter.set_exception(error)
            else:
                waiter.set_result(future.result())

"""A thread for what must neither be lost nor hold up a request: it takes items as they come and drops what it cannot hold."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Background(Generic[T]):
    """Hands items over to a function on a thread of its own, several at a time, in the order in which they came."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[T]], None],
        *,
        max_items: int,
        max_bytes: int,
        dropped: Callable[[], None],
    ) -> None:
        """
        Start the thread.

        Args:
            name: Of the thread.
            work: Does it; what it raises is logged, and the next items are tried all the same.
            max_items: How many may wait.
            max_bytes: How large they may be together.
            dropped: Told, on the caller's thread, of each item that finds no room.
        """
        self._work = work
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._dropped = dropped
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._bytes = 0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T, size_bytes: int = 0) -> bool:
        """Leave *item* to the thread and say True; if there is no room, drop it, say so, and return False."""
        with self._changed:
            has_room = len(self._waiting) < self._max_items and self._bytes + size_bytes <= self._max_bytes
            if has_room and not self._is_stopping:
                self._waiting.append(item)
                self._bytes += size_bytes
                if len(self._waiting) == 1:
                    self._changed.notify_all()
                return True
        self._dropped()
        return False

    def stop(self, timeout_s: float) -> bool:
        """Finish what waits, but not longer than *timeout_s*; say whether it was finished."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_stopping)
                items, self._waiting = self._waiting, []
                self._bytes = 0
            if not items:
                return
            try:
                self._work(items)
            except Exception:
                logger.exception("%s: %d items are lost", self._thread.name, len(items))
            # Not kept alive until the next ones come.
            del items

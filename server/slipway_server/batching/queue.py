"""Which tasks run together, and when. Owns no clock, no thread and no tensor: time is an argument."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import InvalidArgument, Unavailable

T = TypeVar("T")

Reason = Literal["full", "timeout", "free", "rerun"]
"""
Why a batch left: no more would fit; it waited long enough; a thread was free and nothing was to be waited for; it is
a piece of a batch that failed.
"""

Part = tuple[T, int, int]
"""A task, and which of its rows: from the second number on, up to before the third."""


class QueueFull(Unavailable):
    """
    There is no room for a task.

    Attributes:
        is_permanent: Whether there will never be, because the task is larger than the empty queue.
    """

    is_permanent = False


@dataclass(slots=True)
class Batch(Generic[T]):
    """Parts of tasks that run together; without splitting each part is a whole task."""

    parts: list[Part[T]]
    rows: int
    reason: Reason
    ready_at: float = -math.inf
    """Monotonic time (s) from which it could have left: what its tasks waited until then, they waited for it to fill."""


@dataclass(slots=True)
class _Waiting:
    """What the queue knows of a task: the rows that have not been handed out, when it came, until when it is of use."""

    start: int
    rows: int
    since: float
    deadline: float
    requests: int


class BatchQueue(Generic[T]):
    """
    First come, first served.

    A batch closes when the next task does not fit; with splitting, when it is full. An open batch may leave once its
    oldest task is *batch_timeout_s* old; with a timeout of 0 it may leave at once, so whoever has a free thread takes
    all that is waiting.

    Batches are formed when they are taken. From first to last they come out as if they had been filled on arrival,
    which is how TF Serving does it, but a task that is withdrawn leaves no hole.
    """

    def __init__(self, policy: BatchingPolicy) -> None:
        self._policy = policy
        self._splits = policy.enable_large_batch_splitting
        self._largest = policy.largest_batch
        self._max_batches = max(policy.max_enqueued_batches, 1)
        self._waiting: OrderedDict[T, _Waiting] = OrderedDict()
        self._rows = 0
        # How many batches wait and how full the last one is, to decide about room; too high after a removal, until
        # somebody needs to know.
        self._batches = 0
        self._last_rows = 0
        self._is_inexact = False
        # No task is of no more use before this; too early after a removal.
        self._next_deadline = math.inf

    def __len__(self) -> int:
        """Return how many batches wait."""
        self._recount()
        return self._batches

    @property
    def tasks(self) -> int:
        """How many tasks wait, wholly or in part."""
        return len(self._waiting)

    @property
    def requests(self) -> int:
        """How many requests those tasks are."""
        return sum(entry.requests for entry in self._waiting.values())

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return self._rows

    @property
    def next_rows(self) -> int:
        """How many rows the next batch has at most."""
        return min(self._rows, self._largest)

    @property
    def room(self) -> int:
        """How many rows more fit into the last batch, or into a new one if it is full."""
        self._recount()
        return (self._largest - self._last_rows if self._batches else 0) or self._largest

    @property
    def next_deadline(self) -> float:
        """Monotonic time (s) before which `expire` finds nothing; infinite if no task has a deadline."""
        return self._next_deadline

    def put(self, task: T, rows: int, now: float, deadline: float = math.inf, requests: int = 1) -> None:
        """
        Take *task* in.

        Args:
            task: Anything that can be a key.
            rows: Its size along axis 0, >= 1.
            now: Monotonic time in seconds.
            deadline: Monotonic time (s) from which on nobody waits for the task any more.
            requests: How many requests it is.

        Raises:
            InvalidArgument: The task is larger than any may be.
            QueueFull: There is no room now.
        """
        if rows > self._policy.max_batch_size:
            raise InvalidArgument(self._too_large(rows))
        if not self._has_room(rows):
            if self._is_inexact:
                self._recount()
            if not self._has_room(rows):
                refusal = QueueFull(self._full(rows))
                refusal.is_permanent = rows > self._max_batches * self._largest
                raise refusal
        self._waiting[task] = _Waiting(0, rows, now, deadline, requests)
        self._rows += rows
        self._count(rows)
        self._next_deadline = min(deadline, self._next_deadline)

    def ready_at(self) -> float | None:
        """Return the monotonic time (s) from which `take` gives a batch; None while the queue is empty."""
        if not self._waiting:
            return None
        since = next(iter(self._waiting.values())).since
        return since if self._rows >= self._largest else since + self._policy.batch_timeout_s

    def take(self, now: float) -> Batch[T] | None:
        """Hand out the oldest batch, or None while it is too early."""
        ready_at = self.ready_at()
        if ready_at is None or now < ready_at:
            return None
        latest = next(iter(self._waiting.values())).since + self._policy.batch_timeout_s
        # If not all that waits fits into one batch, the oldest batch is closed.
        reason: Reason = "free" if self._policy.batch_timeout_s == 0 else "timeout"
        if self._rows >= self._largest:
            reason = "full"
        parts: list[Part[T]] = []
        room = self._largest
        waiting = self._waiting
        # Which task filled it: the last one in it or, if that does not fit, the next.
        filled_at = -math.inf
        while waiting and room:
            task, entry = waiting.popitem(last=False)
            filled_at = entry.since
            rows = entry.rows
            if rows > room:
                if self._splits:
                    parts.append((task, entry.start, entry.start + room))
                    entry.start += room
                    entry.rows -= room
                    room = 0
                waiting[task] = entry
                waiting.move_to_end(task, last=False)
                break
            parts.append((task, entry.start, entry.start + rows))
            room -= rows
        taken = self._largest - room
        self._rows -= taken
        if waiting:
            self._batches -= 1
        else:
            self._batches = self._last_rows = 0
            self._is_inexact = False
            self._next_deadline = math.inf
        return Batch(parts, taken, reason, min(filled_at, latest) if reason == "full" else latest)

    def remove(self, task: T) -> bool:
        """Take out what still waits of *task*; say whether there was anything."""
        entry = self._waiting.pop(task, None)
        if entry is None:
            return False
        self._rows -= entry.rows
        self._is_inexact = True
        return True

    def expire(self, now: float) -> list[T]:
        """Take out and return the tasks whose deadline has come."""
        if now < self._next_deadline:
            return []
        expired = [task for task, entry in self._waiting.items() if entry.deadline <= now]
        for task in expired:
            self.remove(task)
        self._next_deadline = min((entry.deadline for entry in self._waiting.values()), default=math.inf)
        return expired

    def _has_room(self, rows: int) -> bool:
        if self._splits:
            return rows <= self._capacity()
        return self._batches < self._max_batches or self._last_rows + rows <= self._largest

    def _capacity(self) -> int:
        """With splitting: rows there is room for. TF Serving always counts an open batch, if only an empty one."""
        return (self._max_batches - max(self._batches, 1)) * self._largest + self._largest - self._last_rows

    def _count(self, rows: int) -> None:
        """Take *rows* more into account, as if batches were filled on arrival."""
        filled = self._last_rows + rows
        if self._batches and filled <= self._largest:
            self._last_rows = filled
        elif self._splits:
            before = self._last_rows if self._batches else self._largest
            new, rest = divmod(rows - (self._largest - before), self._largest)
            self._batches += new + bool(rest)
            self._last_rows = rest or self._largest
        else:
            self._batches += 1
            self._last_rows = rows

    def _recount(self) -> None:
        if not self._is_inexact:
            return
        self._batches = self._last_rows = 0
        self._is_inexact = False
        for entry in self._waiting.values():
            self._count(entry.rows)

    def _too_large(self, rows: int) -> str:
        policy = self._policy
        more = "raise max_batch_size"
        if not policy.enable_large_batch_splitting:
            more += ", or set enable_large_batch_splitting so that a request may be larger than the batches that run"
        return f"Task size {rows} is larger than maximum input batch size {policy.max_batch_size}; to allow it, {more}"

    def _full(self, rows: int) -> str:
        policy = self._policy
        queue = "The batch scheduling queue to which this task was submitted is full; "
        if not policy.enable_large_batch_splitting:
            return (
                f"{queue}currently {self._batches} batches enqueued and max_enqueued_batches is "
                f"{policy.max_enqueued_batches}"
            )
        return (
            f"{queue}task size is {rows} but scheduling capacity is only {self._capacity()} "
            f"(num_enqueued_batches={max(self._batches, 1)}, max_enqueued_batches={policy.max_enqueued_batches}, "
            f"open_batch_size={self._last_rows}, max_execution_batch_size={self._largest})"
        )

"""Which tasks run together, and when. Owns no clock, no thread and no tensor: time is an argument."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import InvalidArgument, Unavailable

T = TypeVar("T")

Reason = Literal["full", "timeout", "free"]
"""Why a batch left: no more would fit; it waited long enough; a thread was free and nothing was to be waited for."""


@dataclass(slots=True)
class Batch(Generic[T]):
    """Tasks that run together."""

    since: float
    tasks: list[T] = field(default_factory=list)
    rows: int = 0
    reason: Reason = "free"


class BatchQueue(Generic[T]):
    """
    First come, first served; a task is never divided.

    A batch closes when the next task does not fit. An open batch may leave once it is *batch_timeout_s* old; with a
    timeout of 0 it may leave at once, so whoever has a free thread takes all that is waiting.
    """

    def __init__(self, policy: BatchingPolicy) -> None:
        self._policy = policy
        self._batches: deque[Batch[T]] = deque()

    def __len__(self) -> int:
        """Return how many batches wait."""
        return len(self._batches)

    def put(self, task: T, rows: int, now: float) -> None:
        """
        Take *task* in.

        Args:
            task: Anything.
            rows: Its size along axis 0, >= 1.
            now: Monotonic time in seconds.

        Raises:
            InvalidArgument: The task is larger than any batch.
            Unavailable: The queue is full.
        """
        policy = self._policy
        if rows > policy.max_batch_size:
            raise InvalidArgument(
                f"Task size {rows} is larger than maximum input batch size {policy.max_batch_size}",
            )
        if not self._batches or self._batches[-1].rows + rows > policy.max_batch_size:
            if len(self._batches) >= max(policy.max_enqueued_batches, 1):
                raise Unavailable(
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{len(self._batches)} batches enqueued and max_enqueued_batches is {policy.max_enqueued_batches}",
                )
            self._batches.append(Batch(since=now))
        last = self._batches[-1]
        last.tasks.append(task)
        last.rows += rows

    def ready_at(self) -> float | None:
        """Return the monotonic time (s) from which `take` gives a batch; None while the queue is empty."""
        if not self._batches:
            return None
        oldest = self._batches[0]
        return oldest.since if self._is_closed(oldest) else oldest.since + self._policy.batch_timeout_s

    def take(self, now: float) -> Batch[T] | None:
        """Hand out the oldest batch, or None while it is too early."""
        ready_at = self.ready_at()
        if ready_at is None or now < ready_at:
            return None
        oldest = self._batches[0]
        if self._is_closed(oldest):
            oldest.reason = "full"
        elif self._policy.batch_timeout_s > 0:
            oldest.reason = "timeout"
        return self._batches.popleft()

    def _is_closed(self, oldest: Batch[T]) -> bool:
        return len(self._batches) > 1 or oldest.rows >= self._policy.max_batch_size

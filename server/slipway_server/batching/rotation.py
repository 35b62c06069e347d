"""Whose turn it is: queues take turns within a model, and models among each other. Owns no clock and no thread."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slipway_server.batching.queue import Batch, BatchQueue, QueueFull
from slipway_server.config_files import BatchingPolicy

T = TypeVar("T")

# Queues of one model: each costs a kilobyte and a look whenever a thread is free. Callers choose shapes, so callers
# could make as many as rows may wait.
MAX_QUEUES = 1000


@dataclass(slots=True, eq=False)
class Lane(Generic[T]):
    """A queue in the rotation; it exists only while it holds something."""

    key: Hashable
    group: Hashable
    queue: BatchQueue[T]
    model: "_Model[T]"


@dataclass(slots=True, eq=False)
class _Model(Generic[T]):
    name: str
    lanes: OrderedDict[Hashable, Lane[T]] = field(default_factory=OrderedDict)
    """Those that hold something, the one that was served longest ago first."""
    served: int = 0
    """The number of its last turn, counted over all models."""


class Rotation(Generic[T]):
    """
    The queues of all models.

    The next batch is one of the model that was served longest ago, of its queue that was served longest ago, among
    those that have a batch ready. So a flood of one model, or of one odd shape, delays another by what runs already
    and by one batch for each that waits as well.

    The rows that wait in all queues of one group are bounded as if they were one queue: TF Serving has a single queue
    for all shapes, and ours must not take in more because there are many.
    """

    def __init__(self) -> None:
        # Never smaller: there are as many entries as models that were ever asked for.
        self._models: dict[str, _Model[T]] = {}
        self._waiting: dict[str, _Model[T]] = {}
        self._lanes: dict[Hashable, Lane[T]] = {}
        self._rows: dict[Hashable, int] = {}
        self._turn = 0
        self._next_deadline = math.inf

    def __len__(self) -> int:
        """Return how many queues hold something."""
        return len(self._lanes)

    @property
    def models(self) -> int:
        """How many models have something waiting."""
        return len(self._waiting)

    @property
    def next_deadline(self) -> float:
        """Monotonic time (s) before which `expire` finds nothing; infinite if no task has a deadline."""
        return self._next_deadline

    def waiting(self) -> dict[str, int]:
        """Count the requests that wait, for every model that was ever asked for."""
        return {name: sum(lane.queue.requests for lane in model.lanes.values()) for name, model in self._models.items()}

    def lane(self, key: Hashable) -> Lane[T] | None:
        """Return the queue for *key*, if it holds anything."""
        return self._lanes.get(key)

    def put(
        self,
        task: T,
        *,
        model: str,
        group: Hashable,
        key: Hashable,
        policy: BatchingPolicy,
        rows: int,
        now: float,
        deadline: float = math.inf,
        requests: int = 1,
    ) -> Lane[T]:
        """
        Take *task* into the queue for *key*.

        Args:
            task: Anything that can be a key.
            model: Whose turn it uses.
            group: Queues that are bounded together; the same for equal keys.
            key: Tasks with equal keys may run together.
            policy: For a queue that is not there yet.
            rows: >= 1.
            now: Monotonic time in seconds.
            deadline: See `BatchQueue.put`.
            requests: Likewise.

        Raises:
            InvalidArgument: The task is larger than any may be.
            QueueFull: The queue is full, or the group is, or the model has too many queues.
        """
        lane = self._lanes.get(key)
        waiting = self._rows.get(group, 0)
        self._next_deadline = min(deadline, self._next_deadline)
        if lane is not None:
            if waiting > lane.queue.rows:
                self._check_group(waiting, rows, policy)
            lane.queue.put(task, rows, now, deadline, requests)
            self._rows[group] = waiting + rows
            return lane
        if waiting:
            self._check_group(waiting, rows, policy)
        owner = self._models.get(model)
        if owner is None:
            owner = self._models[model] = _Model(model)
        if len(owner.lanes) >= MAX_QUEUES:
            raise QueueFull(
                f"Requests of {MAX_QUEUES} different shapes, signatures or output filters wait for model {model}, "
                "which is as many as may wait at once"
            )
        lane = Lane(key, group, BatchQueue(policy), owner)
        lane.queue.put(task, rows, now, deadline, requests)
        self._rows[group] = waiting + rows
        self._lanes[key] = owner.lanes[key] = lane
        self._waiting[model] = owner
        return lane

    def take(
        self, now: float, wanted: Callable[[Lane[T]], bool] = lambda _lane: True
    ) -> tuple[Lane[T], Batch[T]] | None:
        """Hand out the batch whose turn it is; None while it is too early for all, or that of a queue that is not *wanted*."""
        best: Lane[T] | None = None
        for model in self._waiting.values():
            if best is None or model.served < best.model.served:
                for lane in model.lanes.values():
                    ready_at = lane.queue.ready_at()
                    if ready_at is not None and ready_at <= now:
                        best = lane
                        break
        if best is None or not wanted(best):
            return None
        batch = best.queue.take(now)
        assert batch is not None, "ready_at said so"
        self._turn += 1
        best.model.served = self._turn
        best.model.lanes.move_to_end(best.key)
        self._shrink(best, batch.rows)
        return best, batch

    def next_at(self) -> float:
        """Return the monotonic time (s) from which `take` gives a batch; infinite while nothing waits."""
        times = (lane.queue.ready_at() for lane in self._lanes.values())
        return min((ready_at for ready_at in times if ready_at is not None), default=math.inf)

    def remove(self, task: T, lane: Lane[T] | None) -> bool:
        """Take out what still waits of *task*, which was put into *lane*; say whether there was anything."""
        if lane is None:
            return False
        rows = lane.queue.rows
        if not lane.queue.remove(task):
            return False
        self._shrink(lane, rows - lane.queue.rows)
        return True

    def expire(self, now: float) -> list[T]:
        """Take out and return all tasks whose deadline has come."""
        expired: list[T] = []
        if now < self._next_deadline:
            return expired
        for lane in list(self._lanes.values()):
            if lane.queue.next_deadline <= now:
                rows = lane.queue.rows
                expired += lane.queue.expire(now)
                self._shrink(lane, rows - lane.queue.rows)
        self._next_deadline = min((lane.queue.next_deadline for lane in self._lanes.values()), default=math.inf)
        return expired

    def _shrink(self, lane: Lane[T], rows: int) -> None:
        """Take note that *rows* rows left *lane*, which may be empty now."""
        left = self._rows[lane.group] - rows
        if left:
            self._rows[lane.group] = left
        else:
            del self._rows[lane.group]
        if not lane.queue.tasks:
            del self._lanes[lane.key]
            del lane.model.lanes[lane.key]
            if not lane.model.lanes:
                del self._waiting[lane.model.name]

    @staticmethod
    def _check_group(waiting: int, rows: int, policy: BatchingPolicy) -> None:
        room = max(policy.max_enqueued_batches, 1) * policy.largest_batch
        if waiting + rows > room and rows <= policy.max_batch_size:
            raise QueueFull(
                "The batch scheduling queue to which this task was submitted is full; "
                f"currently {-(-waiting // policy.largest_batch)} batches enqueued and max_enqueued_batches is "
                f"{policy.max_enqueued_batches} ({waiting} rows of several shapes wait)"
            )

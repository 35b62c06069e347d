"""The threads around the queues: take what is ready, merge, run once, split, answer."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from slipway_server.batching.queue import Batch, BatchQueue
from slipway_server.batching.tensors import Tensors, count_rows, merge, split
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_wire.status import DeadlineExceeded, ResourceExhausted, Unavailable, WireError

Run = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class Work:
    """One request as the scheduler sees it."""

    model: str
    key: Hashable
    """Servable, inputs and outputs: work with equal keys may run together if its inner shapes and dtypes agree, too."""
    run: Run
    inputs: Tensors
    deadline: float = math.inf
    """Monotonic time (s) after which nobody waits for the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came out, and where the time went."""

    outputs: Tensors
    queue_s: float
    compute_s: float


class Scheduler(Protocol):
    """Runs work on threads of its own."""

    def submit(self, work: Work) -> "Future[Answer]":
        """
        Take *work* in; the future ends with an Answer or the error of the run. Cancel it when nobody waits any more.

        Raises:
            WireError: The work cannot be taken in: it does not fit, or the queue is full.
        """

    def late(self) -> WireError:
        """Return what a caller is told whose time was over before its work began."""

    def stop(self) -> None:
        """Finish what was taken in, then end the threads."""


class DirectScheduler:
    """Without batching: every request is a run of its own, on one of *threads* threads."""

    def __init__(self, threads: int, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")

    def submit(self, work: Work) -> "Future[Answer]":
        """See `Scheduler.submit`; the queue has no bound."""
        return self._pool.submit(self._run, work, time.monotonic())

    def _run(self, work: Work, since: float) -> Answer:
        started = time.monotonic()
        if started >= work.deadline:
            raise self.late()
        outputs = work.run(work.inputs)
        if all(array.ndim for array in work.inputs.values()) and work.inputs:
            self._metrics.batch(work.model, max(array.shape[0] for array in work.inputs.values()), 0, "free")
        return Answer(outputs, queue_s=started - since, compute_s=time.monotonic() - started)

    def late(self) -> WireError:
        """See `Scheduler.late`."""
        return DeadlineExceeded("The timeout of the request was over before it could run")

    def stop(self) -> None:
        """See `Scheduler.stop`."""
        self._pool.shutdown()


@dataclass(slots=True, eq=False)
class _Task:
    work: Work
    rows: int
    since: float
    future: "Future[Answer]"


@dataclass(slots=True, eq=False)
class _Lane:
    """A queue in the rotation; it exists only while it holds something."""

    key: Hashable
    queue: BatchQueue[_Task]


class BatchScheduler:
    """Queues take turns on `num_batch_threads` threads that all models share, as in TF Serving."""

    def __init__(self, policy: BatchingPolicy, metrics: Metrics) -> None:
        self._policy = policy
        self._metrics = metrics
        self._changed = threading.Condition()
        self._lanes: dict[Hashable, _Lane] = {}
        self._rotation: deque[_Lane] = deque()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch_{number}", daemon=True)
            for number in range(policy.num_batch_threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """See `Scheduler.stop`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, work: Work) -> "Future[Answer]":
        """See `Scheduler.submit`."""
        rows = count_rows(work.inputs)
        # TF Serving queues by signature only, and fails a whole batch when inner shapes differ in it.
        key = (work.key, tuple((name, array.shape[1:], array.dtype) for name, array in sorted(work.inputs.items())))
        now = time.monotonic()
        task = _Task(work, rows, now, Future())
        with self._changed:
            if self._stopping:
                raise Unavailable("The server is shutting down")
            lane = self._lanes.get(key)
            if lane is None:
                lane = _Lane(key, BatchQueue(self._policy))
                lane.queue.put(task, rows, now)
                self._lanes[key] = lane
                self._rotation.append(lane)
            else:
                lane.queue.put(task, rows, now)
            self._changed.notify()
        return task.future

    def late(self) -> WireError:
        """See `Scheduler.late`; source of code and text: TensorFlow's batching_session.cc."""
        return ResourceExhausted("Run() timeout exceeded while waiting in batching queue")

    def _work(self) -> None:
        while batch := self._next():
            self._run_batch(batch)

    def _next(self) -> Batch[_Task] | None:
        """Wait for a batch; None once the scheduler stops and nothing is left."""
        with self._changed:
            while True:
                now = time.monotonic()
                soonest = math.inf
                for _ in range(len(self._rotation)):
                    lane = self._rotation.popleft()
                    batch = lane.queue.take(math.inf if self._stopping else now)
                    if len(lane.queue):
                        self._rotation.append(lane)
                        soonest = min(soonest, lane.queue.ready_at() or now)
                    else:
                        del self._lanes[lane.key]
                    if batch is not None:
                        if self._rotation:
                            # This thread is busy now; another must watch over what still waits.
                            self._changed.notify()
                        return batch
                if self._stopping:
                    return None
                self._changed.wait(None if soonest == math.inf else max(soonest - now, 0.0))

    def _run_batch(self, batch: Batch[_Task]) -> None:
        started = time.monotonic()
        tasks = [task for task in batch.tasks if task.future.set_running_or_notify_cancel()]
        late = [task for task in tasks if task.work.deadline <= started]
        for task in late:
            task.future.set_exception(self.late())
        tasks = [task for task in tasks if task.work.deadline > started]
        if not tasks:
            return
        try:
            self._run_together(tasks, batch, started)
        except Exception as error:  # of TensorFlow, the model or the merge; which task is to blame is not known
            if len(tasks) == 1:
                tasks[0].future.set_exception(error)
                return
            for task in tasks:
                try:
                    self._run_together([task], batch, started)
                except Exception as own_error:
                    task.future.set_exception(own_error)

    def _run_together(self, tasks: Sequence[_Task], batch: Batch[_Task], started: float) -> None:
        rows = sum(task.rows for task in tasks)
        padded = self._policy.padded(rows) if rows else 0
        work = tasks[0].work
        outputs = work.run(merge([task.work.inputs for task in tasks], padded))
        pieces = split(outputs, [task.rows for task in tasks], padded)
        compute_s = time.monotonic() - started
        self._metrics.batch(work.model, rows, padded - rows, batch.reason)
        for task, piece in zip(tasks, pieces, strict=True):
            task.future.set_result(Answer(piece, queue_s=started - task.since, compute_s=compute_s))

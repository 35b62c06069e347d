"""The threads around the queues: take what is ready, run it, answer."""

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Protocol

from slipway_server import cpus
from slipway_server.batching.brief import Brief
from slipway_server.batching.execution import Ran, run_batch
from slipway_server.batching.pace import Pace
from slipway_server.batching.queue import Batch, Part, QueueFull, Reason
from slipway_server.batching.rotation import Lane, Rotation
from slipway_server.batching.task import Answer, Division, Task, Work
from slipway_server.batching.tensors import Tensors, count_rows, join
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_wire.status import DeadlineExceeded, Internal, ResourceExhausted, Unavailable, WireError
from slipway_wire.tensors import Array

logger = logging.getLogger(__name__)

# Between two searches for expired tasks, each of which looks at all that wait.
_SWEEP_S = 0.01
# For so long a caller's thread that runs batches goes on to the next; then it is the turn of what else it does.
_THERE_S = 0.002
# Nobody should wait longer than this because of a guess.
_MAX_RETRY_AFTER_S = 60
# Runs whose time has a say in that guess.
_RUNS_AVERAGED = 10

__all__ = ["Answer", "BatchScheduler", "DirectScheduler", "PerModelScheduler", "Scheduler", "Task", "Work"]


Soon = Callable[[Callable[[], None]], bool]
"""
Have something called by the thread that asks, once it has taken in what has come by then; False: that thread does not do so.
"""


def never(_call: Callable[[], None]) -> bool:
    """Be the `Soon` of threads without an event loop."""
    return False


def no_time() -> float:
    """Be the CPU time that threads use for taking requests in where nobody knows it."""
    return 0.0


class Scheduler(Protocol):
    """Runs work: on threads of its own, or on one CPU, where it is brief, on that of the caller."""

    may_join: bool
    """Whether rows of different requests are ever joined."""

    def largest_batch(self, policy: BatchingPolicy | None) -> int:
        """Return how many rows of requests for a servable with *policy* run together; 0: each runs alone."""

    def room(self, work: Work) -> int:
        """Return how many rows like those of *work* join a batch that others have begun; if there is none, fill a new one."""

    def submit(self, work: Work) -> Task:
        """
        Take *work* in; the future ends with an Answer or the error of the run. Cancel it when nobody waits any more.

        Raises:
            WireError: The work cannot be taken in: it does not fit, or the queue is full.
        """

    def late(self, policy: BatchingPolicy | None = None) -> WireError:
        """Return what a caller is told whose time was over before its work, of a servable with *policy*, began."""

    def stop(self) -> None:
        """Finish what was taken in, then end the threads."""


@dataclass(slots=True)
class _Begun:
    """A run, once it has begun."""

    at: float
    """Monotonic, s."""
    key: Hashable
    """Of its queue."""
    rows: int


@dataclass(slots=True)
class _Taken:
    """What a thread takes out of the queues at once."""

    batch: Batch[Task] | None = None
    late: list[Task] = field(default_factory=list)
    """Tasks whose deadline has come, to be told so."""
    begun: _Begun | None = None
    """Of the batch."""


class _Threads:
    """
    A rotation of queues and the threads that empty it.

    One lock guards queues and tasks; while it is held nothing is run and nobody is called back.
    """

    # Whether threads start when they are needed, rather than all at once.
    _grows = False
    # Whether the thread of a caller that has promised to look runs itself what is brief.
    _runs_there = False

    def __init__(
        self,
        threads: int,
        name: str,
        metrics: Metrics,
        count_cpus: Callable[[], float],
        soon: Soon = never,
        taking_in_s: Callable[[], float] = no_time,
    ) -> None:
        self._limit = threads
        self._soon = soon
        self._pace = Pace(count_cpus, taking_in_s)
        self._name = name
        self._metrics = metrics
        self._lock = threading.Lock()
        self._rotation: Rotation[Task] = Rotation()
        self._threads: list[threading.Thread] = []
        self._stopping = False
        # Threads with nothing to do, each behind a condition of its own: whoever is called is no longer among them.
        self._idle: list[threading.Condition] = []
        # Whether one was called that has not looked yet. It will see to all there is, so that nobody else need be called:
        # the requests that a turn of the event loop brings wake one thread, and leave as one batch.
        self._is_called = False
        # Whether a caller's thread has promised to look for itself whether somebody has to be called.
        self._looks_soon = False
        self._brief = Brief()
        # Held while that thread runs batches; and whether it is running one.
        self._running_there = threading.Lock()
        self._is_running_there = False
        # Until when one of the idle threads waits; the others wait to be called.
        self._watched_until = math.inf
        self._sweeps_again_at = -math.inf
        # Seconds that a batch takes, a moving average, to guess when there will be room.
        self._run_s = 0.0
        metrics.watch_queue(self._waiting)

    def start(self) -> None:
        """Start the threads."""
        with self._lock:
            while len(self._threads) < self._limit:
                self._start_one()

    def stop(self) -> None:
        """See `Scheduler.stop`."""
        with self._lock:
            if self._looks_soon:
                # The loop may have ended before it did.
                self._keep_promise()
            self._stopping = True
            while self._idle:
                self._call()
        with self._running_there:
            pass
        for thread in self._threads:
            thread.join()

    def late(self, policy: BatchingPolicy | None = None) -> WireError:
        """See `Scheduler.late`."""
        raise NotImplementedError

    def _run(self, batch: Batch[Task]) -> None:
        """Run *batch* and finish its tasks."""
        raise NotImplementedError

    def _waiting(self) -> dict[str, int]:
        with self._lock:
            return self._rotation.waiting()

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    # On the thread of a caller.

    def _put(self, work: Work, group: Hashable, key: Hashable, policy: BatchingPolicy, rows: int) -> Task:
        """Queue *work* and see to it that a thread knows."""
        now = time.monotonic()
        task = Task(work, rows, now, self._withdraw)
        with self._lock:
            if self._stopping:
                raise Unavailable("The server is shutting down")
            try:
                task.lane = lane = self._rotation.put(
                    task,
                    model=work.model,
                    group=group,
                    key=key,
                    policy=policy,
                    # A task without rows takes room, too.
                    rows=rows or 1,
                    now=now,
                    deadline=work.deadline,
                    requests=work.requests,
                )
            except QueueFull as refusal:
                if work.requests == 1:
                    # Of several each tries alone.
                    self._metrics.not_run.of(work.model, "refused").add()
                if not refusal.is_permanent:
                    refusal.retry_after_s = self._retry_after_s(key)
                raise
            if not self._looks_soon:
                # On one CPU a thread that is woken for the first request of many only makes small batches: it runs as soon as
                # the event loop looks for more, and before the loop has taken that in.
                self._looks_soon = not self._is_called and self._pace.is_alone(now) and self._soon(self._look)
                if not self._looks_soon:
                    self._see_to(lane.queue.ready_at() or now, work.deadline, now)
        return task

    def _look(self) -> None:
        """
        Do what a caller's thread has promised: see that what it has brought is run.

        What is brief it runs itself: there is one CPU, on which another thread would run instead of it, not beside it.
        """
        until = time.monotonic() + _THERE_S
        begun: _Begun | None = None
        with self._running_there:
            while (taken := self._next_there(begun, until)) is not None:
                begun = taken.begun
                try:
                    self._serve(taken)
                except BaseException:  # to end the loop, perhaps; what waits needs somebody who looks
                    with self._lock:
                        self._end_there(begun)
                        self._keep_promise()
                    raise
                del taken

    def _next_there(self, begun: _Begun | None, until: float) -> _Taken | None:
        """
        Take what is to be run on the thread of a caller at once; None: nothing is, and the promise is kept, or given anew.

        Args:
            begun: What it has run by now.
            until: From then on (monotonic, s) it is the turn of what else that thread does.
        """
        with self._lock:
            now = self._end_there(begun)
            if begun is not None and now >= until and len(self._rotation) and self._soon(self._look):
                return None
            if self._runs_there and not self._stopping and self._pace.is_alone(now):
                taken = self._take(now, self._may_run_there)
                self._is_running_there = taken.batch is not None
                if taken.batch is not None or taken.late:
                    return taken
            self._keep_promise()
            return None

    def _may_run_there(self, lane: Lane[Task]) -> bool:
        """Say whether the next batch of *lane* is to be run on the thread of a caller."""
        # Unless one thread has nothing to do, there would be more runs at once than are configured.
        return bool(self._idle) and self._brief.expects(lane.key, lane.queue.next_rows)

    def _end_there(self, begun: _Begun | None) -> float:
        self._is_running_there = False
        return self._end(begun)

    def _keep_promise(self) -> None:
        self._looks_soon = False
        if len(self._rotation):
            self._see_to(self._rotation.next_at(), self._rotation.next_deadline, time.monotonic())

    def _see_to(self, ready_at: float, deadline: float, now: float) -> None:
        """Wake or start a thread for what is ready or late then; if all are busy, the next that is free looks by itself."""
        if self._is_called:
            return
        if self._idle:
            due_at = max(ready_at, self._pace.next_at(now))
            if due_at <= now or min(due_at, deadline) < self._watched_until:
                self._call()
        elif self._grows and len(self._threads) < self._limit:
            self._start_one()

    def _call(self) -> None:
        """Wake the thread that went idle last; what it needs is still in the CPU's caches."""
        self._is_called = True
        self._idle.pop().notify()

    def _withdraw(self, task: Task) -> bool:
        """Take what waits of *task* out of its queue; say whether that is the end of it. See `Task.cancel`."""
        with self._lock:
            if not self._rotation.remove(task, task.lane):
                return False
            self._left(task, "cancelled")
            if task.division is not None:
                task.division.waits = False
                task.division.is_cancelled = True
                return task.division.is_over
            return True

    def _left(self, task: Task, reason: str) -> None:
        """Take note that *task*, or the rest of it, leaves the queue without having run."""
        self._metrics.not_run.of(task.work.model, reason).add(task.work.requests)

    def _retry_after_s(self, key: Hashable) -> int:
        """Guess when the queue for *key* will have room: all that waits in it runs, in turns with other models."""
        lane = self._rotation.lane(key)
        batches = len(lane.queue) if lane is not None else 1
        wait_s = batches * self._run_s * self._rotation.models / self._limit
        return min(max(math.ceil(wait_s), 1), _MAX_RETRY_AFTER_S)

    # On the scheduler's own threads, and what they share with a caller's that runs batches.

    def _work(self) -> None:
        mine = threading.Condition(self._lock)
        begun: _Begun | None = None
        while (taken := self._next(mine, begun)) is not None:
            begun = taken.begun
            self._serve(taken)
            # Else the last batch would stay in memory until the next.
            del taken

    def _serve(self, taken: _Taken) -> None:
        for task in taken.late:
            task.finish(self.late())
        if taken.batch is None:
            return
        try:
            self._run(taken.batch)
        except Exception:  # a fault of ours; other tasks need this thread
            logger.exception("a batch could not be run to its end; it is answered INTERNAL")
            for task, _, _ in taken.batch.parts:
                if not task.done():
                    task.finish(Internal("internal error"))

    def _next(self, mine: threading.Condition, begun: _Begun | None) -> _Taken | None:
        """
        Wait for a batch, or for tasks that have expired; None once the scheduler stops and nothing is left.

        Args:
            mine: What this thread waits behind.
            begun: What this thread has run by now.
        """
        with self._lock:
            self._end(begun)
            while True:
                now = time.monotonic()
                taken = self._take(now)
                if taken.batch is not None and len(self._rotation) and (self._idle or self._grows):
                    # This thread is busy now; another must watch over what still waits.
                    self._see_to(self._rotation.next_at(), self._rotation.next_deadline, now)
                if taken.batch is not None or taken.late:
                    return taken
                if self._stopping:
                    return None
                self._wait(mine, now)

    def _take(self, now: float, wanted: Callable[[Lane[Task]], bool] = lambda _lane: True) -> _Taken:
        """Take out of the queues what is late, and a batch if one is ready, may run and is *wanted*."""
        taken = _Taken(late=self._sweep(now))
        if not self._stopping and self._free_at(now) > now:
            return taken
        until = math.inf if self._stopping else now
        while taken.batch is None and (turn := self._rotation.take(until, wanted)) is not None:
            lane, batch = turn
            batch.parts = [part for part in batch.parts if self._begins(part, now, taken.late)]
            if batch.parts:
                rows = sum([stop - start for _, start, stop in batch.parts])
                taken.batch, taken.begun = batch, _Begun(now, lane.key, rows)
                self._pace.begin(now)
        return taken

    def _free_at(self, now: float) -> float:
        """Return from when on (monotonic, s) one of the scheduler's threads may begin another run, unless one ends before."""
        if self._is_running_there and len(self._threads) - len(self._idle) >= self._limit:
            # What runs there is instead of one on this thread, which is looked for again when that has ended.
            return math.inf
        return self._pace.next_at(now)

    def _end(self, begun: _Begun | None) -> float:
        """Take note that a run has ended; return the time (monotonic, s)."""
        now = time.monotonic()
        if begun is not None:
            self._pace.end(begun.at, now)
            if self._runs_there:
                self._brief.note(begun.key, begun.rows, now - begun.at, now)
        return now

    def _wait(self, mine: threading.Condition, now: float) -> None:
        """Wait for a change; if no other thread does so in time, wait no longer than until something is due."""
        until = min(
            max(self._rotation.next_at(), self._free_at(now)),
            max(self._rotation.next_deadline, self._sweeps_again_at),
        )
        watches = until < self._watched_until
        if watches:
            self._watched_until = until
        self._idle.append(mine)
        mine.wait(max(until - now, 0.0) if watches else None)
        if mine in self._idle:  # nobody has called: it is time
            self._idle.remove(mine)
        else:
            self._is_called = False
        if watches and self._watched_until == until:
            self._watched_until = math.inf

    def _sweep(self, now: float) -> list[Task]:
        """Take expired tasks out of the queues, and return those of which nothing runs."""
        if now < self._rotation.next_deadline or now < self._sweeps_again_at:
            return []
        self._sweeps_again_at = now + _SWEEP_S
        return [task for task in self._rotation.expire(now) if self._is_over_when_late(task)]

    def _begins(self, part: Part[Task], now: float, late: list[Task]) -> bool:
        """Take note that *part* runs; or, if it is too late for that, put its task into *late* when it is over."""
        task, start, stop = part
        rest_waits = stop < task.rows
        is_divided = start > 0 or rest_waits
        if task.work.deadline <= now:
            if rest_waits:
                self._rotation.remove(task, task.lane)
            if self._is_over_when_late(task):
                late.append(task)
            return False
        task.begin()
        if is_divided:
            division = task.division = task.division or Division()
            division.waits = rest_waits
            division.runs += 1
        return True

    def _is_over_when_late(self, task: Task) -> bool:
        self._left(task, "expired")
        if task.division is None:
            return True
        task.division.waits = False
        task.division.error = task.division.error or self.late()
        return task.division.is_over


class BatchScheduler(_Threads):
    """Queues take turns on `num_batch_threads` threads that all models share, as in TF Serving."""

    may_join = True
    _runs_there = True

    def __init__(
        self,
        policy: BatchingPolicy,
        metrics: Metrics,
        count_cpus: Callable[[], float] = cpus.count,
        soon: Soon = never,
        taking_in_s: Callable[[], float] = no_time,
    ) -> None:
        """
        Put together.

        Args:
            policy: The threads, and the parameters of servables that have none of their own.
            metrics: Where to count.
            count_cpus: See `Pace`.
            soon: How callers' threads look, on one CPU, whether a thread is to be woken; they run themselves what is brief.
            taking_in_s: See `Pace`.
        """
        super().__init__(policy.num_batch_threads, "batch", metrics, count_cpus, soon, taking_in_s)
        self._policy = policy
        self._queuing_latency_us = metrics.queuing_latency_us.of(policy.thread_pool_name)

    def largest_batch(self, policy: BatchingPolicy | None) -> int:
        """See `Scheduler.largest_batch`."""
        return (policy or self._policy).largest_batch

    def room(self, work: Work) -> int:
        """See `Scheduler.room`."""
        policy = work.policy or self._policy
        with self._lock:
            lane = self._rotation.lane(_queue_key(work, policy))
            return lane.queue.room if lane is not None else policy.largest_batch

    def submit(self, work: Work) -> Task:
        """See `Scheduler.submit`."""
        policy = work.policy or self._policy
        rows = count_rows(work.inputs)
        return self._put(work, work.key, _queue_key(work, policy), policy, rows)

    def late(self, policy: BatchingPolicy | None = None) -> WireError:
        """See `Scheduler.late`; source of code and text: TensorFlow's batching_session.cc."""
        return ResourceExhausted("Run() timeout exceeded while waiting in batching queue")

    def _run(self, batch: Batch[Task]) -> None:
        first = batch.parts[0][0].work
        began = time.monotonic()
        begun = [task for task, start, _ in batch.parts if start == 0]
        # Of each request: requests that came together have waited together.
        waits_s = [began - task.since for task in begun for _ in range(task.work.requests)]
        self._metrics.batch_wait_s.of(first.model).observe_all(waits_s)
        self._queuing_latency_us.observe_all([wait_s * 1e6 for wait_s in waits_s])
        self._metrics.input_batch_size.of().observe_all(
            [rows for task in begun for rows in task.work.sizes or (task.rows,)] * len(first.inputs)
        )
        run_batch(
            first.run,
            batch.parts,
            first.policy or self._policy,
            _inputs_of,
            on_run=partial(self._count_run, first.model),
            on_outcome=partial(self._hand_out, first.model, batch.reason, batch.ready_at),
            still_wanted=self._still_wanted,
        )
        self._run_s += (time.monotonic() - began - self._run_s) / _RUNS_AVERAGED

    def _count_run(self, model: str, ran: Ran[Task]) -> None:
        self._metrics.session_run(ran.rows, ran.padding)
        if ran.is_rerun:
            self._metrics.batch_reruns.of(model).add()

    def _hand_out(self, model: str, reason: Reason, ready_at: float, ran: Ran[Task]) -> None:
        """Give the tasks of a run what came of it."""
        outcome = ran.outcome
        if isinstance(outcome, Exception):
            for part in ran.parts:
                self._finish(part, outcome, ready_at, ran.began, ran.ended)
            return
        self._metrics.batch(model, ran.rows, ran.padding, "rerun" if ran.is_rerun else reason)
        for part, outputs in zip(ran.parts, outcome, strict=True):
            self._finish(part, outputs, ready_at, ran.began, ran.ended)

    def _finish(
        self, part: Part[Task], outcome: Tensors | Exception, ready_at: float, began: float, ended: float
    ) -> None:
        """Give *part*'s task its answer, unless other parts of it are still to come."""
        task, start, _ = part
        division = task.division
        if division is None:
            if isinstance(outcome, Exception):
                task.finish(outcome)
            else:
                batch_wait_s, queue_s = self._waits_s(task, ready_at, began)
                task.finish(Answer(outcome, queue_s, ended - began, batch_wait_s))
            return
        with self._lock:
            division.runs -= 1
            if began < division.began:
                division.began, division.ready_at = began, ready_at
            division.ended = max(division.ended, ended)
            if isinstance(outcome, Exception):
                division.error = division.error or outcome
                if self._rotation.remove(task, task.lane):
                    self._left(task, "failed")
                    division.waits = False
            else:
                division.pieces[start] = outcome
            is_over = division.is_over
        if is_over:
            self._finish_divided(task, division)

    def _waits_s(self, task: Task, ready_at: float, began: float) -> tuple[float | None, float]:
        """Divide what *task* waited into what it waited for its batch to fill, and for its turn; None: never for a batch."""
        waited_s = began - task.since
        if not (task.work.policy or self._policy).batch_timeout_s:
            return None, waited_s
        # A server that stops takes batches before their time.
        batch_wait_s = min(max(ready_at - task.since, 0.0), waited_s)
        return batch_wait_s, waited_s - batch_wait_s

    def _finish_divided(self, task: Task, division: Division) -> None:
        """Answer a task all of whose parts have run, or that is to go no further."""
        if division.is_cancelled:
            task.finish_cancelled()
            return
        if division.error is not None:
            task.finish(division.error)
            return
        try:
            outputs = join([piece for _, piece in sorted(division.pieces.items(), key=itemgetter(0))])
        except WireError as error:
            task.finish(error)
            return
        batch_wait_s, queue_s = self._waits_s(task, division.ready_at, division.began)
        task.finish(Answer(outputs, queue_s, division.ended - division.began, batch_wait_s))

    def _still_wanted(self, parts: Sequence[Part[Task]]) -> Sequence[Part[Task]]:
        """Return those of *parts* that are worth another run, and finish the others."""
        now = time.monotonic()
        wanted = []
        for part in parts:
            task = part[0]
            if task.is_abandoned and task.division is None:
                task.finish_cancelled()
            elif task.work.deadline <= now:
                self._finish(part, self.late(), now, now, now)
            else:
                wanted.append(part)
        return wanted


class DirectScheduler(_Threads):
    """
    Without batching: every request is a run of its own, on one of *threads* threads; models take turns.

    None is run by who has taken it in: run by run that costs more than one thread that runs them all (half_plus_two over REST: a
    sixth of the requests/s).
    """

    _grows = True
    may_join = False

    def __init__(
        self,
        threads: int,
        metrics: Metrics,
        max_waiting: int = 10_000,
        count_cpus: Callable[[], float] = cpus.count,
        soon: Soon = never,
        taking_in_s: Callable[[], float] = no_time,
    ) -> None:
        """
        Put together; threads start when they are needed.

        Args:
            threads: How many requests run at once.
            metrics: Where to count.
            max_waiting: Requests of one model that may wait for a thread.
            count_cpus: See `Pace`.
            soon: See `BatchScheduler`.
            taking_in_s: See `Pace`.
        """
        super().__init__(threads, "run", metrics, count_cpus, soon, taking_in_s)
        self._policy = BatchingPolicy(max_batch_size=1, max_enqueued_batches=max_waiting)

    def largest_batch(self, policy: BatchingPolicy | None) -> int:
        """See `Scheduler.largest_batch`."""
        return 0

    def room(self, _work: Work) -> int:
        """See `Scheduler.room`."""
        return 0

    def submit(self, work: Work) -> Task:
        """See `Scheduler.submit`."""
        try:
            return self._put(work, work.model, work.model, self._policy, 1)
        except QueueFull as refusal:
            raise Unavailable(
                f"{self._policy.max_enqueued_batches} requests for model {work.model} wait for a thread, which is as "
                "many as may wait (--max_enqueued_requests)",
                retry_after_s=refusal.retry_after_s,
            ) from None

    def late(self, policy: BatchingPolicy | None = None) -> WireError:
        """See `Scheduler.late`."""
        return DeadlineExceeded("The timeout of the request was over before it could run")

    def _run(self, batch: Batch[Task]) -> None:
        ((task, _, _),) = batch.parts
        work = task.work
        began = time.monotonic()
        try:
            outputs = work.run(work.inputs)
        except MemoryError:
            task.finish(ResourceExhausted("Out of memory while the request ran"))
            return
        except Exception as error:  # of TensorFlow or the model
            task.finish(error)
            return
        except BaseException as error:  # a model's Python op may ask to exit; other models need this thread
            task.finish(RuntimeError(f"the model raised {error!r}"))
            return
        ended = time.monotonic()
        self._run_s += (ended - began - self._run_s) / _RUNS_AVERAGED
        self._metrics.batch_wait_s.of(work.model).observe(began - task.since)
        if work.inputs and all(array.ndim for array in work.inputs.values()):
            self._metrics.batch(work.model, max(array.shape[0] for array in work.inputs.values()), 0, "free")
        task.finish(Answer(outputs, began - task.since, ended - began))


class PerModelScheduler:
    """Servables with batching parameters of their own are batched; the others run request by request."""

    may_join = True

    def __init__(self, batched: BatchScheduler, direct: DirectScheduler) -> None:
        self._batched = batched
        self._direct = direct

    def largest_batch(self, policy: BatchingPolicy | None) -> int:
        """See `Scheduler.largest_batch`."""
        return self._of(policy).largest_batch(policy)

    def room(self, work: Work) -> int:
        """See `Scheduler.room`."""
        return self._of(work.policy).room(work)

    def submit(self, work: Work) -> Task:
        """See `Scheduler.submit`."""
        return self._of(work.policy).submit(work)

    def late(self, policy: BatchingPolicy | None = None) -> WireError:
        """See `Scheduler.late`."""
        return self._of(policy).late()

    def stop(self) -> None:
        """See `Scheduler.stop`."""
        self._batched.stop()
        self._direct.stop()

    def _of(self, policy: BatchingPolicy | None) -> Scheduler:
        return self._direct if policy is None else self._batched


def _inputs_of(task: Task) -> Tensors:
    return task.work.inputs


def _queue_key(work: Work, policy: BatchingPolicy) -> Hashable:
    """
    Return what tasks have in common that run together.

    TF Serving queues by signature only, and fails a whole batch when inner shapes differ in it.
    """
    likeness = _rank if policy.pad_variable_length_inputs else _inner_shape
    inputs = work.inputs
    if len(inputs) == 1:
        ((name, array),) = inputs.items()
        return work.key, name, likeness(array), array.dtype
    return work.key, tuple((name, likeness(array), array.dtype) for name, array in sorted(inputs.items()))


def _rank(array: Array) -> object:
    return array.ndim


def _inner_shape(array: Array) -> object:
    return array.shape[1:]

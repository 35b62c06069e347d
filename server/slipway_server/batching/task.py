"""One request, or several that go together, on the way through the scheduler, and the future that the caller holds."""

import logging
import math
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from slipway_server.batching.rotation import Lane
from slipway_server.batching.tensors import Tensors
from slipway_server.config_files import BatchingPolicy
from slipway_server.errors import forget
from slipway_wire.status import WireError

logger = logging.getLogger(__name__)

Run = Callable[[Tensors], Tensors]


# Not frozen: each request makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Work:
    """One request as the scheduler sees it, or several that are alike."""

    model: str
    key: Hashable
    """Servable, inputs and outputs: work with equal keys may run together if its inner shapes and dtypes agree, too."""
    run: Run
    inputs: Tensors
    deadline: float = math.inf
    """Monotonic time (s) after which nobody waits for the answer."""
    policy: BatchingPolicy | None = None
    """The servable's own batching parameters, the same for equal keys; None: it has none."""
    sizes: Sequence[int] | None = None
    """Rows of each request, if several were joined before they came here; None: it is one."""

    @property
    def requests(self) -> int:
        """How many requests it is."""
        return 1 if self.sizes is None else len(self.sizes)


@dataclass(slots=True)
class Answer:
    """What came out, and where the time went."""

    outputs: Tensors
    queue_s: float
    """Between the submission and the beginning of the run that gave the outputs, without *batch_wait_s*."""
    compute_s: float
    """From the beginning of that run to its end; of a divided request, from its first run to the end of its last."""
    batch_wait_s: float | None = None
    """Before that: until its batch was full or its batch timeout over; None where no batch is waited for."""


_WAITING, _RUNNING, _CANCELLED, _DONE = range(4)


@dataclass(slots=True)
class Division:
    """
    The parts of a task that was divided over several batches; guarded by the scheduler's lock.

    The task is done when none of it waits and none of it runs: its callbacks give the servable back.
    """

    waits: bool = True
    """Whether a part is still in the queue."""
    runs: int = 0
    """Runs under way that hold rows of the task."""
    began: float = math.inf
    ready_at: float = -math.inf
    """Of the batch with its first run; see `Batch.ready_at`."""
    ended: float = -math.inf
    pieces: dict[int, Tensors] = field(default_factory=dict)
    """First row -> outputs of the parts that have run."""
    error: Exception | None = None
    """Of the first part that failed."""
    is_cancelled: bool = False
    """Whether the caller left while parts of it waited."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return not self.waits and not self.runs


class Task(Future[Answer]):
    """
    A Future whose states change under the scheduler's lock, which is held at those moments anyway.

    The standard library's own makes a lock and a condition each time, at several times the cost of all the rest that
    the scheduler does for a task. It cannot be given to `concurrent.futures.wait`.
    """

    def __init__(self, work: Work, rows: int, since: float, withdraw: Callable[["Task"], bool]) -> None:
        """
        Make a task that waits.

        Args:
            work: What to run.
            rows: Its size along axis 0.
            since: Monotonic time (s) of its submission.
            withdraw: Takes a task that waits out of its queue; says whether none of it runs.
        """
        self.work = work
        self.rows = rows
        self.since = since
        self.lane: Lane[Task] | None = None
        """Where it waits."""
        self.division: Division | None = None
        """What has become of its parts, once it runs in parts."""
        self.is_abandoned = False
        """Whether its caller has left while it ran."""
        self._withdraw = withdraw
        self._stage = _WAITING
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[Answer]], object]] = []

    def __repr__(self) -> str:
        return f"<Task of {self.work.model}: {self.rows} rows, {self._stage_name()}>"

    # For the scheduler.

    def begin(self) -> None:
        """Take note that the task runs and can no longer be cancelled."""
        self._stage = _RUNNING

    def finish(self, outcome: Answer | BaseException) -> None:
        """Hand *outcome* to whoever waits for it; exactly once, and without the scheduler's lock."""
        if isinstance(outcome, Answer):
            self._answer = outcome
        else:
            if self.is_abandoned or isinstance(outcome, WireError):
                # Nobody will look where it came from, and its frames hold the tensors of the batch.
                forget(outcome)
            self._error = outcome
        self._stage = _DONE
        self._call_back()

    def finish_cancelled(self) -> None:
        """Tell whoever waits that nothing will come; without the scheduler's lock."""
        self._stage = _CANCELLED
        self._call_back()

    # What a Future offers.

    def cancel(self) -> bool:
        """Withdraw the task if no part of it runs; say whether it is cancelled. Parts that still wait never run."""
        if self._stage == _CANCELLED:
            return True
        if self._stage == _DONE:
            return False
        if not self._withdraw(self):
            self.is_abandoned = True
            return False
        self.finish_cancelled()
        return True

    def cancelled(self) -> bool:
        """See `Future.cancelled`."""
        return self._stage == _CANCELLED

    def running(self) -> bool:
        """See `Future.running`."""
        return self._stage == _RUNNING

    def done(self) -> bool:
        """See `Future.done`."""
        return self._stage >= _CANCELLED

    def result(self, timeout: float | None = None) -> Answer:
        """See `Future.result`."""
        error = self.exception(timeout)
        if error is not None:
            raise error
        assert self._answer is not None, "done without an error"
        return self._answer

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See `Future.exception`."""
        if not self.done():
            is_done = threading.Event()
            self.add_done_callback(lambda _: is_done.set())
            if not is_done.wait(timeout):
                raise TimeoutError
        if self._stage == _CANCELLED:
            raise CancelledError
        return self._error

    def add_done_callback(self, fn: Callable[[Future[Answer]], object]) -> None:
        """See `Future.add_done_callback`."""
        self._callbacks.append(fn)
        if self.done():
            self._call_back()

    def _call_back(self) -> None:
        # Two threads may be here, one that finishes and one that adds: each callback is popped by one of them, and one
        # that is added too late to be seen by the first is seen by the second, which looks at the stage afterwards.
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except Exception:
                logger.exception("a callback of %r failed", self)

    def _stage_name(self) -> str:
        return ("waiting", "running", "cancelled", "done")[self._stage]

"""
Give each version the better of two thread plans, measured with its own requests before it is warmed up.

TensorFlow fixes the threads of an op when a session is made, and sessions share no variables. So the plans are compared by
loading the version a second time, which only one whose load and calls are short is worth; the loser is closed at once.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from slipway_server import memory
from slipway_server.load_options import DEFAULT_PLAN, LoadOptions, Plan
from slipway_server.metrics import Metrics
from slipway_server.servables import synthesis, warmup
from slipway_server.servables.loader import Call, JointCall, Loader, Servable, Tensors
from slipway_server.servables.thread_plans import MIN_CALL_S, MIN_ROUNDS, Round, Timing, Verdict, decide, is_hopeless

logger = logging.getLogger(__name__)

Sizes = Callable[[Tensors], tuple[Tensors, Tensors]]
"""From the inputs of a request to those of the smallest and of the largest run that are worth measuring."""

AnyCall = Call | JointCall

# Long enough for a few dozen calls of a small model, and for threads to meet.
_WINDOW_S = 0.003
_MAX_ROUNDS = 7
# For a moment the weights are in memory twice.
_MAX_SHARE_OF_MEMORY = 0.125


def same_twice(inputs: Tensors) -> tuple[Tensors, Tensors]:
    """Be the `Sizes` of a server that does not batch: a request runs as it was sent."""
    return inputs, inputs


@dataclass(frozen=True, slots=True)
class Choice:
    """
    A version's plan.

    Attributes:
        plan: Which; None: the threads are as somebody has configured them.
        reason: Why, in a word, for the metrics.
        told: Why, for the log.
    """

    plan: Plan | None
    reason: str
    told: str


_NO_REQUESTS = Choice(
    DEFAULT_PLAN,
    "no_requests",
    "there are no warm-up records to measure with (--synthesize_warmup_requests makes some up)",
)


def _too_slow(expected_s: float) -> Choice:
    told = f"to measure it would take {expected_s:.1f} s or more, see --thread_plan_limit_s"
    return Choice(DEFAULT_PLAN, "too_slow", told)


@dataclass
class Choices:
    """
    What one server has chosen, and what it chooses by.

    Attributes:
        options: How versions are loaded.
        cpus: How many CPUs there are.
        has_gpu: Whether a GPU is within reach.
        threads: How many batches, or requests without batching, run at once.
        metrics: Where they are told.
        measuring: Held while one version is measured.
    """

    options: LoadOptions
    cpus: int
    has_gpu: bool
    threads: int
    metrics: Metrics
    measuring: threading.Lock = field(default_factory=threading.Lock)
    _measured: dict[str, Plan] = field(default_factory=dict)

    def without_measuring(self, model: str) -> Choice | None:
        """Return what is settled for *model* before any of its versions is loaded; None: nothing is."""
        threads, wanted = self.options.threads, self.options.threads.wanted(model)
        if threads.configured_by:
            return Choice(None, "configured", f"{threads.configured_by} sets the threads")
        if wanted != "auto":
            return Choice(wanted, "flag", "as --thread_plan says")
        if self.cpus < 2:
            return Choice(DEFAULT_PLAN, "one_cpu", "there is one CPU")
        if self.has_gpu:
            return Choice(DEFAULT_PLAN, "gpu", "there is a GPU to compute on")
        if not self.options.warmup.is_enabled:
            return Choice(DEFAULT_PLAN, "no_warmup", "warm-up, and with it measuring, is switched off")
        if model in self._measured:
            return Choice(self._measured[model], "version", "as measured with an earlier version of the model")
        return None

    def keep(self, model: str, plan: Plan) -> None:
        """Take *plan*, which was measured, for all further versions of *model*; to be called while `measuring` is held."""
        self._measured[model] = plan

    def note(self, model: str, version: int, choice: Choice) -> None:
        """Tell *choice*."""
        plan = choice.plan or "configured"
        self.metrics.thread_plan.of(model, str(version), plan, choice.reason).value = 1.0
        logger.info("servable {name: %s version: %d}: thread plan %s: %s", model, version, plan, choice.told)


class PlannedLoader:
    """A loader whose versions run with the thread plan that suits them."""

    def __init__(
        self,
        make: Callable[[LoadOptions, bool], Loader],
        directory: Path,
        choices: Choices,
        *,
        model: str,
        version: int,
        sizes: Callable[[], Sizes] = lambda: same_twice,
        has_plan: Callable[[Servable], bool] = lambda _servable: True,
        measure: "Measure | None" = None,
    ) -> None:
        """
        Wrap what *make* makes.

        Args:
            make: Makes a loader of the version, by these options; with False, one whose load is not counted.
            directory: May hold warm-up records.
            choices: What all loaders of the server share.
            model: Its name.
            version: Its number.
            sizes: Called once the version is loaded; says what the batcher may make of a request.
            has_plan: Says whether the options' threads are those that a loaded version runs with.
            measure: Times both plans; by default, as `measured` does.
        """
        self._make = make
        self._directory = directory
        self._choices = choices
        self._model = model
        self._version = version
        self._sizes = sizes
        self._has_plan = has_plan
        self._measure: Measure = measure or measured

    def load(self) -> Servable:
        """
        Load with the plan that is settled; if none is, load with the default one and see whether the other is better.

        Raises:
            WireError: Of the loader, for the default plan. That the other one does not load is a line in the log.
        """
        choice = self._choices.without_measuring(self._model)
        if choice is not None:
            servable = self._loader(choice.plan).load()
        else:
            servable, choice = self._load_the_better()
        self._choices.note(self._model, self._version, choice)
        return servable

    def _load_the_better(self) -> tuple[Servable, Choice]:
        began = time.perf_counter()
        servable = self._loader(DEFAULT_PLAN).load()
        load_s = time.perf_counter() - began
        try:
            call, sizes = self._call(servable), self._sizes()
            why_not = self._why_not(servable, call, load_s)
            if why_not is not None or call is None:
                return servable, why_not or _NO_REQUESTS
            # Two that are measured at once would disturb each other.
            with self._choices.measuring:
                if (choice := self._choices.without_measuring(self._model)) is None:
                    return self._compared(servable, [warmup.fed(call, inputs) for inputs in sizes(call.inputs)], load_s)
            # Another version was measured meanwhile.
            return (servable if choice.plan == DEFAULT_PLAN else self._instead_of(servable, choice.plan)), choice
        except Exception as error:  # whatever it is, the version can be served with the plan that it has
            told = f"it could not be measured: {type(error).__name__}: {' '.join(str(error).split())}"
            return servable, Choice(DEFAULT_PLAN, "failed", told)

    def _why_not(self, servable: Servable, call: AnyCall | None, load_s: float) -> Choice | None:
        """Say why a version, loaded in *load_s* seconds, is not worth measuring with *call*; None: it may be."""
        if not self._has_plan(servable):
            return Choice(DEFAULT_PLAN, "shared", "it runs on threads that it shares with others")
        if call is None:
            return _NO_REQUESTS
        if load_s > self._choices.options.threads.limit_s:
            return _too_slow(load_s)
        if (held := _size(self._directory)) > _MAX_SHARE_OF_MEMORY * memory.limit_bytes():
            return Choice(DEFAULT_PLAN, "too_large", f"its {held} bytes would be in memory twice")
        return None

    def _compared(self, servable: Servable, calls: Sequence[AnyCall], load_s: float) -> tuple[Servable, Choice]:
        """Measure *servable* and the version with the other plan; close the worse of them."""
        smallest, largest = calls
        if _rows(smallest) == _rows(largest):
            largest = smallest
        limit_s = self._choices.options.threads.limit_s
        smallest_s, spent_s = _call_s(servable, smallest)
        # Its time can be no more than in proportion, and then it is too long to be tried.
        if (expected_s := load_s + spent_s + 3 * smallest_s * _rows(largest) / _rows(smallest)) > limit_s:
            return servable, _too_slow(expected_s)
        largest_s, more_s = (smallest_s, 0.0) if largest is smallest else _call_s(servable, largest)
        # Of the other plan, everything once more.
        if (expected_s := load_s + spent_s + more_s + MIN_ROUNDS * self._round_s(smallest_s, largest_s)) > limit_s:
            return servable, _too_slow(expected_s)
        if largest_s < MIN_CALL_S:
            told = f"a call takes {1e6 * largest_s:.0f} µs, too little to be shared out to CPUs"
            return servable, Choice(DEFAULT_PLAN, "too_small", told)
        until = time.perf_counter() + limit_s
        other = self._loader("batch_per_core", is_counted=False).load()
        try:
            verdict = self._verdict(servable, other, (smallest, largest), until)
        except BaseException:
            other.close()
            raise
        self._choices.keep(self._model, verdict.plan)
        kept, closed = (other, servable) if verdict.plan == "batch_per_core" else (servable, other)
        closed.close()
        memory.give_back()
        return kept, Choice(
            verdict.plan,
            "measured",
            f"next to one_batch, batch_per_core has {verdict.small:.2f} of the throughput in the smallest batches and "
            f"{verdict.large:.2f} in the largest; a request that is alone takes {verdict.delay:.2f} and "
            f"{verdict.large_delay:.2f} of the time",
        )

    def _instead_of(self, servable: Servable, plan: Plan | None) -> Servable:
        other = self._loader(plan, is_counted=False).load()
        servable.close()
        return other

    def _round_s(self, smallest_s: float, largest_s: float) -> float:
        """Say how long a round takes at most: on one CPU a call takes its time as often as there were CPUs to share it."""
        smallest_s, largest_s = (max(_WINDOW_S, one_s * self._choices.cpus) for one_s in (smallest_s, largest_s))
        # Both plans, each size alone and on all threads.
        return 2 * 2 * (smallest_s + largest_s)

    def _verdict(
        self, one_batch: Servable, batch_per_core: Servable, calls: tuple[AnyCall, AnyCall], until: float
    ) -> Verdict:
        """Measure until it is enough, or the time (`perf_counter`) is over."""
        for call in calls:
            _run(batch_per_core, call)
        rounds = []
        for one in self._measure(
            one_batch, batch_per_core, calls, max(min(self._choices.threads, self._choices.cpus), 1)
        ):
            rounds.append(one)
            if is_hopeless(rounds) or (len(rounds) >= MIN_ROUNDS and time.perf_counter() > until):
                break
        return decide(rounds)

    def _loader(self, plan: Plan | None, *, is_counted: bool = True) -> Loader:
        options = self._choices.options
        # What computes on a GPU takes the default plan, and TensorFlow's own choice of threads.
        if plan is not None and not (self._choices.has_gpu and plan == DEFAULT_PLAN):
            options = options.with_intra_op_threads(1 if plan == "batch_per_core" else self._choices.cpus)
        return self._make(options, is_counted)

    def _call(self, servable: Servable) -> AnyCall | None:
        """Find a request to measure with."""
        call = warmup.first_call(self._directory, servable.signatures)
        if call is not None or not self._choices.options.warmup.is_synthesized:
            return call
        for name, signature in servable.signatures.items():
            if synthesis.can_be_asked(signature) and (inputs := synthesis.inputs(signature)) is not None:
                return Call(name, inputs, tuple(signature.outputs))
        return None


Measure = Callable[[Servable, Servable, tuple[AnyCall, AnyCall], int], Iterator[Round]]
"""Times both plans, the default one first, with a call of the smallest and one of the largest size and so many callers."""


def measured(
    one_batch: Servable, batch_per_core: Servable, calls: tuple[AnyCall, AnyCall], callers: int
) -> Iterator[Round]:
    """Time both plans in turn, round by round, each round in another order; see `Measure`."""
    with ThreadPoolExecutor(callers, thread_name_prefix="thread_plan") as pool:
        for number in range(_MAX_ROUNDS):
            plans = [one_batch, batch_per_core][:: -1 if number % 2 else 1]
            timings = [_timing(servable, calls, pool, callers) for servable in plans]
            yield Round(*timings[:: -1 if number % 2 else 1])


def _timing(servable: Servable, calls: tuple[AnyCall, AnyCall], pool: ThreadPoolExecutor, callers: int) -> Timing:
    smallest, largest = calls
    lone_s = 1 / _per_s(servable, smallest, pool, 1)
    small_per_s = _per_s(servable, smallest, pool, callers) * _rows(smallest)
    if largest is smallest:
        return Timing(lone_s, small_per_s, lone_s, small_per_s)
    large_lone_s = 1 / _per_s(servable, largest, pool, 1)
    return Timing(lone_s, small_per_s, large_lone_s, _per_s(servable, largest, pool, callers) * _rows(largest))


def _per_s(servable: Servable, call: AnyCall, pool: ThreadPoolExecutor, callers: int) -> float:
    """Call on *callers* threads for a while; return calls a second of all."""
    together = threading.Barrier(callers)

    def repeat() -> float:
        together.wait()
        began = time.perf_counter()
        calls = took_s = 0.0
        while calls == 0 or took_s < _WINDOW_S:
            _run(servable, call)
            calls += 1
            took_s = time.perf_counter() - began
        return calls / took_s

    return sum(future.result() for future in [pool.submit(repeat) for _ in range(callers)])


def _run(servable: Servable, call: AnyCall) -> None:
    if isinstance(call, JointCall):
        servable.run_together(call.calls)
    else:
        servable.run(call)


def _call_s(servable: Servable, call: AnyCall) -> tuple[float, float]:
    """Make a few calls; return how long one takes once all is set up, and how long they took together (s)."""
    began = time.perf_counter()
    _run(servable, call)
    later_s = []
    for _ in range(2):
        now = time.perf_counter()
        _run(servable, call)
        later_s.append(time.perf_counter() - now)
    return min(later_s), time.perf_counter() - began


def _rows(call: AnyCall) -> int:
    """Count the rows of a call; one whose inputs have none counts as one."""
    array = next(iter(call.inputs.values()))
    return int(array.shape[0]) if array.ndim else 1


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

"""
Give each version the better of two thread plans, measured with its own requests before it is warmed up.

TensorFlow fixes the threads of an op when a session is made, and sessions share no variables. So the plans are compared by
loading the version a second time, which only one whose load and calls are short is worth; the loser is closed at once.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway_server import memory, process_stats
from slipway_server.load_options import DEFAULT_PLAN, LoadOptions, Plan
from slipway_server.metrics import Metrics
from slipway_server.servables import plan_timing, synthesis, warmup
from slipway_server.servables.loader import Call, Loader, Servable, Tensors
from slipway_server.servables.plan_timing import AnyCall, Measure
from slipway_server.servables.thread_plans import MIN_CALL_S, MIN_ROUNDS, Verdict, decide, is_hopeless

logger = logging.getLogger(__name__)

Sizes = Callable[[Tensors], tuple[Tensors, Tensors]]
"""From the inputs of a request to those of the smallest and of the largest run that are worth measuring."""

# For a moment the weights are in memory twice.
_MAX_SHARE_OF_MEMORY = 0.125
# What all models of a server together may take, in what one may: many would hold up its start, and live requests.
_MODELS_AT_MOST = 5


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
        spent_s: How long versions have been measured so far, all together (s); to be changed while `measuring` is held.
    """

    options: LoadOptions
    cpus: int
    has_gpu: bool
    threads: int
    metrics: Metrics
    measuring: threading.Lock = field(default_factory=threading.Lock)
    spent_s: float = 0.0
    _kept: dict[str, Plan] = field(default_factory=dict)

    @property
    def may_differ(self) -> bool:
        """Whether models of this server may come to have different threads."""
        threads = self.options.threads
        wanted = {threads.plan, *threads.by_model.values()}
        is_measuring = "auto" in wanted and not self.has_gpu and self.options.warmup.is_enabled
        return not threads.configured_by and self.cpus > 1 and (is_measuring or "batch_per_core" in wanted)

    def left_s(self) -> float:
        """Say how long another version may be measured: as one model may, or what the others have left of the server's time."""
        limit_s = self.options.threads.limit_s
        return min(limit_s, _MODELS_AT_MOST * limit_s - self.spent_s)

    def too_slow(self, expected_s: float) -> Choice:
        """Say that a version is not measured because that would take *expected_s* seconds at least."""
        told = f"to measure it would take {expected_s:.1f} s or more, see --thread_plan_limit_s"
        if self.left_s() < (limit_s := self.options.threads.limit_s):
            told += f"; of the {_MODELS_AT_MOST * limit_s:.1f} s for all models, {self.spent_s:.1f} s are spent"
        return Choice(DEFAULT_PLAN, "too_slow", told)

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
        if model in self._kept:
            return Choice(self._kept[model], "version", "as found with an earlier version of the model")
        return None

    def keep(self, model: str, plan: Plan) -> None:
        """Take *plan* for all further versions of *model*, unless there is one: they come while requests are answered."""
        self._kept.setdefault(model, plan)

    def note(self, model: str, version: int, choice: Choice) -> None:
        """Tell *choice*, which holds from now on."""
        plan = choice.plan or "configured"
        for labels, _ in self.metrics.thread_plan.rows():
            if labels[:2] == (model, str(version)):
                self.metrics.thread_plan.of(*labels).value = 0.0
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
        measure: Measure | None = None,
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
            measure: Times both plans; by default, as `plan_timing.measured` does.
        """
        self._make = make
        self._directory = directory
        self._choices = choices
        self._model = model
        self._version = version
        self._sizes = sizes
        self._has_plan = has_plan
        self._measure: Measure = measure or plan_timing.measured

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
            why_not = self._why_not(servable, call)
            if why_not is not None or call is None:
                return servable, why_not or _NO_REQUESTS
            # Two that are measured at once would disturb each other.
            with self._choices.measuring:
                if (choice := self._choices.without_measuring(self._model)) is None:
                    calls = [warmup.fed(call, inputs) for inputs in sizes(call.inputs)]
                    servable, choice = self._compared(servable, calls, load_s)
                    self._choices.keep(self._model, choice.plan or DEFAULT_PLAN)
                    return servable, choice
            # Another version was measured meanwhile.
            return (servable if choice.plan == DEFAULT_PLAN else self._instead_of(servable, choice.plan)), choice
        except Exception as error:  # whatever it is, the version can be served with the plan that it has
            self._choices.keep(self._model, DEFAULT_PLAN)
            told = f"it could not be measured: {type(error).__name__}: {' '.join(str(error).split())}"
            return servable, Choice(DEFAULT_PLAN, "failed", told)

    def _why_not(self, servable: Servable, call: AnyCall | None) -> Choice | None:
        """Say why a version cannot be measured with *call*, as a later one of the model might be; None: it can."""
        if not self._has_plan(servable):
            return Choice(DEFAULT_PLAN, "shared", "it runs on threads that it shares with others")
        if call is None:
            return _NO_REQUESTS
        held, limit = _size(self._directory), memory.limit_bytes()
        free = limit - process_stats.read().get("process_resident_memory_bytes", 0.0)
        if held > _MAX_SHARE_OF_MEMORY * limit or 2 * held > free:
            told = f"its {held} bytes would be in memory twice, and {max(free, 0.0):.0f} of {limit} are free"
            return Choice(DEFAULT_PLAN, "too_large", told)
        return None

    def _compared(self, servable: Servable, calls: Sequence[AnyCall], load_s: float) -> tuple[Servable, Choice]:
        """Measure *servable* and the version with the other plan; close the worse of them, and count the time."""
        began = time.perf_counter()
        try:
            return self._compared_until(servable, calls, load_s, began + self._choices.left_s())
        finally:
            self._choices.spent_s += time.perf_counter() - began

    def _compared_until(
        self, servable: Servable, calls: Sequence[AnyCall], load_s: float, until: float
    ) -> tuple[Servable, Choice]:
        """Do so while it is no later than *until* (`perf_counter`); what would take longer is not begun."""
        smallest, largest = calls
        if plan_timing.rows(smallest) == plan_timing.rows(largest):
            largest = smallest
        limit_s = until - time.perf_counter()
        if load_s > limit_s:
            return servable, self._choices.too_slow(load_s)
        smallest_s, spent_s = plan_timing.call_s(servable, smallest, limit_s)
        # The largest call's time can be no more than in proportion, and then it is too long to be tried. With the other plan,
        # all calls once more.
        if (
            expected_s := load_s + 2 * spent_s + 3 * smallest_s * plan_timing.rows(largest) / plan_timing.rows(smallest)
        ) > limit_s:
            return servable, self._choices.too_slow(expected_s)
        largest_s = smallest_s
        if largest is not smallest:
            largest_s, more_s = plan_timing.call_s(servable, largest, limit_s - spent_s)
            spent_s += more_s
        if (expected_s := load_s + 2 * spent_s + MIN_ROUNDS * self._round_s(smallest_s, largest_s)) > limit_s:
            return servable, self._choices.too_slow(expected_s)
        if largest_s < MIN_CALL_S:
            told = f"a call takes {1e6 * largest_s:.0f} µs, too little to be shared out to CPUs"
            return servable, Choice(DEFAULT_PLAN, "too_small", told)
        other = self._loader("batch_per_core", is_counted=False).load()
        try:
            verdict = self._verdict(servable, other, (smallest, largest), until)
        except BaseException:
            _close(other)
            raise
        kept, loser = (other, servable) if verdict.plan == "batch_per_core" else (servable, other)
        _close(loser)
        return kept, Choice(
            verdict.plan,
            "measured",
            f"next to one_batch, batch_per_core has {verdict.small:.2f} of the throughput in the smallest batches and "
            f"{verdict.large:.2f} in the largest; a request that is alone takes {verdict.delay:.2f} and "
            f"{verdict.large_delay:.2f} of the time",
        )

    def _instead_of(self, servable: Servable, plan: Plan | None) -> Servable:
        other = self._loader(plan, is_counted=False).load()
        _close(servable)
        return other

    def _round_s(self, smallest_s: float, largest_s: float) -> float:
        """Say how long a round takes at most: on one CPU a call takes its time as often as there were CPUs to share it."""
        smallest_s, largest_s = (
            max(plan_timing.WINDOW_S, one_s * self._choices.cpus) for one_s in (smallest_s, largest_s)
        )
        # Both plans, each size alone and on all threads.
        return 2 * 2 * (smallest_s + largest_s)

    def _verdict(
        self, one_batch: Servable, batch_per_core: Servable, calls: tuple[AnyCall, AnyCall], until: float
    ) -> Verdict:
        """Measure until it is enough, or the time (`perf_counter`) is over."""
        for call in calls:
            plan_timing.run(batch_per_core, call)
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


def _close(loser: Servable) -> None:
    """Close one of two; the other serves whatever comes of that."""
    try:
        loser.close()
    except Exception:
        logger.exception("a version with another thread plan could not be closed")
    memory.give_back()


def _size(directory: Path) -> int:
    """Count the bytes of all files; those behind links, too, but no directory twice, for links may go round."""
    size, seen = 0, set()
    for place, below, names in os.walk(directory, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            below.clear()
            continue
        seen.add(real)
        size += sum(path.stat().st_size for name in names if (path := Path(place, name)).is_file())
    return size

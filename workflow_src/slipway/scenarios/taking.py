"""Taking a scenario down: its windows as they are measured, its numbers, and why it does not count."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slipway import repetitions, statistics
from slipway.errors import ContractViolation
from slipway.load_plan import NAMES, Planned
from slipway.records import (
    Load,
    Protocol,
    Repetition,
    ScenarioRecord,
    ScenarioSeries,
    ScenarioValue,
    ScenarioWindow,
)
from slipway.repetitions import Window
from slipway.scenarios.bench import Bench
from slipway.windows import OVERHEAD_S
from slipway_wire.loads import Encoding, LoadWindow, Tier

# Rules that another try may keep: what was wrong with the machine, not with the server.
_TRANSIENT = repetitions.ONLY_WALL_CLOCK - {repetitions.NEAR_CEILING}
# What failed requests and a server that changes meanwhile break by themselves, where they may.
FAILING = frozenset(
    {
        *(repetitions.FAILED_REQUESTS, repetitions.OFF_RATE, repetitions.LATE, repetitions.MISCOUNTED),
        *(repetitions.RECONNECTED, repetitions.UNSTEADY),
    }
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    One window of a scenario.

    Attributes:
        protocol: Which.
        label: Which step of the scenario.
        users: Connections: in a closed loop each with one request in flight, in an open one the first of more.
        window_s: Length.
        warmup_s: Load in front of it.
        rate: Open loop: requests per second.
        steps: Open loop: rates that follow one another, with their seconds, *warmup_s* included.
        rows: In each request.
        requests: Closed loop: end after so many.
        encoding: Beforehand or per request.
        tier: Whose clients send it.
        forgiven: Rules that do not hold here.
        unchecked: Whether answers may be any, for another version may give them.
        retry: Whether a window that the machine spoiled is measured again.
        may_fail: Whether failed requests are a finding and not the end.
        index: Number of the repetition.
        seed: Of the arrivals, with the settings' own.
        payloads: The payload file; None: the one for so many rows.
        alternatives: Payload files with the same requests and other answers that are right, too.
        numbered: Whether samples say which payload each request sent.
    """

    protocol: Protocol
    label: str
    users: int
    window_s: float
    warmup_s: float = 0.0
    rate: float | None = None
    steps: Sequence[tuple[float, float]] = ()
    rows: int = 1
    requests: int | None = None
    encoding: Encoding = "prebuilt"
    tier: Tier = "wire"
    forgiven: frozenset[str] = frozenset()
    unchecked: bool = False
    retry: bool = True
    may_fail: bool = False
    index: int = 0
    seed: str = "0"
    payloads: Path | None = None
    alternatives: Sequence[Path] = ()
    numbered: bool = False

    @property
    def planned(self) -> Planned:
        """The load, as cells name it."""
        if self.rate is None:
            return Planned(self.protocol, Load(kind="closed", concurrency=self.users))
        return Planned(self.protocol, Load(kind="open", rate=self.rate))


@dataclass
class Taking:
    """One scenario on its way; `of` begins it, and its record is kept however it ends."""

    bench: Bench
    name: str
    kind: str
    settings: dict[str, Any]
    values: list[ScenarioValue] = field(default_factory=list)
    series: list[ScenarioSeries] = field(default_factory=list)
    windows: list[ScenarioWindow] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def of(cls, bench: Bench, name: str, settings: Any) -> "Iterator[Taking]":
        """Take down scenario *name* in the block; what there is of it when the block ends is its record."""
        taking = cls(bench, name, settings.kind, settings.model_dump(mode="json"))
        began = time.monotonic()
        ended = False
        try:
            yield taking
            ended = True
        finally:
            if not ended:
                taking.invalid.append("it was cut short")
            bench.records.append(taking.record(time.monotonic() - began))

    @property
    def protocols(self) -> list[Protocol]:
        """Those that are wanted and that the server speaks."""
        return [p for p in self.bench.windows.protocols if p in self.settings["protocols"]]

    def window(self, wanted: Wanted, during: Callable[[LoadWindow], None] | None = None) -> tuple[Window, Repetition]:
        """
        Measure one window; once more if it broke a rule that another try may keep.

        Args:
            wanted: Which.
            during: Called when the window begins, in the time of its length.

        Raises:
            ContractViolation: An answer is wrong.
            InvalidMeasurement: A request failed that may not.
        """
        told, planned = self.bench.told, wanted.planned
        told.begin(f"{self.name}: {planned}, {wanted.label}" if wanted.label else f"{self.name}: {planned}")
        began = time.monotonic()
        window, repetition = self._measure(wanted, during)
        if _TRANSIENT & set(repetition.invalid) and wanted.retry:
            self.bench.windows.reruns += 1
            told.note(f"  measured again: {'; '.join(repetition.invalid)}")
            self.windows.pop()
            # What had not settled may need more time.
            times = 2 if repetitions.UNSTEADY in repetition.invalid else 1
            window, repetition = self._measure(replace(wanted, window_s=times * wanted.window_s), during)
        if repetition.invalid:
            told.note(f"  does not count: {'; '.join(repetition.invalid)}")
        # A load of so many requests takes what it takes.
        told.end(time.monotonic() - began if wanted.requests else wanted.warmup_s + wanted.window_s + OVERHEAD_S)
        return window, repetition

    def _measure(self, wanted: Wanted, during: Callable[[LoadWindow], None] | None) -> tuple[Window, Repetition]:
        bench, order = self.bench, self.order(wanted)
        window = bench.windows.machine.load(
            bench.windows.generator, bench.server, bench.windows.model, order, during=during
        )
        return window, self.take_down(wanted, window)

    def order(self, wanted: Wanted) -> Any:
        """Make the order for the load generator."""
        bench = self.bench
        path = wanted.payloads or (bench.unchecked_file(wanted.rows) if wanted.unchecked else bench.file(wanted.rows))
        order = bench.windows.ordered(
            bench.server,
            wanted.protocol,
            f"scenarios/{self.name}/{bench.windows.order}",
            users=wanted.users,
            warmup_s=wanted.warmup_s,
            window_s=wanted.window_s,
        )
        return replace(
            order,
            rate=wanted.rate,
            steps=list(wanted.steps),
            requests=wanted.requests,
            encoding=wanted.encoding,
            tier=wanted.tier,
            payloads=str(path) if path else None,
            alternatives=[str(other) for other in wanted.alternatives],
            numbered=wanted.numbered,
            seed=f"{bench.windows.settings.seed}/{self.name}/{wanted.seed}",
        )

    def take_down(self, wanted: Wanted, window: Window) -> Repetition:
        """Make the record of a window that was measured, and end the scenario at what may not be."""
        bench, planned = self.bench, wanted.planned
        calibrated = wanted.encoding == "prebuilt" and wanted.tier == "wire"
        ceiling = bench.ceiling(wanted.protocol, wanted.rows) if calibrated else None
        made = repetitions.repetition(
            window,
            planned.load,
            rows=wanted.rows,
            index=wanted.index,
            order=bench.windows.order,
            ceiling_rps=bench.windows.ceiling_of(window, wanted.protocol, ceiling),
            declared=bench.windows.declared,
            is_level=repetitions.UNSTEADY not in wanted.forgiven,
        )
        bench.windows.order += 1
        made = made.model_copy(update={"invalid": [rule for rule in made.invalid if rule not in wanted.forgiven]})
        self.windows.append(
            ScenarioWindow(
                label=wanted.label,
                protocol=wanted.protocol,
                rows=wanted.rows,
                load=planned.load,
                tier=wanted.tier,
                repetition=made,
            )
        )
        outcome = window.outcome
        if not wanted.may_fail:
            bench.windows.stop_at_faults(planned, window, f"scenario {self.name}, {wanted.label}".removesuffix(", "))
        elif outcome.wrong_answers:
            raise ContractViolation(
                f"{bench.windows.subject}, {planned}, scenario {self.name}: {outcome.wrong_answers} of "
                f"{outcome.checked_answers} answers under load are wrong: {outcome.first_wrong}"
            )
        return made

    # --- numbers ------------------------------------------------------------------------------------

    def value(self, key: str, name: str, unit: Any, value: float | None, **more: Any) -> None:
        """Take down a number; *more* are fields of ScenarioValue."""
        self.values.append(ScenarioValue(key=key, name=name, unit=unit, value=value, **more))

    def median(self, key: str, name: str, unit: Any, found: Sequence[float | None], **more: Any) -> None:
        """Take down the median of what was *found* in each repetition, with its exact interval; None if one is missing."""
        known = [value for value in found if value is not None]
        estimate = statistics.median_interval(known) if len(known) == len(found) else None
        if estimate is None:
            self.value(key, name, unit, None, **more)
        else:
            self.value(key, name, unit, estimate.value, low=estimate.low, high=estimate.high, **more)

    def counted(self, protocol: Protocol, label: str) -> list[Repetition]:
        """List the repetitions of a step that count; the step is invalid where there is none."""
        taken = [w.repetition for w in self.windows if (w.protocol, w.label) == (protocol, label)]
        valid = [repetition for repetition in taken if not repetition.invalid]
        if taken and not valid:
            step = f"{NAMES[protocol]}, {label}" if label else NAMES[protocol]
            self.invalid.append(f"{step}: every window broke a rule: {'; '.join(taken[-1].invalid)}")
        return valid

    def timeless(self, protocol: Protocol, label: str) -> list[Repetition]:
        """List the repetitions of a step whose CPU time and bytes count, whatever disturbed the clock on the wall."""
        taken = [w.repetition for w in self.windows if (w.protocol, w.label) == (protocol, label)]
        return [repetition for repetition in taken if not set(repetition.invalid) - repetitions.ONLY_WALL_CLOCK]

    def record(self, duration_s: float) -> ScenarioRecord:
        """Give what there is so far."""
        return ScenarioRecord(
            name=self.name,
            kind=self.kind,
            settings=self.settings,
            duration_s=duration_s,
            values=self.values,
            series=self.series,
            windows=self.windows,
            faults=self.faults,
            invalid=self.invalid,
            notes=self.notes,
        )

    def drop_samples(self) -> None:
        """Remove the raw samples of this scenario, of which there would be too many."""
        for path in Path(self.bench.windows.directory, "scenarios", self.name).glob("*.npz"):
            path.unlink()

"""
Published runs -> series that may be joined, and where they moved. Pure; knows nothing of pages.

Numbers of two machines, two loads or two settings are never joined: each set of facts is a series of its own.
A history tells, it does not judge: whether a change is worse is decided by `slipway compare`, side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway.change_points import change_points
from slipway.records import Protocol
from slipway.report import numbers
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS
from slipway.report.runs import KeyNumbers, MeasuredVersion, RunEntry

# Older runs of a series stay in runs.json and runs.csv; a page of all of them would grow without end.
MOST_RUNS = 100

Show = Callable[[float | None], str]


@dataclass(frozen=True, slots=True)
class Metric:
    """
    A number that is followed over runs.

    Attributes:
        id: Its name in runs.csv.
        name: Its name on the page.
        unit: Of the values as *read*.
        axis: What the axis says.
        scale: From the unit to the axis'.
        show: How a value is written.
        read: From one run; the protocol's numbers are None for what no protocol has to do with.
        by_protocol: Whether REST and gRPC each have one.
        more_is_worse: Which way is worse.
    """

    id: str
    name: str
    unit: str
    axis: str
    scale: float
    show: Show
    read: Callable[[MeasuredVersion, KeyNumbers | None], float | None]
    by_protocol: bool = True
    more_is_worse: bool = True


def _of_protocol(field: str) -> Callable[[MeasuredVersion, KeyNumbers | None], float | None]:
    def read(_: MeasuredVersion, found: KeyNumbers | None) -> float | None:
        value: float | None = getattr(found, field) if found else None
        return value

    return read


METRICS = (
    Metric(
        "predictions_per_s",
        "predictions per second",
        "1/s",
        "predictions / s, best load (log)",
        1.0,
        lambda value: f"{numbers.number(value)}/s",
        _of_protocol("predictions_per_s"),
        more_is_worse=False,
    ),
    Metric(
        "server_cpu_us",
        "server CPU per prediction",
        "µs",
        "CPU µs / prediction, busiest load (log)",
        1.0,
        numbers.microseconds,
        _of_protocol("server_cpu_us"),
    ),
    Metric(
        "p50_us",
        "p50 latency",
        "µs",
        "p50, ms, lightest load (log)",
        1e-3,
        numbers.microseconds,
        _of_protocol("p50_us"),
    ),
    Metric(
        "p99_us",
        "p99 latency",
        "µs",
        "p99, ms, lightest load (log)",
        1e-3,
        numbers.microseconds,
        _of_protocol("p99_us"),
    ),
    Metric(
        "ready_s", "start until ready", "s", "s until ready (log)", 1.0, numbers.duration, lambda m, _: m.ready_s, False
    ),
    Metric(
        "image_bytes",
        "size of the image",
        "B",
        "MB, image (log)",
        1e-6,
        numbers.size,
        lambda m, _: float(m.image_bytes),
        False,
    ),
    Metric(
        "resident_bytes",
        "memory of the server",
        "B",
        "MB, resident (log)",
        1e-6,
        numbers.size,
        lambda m, _: None if m.resident_bytes is None else float(m.resident_bytes),
        False,
    ),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One version of the model in one published run."""

    entry: RunEntry
    measured: MeasuredVersion


@dataclass(frozen=True, slots=True)
class Series:
    """
    Runs that may be joined.

    Attributes:
        name: A letter for the newest, and so on: A, B, … Z, AA.
        runs: Oldest first, the newest `MOST_RUNS` of them.
        left_out: Older ones.
    """

    name: str
    runs: tuple[Run, ...]
    left_out: int

    @property
    def facts(self) -> dict[str, str]:
        """What they have in common."""
        return self.runs[-1].measured.facts


@dataclass(frozen=True, slots=True)
class Moved:
    """A number that moved between two runs, *before* and *after*, and what else did."""

    metric: Metric
    protocol: Protocol | None
    place: int
    before: Run
    after: Run
    from_value: float
    to_value: float
    changed: tuple[tuple[str, str, str], ...]

    @property
    def name(self) -> str:
        """What moved."""
        return self.metric.name + (f", {PROTOCOL_NAMES[self.protocol]}" if self.protocol else "")

    @property
    def is_worse(self) -> bool:
        """Whether it moved the wrong way."""
        return (self.to_value > self.from_value) == self.metric.more_is_worse


@dataclass(frozen=True, slots=True)
class Track:
    """
    One number over the runs of a series.

    Attributes:
        metric: Which.
        protocol: Of which protocol; None if it has to do with none.
        places: Index of the run that each value is of.
        values: One for each place, in the metric's unit.
        moved: Where it changed its level.
    """

    metric: Metric
    protocol: Protocol | None
    places: tuple[int, ...]
    values: tuple[float, ...]
    moved: tuple[Moved, ...]


def models(entries: Sequence[RunEntry]) -> list[str]:
    """Name all models that were ever measured, those of the newest run first."""
    return list(dict.fromkeys(measured.model for entry in entries for measured in entry.measured))


def kind(measured: MeasuredVersion) -> tuple[object, ...]:
    """Give what two measured versions must have in common to be joined, as a key."""
    return (measured.model, *sorted(measured.facts.items()))


def series_of_runs(entries: Sequence[RunEntry]) -> dict[tuple[object, ...], str]:
    """Name the series of every kind, model by model: A is the one with the newest run."""
    kinds = dict.fromkeys(kind(measured) for entry in entries for measured in entry.measured)
    found: dict[tuple[object, ...], str] = {}
    of_model: dict[object, int] = {}
    for one in kinds:
        place = of_model.setdefault(one[0], 0)
        of_model[one[0]] += 1
        found[one] = _letters(place)
    return found


def series(entries: Sequence[RunEntry], model: str) -> tuple[Series, ...]:
    """
    Put the runs of *model* that are alike together.

    Args:
        entries: All runs, newest first.
        model: Its name. Of several versions measured in one run the newest stands for it.

    Returns:
        The series with the newest run first.
    """
    alike: dict[tuple[object, ...], list[Run]] = {}
    for entry in entries:
        versions = [measured for measured in entry.measured if measured.model == model]
        if versions:
            newest = max(versions, key=lambda measured: measured.version)
            alike.setdefault(kind(newest), []).append(Run(entry, newest))
    names = series_of_runs(entries)
    return tuple(
        Series(names[key], tuple(reversed(runs[:MOST_RUNS])), max(len(runs) - MOST_RUNS, 0))
        for key, runs in alike.items()
    )


def _letters(place: int) -> str:
    first, last = divmod(place, 26)
    return (_letters(first - 1) if first else "") + chr(ord("A") + last)


def differences(here: Series, there: Series) -> list[tuple[str, str, str]]:
    """List the facts that keep two series apart: fact, its value *here*, its value *there*."""
    return differing(here.facts, there.facts)


def differing(one: dict[str, str], other: dict[str, str]) -> list[tuple[str, str, str]]:
    """List what differs: name, its value in *one*, its value in *other*."""
    return [
        (name, one.get(name, "not known"), other.get(name, "not known"))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def tracks(found: Series) -> list[Track]:
    """Follow every number that at least two runs of *found* have."""
    listed = [
        _track(found, metric, protocol)
        for metric in METRICS
        for protocol in (PROTOCOLS if metric.by_protocol else (None,))
    ]
    return [track for track in listed if len(track.values) > 1]


def value(run: Run, metric: Metric, protocol: Protocol | None) -> float | None:
    """Read one number of one run."""
    of_protocol = next((one for one in run.measured.numbers if one.protocol == protocol), None)
    return metric.read(run.measured, of_protocol)


def _track(found: Series, metric: Metric, protocol: Protocol | None) -> Track:
    read = [(place, value(run, metric, protocol)) for place, run in enumerate(found.runs)]
    known = [(place, number) for place, number in read if number is not None and number > 0]
    places, values = tuple(place for place, _ in known), tuple(number for _, number in known)
    moved = []
    for point in change_points(values):
        before, after = found.runs[places[point.index - 1]], found.runs[places[point.index]]
        changed = tuple(differing(before.measured.origin, after.measured.origin))
        moved.append(Moved(metric, protocol, places[point.index], before, after, point.before, point.after, changed))
    return Track(metric, protocol, places, values, tuple(moved))

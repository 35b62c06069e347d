"""
Result -> what the report says, as numbers: one estimate per cell and metric, paired ratios, groups of starts.

Knows nothing of pages. Repetitions that broke a validity rule count nowhere except where they are counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from slipway import repetitions as rules
from slipway import statistics
from slipway.records import (
    BenchmarkRecord,
    Cell,
    ColdStart,
    GoldenAnswer,
    Load,
    ModelResult,
    Payload,
    Protocol,
    Repetition,
    Result,
    VersionResult,
)
from slipway.report import numbers
from slipway.statistics import Estimate

_Key = TypeVar("_Key")

PROTOCOLS: tuple[Protocol, ...] = ("rest", "grpc")
PROTOCOL_NAMES: dict[Protocol, str] = {"rest": "REST", "grpc": "gRPC"}
# Stages are the server's own words; this is the order in which a request passes them.
STAGE_ORDER = ("parse", "batch_wait", "queue", "compute", "encode")


@dataclass(frozen=True, slots=True)
class CellSummary:
    """
    One protocol under one load, over its valid repetitions.

    Estimates are None where nothing valid was measured. Latencies are µs; bytes and CPU are per request.

    Attributes:
        cell: What was measured.
        valid: Number of repetitions that broke no rule.
        broken: Rule -> repetitions that broke it.
    """

    cell: Cell
    valid: int
    broken: dict[str, int]
    throughput_rps: Estimate | None
    predictions_per_s: Estimate | None
    mean_us: Estimate | None
    p50_us: Estimate | None
    p90_us: Estimate | None
    p95_us: Estimate | None
    p99_us: Estimate | None
    p999_us: Estimate | None
    bytes_sent: Estimate | None
    bytes_received: Estimate | None
    server_cpu_us: Estimate | None
    generator_cpu_us: Estimate | None

    @property
    def protocol(self) -> Protocol:
        """REST or gRPC."""
        return self.cell.protocol

    @property
    def name(self) -> str:
        """REST or gRPC, as people write it."""
        return PROTOCOL_NAMES[self.cell.protocol]

    @property
    def repetitions(self) -> tuple[Repetition, ...]:
        """The valid ones."""
        return tuple(r for r in self.cell.repetitions if not r.invalid)

    @property
    def trusted(self) -> bool:
        """Whether anything of it counts."""
        return self.valid > 0


@dataclass(frozen=True, slots=True)
class Level:
    """
    The same load on both protocols.

    Attributes:
        ratios: Metric -> how many times gRPC is ahead (above 1) or behind (below 1), paired per repetition:
            gRPC ÷ REST for throughput, REST ÷ gRPC for what should be small.
    """

    payload: Payload
    load: Load
    cells: dict[Protocol, CellSummary]
    ratios: dict[str, Estimate]

    @property
    def name(self) -> str:
        """The load in words."""
        if self.load.kind == "closed":
            return f"{self.load.concurrency} in flight"
        return f"{numbers.number(self.load.rate)} requests/s offered"


@dataclass(frozen=True, slots=True)
class ColdGroup:
    """Fresh starts that are alike: per request number, the median over the starts and their range."""

    protocol: Protocol
    warmed: bool
    starts: int
    ready_s: tuple[float, ...]
    median_us: tuple[float, ...]
    low_us: tuple[float, ...]
    high_us: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Loads:
    """One version of one model under load, wherever it ran."""

    record: BenchmarkRecord
    closed: tuple[Level, ...]
    open: tuple[Level, ...]
    cold: tuple[ColdGroup, ...]

    @property
    def anchor(self) -> str:
        """An id for the page: letters, digits and hyphens."""
        return f"{slug(self.record.model)}-{self.record.version}"

    @property
    def levels(self) -> tuple[Level, ...]:
        """All loads, closed ones first."""
        return (*self.closed, *self.open)

    @property
    def cells(self) -> tuple[CellSummary, ...]:
        """All cells, in the order of their loads."""
        return tuple(level.cells[p] for level in self.levels for p in PROTOCOLS if p in level.cells)

    def peak(self, protocol: Protocol) -> CellSummary | None:
        """The closed-loop cell with the highest throughput."""
        cells = [level.cells[protocol] for level in self.closed if protocol in level.cells]
        proven = [cell for cell in cells if cell.predictions_per_s]
        return max(proven, key=_predictions, default=None)

    @property
    def headline(self) -> Level | None:
        """The closed-loop load at which the better protocol peaks, with both protocols measured."""
        levels = [level for level in self.closed if "throughput" in level.ratios]
        return max(levels, key=lambda level: max(map(_predictions, level.cells.values())), default=None)

    @property
    def rated(self) -> Level | None:
        """The open-loop load that stands for all where one is told: the one nearest to half of the slower protocol's peak."""
        peaks = [cell.throughput_rps.value for p in PROTOCOLS if (cell := self.peak(p)) and cell.throughput_rps]
        half = min(peaks) / 2 if peaks else 0.0
        both = [level for level in self.open if set(level.cells) == set(PROTOCOLS) and "p50" in level.ratios]
        return min(both or self.open, key=lambda level: abs((level.load.rate or 0) - half), default=None)

    @property
    def repetitions(self) -> int:
        """All repetitions, valid or not."""
        return sum(len(cell.cell.repetitions) for cell in self.cells)

    @property
    def invalid(self) -> int:
        """Repetitions that broke a rule."""
        return sum(len(cell.cell.repetitions) - cell.valid for cell in self.cells)

    @property
    def wrong_answers(self) -> int:
        """Answers under load that were not the expected ones, in valid repetitions and others, and in scenarios."""
        return sum(r.wrong_answers for r in self._every)

    @property
    def checked_answers(self) -> int:
        """Answers under load that were compared with the expected ones, in scenarios, too."""
        return sum(r.checked_answers for r in self._every)

    @property
    def _every(self) -> Iterator[Repetition]:
        yield from (r for cell in self.cells for r in cell.cell.repetitions)
        yield from (window.repetition for one in self.record.scenarios for window in one.windows)

    @property
    def errors(self) -> dict[str, int]:
        """Kind of error -> count, over all repetitions."""
        return _summed(r.errors for cell in self.cells for r in cell.cell.repetitions)

    @property
    def broken(self) -> dict[str, int]:
        """Rule -> repetitions that broke it, the most frequent first."""
        counts = _summed(cell.broken for cell in self.cells)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class Measurement(Loads):
    """What was measured of a version of the line, with what was proven of it before."""

    model: ModelResult
    version: VersionResult

    @property
    def answers(self) -> tuple[GoldenAnswer, ...]:
        """What this version answered through the running image."""
        return tuple(a for a in self.model.launch.answers if a.version == self.version.version)


def loads(record: BenchmarkRecord) -> Loads:
    """Read what *record* says of loads alone."""
    levels = _levels(record)
    return Loads(
        record=record,
        closed=tuple(level for level in levels if level.load.kind == "closed"),
        open=tuple(level for level in levels if level.load.kind == "open"),
        cold=_cold_groups(record.cold_starts),
    )


def slug(name: str) -> str:
    """Make a part of an HTML id from any name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())


def measurements(result: Result) -> tuple[Measurement, ...]:
    """Read all benchmarks of *result*, in its order."""
    return tuple(
        _measurement(model, version, record)
        for model in result.models
        for record in model.benchmarks
        for version in model.versions
        if version.version == record.version
    )


def _measurement(model: ModelResult, version: VersionResult, record: BenchmarkRecord) -> Measurement:
    seen = loads(record)
    return Measurement(model=model, version=version, record=record, closed=seen.closed, open=seen.open, cold=seen.cold)


def _levels(record: BenchmarkRecord) -> list[Level]:
    payloads = {payload.id: payload for payload in record.payloads}
    grouped: dict[tuple[str, str, float], dict[Protocol, Cell]] = {}
    for cell in record.cells:
        key = (cell.payload, cell.load.kind, float(cell.load.concurrency or cell.load.rate or 0))
        grouped.setdefault(key, {})[cell.protocol] = cell
    return [
        Level(
            payload=payloads[payload],
            load=next(iter(cells.values())).load,
            cells={protocol: summarise(cell) for protocol, cell in cells.items()},
            ratios=_ratios(cells),
        )
        for (payload, _, _), cells in sorted(grouped.items(), key=lambda item: item[0])
    ]


def summarise(cell: Cell) -> CellSummary:
    """Reduce the valid repetitions of *cell* to a median and its exact interval, metric by metric."""
    valid = [r for r in cell.repetitions if not r.invalid]
    # What is no matter of time stays, where only the clock on the wall was disturbed.
    timeless = [r for r in cell.repetitions if not set(r.invalid) - rules.ONLY_WALL_CLOCK]

    def estimate(value: Callable[[Repetition], float | None]) -> Estimate | None:
        return statistics.median_interval(known(map(value, valid)))

    def timeless_estimate(value: Callable[[Repetition], float | None]) -> Estimate | None:
        return statistics.median_interval(known(map(value, timeless)))

    return CellSummary(
        cell=cell,
        valid=len(valid),
        broken=_summed({rule: 1} for r in cell.repetitions for rule in r.invalid),
        throughput_rps=estimate(lambda r: r.throughput_rps),
        predictions_per_s=estimate(lambda r: r.predictions_per_s),
        mean_us=estimate(lambda r: r.latency.mean_us),
        p50_us=estimate(lambda r: r.latency.p50_us),
        p90_us=estimate(lambda r: r.latency.p90_us),
        p95_us=estimate(lambda r: r.latency.p95_us),
        p99_us=estimate(lambda r: r.latency.p99_us),
        p999_us=estimate(lambda r: r.latency.p999_us),
        bytes_sent=timeless_estimate(lambda r: r.bytes_sent_per_request),
        bytes_received=timeless_estimate(lambda r: r.bytes_received_per_request),
        server_cpu_us=timeless_estimate(lambda r: r.server_cpu_us_per_request),
        generator_cpu_us=estimate(lambda r: r.generator_cpu_us_per_request),
    )


def _ratios(cells: dict[Protocol, Cell]) -> dict[str, Estimate]:
    if set(cells) != set(PROTOCOLS):
        return {}
    pairs, timeless = _pairs(cells, frozenset()), _pairs(cells, rules.ONLY_WALL_CLOCK)
    found = {
        "throughput": _paired(pairs, lambda r: r.predictions_per_s, larger_is_better=True),
        "p50": _paired(pairs, lambda r: r.latency.p50_us),
        "p95": _paired(pairs, lambda r: r.latency.p95_us),
        "p99": _paired(pairs, lambda r: r.latency.p99_us),
        "server_cpu": _paired(timeless, lambda r: r.server_cpu_us_per_request),
        "bytes": _paired(timeless, _bytes_per_request),
    }
    return {metric: estimate for metric, estimate in found.items() if estimate}


def _pairs(cells: dict[Protocol, Cell], forgiven: frozenset[str]) -> list[tuple[Repetition, Repetition]]:
    """Pair repetitions of REST and gRPC by their number, where both broke no other rule than those *forgiven*."""
    rest, grpc = ({r.index: r for r in cells[p].repetitions if not set(r.invalid) - forgiven} for p in PROTOCOLS)
    return [(rest[index], grpc[index]) for index in sorted(rest.keys() & grpc.keys())]


def _paired(
    pairs: Sequence[tuple[Repetition, Repetition]],
    value: Callable[[Repetition], float | None],
    *,
    larger_is_better: bool = False,
) -> Estimate | None:
    measured = [(value(rest), value(grpc)) for rest, grpc in pairs]
    usable = [(rest, grpc) for rest, grpc in measured if rest and grpc and rest > 0 and grpc > 0]
    over, under = [grpc for _, grpc in usable], [rest for rest, _ in usable]
    return statistics.paired_ratio(over, under) if larger_is_better else statistics.paired_ratio(under, over)


def _bytes_per_request(repetition: Repetition) -> float | None:
    sent, received = repetition.bytes_sent_per_request, repetition.bytes_received_per_request
    return None if sent is None or received is None else sent + received


def _cold_groups(starts: Sequence[ColdStart]) -> tuple[ColdGroup, ...]:
    grouped: dict[tuple[int, bool], list[ColdStart]] = {}
    for start in starts:
        if start.first_requests_us:
            grouped.setdefault((PROTOCOLS.index(start.protocol), not start.warmed), []).append(start)
    return tuple(_cold_group(alike) for _, alike in sorted(grouped.items()))


def _cold_group(alike: Sequence[ColdStart]) -> ColdGroup:
    columns = list(zip(*(start.first_requests_us for start in alike), strict=False))
    medians = [statistics.median_interval(column) for column in columns]
    return ColdGroup(
        protocol=alike[0].protocol,
        warmed=alike[0].warmed,
        starts=len(alike),
        ready_s=tuple(start.ready_s for start in alike),
        median_us=tuple(median.value for median in medians if median),
        low_us=tuple(min(column) for column in columns),
        high_us=tuple(max(column) for column in columns),
    )


# --- distributions ---------------------------------------------------------------------------------


def distribution(cell: CellSummary) -> tuple[tuple[float, float], ...]:
    """
    Give the percentiles of all valid repetitions together, for the drawing only.

    They are of the raw samples; a result of an older Slipway has histograms alone, whose buckets are 6 % wide.

    Returns:
        (quantile 0..1, latency in µs), as far as the samples prove something; () without samples.
    """
    if cell.cell.distribution:
        return tuple(zip(cell.cell.distribution.quantiles, cell.cell.distribution.latency_us, strict=True))
    merged = statistics.merged_histograms(r.histogram for r in cell.repetitions)
    total = sum(merged.values())
    if not total:
        return ()
    provable = [q for q in statistics.DRAWN_QUANTILES if q == 0 or statistics.samples_needed(q) <= total]
    points: list[tuple[float, float]] = []
    seen = 0
    for upper, count in merged.items():
        seen += count
        while len(points) < len(provable) and provable[len(points)] * total <= seen:
            middle = (statistics.bucket_lower(upper) + upper) / 2
            points.append((provable[len(points)], middle))
    return tuple(points)


def batch_sizes(cell: CellSummary) -> dict[int, int]:
    """Add up the executed batches: rows in a batch -> batches."""
    return dict(sorted(_summed(r.batch_sizes for r in cell.repetitions).items()))


def batch_reasons(cell: CellSummary) -> dict[str, int]:
    """Add up why batches were released: reason -> batches, the most frequent first."""
    counts = _summed(r.batch_reasons for r in cell.repetitions)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def stages(cell: CellSummary) -> dict[str, float]:
    """
    Average the server's time per request by stage, over valid repetitions, weighted by requests.

    Returns:
        Stage -> µs, in the order in which a request passes them; {} if the server told none.
    """
    told = [r for r in cell.repetitions if r.stages_us and r.completed]
    requests = sum(r.completed for r in told)
    names = sorted({name for r in told for name in r.stages_us}, key=_stage_place)
    return {name: sum(r.stages_us.get(name, 0.0) * r.completed for r in told) / requests for name in names}


def _stage_place(name: str) -> tuple[int, str]:
    return (STAGE_ORDER.index(name) if name in STAGE_ORDER else len(STAGE_ORDER), name)


def batching_in_words(batching: dict[str, int | list[int]] | None) -> str:
    """Say how the server put batches together."""
    if not batching:
        return "off"
    return ", ".join(f"{name} {value}" for name, value in sorted(batching.items()))


def cpu_per_prediction(cell: CellSummary) -> float | None:
    """Give the server's CPU time per prediction in µs; None where it cannot be read."""
    cpu, requests, predictions = cell.server_cpu_us, cell.throughput_rps, cell.predictions_per_s
    if not cpu or not requests or not predictions or not predictions.value:
        return None
    return cpu.value * requests.value / predictions.value


def known(values: Iterable[float | None]) -> list[float]:
    """Keep what was measured; nothing at all if one of them was not, for a median of some would mislead."""
    listed = list(values)
    measured = [value for value in listed if value is not None]
    return measured if len(measured) == len(listed) else []


def _predictions(cell: CellSummary) -> float:
    return cell.predictions_per_s.value if cell.predictions_per_s else 0.0


def _summed(counts: Iterable[dict[_Key, int]]) -> dict[_Key, int]:
    total: dict[_Key, int] = {}
    for one in counts:
        for key, count in one.items():
            total[key] = total.get(key, 0) + count
    return total

"""
Two versions of one model on one server, loaded in turns: what one of them costs more than the other, or that nothing shows it.

Windows come in pairs, one of each version right after the other in a drawn order, so that what disturbs the machine
disturbs both. A closed loop tells throughput and server CPU, an open loop at one rate for both tells latencies.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway import repetitions
from slipway.errors import ServerError
from slipway.load_plan import NAMES
from slipway.records import Protocol, Repetition
from slipway.scenario_settings import AbVersions
from slipway.scenarios.taking import Taking, Wanted
from slipway.scenarios.versions import Pin, Versions
from slipway.statistics import Estimate, paired_ratio
from slipway_wire import payloads as wire_payloads
from slipway_wire.payloads import Payload

CLOSED, OPEN = "closed loop", "open loop"
# Below, no interval covers 95 % (`statistics.paired_ratio`).
LEAST_PAIRS = 6
# Requests by label are looked at for their answers, not for their speed.
_LABEL_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One number of a window, of which both versions have one.

    Attributes:
        key: Its short name.
        name: Its name.
        unit: Its unit.
        load: Which load it is read from.
        read: From a repetition and the rows of a request; None where it could not be measured.
        is_cpu: Whether only CPU time counts, so that a busy host leaves it valid.
    """

    key: str
    name: str
    unit: str
    load: str
    read: Callable[[Repetition, int], float | None]
    is_cpu: bool = False

    def counts(self, repetition: Repetition) -> bool:
        """Say whether a window is good enough for this metric."""
        broken = set(repetition.invalid)
        return not (broken - repetitions.ONLY_WALL_CLOCK if self.is_cpu else broken)


def _cpu(repetition: Repetition, rows: int) -> float | None:
    used = repetition.server_cpu_us_per_request
    return None if used is None else used / rows


METRICS = (
    Metric("predictions_per_s", "Predictions per second", "rows/s", CLOSED, lambda r, _: r.predictions_per_s),
    Metric("server_cpu", "Server CPU per prediction", "us", CLOSED, _cpu, is_cpu=True),
    Metric("latency_p50", "Median latency", "us", OPEN, lambda r, _: r.latency.p50_us),
    Metric("latency_p99", "99th percentile", "us", OPEN, lambda r, _: r.latency.p99_us),
)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: how it is asked for, and what is sent to it."""

    pin: Pin
    sent: Sequence[Payload]
    file: Path

    @property
    def name(self) -> str:
        """As tables call it."""
        return told(self.pin)


def told(pin: Pin) -> str:
    """Write how a version is asked for: `version 2`, `label canary`."""
    return f"label {pin}" if isinstance(pin, str) else f"version {pin}"


def choose(settings: AbVersions, versions: Versions) -> tuple[Pin, Pin] | str:
    """
    Choose base and head.

    Returns:
        How both are asked for; or why there is nothing to choose from.
    """
    chosen_head = versions.asked if settings.head is None else settings.head
    if chosen_head is None or (settings.base is None and not versions.served):
        return (
            "which versions the server has is told over REST alone: name two with ab_versions.base and ab_versions.head"
        )
    head: Pin = chosen_head
    known = versions.labels.get(head) if isinstance(head, str) else head
    if known is None and settings.base is None and not versions.labels:
        return f"which version {told(head)} is, nobody told: name the other one with ab_versions.base"
    others = [version for version in versions.served if version != known]
    below = [version for version in others if known is None or version < known]
    if settings.base is None and not others:
        return f"no other version is served beside {told(head)}"
    base: Pin = settings.base if settings.base is not None else max(below, default=min(others))
    for pin in (base, head):
        if isinstance(pin, int) and versions.served and pin not in versions.served:
            return f"version {pin} is not served; there are: {', '.join(map(str, versions.served))}"
        if isinstance(pin, str) and versions.labels and pin not in versions.labels:
            return f"there is no label {pin}; there are: {', '.join(versions.labels)}"
    if base == head or (known is not None and versions.labels.get(str(base), base) == known):
        return f"base and head are both {told(head)}"
    return base, head


def ab_versions(settings: AbVersions, taking: Taking) -> None:
    """Load both versions in turns: a closed loop, then one rate for both; then each label that one of them has."""
    bench = taking.bench
    if bench.versions is None:
        taking.invalid.append(f"not measured: {bench.no_versions}")
        return
    chosen = choose(settings, bench.versions)
    if isinstance(chosen, str):
        taking.invalid.append(f"not measured: {chosen}")
        return
    try:
        base, head = (
            _side(taking, bench.versions, pin, name) for pin, name in zip(chosen, ("base", "head"), strict=True)
        )
    except ServerError as error:
        taking.invalid.append(f"not measured: {' '.join(str(error).split())}")
        return
    _say_what_answers_show(taking, bench.versions, base, head)
    closed = _pairs(settings, taking, (base, head), CLOSED, dict.fromkeys(taking.protocols))
    rates: dict[Protocol, float | None] = {}
    for protocol in taking.protocols:
        slower = min(_typical([r.throughput_rps for r in closed[protocol, side.name]]) for side in (base, head))
        if not slower:
            taking.invalid.append(
                f"{NAMES[protocol]} answered nothing within most windows, the model takes longer: set ab_versions.window_s to "
                "several times what one request takes"
            )
            return
        rates[protocol] = settings.share * slower
    opened = _pairs(settings, taking, (base, head), OPEN, rates)
    for protocol in taking.protocols:
        _take_down(taking, protocol, base, head, {CLOSED: closed, OPEN: opened})
    _ask_by_labels(settings, taking, bench.versions, (base, head))


def _side(taking: Taking, versions: Versions, pin: Pin, name: str) -> Side:
    windows = taking.bench.windows
    sent = versions.make(pin, windows.settings.rows)
    file = windows.directory / f"payloads-{taking.name}-{name}.tfrecord"
    file.write_bytes(wire_payloads.encode(sent))
    return Side(pin, sent, file)


def _say_what_answers_show(taking: Taking, versions: Versions, base: Side, head: Side) -> None:
    held = {side.name: versions.against(side.pin) for side in (base, head)}
    taking.notes.append("; ".join(f"answers of {name} are held against {what}" for name, what in held.items()))
    if versions.are_alike(base.sent, head.sent):
        taking.notes.append(
            "both answer these requests alike within the tolerances: which of them answered cannot be told by the answer"
        )


# Protocol and side -> repetitions, by their number.
_Measured = dict[tuple[Protocol, str], list[Repetition]]


def _pairs(
    settings: AbVersions, taking: Taking, sides: tuple[Side, Side], load: str, rates: Mapping[Protocol, float | None]
) -> _Measured:
    own, found = taking.bench.windows.settings, _Measured()
    for index in range(settings.pairs):
        draw = random.Random(f"{own.seed}/{taking.name}/{load}/{index}")  # noqa: S311 - the same order tomorrow
        for protocol in draw.sample(taking.protocols, len(taking.protocols)):
            for side in draw.sample(sides, len(sides)):
                _, repetition = taking.window(
                    Wanted(
                        protocol,
                        f"{side.name}, {load}",
                        users=settings.users,
                        window_s=settings.window_s,
                        warmup_s=own.warmup_s,
                        rate=rates[protocol],
                        rows=own.rows,
                        index=index,
                        # Both versions meet the same arrivals.
                        seed=f"pair{index}",
                        payloads=side.file,
                    )
                )
                found.setdefault((protocol, side.name), []).append(repetition)
    return found


def _typical(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _take_down(taking: Taking, protocol: Protocol, base: Side, head: Side, measured: Mapping[str, _Measured]) -> None:
    rows = taking.bench.windows.settings.rows
    unclear: list[str] = []
    clear: list[str] = []
    for load in (CLOSED, OPEN):
        for side in (base, head):
            taking.counted(protocol, f"{side.name}, {load}")
    for metric in METRICS:
        both = zip(measured[metric.load][protocol, base.name], measured[metric.load][protocol, head.name], strict=True)
        pairs = [
            (metric.read(one, rows), metric.read(other, rows)) for one, other in both if _counts(metric, one, other)
        ]
        usable = [(one, other) for one, other in pairs if one and other]
        for place, side in enumerate((base, head)):
            taking.median(
                metric.key,
                metric.name,
                metric.unit,
                [pair[place] for pair in usable],
                protocol=protocol,
                label=side.name,
            )
        ratio = paired_ratio([other for _, other in usable], [one for one, _ in usable])
        taking.value(
            f"{metric.key}_ratio",
            metric.name,
            "ratio",
            ratio.value if ratio else None,
            protocol=protocol,
            label=f"{head.name} ÷ {base.name}",
            low=ratio.low if ratio else None,
            high=ratio.high if ratio else None,
        )
        verdict = difference(ratio)
        if verdict is None:
            continue
        (clear if verdict else unclear).append(_lower(metric.name))
    taking.notes += _notes(NAMES[protocol], unclear, clear)


def _counts(metric: Metric, one: Repetition, other: Repetition) -> bool:
    return metric.counts(one) and metric.counts(other)


def difference(ratio: Estimate | None) -> bool | None:
    """Say whether a ratio's interval leaves out no difference (1); None where there is no interval."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return not ratio.low <= 1 <= ratio.high


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]


def _notes(protocol: str, unclear: Sequence[str], clear: Sequence[str]) -> list[str]:
    if not unclear and not clear:
        return [
            f"{protocol}: fewer than {LEAST_PAIRS} pairs count: there is no 95% interval, and no difference is claimed"
        ]
    notes = []
    if unclear:
        notes.append(f"{protocol}: the interval includes no difference: {', '.join(unclear)}")
    if clear:
        notes.append(
            f"{protocol}: the interval leaves out no difference: {', '.join(clear)} (each for itself at 95 %: where several "
            "are looked at, one may do so by chance)"
        )
    return notes


def _ask_by_labels(settings: AbVersions, taking: Taking, versions: Versions, sides: tuple[Side, Side]) -> None:
    """Send each label's requests, too: they must get the answers of its version."""
    chosen = {side.pin for side in sides}
    labels = {label: version for label, version in versions.labels.items() if version in chosen and label not in chosen}
    own = taking.bench.windows.settings
    for number, (label, version) in enumerate(sorted(labels.items())):
        side, checked = _side(taking, versions, label, f"label-{number}"), []
        for protocol in taking.protocols:
            window, _ = taking.window(
                Wanted(
                    protocol,
                    side.name,
                    users=settings.users,
                    window_s=min(settings.window_s, _LABEL_WINDOW_S),
                    rows=own.rows,
                    payloads=side.file,
                    retry=False,
                )
            )
            checked.append(f"{window.outcome.checked_answers:,} over {NAMES[protocol]}")
        taking.notes.append(
            f"requests by {side.name} were answered as version {version} answers: {' and '.join(checked)}"
        )

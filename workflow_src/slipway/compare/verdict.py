"""From metrics to one verdict, with its reasons. Pure."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from slipway.compare.records import ComparedCell, FixedResult, MetricResult, Subject, Verdict
from slipway.records import Repetition
from slipway.report import numbers
from slipway.report.content import PROTOCOL_NAMES

EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "invalid": 2, "wrong": 3, "inconclusive": 0}
STRICT_INCONCLUSIVE = 6
_IMAGE_MARGIN = 0.01
_WIRE_MARGIN = 0.005
# The first request of an HTTP/2 connection spells its headers out, later ones refer to them (RFC 7541): some 70 bytes that
# fewer requests share where a server is slower. Without this allowance it would be told to send more.
_FIRST_REQUEST_BYTES = 100


def fixed_results(base: Subject, head: Subject, cells: Sequence[ComparedCell]) -> list[FixedResult]:
    """Compare what is the same in every run: the image's size, and bytes on the wire where the kernel counts them."""
    found = [_fixed("image", "size of the image", "bytes", base.image_bytes, head.image_bytes, _IMAGE_MARGIN)]
    for cell in cells:
        if cell.load.kind != "closed":
            continue
        pairs = [(_bytes(pair.base), _bytes(pair.head)) for pair in cell.pairs]
        known = [(one, other) for one, other in pairs if one is not None and other is not None]
        if known:
            one, other = (float(np.median(side)) for side in zip(*known, strict=True))
            name = f"bytes per request over {PROTOCOL_NAMES[cell.protocol]}"
            found.append(
                _fixed(f"{cell.protocol}-bytes", name, "bytes", one, other, _WIRE_MARGIN, _first_requests(cell))
            )
    return found


def _first_requests(cell: ComparedCell) -> float:
    """Give the bytes per request that head may have more of because its windows hold fewer requests; 0 or more."""
    base, head = (
        float(np.median([max(side.completed, 1) for side in sides]))
        for sides in zip(*((pair.base, pair.head) for pair in cell.pairs), strict=True)
    )
    return max(_FIRST_REQUEST_BYTES * (cell.load.concurrency or 1) * (1 / head - 1 / base), 0.0)


def _bytes(repetition: Repetition) -> float | None:
    sent, received = repetition.bytes_sent_per_request, repetition.bytes_received_per_request
    return None if sent is None or received is None else sent + received


def _fixed(
    key: str, name: str, unit: str, base: float, head: float, margin: float, allowance: float = 0.0
) -> FixedResult:
    state = "fail" if head > base * (1 + margin) + allowance else "pass"
    return FixedResult(
        id=key,
        name=name,
        unit=unit,
        base=base,
        head=head,
        margin=margin,
        state=state,
    )


def judge(
    metrics: Sequence[MetricResult], fixed: Sequence[FixedResult], cut_short: str = "", *, is_wrong: bool = False
) -> tuple[Verdict, list[str]]:
    """
    Give the verdict of a whole comparison.

    An answer that was wrong is told before anything else, whichever side gave it: a fast wrong answer is not fast.
    Something that got worse beyond doubt fails it, even if the comparison was cut short afterwards. Without a single
    metric that may decide and has enough pairs, it is invalid: nothing was shown either way. One that could not be judged
    leaves it inconclusive, unless the machine is the excuse: then CPU time says what can be said there.

    Returns:
        The verdict, and what it rests on, the gravest first.
    """
    if is_wrong:
        return "wrong", [cut_short]
    gating = [metric for metric in metrics if metric.gates]
    failed = [told(metric) for metric in gating if metric.state == "fail"]
    failed += [told_fixed(result) for result in fixed if result.state == "fail"]
    if failed:
        return "fail", [*failed, *_cut(cut_short)]
    if cut_short:
        return "invalid", _cut(cut_short)
    if missing := [metric for metric in metrics if metric.metric == "cpu" and metric.state == "open"]:
        return "invalid", [f"{describe(metric)}: {_undecided(metric)}" for metric in missing]
    if not any(metric.state in {"pass", "inconclusive"} for metric in gating):
        why = dict.fromkeys(metric.why_not for metric in metrics if metric.why_not)
        return "invalid", [
            f"nothing was measured that could decide{f': {reason}' if reason else ''}" for reason in why or [""]
        ]
    undecided = [told(metric) for metric in gating if metric.state in {"inconclusive", "open"}]
    undecided += [f"{describe(metric)} could not be judged: {metric.why_not}" for metric in metrics if metric.unjudged]
    if undecided:
        return "inconclusive", undecided
    decided = [metric for metric in gating if metric.state == "pass"]
    reasons = [f"{numbers.counted(len(decided), 'metric')} within their margins"]
    silent = Counter(metric.why_not for metric in metrics if not metric.gates)
    reasons += [f"{numbers.counted(count, 'metric')} told but not judged: {why}" for why, count in silent.items()]
    return "pass", reasons


def _undecided(metric: MetricResult) -> str:
    usable = f"only {numbers.counted(metric.pairs, 'pair')} of windows can be used"
    if metric.void:
        return f"{usable}; {metric.void} broke a rule, or the server's CPU time could not be read"
    return f"{usable}; measuring ended before it was decided"


def _cut(reason: str) -> list[str]:
    return [f"cut short: {reason}"] if reason else []


def describe(metric: MetricResult) -> str:
    """Name a metric and where it was read."""
    return f"{metric.name}, {PROTOCOL_NAMES[metric.protocol]} ({metric.cell})"


def told(metric: MetricResult) -> str:
    """Tell how a metric stands in one line."""
    late = f" (at least: requests left late in {metric.late} of them, taken off head's latency)" if metric.late else ""
    return (
        f"{describe(metric)}: {change(metric)}{late}, from {number(metric.base, metric.unit)} to "
        f"{number(metric.head, metric.unit)}; {numbers.counted(metric.pairs, 'pair')}, margin {numbers.percent(metric.margin)}"
    )


def told_fixed(result: FixedResult) -> str:
    """Tell how a number without spread stands in one line."""
    return (
        f"{result.name}: {numbers.change(result.head / result.base)}, from {numbers.size(result.base)} to "
        f"{numbers.size(result.head)}; margin {numbers.percent(result.margin)}"
    )


def change(metric: MetricResult) -> str:
    """Write head against base in percent, with its interval."""
    if metric.ratio is None:
        return "not measured"
    if metric.low is None or metric.high is None:
        return numbers.change(metric.ratio)
    return f"{numbers.change(metric.ratio)} [{numbers.change(metric.low)}, {numbers.change(metric.high)}]"


def number(value: float | None, unit: str) -> str:
    """Write a value in its unit."""
    if value is None:
        return "–"
    return numbers.microseconds(value) if unit == "µs" else f"{numbers.number(value)}/s"

"""The verdict: one sentence with a number and its interval, why, and what to be warned of. Pure."""

from dataclasses import dataclass
from typing import Literal

from slipway.records import BenchmarkRecord, Parity
from slipway.report import numbers
from slipway.report.advice import advice
from slipway.report.content import PROTOCOL_NAMES, Level, Measurement
from slipway.statistics import Estimate

State = Literal["proven", "unproven", "unisolated", "invalid", "faulty", "wrong"]
# The mildest first: a report of several measurements is as good as its worst.
STATES: tuple[State, ...] = ("proven", "unproven", "unisolated", "invalid", "faulty", "wrong")
SIGNS: dict[State, str] = {
    "proven": "✓",
    "unproven": "?",
    "unisolated": "!",
    "invalid": "!",
    "faulty": "✕",
    "wrong": "✕",
}
WORDS: dict[State, str] = {
    "proven": "Proven",
    "unproven": "Measured, not proven",
    "unisolated": "Served without isolation",
    "invalid": "Measurement invalid",
    "faulty": "The server is at fault",
    "wrong": "Answers wrong",
}
# A benchmark of which more than this share of repetitions broke a rule is invalid as a whole.
MOST_INVALID = 0.10


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What was found, for people who read nothing else.

    Attributes:
        state: How good it is.
        headline: One sentence.
        sentences: What it rests on and where it comes from.
        warnings: What must be read before the numbers are used.
    """

    state: State
    headline: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def sign(self) -> str:
        """One character that repeats what the colour says."""
        return SIGNS[self.state]

    @property
    def word(self) -> str:
        """The state in words."""
        return WORDS[self.state]


def judge(measurement: Measurement) -> Verdict:
    """Judge one measurement; the worst of what was found decides."""
    comparison = _comparison(measurement.headline)
    matched = _matched(measurement)
    warnings = _warnings(measurement)
    if wrong := wrong_lines(measurement):
        more = (f"{numbers.counted(len(wrong), 'comparison')} failed in all.",) if len(wrong) > 1 else ()
        return Verdict(
            "wrong",
            f"Wrong answers: {wrong[0]}",
            (*more, "Find out why before looking at speed: a fast wrong answer is not fast."),
            warnings,
        )
    if faults := fault_lines(measurement.record):
        told = [f"{fault}." for fault in faults[1:]]
        told += [f"{comparison.sentence}; {matched}."] if comparison else []
        return Verdict("faulty", f"The server is at fault: {faults[0]}", tuple(told), warnings)
    if measurement.record.cut_short:
        reason = measurement.record.cut_short.splitlines()[0].rstrip(".")
        left = (
            f"What was measured until then says: {comparison.sentence}."
            if comparison
            else "It ended too early to compare."
        )
        return Verdict("invalid", f"Cut short: {reason}", (left,), warnings)
    if measurement.repetitions and measurement.invalid > MOST_INVALID * measurement.repetitions:
        rule, count = next(iter(measurement.broken.items()))
        headline = (
            f"Measurement invalid: {measurement.invalid} of {numbers.counted(measurement.repetitions, 'repetition')} "
            f"broke a rule, {count} of them this one: {rule}"
        )
        left = f"What is left says: {comparison.sentence}." if comparison else "No load was measured validly on both."
        todo = advice(measurement.broken, MOST_INVALID * measurement.repetitions)
        return Verdict("invalid", headline, (left, *_cpu_alone(measurement), *todo), warnings)
    if comparison is None and not measurement.cells and measurement.record.scenarios:
        return _of_scenarios_alone(measurement, matched, warnings)
    if comparison is None:
        headline = "Nothing to compare: no closed-loop load was measured validly over both REST and gRPC"
        return Verdict("invalid" if measurement.broken else "unproven", headline, (), warnings)
    headline = f"{comparison.sentence}; {matched}"
    sentences = (*_latency(measurement), *_cause(measurement.headline), comparison.certainty)
    if not measurement.record.engine.isolated:
        return Verdict("unisolated", f"Served without isolation: {headline}", sentences, warnings)
    return Verdict("proven" if comparison.proven else "unproven", headline, sentences, warnings)


def worst(verdicts: list[Verdict]) -> State:
    """Give the state of a whole report; without any measurement nothing is proven."""
    return max((v.state for v in verdicts), key=STATES.index, default="unproven")


def fault_lines(record: BenchmarkRecord) -> tuple[str, ...]:
    """Name everything that scenarios found the server to do that it must not, with the scenario's name in front."""
    return tuple(f"{one.name}: {fault.rstrip('.')}" for one in record.scenarios for fault in one.faults)


def not_counted_lines(record: BenchmarkRecord) -> tuple[str, ...]:
    """Name every scenario that does not count, and why."""
    return tuple(f"{one.name}: {why.rstrip('.')}" for one in record.scenarios for why in one.invalid)


def _of_scenarios_alone(measurement: Measurement, matched: str, warnings: tuple[str, ...]) -> Verdict:
    """Judge a benchmark of nothing but scenarios: those without a fault and without a reason not to count have proven theirs."""
    ran = measurement.record.scenarios
    counted = [one for one in ran if not one.invalid]
    told = f"{len(counted)} of {numbers.counted(len(ran), 'scenario')} found no fault of the server; {matched}"
    if not counted:
        return Verdict("invalid", f"No scenario counts: {not_counted_lines(measurement.record)[0]}", (), warnings)
    if not measurement.record.engine.isolated:
        return Verdict("unisolated", f"Served without isolation: {told}", (), warnings)
    return Verdict("proven" if len(counted) == len(ran) else "unproven", told, (), warnings)


# --- answers ---------------------------------------------------------------------------------------


def wrong_lines(measurement: Measurement) -> tuple[str, ...]:
    """Name every comparison with the checkpoint that failed, the worst kind first."""
    lines = []
    if measurement.wrong_answers:
        lines.append(
            f"{numbers.integer(measurement.wrong_answers)} of "
            f"{numbers.counted(measurement.checked_answers, 'answer')} checked under load "
            f"{'differs' if measurement.wrong_answers == 1 else 'differ'} from the checkpoint's"
        )
    for answer in measurement.answers:
        where = f"over {PROTOCOL_NAMES[answer.protocol]}"
        lines += [f"{where}, {_distance(parity)}" for parity in answer.parity if not parity.ok]
    lines += [
        f"in the SavedModel, {_distance(parity)}" for parity in measurement.version.validation.parity if not parity.ok
    ]
    lines += [f"contract broken: {check.line()}" for check in measurement.version.validation.checks if not check.ok]
    return tuple(lines)


def _distance(parity: Parity) -> str:
    return (
        f"{parity.signature}.{parity.output} is up to {numbers.number(parity.max_abs)} away from the checkpoint's answer "
        f"(tolerance {numbers.number(parity.atol)} + {numbers.number(parity.rtol)} × |answer|)"
    )


def _matched(measurement: Measurement) -> str:
    rows = sum(parity.rows for answer in measurement.answers for parity in answer.parity if not parity.why_not)
    if measurement.checked_answers:
        return (
            f"every checked answer matched the checkpoint ({numbers.integer(measurement.checked_answers)} under load)"
        )
    if rows:
        return f"every golden answer matched the checkpoint ({numbers.counted(rows, 'row')})"
    return "no answer was checked"


# --- comparison ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Comparison:
    sentence: str
    certainty: str
    proven: bool


def _comparison(level: Level | None) -> _Comparison | None:
    if level is None:
        return None
    ratio = level.ratios["throughput"]
    repetitions = numbers.counted(ratio.n, "paired repetition")
    if ratio.low is None or ratio.high is None or ratio.confidence is None:
        certainty = f"{repetitions} give no interval: at least 6 are needed for 95%."
        return _Comparison(f"{_ahead(ratio)} at {level.name} {numbers.interval(ratio)}", certainty, proven=False)
    certainty = f"Intervals hold with at least 95% confidence, from {repetitions}."
    if ratio.low <= 1 <= ratio.high:
        sentence = (
            f"REST and gRPC answer about equally many predictions per second at {level.name}: "
            f"gRPC ÷ REST is {numbers.with_interval(ratio, numbers.ratio)}"
        )
        return _Comparison(sentence, certainty, proven=True)
    return _Comparison(f"{_ahead(ratio)} at {level.name}", certainty, proven=True)


def _ahead(ratio: Estimate) -> str:
    first, second = ("gRPC", "REST") if ratio.value >= 1 else ("REST", "gRPC")
    shown = ratio if ratio.value >= 1 else inverse(ratio)
    limits = "" if shown.low is None else f" {numbers.interval(shown, numbers.ratio)}"
    return f"{first} answers {numbers.times(shown.value)} as many predictions per second as {second}{limits}"


def inverse(ratio: Estimate) -> Estimate:
    """Turn a ratio and its interval round."""
    low = None if ratio.high is None else 1 / ratio.high
    high = None if ratio.low is None else 1 / ratio.low
    return Estimate(1 / ratio.value, low, high, ratio.n, ratio.confidence)


def _latency(measurement: Measurement) -> tuple[str, ...]:
    """At the same offered rate, for that is where latencies may be compared."""
    for level in [measurement.rated] if measurement.rated else []:
        shown = {protocol: cell.p99_us or cell.p50_us for protocol, cell in level.cells.items()}
        rest, grpc = shown.get("rest"), shown.get("grpc")
        if rest and grpc:
            which = "99 of 100 answers" if all(cell.p99_us for cell in level.cells.values()) else "half of the answers"
            rate = numbers.number(level.load.rate)
            over_grpc, over_rest = numbers.microseconds(grpc.value), numbers.microseconds(rest.value)
            told = f"At {rate} requests per second offered to each, {which} come within {over_grpc} over gRPC and {over_rest} over REST."
            return (told,)
    return ()


def _cause(level: Level | None) -> tuple[str, ...]:
    """
    CPU per request moved with throughput: the server works more. CPU flat: somebody waits.

    Half of the difference is the border between the two. An interval on both sides of it says neither.
    """
    if level is None or "server_cpu" not in level.ratios:
        return ()
    cpu, speed = level.ratios["server_cpu"], level.ratios["throughput"]
    if cpu.low is None or cpu.high is None or speed.low is None or speed.high is None:
        return ()
    if speed.low <= 1 <= speed.high:
        return ()
    slower, cost, gain = ("REST", cpu, speed) if speed.value > 1 else ("gRPC", inverse(cpu), inverse(speed))
    assert cost.low is not None  # looked at above
    assert cost.high is not None
    half = 1 + (gain.value - 1) / 2
    if cost.low > half:
        cause = "the difference is work, not waiting"
    elif cost.high < half:
        cause = "most of the difference is waiting, not work" if cost.low > 1 else "the difference is waiting, not work"
    elif cost.low > 1:
        cause = "some of the difference is work; how much is waiting, these repetitions cannot tell"
    else:
        cause = "whether the difference is work or waiting, these repetitions cannot tell"
    spent = numbers.with_interval(cost, numbers.times)
    return (f"The server spends {spent} the CPU time on a {slower} request: {cause}.",)


def _cpu_alone(measurement: Measurement) -> tuple[str, ...]:
    """Tell what server CPU time says where times on the wall say nothing: a busy machine hardly changes it."""
    told = [level for level in measurement.closed if "server_cpu" in level.ratios and "throughput" not in level.ratios]
    if not told or told[-1].ratios["server_cpu"].low is None:
        return ()
    level = told[-1]
    ratio = level.ratios["server_cpu"]
    more, shown = ("REST", ratio) if ratio.value >= 1 else ("gRPC", inverse(ratio))
    spent = f"{numbers.with_interval(shown, numbers.times)} as much on a request over {more}"
    return (f"CPU time still counts, for a busy machine hardly changes it: at {level.name} the server spends {spent}.",)


# --- warnings --------------------------------------------------------------------------------------


def _warnings(measurement: Measurement) -> tuple[str, ...]:
    lines = []
    engine, launch = measurement.record.engine, measurement.model.launch
    if not engine.isolated:
        why = (
            "; ".join(f"{name}: {reason}" for name, reason in engine.rejected.items())
            or "no container engine was tried"
        )
        lines.append(
            "The server ran as a plain local process, not from the container image: nothing here proves the image "
            f"itself. No container engine would do ({why})."
        )
    if launch.exit_code != 0:
        lines.append(f"The server did not stop as it should after SIGTERM: exit code {launch.exit_code}.")
    if errors := measurement.errors:
        told = ", ".join(f"{numbers.integer(count)} × {kind}" for kind, count in sorted(errors.items()))
        lines.append(f"Requests failed under load: {told}.")
    lines += [f"Without a finding: {line}." for line in not_counted_lines(measurement.record)]
    if measurement.record.image_id != measurement.model.image.image_id:
        lines.append("The benchmark ran another image than the one this report describes: run the benchmark again.")
    return tuple(lines)

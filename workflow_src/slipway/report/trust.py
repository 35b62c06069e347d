"""Sections about the run: can the numbers be trusted, what limits them, where and how they were made."""

from collections.abc import Callable, Iterable, Sequence

from slipway import repetitions as rules
from slipway.records import Repetition, Result
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Block,
    Figure,
    Heading,
    Items,
    Link,
    Links,
    Panel,
    Section,
    Table,
    TableCell,
    heads,
    passed,
    row,
)
from slipway.report.charts import Axis, Bar, Segment
from slipway.report.content import PROTOCOLS, CellSummary, Measurement
from slipway.report.verdict import MOST_INVALID

# A generator busier than this may be what was measured.
BUSY = 0.7
# Files beside the page.
DATA = (
    Link("result.json", "result.json", "everything on this page was drawn from this file"),
    Link("cells.csv", "cells.csv", "one line per repetition"),
    Link("summary.md", "summary.md", "the verdict in a few lines, for a pull request"),
)
NOT_COVERED = (
    ("Networks", "everything went over loopback: no round-trip time, no loss, no TLS"),
    ("Other clients", "one load generator for both protocols; clients in other languages cost more or less"),
    ("Several hosts", "one server, one machine"),
    ("Comparison with an earlier version of the code", "no base was given"),
    ("History", "the index of runs beside this report shows how the key numbers moved"),
)


def sections(result: Result, measured: Sequence[Measurement]) -> tuple[Section, ...]:
    """Write all sections about the run."""
    return (
        validity(measured),
        environment(result, measured),
        *((wall_time(result),) if result.stage_times else ()),
        *((cells(measured),) if measured else ()),
        data(result, measured),
    )


# --- validity --------------------------------------------------------------------------------------


def validity(measured: Sequence[Measurement]) -> Section:
    """Write what could have spoiled the numbers, how bad it was, and what they do not say."""
    blocks: list[Block] = []
    for measurement in measured:
        if len(measured) > 1:
            blocks.append(Heading(_title(measurement)))
        blocks.append(_checks(measurement))
        blocks += [Heading("What limits these numbers"), Items(limits(measurement))]
    return Section(
        id="validity",
        title="Can these numbers be trusted?",
        short="Validity",
        lead="A repetition that breaks a rule counts nowhere above; it stays in the data and is shown here.",
        blocks=tuple(blocks),
    )


def _title(measurement: Measurement) -> str:
    return f"{measurement.model.model}, version {measurement.version.version}"


def _checks(measurement: Measurement) -> Table:
    """One line per validity rule: its limit, the worst of all repetitions, and how many broke it."""
    every = [r for cell in measurement.cells for r in cell.cell.repetitions]
    opened = [r for level in measurement.open for cell in level.cells.values() for r in cell.cell.repetitions]
    errors = numbers.integer(sum(measurement.errors.values()))
    wrong = f"{numbers.integer(measurement.wrong_answers)} of {numbers.integer(measurement.checked_answers)} checked"
    late = _worst(opened, lambda r: r.slip_p99_us, numbers.microseconds)
    lag = _worst(every, lambda r: r.loop_lag_p99_us, numbers.microseconds)
    longest = _worst(every, lambda r: r.loop_lag_max_us, numbers.microseconds)
    slip = f"{numbers.microseconds(rules.MOST_SLIP_US)} or {numbers.percent(rules.MOST_SLIP_SHARE)} of p99"
    once = f"{numbers.microseconds(rules.MOST_LAG_P99_US)} usually, {numbers.microseconds(rules.MOST_LAG_US)} once"
    saturated = f"{numbers.percent(rules.MOST_GENERATOR_UTILISATION)} of a core"
    listed = (
        (rules.NOTHING_ANSWERED, "Something was answered", "1 answer", ""),
        (rules.FAILED_REQUESTS, "No request failed", "0", errors),
        (rules.WRONG_ANSWERS, "No answer was wrong", "0", wrong),
        (rules.SATURATED, "The load generator was not the limit", saturated, _worst(every, _used, numbers.percent)),
        (rules.LAGGING, "The load generator woke up in time (p99, worst)", once, f"{lag}, {longest}"),
        (rules.MISCOUNTED, "The server counted as many requests as the client", "equal", ""),
        (rules.LATE, "Open loop: requests left on time (p99)", slip, late),
        (
            rules.OFF_RATE,
            "Open loop: what was offered was answered",
            f"±{numbers.percent(rules.MOST_RATE_ERROR)} and what is under way",
            "",
        ),
    )
    broken = measurement.broken
    lines = [_rule(name, limit, seen, broken.pop(rule, 0)) for rule, name, limit, seen in listed]
    lines += [_rule(rule, "", "", count) for rule, count in broken.items()]
    foreign = _worst(every, lambda r: r.foreign_cpu_cores, numbers.number)
    lines.append((*row("Cores that something else used meanwhile", "none set", foreign, ""), TableCell("", "c")))
    whole = measurement.invalid <= MOST_INVALID * measurement.repetitions
    share = f"{measurement.invalid} of {measurement.repetitions}"
    lines.append((*row("Repetitions that count", f"≥ {numbers.percent(1 - MOST_INVALID)}", "", share), passed(whole)))
    head = (*heads("Rule", "limit", "worst seen", "repetitions that broke it"), TableCell("", "c"))
    return Table("Validity rules", head, tuple(lines))


def _rule(name: str, limit: str, seen: str, count: int) -> tuple[TableCell, ...]:
    verdict = passed(ok=True) if count == 0 else TableCell("! broken", "c", "bad")
    return (*row(name, limit, seen or numbers.NOT_MEASURED if count else seen, str(count)), verdict)


def _used(repetition: Repetition) -> float:
    return repetition.generator_utilisation


def _worst(repetitions: Iterable[Repetition], value: Callable[[Repetition], float | None], show: charts.Show) -> str:
    worst = max((v for r in repetitions if (v := value(r)) is not None), default=None)
    return numbers.NOT_MEASURED if worst is None else show(worst)


def limits(measurement: Measurement) -> tuple[tuple[str, str], ...]:
    """Say what holds the numbers down or makes them uncertain; each line follows from what was measured."""
    placement = measurement.record.placement
    lines = []
    if not measurement.record.engine.isolated:
        lines.append(("No isolation", "the server was a plain local process; nothing here speaks for the image"))
    if placement.pinned:
        where = f"the server on CPUs {placement.server_cpus}, the load generator on {placement.generator_cpus}"
        lines.append(("One machine", f"{where}, of {placement.logical_cpus}; they share caches, memory and the kernel"))
    else:
        lines.append(("One machine, unpinned", f"server and load generator share all {placement.logical_cpus} CPUs"))
    lines += _bound(measurement)
    fewest = min((cell.valid for cell in measurement.cells), default=0)
    if fewest < 6:
        lines.append(("Few repetitions", f"{fewest} valid ones in the thinnest cell; a 95% interval needs 6"))
    foreign = [
        r.foreign_cpu_cores for cell in measurement.cells for r in cell.repetitions if r.foreign_cpu_cores is not None
    ]
    if foreign and max(foreign) > 0.05:
        lines.append(
            ("A busy machine", f"something else used up to {numbers.number(max(foreign))} cores while it was measured")
        )
    if not measurement.record.batching:
        lines.append(("No batching", "every request ran by itself"))
    lines.append(
        ("Loopback", "no network between client and server; a real one adds its round-trip time to every latency")
    )
    return tuple(lines)


def _bound(measurement: Measurement) -> list[tuple[str, str]]:
    """Name what was busy when each protocol peaked: the server, the generator, or neither (then something waits)."""
    lines = []
    cores = _count_cpus(measurement.record.placement.server_cpus) or measurement.record.placement.logical_cpus
    for protocol in reversed(PROTOCOLS):
        peak = measurement.peak(protocol)
        if peak is None or peak.throughput_rps is None:
            continue
        generator = max(r.generator_utilisation for r in peak.repetitions)
        used = peak.throughput_rps.value * peak.server_cpu_us.value / 1e6 if peak.server_cpu_us else None
        told = f"the load generator used {numbers.percent(generator)} of one core"
        if used is not None:
            told += f", the server {numbers.number(used)} of {numbers.counted(cores, 'core')}"
        if generator > BUSY:
            told += ": the ceiling may be the generator's"
        elif used is not None and used > 0.85 * cores:
            told += ": the server's CPU is the limit"
        lines.append((f"{peak.name} at its peak", told))
    return lines


def _count_cpus(listed: str) -> int:
    """Count CPUs in a kernel list such as 0-2,5; 0 if it is none."""
    total = 0
    for part in listed.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return 0
        total += int(last) - int(first) + 1 if dash else 1
    return total


# --- environment, wall time ------------------------------------------------------------------------


def environment(result: Result, measured: Sequence[Measurement]) -> Section:
    """Write where and with what everything ran."""
    where = result.environment
    commit = where.commit or "not in a git repository"
    facts = [
        ("CPU", f"{where.cpu}, {numbers.counted(where.logical_cpus, 'logical CPU')}"),
        ("Memory", numbers.size(where.memory_bytes)),
        ("GPU", ", ".join(where.gpus) or "none"),
        ("Kernel", where.kernel),
        ("Python", where.python),
        ("Slipway", where.slipway),
        ("Commit", commit + (" with uncommitted changes" if where.dirty else "")),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(where.packages.items()))),
    ]
    for measurement in measured:
        record = measurement.record
        facts += [
            (
                f"Benchmark of {_title(measurement)}",
                f"began {record.started}, took {numbers.duration(record.duration_s)}, seed {record.seed}",
            ),
            ("Run by", f"{record.engine.name} {record.engine.version}, network {record.engine.network}"),
            ("Server flags", " ".join(record.server_flags) or "none"),
            ("Batching", _batching(record.batching)),
            ("Server memory at the end", numbers.size(record.resident_bytes)),
            (
                "Load generator",
                ", ".join(f"{name} {version}" for name, version in sorted(record.locust.items())) or "–",
            ),
        ]
    return Section("environment", "Environment", "Environment", "", (Items(tuple(facts)),))


def _batching(batching: dict[str, int | list[int]] | None) -> str:
    if not batching:
        return "off"
    return ", ".join(f"{name} {value}" for name, value in sorted(batching.items()))


def wall_time(result: Result) -> Section:
    """Write how long each stage of this run took."""
    totals: dict[str, float] = {}
    for time in result.stage_times:
        totals[time.stage] = totals.get(time.stage, 0.0) + time.seconds
    bars = [
        Bar(stage, (Segment("wall time", seconds, charts.CATEGORIES[1]),), numbers.duration(seconds))
        for stage, seconds in totals.items()
    ]
    title = f"From checkpoint to benchmark: {numbers.duration(sum(totals.values()))} of work"
    caption = (
        "Wall time of each stage's jobs when they last ran, added up. Jobs of different versions may run side by side."
    )
    table = Table(
        "Jobs",
        heads("Stage", "Job", "wall time", numbers_from=2),
        tuple(
            (TableCell(t.stage), TableCell(t.job), TableCell(numbers.duration(t.seconds), "n"))
            for t in result.stage_times
        ),
    )
    drawing = charts.bar_chart(bars, Axis("seconds"))
    figure = Figure("stage-times", title, caption, (Panel("stage-times-0", title, caption, drawing),), (), table)
    return Section("wall-time", "How long the run took", "Wall time", "", (figure,))


# --- cells, data -----------------------------------------------------------------------------------


def cells(measured: Sequence[Measurement]) -> Section:
    """Write every cell, one line each."""
    blocks: list[Block] = []
    for measurement in measured:
        if len(measured) > 1:
            blocks.append(Heading(_title(measurement)))
        blocks.append(_cells_table(measurement))
    lead = "Medians over valid repetitions. Click a column's name to sort by it."
    return Section("cells", "All cells", "Cells", lead, tuple(blocks))


_COLUMNS: tuple[tuple[str, str, charts.Show], ...] = (
    ("predictions / s", "predictions_per_s", numbers.number),
    ("p50", "p50_us", numbers.microseconds),
    ("p90", "p90_us", numbers.microseconds),
    ("p95", "p95_us", numbers.microseconds),
    ("p99", "p99_us", numbers.microseconds),
    ("p99.9", "p999_us", numbers.microseconds),
    ("server CPU", "server_cpu_us", numbers.microseconds),
    ("generator CPU", "generator_cpu_us", numbers.microseconds),
    ("sent", "bytes_sent", numbers.size),
    ("received", "bytes_received", numbers.size),
)


def _cells_table(measurement: Measurement) -> Table:
    rows = [
        (
            TableCell(cell.cell.id),
            TableCell(cell.name),
            TableCell(level.name),
            *(_metric(cell, attribute, show) for _, attribute, show in _COLUMNS),
            TableCell(numbers.integer(sum(sum(r.errors.values()) for r in cell.cell.repetitions)), "n"),
            TableCell(f"{cell.valid} of {len(cell.cell.repetitions)}", "n"),
        )
        for level in measurement.levels
        for protocol in PROTOCOLS
        if (cell := level.cells.get(protocol))
    ]
    names = (*(name for name, _, _ in _COLUMNS), "errors", "valid")
    head = (*heads("Cell", "Protocol", "Load", numbers_from=3), *heads(*names, numbers_from=0))
    return Table(f"Cells of {_title(measurement)}", head, tuple(rows), sortable=True)


def _metric(cell: CellSummary, attribute: str, show: charts.Show) -> TableCell:
    estimate = getattr(cell, attribute)
    if estimate is None:
        return TableCell(numbers.NOT_MEASURED, "n")
    return TableCell(show(estimate.value), "n", full=numbers.interval(estimate, show), value=estimate.value)


def data(result: Result, measured: Sequence[Measurement]) -> Section:
    """Write where the data are, how to redo them, and what was not measured."""
    missing = [(what, why) for measurement in measured for what, why in sorted(measurement.record.not_measured.items())]
    blocks: tuple[Block, ...] = (
        Links(DATA),
        Items((("Redo it", result.command), ("Run", result.run_id))),
        *((Heading("Not measured in this run"), Items(tuple(dict.fromkeys(missing)))) if missing else ()),
        Heading("Not covered"),
        Items(NOT_COVERED),
    )
    return Section("data", "Data, and what is not in them", "Data", "", blocks)

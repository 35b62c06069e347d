"""Whether the numbers can be trusted, and what limits them."""

from collections.abc import Callable, Iterable, Sequence

from slipway import repetitions as rules
from slipway import steady
from slipway.records import Ceiling, Repetition
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Block,
    Heading,
    Items,
    Section,
    Table,
    TableCell,
    heads,
    passed,
    row,
)
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, Loads
from slipway.report.sections.figures import name_of
from slipway.report.verdict import MOST_INVALID

# What a column is made of where nothing was measured.
_NOTHING_SEEN = {*numbers.NOT_MEASURED, *",; "}
# A generator busier than this may be what was measured.
BUSY = 0.7


def validity(measured: Sequence[Loads]) -> Section:
    """Write what could have spoiled the numbers, how bad it was, and what they do not say."""
    blocks: list[Block] = []
    for measurement in measured:
        if len(measured) > 1:
            blocks.append(Heading(name_of(measurement)))
        blocks.append(_checks(measurement))
        blocks += [Heading("What limits these numbers"), Items(limits(measurement))]
    return Section(
        id="validity",
        title="Can these numbers be trusted?",
        short="Validity",
        lead="A repetition that breaks a rule counts nowhere above, but for CPU time and bytes where only the clock on the wall "
        "was disturbed; it stays in the data and is shown here. What the machine or the server does not tell could not be looked at.",
        blocks=tuple(blocks),
    )


def _checks(measurement: Loads) -> Table:
    """One line per validity rule: its limit, the worst of all repetitions, and how many broke it."""
    every = [r for cell in measurement.cells for r in cell.cell.repetitions]
    opened = [r for level in measurement.open for cell in level.cells.values() for r in cell.cell.repetitions]
    errors = numbers.integer(sum(measurement.errors.values()))
    wrong = f"{numbers.integer(measurement.wrong_answers)} of {numbers.integer(measurement.checked_answers)} checked"
    late = _worst(opened, lambda r: r.slip_p99_us, numbers.microseconds)
    lag = _worst(every, lambda r: r.loop_lag_p99_us, numbers.microseconds)
    longest = _worst(every, lambda r: r.loop_lag_max_us, numbers.microseconds)
    foreign = _worst(every, lambda r: r.foreign_cpu_cores, numbers.number)
    disturbed = _worst(every, lambda r: r.disturbed_slots, numbers.percent)
    most_foreign = (
        f"{numbers.number(rules.MOST_FOREIGN_CORES)} cores; over {numbers.number(rules.MOST_SLOT_FOREIGN_CORES)} in "
        f"{numbers.percent(rules.MOST_DISTURBED_SLOTS)} of them"
    )
    slip = f"{numbers.microseconds(rules.MOST_SLIP_US)} or {numbers.percent(rules.MOST_SLIP_SHARE)} of p99"
    once = f"{numbers.microseconds(rules.MOST_LAG_P99_US)} usually, {numbers.microseconds(rules.MOST_LAG_US)} once"
    saturated = f"{numbers.percent(rules.MOST_GENERATOR_UTILISATION)} of a core"
    listed = (
        (rules.NOTHING_ANSWERED, "Something was answered", "1 answer", ""),
        (rules.FAILED_REQUESTS, "No request failed", "0", errors),
        (rules.WRONG_ANSWERS, "No answer was wrong", "0", wrong),
        (rules.SATURATED, "The load generator was not the limit", saturated, _worst(every, _used, numbers.percent)),
        (
            rules.NEAR_CEILING,
            "The load generator could have done more",
            f"{numbers.percent(rules.MOST_OF_CEILING)} of its ceiling",
            numbers.percent(_nearest(measurement)),
        ),
        (rules.LAGGING, "The load generator woke up in time (p99, worst)", once, f"{lag}, {longest}"),
        (rules.DISTURBED, "Nothing else used the CPUs (mean; half seconds)", most_foreign, f"{foreign}; {disturbed}"),
        (
            rules.STOLEN,
            "No hypervisor took the CPUs",
            f"{numbers.percent(rules.MOST_STOLEN)} of their time",
            _worst(every, lambda r: r.stolen_share, numbers.percent),
        ),
        (
            rules.SLOWED,
            "The server's CPUs kept their clock",
            f"{numbers.percent(rules.LEAST_CLOCK)} of the highest (median)",
            _least(every, lambda r: r.clock_share, numbers.percent),
        ),
        (rules.GPU_SLOWED, "No GPU was slowed down", "never", _gpu_slowed(every)),
        (
            rules.THROTTLED,
            "No quota had server or generator wait",
            f"{numbers.percent(rules.MOST_THROTTLED)} of the time",
            _worst(every, lambda r: r.throttled_share, numbers.percent),
        ),
        (rules.KILLED, "No process was ended for want of memory", "0", ""),
        (
            rules.UNSTEADY,
            "Answers per second had settled (Mann–Kendall's z)",
            f"±{steady.MOST_TREND}",
            _worst(every, lambda r: None if r.trend is None else abs(r.trend), numbers.number),
        ),
        (
            rules.IDLE,
            "Closed loop: all users had a request under way",
            f"{numbers.percent(rules.LEAST_IN_FLIGHT)} of them",
            _least(_closed(measurement), _share_of_users, numbers.percent),
        ),
        (rules.MISCOUNTED, "The server counted as many requests as the client", "equal", ""),
        (rules.UNDECLARED, "The server runs with the settings that were declared", "equal", _undeclared(every)),
        (
            rules.RECONNECTED,
            "No connection was opened again",
            "0",
            _worst(every, lambda r: r.reconnects, numbers.number),
        ),
        (
            rules.SENT_AGAIN,
            "TCP sent nothing again",
            f"{numbers.percent(rules.MOST_SENT_AGAIN)} of the bytes",
            _worst(every, lambda r: r.sent_again_share, numbers.percent),
        ),
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
    whole = measurement.invalid <= MOST_INVALID * measurement.repetitions
    share = f"{measurement.invalid} of {measurement.repetitions}"
    lines.append(
        (*row("Repetitions that count", f"≥ {numbers.percent(1 - MOST_INVALID)}", "", share), passed(ok=whole))
    )
    lines.append((*row("Measured again", "", "", numbers.integer(measurement.record.reruns)), TableCell("", "c")))
    head = (*heads("Rule", "limit", "worst seen", "repetitions that broke it"), TableCell("verdict", "c"))
    return Table("Validity rules", head, tuple(lines))


def _rule(name: str, limit: str, seen: str, count: int) -> tuple[TableCell, ...]:
    verdict = passed(ok=True) if count == 0 else TableCell("! broken", "c", "bad")
    if count == 0 and seen and not set(seen) - _NOTHING_SEEN:
        verdict = TableCell("not looked at", "c")
    return (*row(name, limit, seen or numbers.NOT_MEASURED if count else seen, str(count)), verdict)


def _nearest(measurement: Loads) -> float | None:
    """Find the greatest share of the generator's ceiling that any repetition reached; None if it was not calibrated."""
    ceilings = {c.protocol: c.throughput_rps for c in measurement.record.ceilings}
    shares = [
        repetition.throughput_rps / ceilings[cell.cell.protocol]
        for cell in measurement.cells
        for repetition in cell.cell.repetitions
        if ceilings.get(cell.cell.protocol)
    ]
    return max(shares, default=None)


def _used(repetition: Repetition) -> float:
    return repetition.generator_utilisation


def _worst(repetitions: Iterable[Repetition], value: Callable[[Repetition], float | None], show: charts.Show) -> str:
    worst = max((v for r in repetitions if (v := value(r)) is not None), default=None)
    return numbers.NOT_MEASURED if worst is None else show(worst)


def _least(
    found: Iterable[tuple[float | None, float] | Repetition], value: Callable[..., float | None], show: charts.Show
) -> str:
    least = min((v for r in found if (v := value(r)) is not None), default=None)
    return numbers.NOT_MEASURED if least is None else show(least)


def _closed(measurement: Loads) -> list[tuple[float | None, float]]:
    """List what was under way in closed loops, with the number of users; a lone one cannot be fewer."""
    return [
        (repetition.in_flight, float(level.load.concurrency))
        for level in measurement.closed
        if level.load.concurrency and level.load.concurrency > 1
        for cell in level.cells.values()
        for repetition in cell.cell.repetitions
    ]


def _share_of_users(found: tuple[float | None, float]) -> float | None:
    in_flight, users = found
    return None if in_flight is None else in_flight / users


def _undeclared(every: Sequence[Repetition]) -> str:
    compared = [r.undeclared for r in every if r.undeclared is not None]
    return "; ".join(dict.fromkeys(line for lines in compared for line in lines)) or (
        "equal" if compared else numbers.NOT_MEASURED
    )


def _gpu_slowed(every: Sequence[Repetition]) -> str:
    used = [r.gpu for r in every if r.gpu]
    return ", ".join(dict.fromkeys(why for gpu in used for why in gpu.slowed)) or (
        "no" if used else numbers.NOT_MEASURED
    )


def limits(measurement: Loads) -> tuple[tuple[str, str], ...]:
    """Say what holds the numbers down or makes them uncertain; each line follows from what was measured."""
    placement = measurement.record.placement
    several = f" ({placement.generator_processes} processes)" if placement.generator_processes > 1 else ""
    target = measurement.record.target
    lines = []
    if target:
        told = ", ".join(f"{name} at {where}" for name, where in sorted(target.addresses.items()))
        lines.append(("Somebody else's server", f"{told}: what it runs on, and what else it does, is not known here"))
        plain = [PROTOCOL_NAMES[p] for p in PROTOCOLS if p in target.addresses and p not in target.tls]
        if target.tls and plain:
            (secured, *_) = (PROTOCOL_NAMES[p] for p in PROTOCOLS if p in target.tls)
            told = f"{secured} has TLS and {plain[0]} has none: a ratio of the two has TLS's price in it"
            lines.append(("TLS on one side", told))
    elif not measurement.record.engine.isolated:
        lines.append(("No isolation", "the server was a plain local process; nothing here speaks for the image"))
    if target:
        lines.append(
            (
                "The load generator's place",
                f"CPUs {placement.generator_cpus} of {placement.logical_cpus} here{several}",
            )
        )
    elif placement.pinned:
        where = f"the server on CPUs {placement.server_cpus}, the load generator on {placement.generator_cpus}{several}"
        lines.append(("One machine", f"{where}, of {placement.logical_cpus}; they share caches, memory and the kernel"))
    else:
        lines.append(
            ("One machine, unpinned", f"server and load generator{several} share all {placement.logical_cpus} CPUs")
        )
    lines += [_ceiling(ceiling) for ceiling in measurement.record.ceilings] or [
        ("No calibration", "what the load generator can do at most was not measured")
    ]
    lines += _checked(measurement) + _bound(measurement)
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
    if target:
        return tuple(lines)
    if not measurement.record.batching:
        lines.append(("No batching", "every request ran by itself"))
    lines.append(
        ("Loopback", "no network between client and server; a real one adds its round-trip time to every latency")
    )
    return tuple(lines)


def _checked(measurement: Loads) -> list[tuple[str, str]]:
    """Say what another load generator found of the same server, where one was asked."""
    values = [value for scenario in measurement.record.scenarios for value in scenario.values]
    found = {value.protocol: value.value for value in values if value.key == "native_over_wire"}
    told = [f"{numbers.times(found[p])} over {PROTOCOL_NAMES[p]}" for p in PROTOCOLS if p in found]
    said = f"h2load gets {' and '.join(told)} as many requests/s of the server as the load generator"
    return [("Held against h2load", said)] if told else []


def _ceiling(ceiling: Ceiling) -> tuple[str, str]:
    processes = f" with {ceiling.processes} processes" if ceiling.processes > 1 else ""
    told = (
        f"the load generator{processes} gets {numbers.number(ceiling.throughput_rps)} answers/s from a server that does nothing, with "
        f"{ceiling.concurrency} in flight, and half of them within {numbers.microseconds(ceiling.floor_p50_us)} with 1 in flight; "
        "no server can be measured above the one and below the other"
    )
    return f"Ceiling over {PROTOCOL_NAMES[ceiling.protocol]}", told


def _bound(measurement: Loads) -> list[tuple[str, str]]:
    """Name what was busy when each protocol peaked: the server, the generator, or neither (then something waits)."""
    lines = []
    cores = _count_cpus(measurement.record.placement.server_cpus) or measurement.record.placement.logical_cpus
    for protocol in reversed(PROTOCOLS):
        peak = measurement.peak(protocol)
        if peak is None or peak.throughput_rps is None:
            continue
        generator = max(r.generator_utilisation for r in peak.repetitions)
        used = peak.throughput_rps.value * peak.server_cpu_us.value / 1e6 if peak.server_cpu_us else None
        busiest = "'s busiest process" if measurement.record.placement.generator_processes > 1 else ""
        told = f"the load generator{busiest} used {numbers.percent(generator)} of one core"
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

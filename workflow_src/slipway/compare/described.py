"""What was compared, in words: base and head, the machine, how far the load generator is from its own limit. Pure."""

import numpy as np

from slipway import repetitions
from slipway.compare.plan import RAREST
from slipway.compare.records import Comparison, Subject
from slipway.report import numbers
from slipway.report.blocks import Items, Section, Table, TableCell, heads
from slipway.report.content import PROTOCOL_NAMES
from slipway.statistics import samples_needed


def section(comparison: Comparison) -> Section:
    """Draw the section on base, head and what both were measured with."""
    facts: list[tuple[str, str, str]] = [
        (name, _fact(comparison.base, name), _fact(comparison.head, name)) for name in _FACTS
    ]
    table = Table(
        "Base and head",
        heads("What", "base", "head", numbers_from=9),
        tuple((TableCell(name), TableCell(one), TableCell(other)) for name, one, other in facts),
    )
    where = comparison.environment
    processes = numbers.counted(comparison.placement.generator_processes, "process", "processes")
    items = (
        ("Inputs", f"{numbers.counted(comparison.payload.distinct, 'payload')} of golden rows, the same for both"),
        (
            "Offered rate",
            f"{numbers.number(comparison.offered_rate)} requests/s" if comparison.offered_rate else "none",
        ),
        *_open_window(comparison),
        *_ceilings(comparison),
        ("CPUs", f"servers {comparison.placement.server_cpus}, load generators {comparison.placement.generator_cpus}"),
        ("Load generators", f"{processes} each"),
        ("Machine", f"{where.cpu}, {numbers.counted(where.logical_cpus, 'logical CPU')}, {where.kernel}"),
        *_thread_plans(comparison),
        ("Seed", str(comparison.seed)),
        ("Took", numbers.duration(comparison.duration_s)),
    )
    return Section("subjects", "What was compared", "Subjects", "", (table, Items(items)))


def _open_window(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Say why windows of the open loop are longer than others, where they are."""
    length_s = comparison.open_window_s
    if length_s is None or comparison.offered_rate is None or length_s <= comparison.window_s:
        return ()
    requests = f"some {numbers.number(comparison.offered_rate * length_s)} requests each"
    told = f"{numbers.number(length_s)} s: {requests}, of which a p99 needs {samples_needed(RAREST)}"
    return (("Windows at that rate", told),)


def _ceilings(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Say what the load generator can do at most, and how near each side came to it."""
    lines = []
    for ceiling in comparison.ceilings:
        told = (
            f"{numbers.number(ceiling.throughput_rps)} requests/s from a server that does nothing, with "
            f"{numbers.counted(ceiling.concurrency, 'user')}"
        )
        pairs = [
            pair
            for cell in comparison.cells
            if cell.protocol == ceiling.protocol and cell.load.kind == "closed"
            for pair in cell.pairs
        ]
        if pairs and ceiling.throughput_rps:
            base, head = (
                numbers.percent(float(np.median([side.throughput_rps for side in sides])) / ceiling.throughput_rps)
                for sides in zip(*((pair.base, pair.head) for pair in pairs), strict=True)
            )
            told += f"; base reached {base} of it, head {head}; over {numbers.percent(repetitions.MOST_OF_CEILING)} decides nothing"
        lines.append((f"The load generator's ceiling, {PROTOCOL_NAMES[ceiling.protocol]}", told))
    return tuple(lines)


def _thread_plans(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Warn of servers that run the model in different ways, for each of them measures which is better when it starts."""
    base, head = comparison.base.thread_plan, comparison.head.thread_plan
    if base == head or not (base and head):
        return ()
    told = f"base has {base}, head {head}: part of the difference may be that. --thread_plan in server.flags settles it"
    return (("Thread plans differ", told),)


_FACTS = (
    *("asked for", "directory is at", "image was made at", "model", "image", "size", "servable", "flags", "engine"),
    *("ready after", "memory", "thread plan"),
)


def _fact(subject: Subject, name: str) -> str:
    engine = subject.engine
    return {
        "asked for": subject.label,
        "directory is at": _directory(subject),
        "image was made at": made_at(subject),
        "model": f"{subject.model}, version {subject.version}",
        "image": subject.image_id[:19],
        "size": numbers.size(subject.image_bytes),
        "servable": subject.servable_digest[:19],
        "flags": " ".join(subject.server_flags) or "none of its own",
        "engine": f"{engine.name} {engine.version}" if engine else "not started",
        "ready after": numbers.duration(subject.ready_s),
        "memory": numbers.size(subject.resident_bytes),
        "thread plan": subject.thread_plan or "not told",
    }[name]


def _directory(subject: Subject) -> str:
    if subject.commit is None:
        return "no git repository"
    return f"commit {subject.commit[:12]}{' + changes' if subject.dirty else ''}"


def made_at(subject: Subject) -> str:
    """Say which commit an image is of, by its own label: its directory may have moved on since, with or without effect."""
    if subject.image_commit:
        made = f"commit {subject.image_commit[:12]}"
        if subject.commit and subject.commit != subject.image_commit:
            return f"{made}, not where the directory is: nothing that the image is made of has changed since, or it was not made again"
        return made
    if subject.image_created:
        return f"{numbers.moment(subject.image_created)}, which is the time of no one commit here"
    return "not known"

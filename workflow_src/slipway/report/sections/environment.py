"""Where, with what and for how long everything ran."""

from collections.abc import Sequence

from slipway.records import (
    Result,
)
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Figure,
    Items,
    Panel,
    Section,
    Table,
    TableCell,
    heads,
)
from slipway.report.charts import Axis, Bar, Segment
from slipway.report.content import Loads, batching_in_words
from slipway.report.sections.figures import name_of


def environment(result: Result, measured: Sequence[Loads]) -> Section:
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
                f"Benchmark of {name_of(measurement)}",
                f"began {record.started}, took {numbers.duration(record.duration_s)}, seed {record.seed}",
            ),
            ("Run by", f"{record.engine.name} {record.engine.version}, network {record.engine.network}"),
            ("Server flags", " ".join(record.server_flags) or "none"),
            ("Batching", batching_in_words(record.batching)),
            ("Server memory at the end", numbers.size(record.resident_bytes)),
            (
                "Load generator",
                (", ".join(f"{name} {version}" for name, version in sorted(record.locust.items())) or "–")
                + f"; {numbers.counted(record.placement.generator_processes, 'process', 'processes')}",
            ),
        ]
    return Section("environment", "Environment", "Environment", "", (Items(tuple(facts)),))


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
    return Section("wall-time", "How long the run took", "", "", (figure,))

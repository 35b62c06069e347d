"""One run in a few numbers, with what must be alike before they are compared: an entry of runs.json."""

from typing import Literal

from pydantic import Field

from slipway.records import BenchmarkRecord, Digest, Environment, ModelResult, Protocol, Record, Result, TargetRecord
from slipway.report import numbers
from slipway.report.content import (
    PROTOCOL_NAMES,
    PROTOCOLS,
    Measurement,
    batching_in_words,
    cpu_per_prediction,
    measurements,
)
from slipway.report.verdict import State, judge, worst


class KeyNumbers(Record):
    """One protocol of one measured version. None: not measured, or nothing of it counts."""

    protocol: Protocol
    predictions_per_s: float | None = Field(None, description="At its best closed-loop load.")
    server_cpu_us: float | None = Field(None, description="Server CPU per prediction at the busiest closed-loop load.")
    p50_us: float | None = Field(None, description="Service latency at the lightest closed-loop load.")
    p99_us: float | None = Field(None, description="Service latency at the lightest closed-loop load.")


class MeasuredVersion(Record):
    """One version of one model that was measured in a run."""

    model: str
    version: int
    facts: dict[str, str] = Field(description="What must be alike before numbers of two runs are joined, in words.")
    origin: dict[str, str] = Field(description="What may differ between runs that are joined, in words: what changed.")
    numbers: list[KeyNumbers]
    image_bytes: int
    ready_s: float = Field(description="From the start of the container until every version was AVAILABLE.")
    resident_bytes: int | None = None


class RunEntry(Record):
    """One line of runs.json."""

    run_id: str
    created: str
    title: str
    state: State
    headline: str
    machine: str
    commit: str | None
    result_digest: Digest
    measured: list[MeasuredVersion]


class RunIndex(Record):
    """
    published/runs.json, newest first.

    The format counts up whenever an entry of the same run would read otherwise: then all are made anew from the runs.
    """

    format: Literal[4] = 4
    runs: list[RunEntry]


def run_entry(result: Result, run_id: str, digest: str) -> RunEntry:
    """Sum *result* up in one entry of the index."""
    measured = measurements(result)
    verdicts = [judge(measurement) for measurement in measured]
    state = worst(verdicts)
    headline = next((v.headline for v in verdicts if v.state == state), "Nothing was measured")
    where = result.environment
    return RunEntry(
        run_id=run_id,
        created=result.created,
        title=result.title,
        state=state,
        headline=headline,
        machine=" · ".join([where.cpu, numbers.counted(where.logical_cpus, "CPU"), *where.gpus]),
        commit=where.commit,
        result_digest=digest,
        measured=[_measured(measurement, where) for measurement in measured],
    )


def _measured(measurement: Measurement, where: Environment) -> MeasuredVersion:
    model, record = measurement.model, measurement.record
    where = record.environment or where
    return MeasuredVersion(
        model=model.model,
        version=record.version,
        facts=facts(record, where),
        origin=_origin(model, record, where),
        numbers=[_key_numbers(measurement, protocol) for protocol in PROTOCOLS],
        image_bytes=model.image.bytes,
        ready_s=model.launch.ready_s,
        resident_bytes=record.resident_bytes,
    )


def facts(record: BenchmarkRecord, where: Environment) -> dict[str, str]:
    """
    Say what must be alike before the numbers of two runs are joined: the machine, the load, the server's settings.

    They are what was configured, never what it came to: a run of which one window was measured again is like the others.
    The model's weights and the code are not among them: what they changed is what a history is there to show.
    """
    place, engine = record.placement, record.engine
    kinds = {kind: [cell.load for cell in record.cells if cell.load.kind == kind] for kind in ("closed", "open")}
    flights = sorted({load.concurrency for load in kinds["closed"] if load.concurrency})
    window_s, warmup_s = _configured(record)
    return {
        "CPU": where.cpu,
        "logical CPUs": str(where.logical_cpus),
        "memory": numbers.size(where.memory_bytes),
        "GPU": ", ".join(where.gpus) or "none",
        "kernel": where.kernel,
        "engine": f"{engine.name} {engine.version}".strip() if engine.isolated else "a plain process",
        "placement": f"server on {place.server_cpus}, load generator on {place.generator_cpus}"
        if place.pinned
        else "not pinned",
        "load generator": (
            ", ".join(f"{name} {version}" for name, version in sorted(record.locust.items())) or "unknown"
        )
        # One process is not told: so it was before there could be more.
        + (f"; {place.generator_processes} processes" if place.generator_processes > 1 else ""),
        "requests in flight": ", ".join(map(str, flights)) or "none",
        "window": "none" if window_s is None else f"{numbers.number(window_s)} s",
        "warm-up": "none" if warmup_s is None else f"{numbers.number(warmup_s)} s",
        "payload": "; ".join(
            f"{one.signature}, {numbers.counted(one.rows, 'row')}, {numbers.counted(one.distinct, 'payload')} "
            f"{numbers.short_digest(one.values_digest)}"
            for one in record.payloads
        ),
        "batching": batching_in_words(record.batching),
        "server flags": " ".join(record.server_flags) or "none",
    } | _of_target(record.target)


def _configured(record: BenchmarkRecord) -> tuple[float | None, float | None]:
    """
    Give length and warm-up of a window as they were configured, seconds; None: there was none.

    What a window came to says less: one that had not settled is measured again at twice the length, or begins later. A result
    of an older Slipway has nothing else; there the least is what was configured, for neither ever makes it less.
    """
    measured = [repetition for cell in record.cells for repetition in cell.repetitions]
    if not measured:
        return None, None
    if record.window_s is not None and record.warmup_s is not None:
        return record.window_s, record.warmup_s
    # A begin that moved leaves the end where it was. Both are whole microseconds, and sums of them are not.
    warmup_s = min(r.discarded_s for r in measured)
    end_s = min(r.discarded_s + r.window_s for r in measured)
    return round(end_s - warmup_s, 3), round(warmup_s, 3)


def _of_target(target: TargetRecord | None) -> dict[str, str]:
    """Say how somebody else's server was called; a fact that is missing differs from every other."""
    if target is None:
        return {}
    called = f"{target.signature.name} by {target.method}{f', label {target.label}' if target.label else ''}"
    tls = "; ".join(f"{PROTOCOL_NAMES[p]}: {target.tls[p]}" for p in PROTOCOLS if p in target.tls)
    return {"called": called, "TLS": tls or "none"}


def _origin(model: ModelResult, record: BenchmarkRecord, where: Environment) -> dict[str, str]:
    named = {
        "commit": f"{where.commit[:10]}{' + changes' if where.dirty else ''}" if where.commit else "none",
        "Slipway": where.slipway,
        "version": str(record.version),
        "servable": numbers.short_digest(record.servable_digest or ""),
        "image": numbers.short_digest(record.image_id or ""),
        "base image": model.image.base,
    }
    if record.thread_plan:
        # The server measures which is better and may find another one tomorrow; a flag that settles it is a fact.
        named["thread plan"] = record.thread_plan
    return named | {f"package {name}": version for name, version in sorted(model.image.packages.items())}


def _key_numbers(measurement: Measurement, protocol: Protocol) -> KeyNumbers:
    cells = [level.cells[protocol] for level in measurement.closed if protocol in level.cells]
    # Loads that do not depend on what was measured, so that every run reads its numbers at the same ones.
    ordered = sorted(cells, key=lambda cell: cell.cell.load.concurrency or 0)
    if not ordered:
        return KeyNumbers(protocol=protocol)
    lightest, busiest = ordered[0], ordered[-1]
    peak = measurement.peak(protocol)
    return KeyNumbers(
        protocol=protocol,
        predictions_per_s=peak.predictions_per_s.value if peak and peak.predictions_per_s else None,
        server_cpu_us=cpu_per_prediction(busiest),
        p50_us=lightest.p50_us.value if lightest.p50_us else None,
        p99_us=lightest.p99_us.value if lightest.p99_us else None,
    )

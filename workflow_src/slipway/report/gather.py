"""Every stage's record -> one Result; refuses records that do not belong together."""

import csv
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway import files, provenance
from slipway.cli import STAGES
from slipway.errors import SourceError
from slipway.prices import Prices
from slipway.records import (
    ApiRecord,
    BenchmarkRecord,
    CheckpointRecord,
    ExportRecord,
    ImageRecord,
    LaunchRecord,
    ModelResult,
    Result,
    ServableRecord,
    StageTime,
    ValidationRecord,
    VersionResult,
    WarmupRecord,
)

COMMAND = "snakemake --cores all"
# What a benchmark leaves in the place of its record if it is cut short.
FAILED_SUFFIX = ".failed.json"


def gather(
    records: Path,
    models: Mapping[str, Sequence[int]],
    benchmarked: Mapping[str, Sequence[int]],
    *,
    title: str,
    usage: Path | None,
    prices: Prices | None = None,
    partial: bool = False,
    since: float = 0.0,
) -> Result:
    """
    Read the records of *models* below *records*.

    Args:
        records: The workflow's results.
        models: Name -> versions.
        benchmarked: Name -> versions that were measured; at least one in all.
        title: Of the report.
        usage: Snakemake's benchmark files, stage/job.tsv; None: no wall times.
        prices: What computing costs, if anybody said.
        partial: Take what there is: of a benchmark that was cut short what it measured until then; models that did
            not get as far as an image that answers right are left out.
        since: Seconds since the epoch: a benchmark that was cut short before is of another run and is left out.

    Raises:
        SourceError: If a record is missing or damaged, or was made from something else than the others.
    """
    read = []
    for name, versions in models.items():
        try:
            read.append(_model(records, name, versions, benchmarked.get(name, ()), partial=partial, since=since))
        except SourceError:
            if not partial:
                raise
    measured = [record for model in read for record in model.benchmarks]
    if not measured:
        raise SourceError(f"{records}: nothing was measured. Name a version with --benchmarked MODEL=VERSION.")
    newest = max(measured, key=_ended)
    created = _ended(newest)
    return Result(
        run_id=f"{created:%Y%m%dT%H%M%SZ}-{content_digest(read)[7:15]}",
        created=f"{created:%Y-%m-%dT%H:%M:%SZ}",
        title=title,
        command=COMMAND,
        environment=newest.environment or provenance.environment(),
        models=read,
        stage_times=stage_times(usage) if usage else [],
        prices=prices,
    )


def content_digest(models: Sequence[ModelResult]) -> str:
    """Digest what was made and measured; the title and the time of drawing do not count."""
    return files.sha256_bytes(files.canonical_json([model.jsonable() for model in models]))


def _ended(record: BenchmarkRecord) -> dt.datetime:
    began = dt.datetime.fromisoformat(record.started)
    if began.tzinfo is None:
        began = began.replace(tzinfo=dt.UTC)
    return began.astimezone(dt.UTC) + dt.timedelta(seconds=record.duration_s)


def _model(
    records: Path, model: str, versions: Sequence[int], benchmarked: Sequence[int], *, partial: bool, since: float
) -> ModelResult:
    read = [_version(records, model, version) for version in sorted(versions)]
    servables = {version.version: version.servable.tree.digest for version in read}
    if missing := sorted(set(benchmarked) - set(servables)):
        raise SourceError(
            f"{model}: version {missing[0]} was measured but is not among its versions {sorted(servables)}"
        )
    measured = []
    for version in sorted(benchmarked):
        path = records / "benchmarks" / model / str(version) / "benchmark.json"
        if partial and not path.exists():
            path = path.with_suffix(FAILED_SUFFIX)
            if not path.exists() or path.stat().st_mtime < since:
                continue
        record = BenchmarkRecord.read(path)
        if record.servable_digest != servables[version]:
            raise SourceError(
                f"{path}: measured servable {record.servable_digest}, but version {version} of {model} is now "
                f"{servables[version]}. Run the benchmark again."
            )
        measured.append(record)
    return ModelResult(
        model=model,
        versions=read,
        image=ImageRecord.read(records / "images" / model / "image.json"),
        launch=LaunchRecord.read(records / "launch" / f"{model}.json"),
        benchmarks=measured,
        api=_api(records, model, read[-1].version),
    )


def _api(records: Path, model: str, newest: int) -> ApiRecord | None:
    path = records / "api" / f"{model}.json"
    if not path.exists():
        return None
    record = ApiRecord.read(path)
    if record.version != newest:
        raise SourceError(
            f"{path}: shows version {record.version}, but the newest of {model} is {newest}. Delete it and run again."
        )
    return record


def _version(records: Path, model: str, version: int) -> VersionResult:
    number = str(version)
    return VersionResult(
        version=version,
        checkpoint=CheckpointRecord.read(records / "checkpoints" / model / number / "checkpoint.json"),
        export=ExportRecord.read(records / "exports" / model / f"{number}.json"),
        validation=ValidationRecord.read(records / "validation" / model / f"{number}.json"),
        warmup=WarmupRecord.read(records / "warmup" / model / number / "warmup.json"),
        servable=ServableRecord.read(records / "manifests" / model / f"{number}.json"),
    )


def stage_times(usage: Path) -> list[StageTime]:
    """
    Read the wall times of all jobs.

    Args:
        usage: Holds stage/job.tsv, as Snakemake's `benchmark:` writes them; the job may have several parts.

    Returns:
        In the order of the stages, then of the jobs' names.

    Source: Snakemake manual, "Benchmark rules": tab-separated, one line per repeat, column `s` in seconds.
    """
    found = []
    for path in usage.rglob("*.tsv"):
        stage, *job = path.relative_to(usage).with_suffix("").parts
        found.append(StageTime(stage=stage, job="/".join(job), seconds=_seconds(path)))
    order = list(STAGES)
    return sorted(found, key=lambda t: (order.index(t.stage) if t.stage in order else len(order), t.stage, t.job))


def _seconds(path: Path) -> float:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        return sum(float(line["s"]) for line in rows) / len(rows)
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        msg = f"{path}: expected a Snakemake benchmark file with a column s, found something else. Delete it."
        raise SourceError(msg) from error

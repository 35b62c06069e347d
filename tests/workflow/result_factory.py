"""Made-up results for tests of the report: plausible shapes, invented numbers, nothing measured."""

import hashlib
import math
import random

import numpy as np

from slipway import files, statistics
from slipway.records import (
    ApiRecord,
    BenchmarkRecord,
    Ceiling,
    Cell,
    CheckpointRecord,
    ColdStart,
    EngineRecord,
    Environment,
    ExportRecord,
    FileEntry,
    FirstRequests,
    GoldenAnswer,
    ImageRecord,
    Latency,
    LaunchRecord,
    LayerRecord,
    Load,
    ModelResult,
    Parity,
    Payload,
    Placement,
    Repetition,
    Result,
    ServableRecord,
    SignatureRecord,
    SnippetRecord,
    StageTime,
    TensorRecord,
    TreeManifest,
    ValidationRecord,
    VersionResult,
    WarmupEntry,
    WarmupRecord,
)
from slipway.records import Check as ContractCheck

# What one protocol is made of here: capacity (predictions/s), half-way concurrency, base latency (µs), CPU (µs).
PROTOCOLS = {"rest": (2900.0, 3.0, 620.0, 310.0), "grpc": (5300.0, 4.0, 410.0, 172.0)}
STAGES = {
    "parse": (88.0, 21.0),
    "batch_wait": (25.0, 23.0),
    "queue": (15.0, 15.0),
    "compute": (130.0, 129.0),
    "encode": (41.0, 12.0),
}
ENGINE = EngineRecord(
    name="podman", version="4.3.1", isolated=True, network="host", rejected={"docker": "not installed"}
)


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def tree(name: str, sizes: dict[str, int]) -> TreeManifest:
    files = {path: FileEntry(digest=digest(name + path), bytes=size) for path, size in sizes.items()}
    return TreeManifest(digest=digest(name), files=files)


def latency(samples: np.ndarray) -> Latency:
    ordered = np.sort(samples)

    def at(quantile: float) -> float | None:
        return statistics.percentile(ordered, quantile)

    return Latency(
        samples=len(ordered),
        mean_us=float(ordered.mean()),
        p50_us=at(0.5),
        p90_us=at(0.9),
        p95_us=at(0.95),
        p99_us=at(0.99),
        p999_us=at(0.999),
        max_us=float(ordered[-1]),
    )


def repetition(protocol, load, index, order, rng, *, window_s=3.0, rows=1, scale=1.0, invalid=()):
    capacity, half, base_us, cpu_us = PROTOCOLS[protocol]
    capacity, base_us = capacity * scale, base_us / scale
    noise = math.exp(rng.normal(0, 0.015))
    if load.kind == "closed":
        rate = capacity * load.concurrency / (load.concurrency + half) * noise
        mean_us = load.concurrency / rate * 1e6
    else:
        rate = load.rate
        mean_us = base_us * (1 + 0.8 * load.rate / capacity / max(1 - load.rate / capacity, 0.05)) * noise
    completed = max(int(rate * window_s), 1)
    samples = np.maximum(mean_us * rng.lognormal(-0.08, 0.4, min(completed, 6000)), 20)
    in_batch = max(1, min(32, round((load.concurrency or 2) / 2.2)))
    batches = {size: max(1, int(completed / in_batch * share)) for size, share in ((in_batch, 0.7), (1, 0.2), (2, 0.1))}
    slots = [int(rate / 4 * f) for f in (0.4, 0.8)] + [int(rate / 4 * math.exp(rng.normal(0, 0.03))) for _ in range(12)]
    sent = {"rest": 512.0, "grpc": 331.0}[protocol]
    return Repetition(
        index=index,
        order=order,
        window_s=window_s,
        discarded_s=0.5,
        completed=completed,
        errors={},
        wrong_answers=0,
        checked_answers=completed // 100,
        throughput_rps=rate,
        predictions_per_s=rate * rows,
        latency=latency(samples),
        slip_p99_us=None if load.kind == "closed" else 90.0,
        offered=None if load.kind == "closed" else completed,
        bytes_sent_per_request=sent,
        bytes_received_per_request={"rest": 380.0, "grpc": 170.0}[protocol],
        server_cpu_us_per_request=cpu_us * math.exp(rng.normal(0, 0.01)) / scale,
        generator_cpu_us_per_request=24.0,
        generator_utilisation=min(0.95, rate * 26e-6),
        foreign_cpu_cores=0.02,
        batch_sizes=batches,
        stages_us={stage: times[protocol == "grpc"] / scale for stage, times in STAGES.items()},
        histogram=statistics.log_linear_histogram(samples.astype(np.int64)),
        per_slot=slots,
        invalid=list(invalid),
    )


def benchmark(model, version, *, seed=1, concurrency=(1, 4, 16, 64), repetitions=6, cold_starts=3, rate=1400.0, **more):
    rng = np.random.default_rng(seed)
    loads = [Load(kind="closed", concurrency=c) for c in concurrency]
    loads += [Load(kind="open", rate=rate)] if rate else []
    order = iter(range(10_000))
    cells = [
        Cell(
            id=f"{protocol}-{load.kind}-{load.concurrency or round(load.rate)}",
            protocol=protocol,
            payload="golden-1",
            load=load,
            repetitions=[repetition(protocol, load, i, next(order), rng, **more) for i in range(repetitions)],
        )
        for load in loads
        for protocol in PROTOCOLS
    ]
    starts = [
        ColdStart(
            warmed=warmed,
            protocol=protocol,
            ready_s=4.1 + 0.9 * warmed + rng.normal(0, 0.05),
            first_requests_us=[
                (900.0 if warmed else 150_000 / n**2.2 + 900) * math.exp(rng.normal(0, 0.08)) for n in range(1, 51)
            ],
            by_batch=[
                FirstRequests(
                    signature=signature,
                    rows=rows,
                    first_us=(950.0 if warmed else 24_000.0) + 20 * rows,
                    later_us=[880.0 + 20 * rows + later for later in range(9)],
                )
                for signature in ("serving_default", "classify")
                for rows in (1, 2, 4)
            ],
        )
        for warmed in (True, False)
        for protocol in PROTOCOLS
        for _ in range(cold_starts)
    ]
    return BenchmarkRecord(
        model=model,
        version=version,
        servable_digest=digest(f"{model}{version}servable"),
        image_id=digest(f"{model}image"),
        engine=ENGINE,
        seed=seed,
        started="2031-05-06T07:08:09Z",
        duration_s=231.5,
        placement=Placement(logical_cpus=2, server_cpus="0", generator_cpus="1", pinned=True),
        server_flags=["--port=8500", "--rest_api_port=8501"],
        batching={"max_batch_size": 32, "batch_timeout_micros": 0, "allowed_batch_sizes": [1, 2, 4, 8, 16, 32]},
        payloads=[
            Payload(
                id="golden-1",
                signature="serving_default",
                rows=1,
                distinct=64,
                values_digest=digest("values"),
                rest_body_bytes=389.0,
                grpc_message_bytes=291.0,
            )
        ],
        window_s=more.get("window_s", 3.0),
        warmup_s=0.5,
        cells=cells,
        cold_starts=starts,
        ceilings=[
            Ceiling(
                protocol=protocol,
                concurrency=64,
                throughput_rps=rate,
                generator_cpu_us_per_request=cost,
                generator_utilisation=0.99,
                floor_p50_us=floor,
            )
            for protocol, rate, cost, floor in (("rest", 41_000.0, 24.0, 60.0), ("grpc", 33_000.0, 30.0, 70.0))
        ],
        resident_bytes=612_000_000,
        locust={"locust": "2.47.0", "gevent": "26.9.0"},
        not_measured={"GPU": "this machine has none"},
    )


def parity(path, *, ok=True, max_abs=2.4e-7) -> Parity:
    return Parity(
        path=path,
        signature="serving_default",
        output="probabilities",
        rows=360,
        max_abs=max_abs,
        max_rel=3e-6,
        argmax_agreement=1.0,
        atol=1e-5,
        rtol=1e-5,
        ok=ok,
    )


def version(model: str, number: int, accuracy: float = 0.9306) -> VersionResult:
    image = TensorRecord(name="image", dtype="float32", shape=["N", 8, 8, 1], note="0 white, 1 black")
    probabilities = TensorRecord(name="probabilities", dtype="float32", shape=["N", 10])
    examples = TensorRecord(name="inputs", dtype="string", shape=["N"])
    scores = TensorRecord(name="scores", dtype="float32", shape=["N", 10])
    name = f"{model}{number}"
    return VersionResult(
        version=number,
        checkpoint=CheckpointRecord(
            model=model,
            version=number,
            kind="builtin",
            description=f"Small convolutional network, {5 * number} epochs on 1437 handwritten digits by 30 writers.",
            tree=tree(f"{name}checkpoint", {"model.weights.h5": 171_000}),
            golden_digest=digest(f"{name}golden"),
            golden_rows=360,
            metrics={"accuracy": accuracy},
            parameters=37_610,
            tools={"tensorflow-cpu": "2.21.0", "keras": "3.15.1"},
        ),
        export=ExportRecord(
            model=model,
            version=number,
            tree=tree(f"{name}export", {"saved_model.pb": 81_000, "variables/variables.data": 152_000}),
            signatures=["serving_default", "classify"],
            tools={"tensorflow-cpu": "2.21.0"},
        ),
        validation=ValidationRecord(
            model=model,
            version=number,
            contract_digest=digest("contract"),
            signatures=[
                SignatureRecord(name="serving_default", method="predict", inputs=[image], outputs=[probabilities]),
                SignatureRecord(name="classify", method="classify", inputs=[examples], outputs=[scores]),
            ],
            checks=[
                ContractCheck(
                    kind="structure", subject="serving_default.inputs.image", ok=True, expected="x", found="x"
                ),
                ContractCheck(kind="behaviour", subject="serving_default.rows", ok=True, expected="y", found="y"),
            ],
            parity=[parity("checkpoint→SavedModel")],
            accuracy=accuracy,
        ),
        warmup=WarmupRecord(
            model=model,
            version=number,
            digest=digest(f"{name}warmup"),
            bytes=48_000,
            entries=[
                WarmupEntry(signature="serving_default", method="predict", rows=n, bytes=300 * n) for n in (1, 2, 4)
            ],
            replayed=3,
        ),
        servable=ServableRecord(
            model=model,
            version=number,
            tree=tree(f"{name}servable", {"saved_model.pb": 81_000, "assets.extra/tf_serving_warmup_requests": 48_000}),
            checkpoint_digest=digest(f"{name}checkpoint"),
            export_digest=digest(f"{name}export"),
            warmup_digest=digest(f"{name}warmup"),
        ),
    )


def launch(model: str, versions: list[int], **changes) -> LaunchRecord:
    answers = [
        GoldenAnswer(
            protocol=protocol,
            version=v,
            parity=[parity(f"checkpoint→{protocol}", max_abs=0.0 if protocol == "grpc" else 6e-8)],
            accuracy=0.9306,
        )
        for v in versions
        for protocol in PROTOCOLS
    ]
    return LaunchRecord(
        model=model,
        image_id=digest(f"{model}image"),
        engine=ENGINE,
        ready_s=5.2,
        versions=dict.fromkeys(versions, "AVAILABLE"),
        answers=answers,
        stop_s=0.31,
        exit_code=0,
    ).model_copy(update=changes)


def image(model: str, versions: list[int]) -> ImageRecord:
    layers = {
        "base": 28e6,
        "tensorflow": 265e6,
        "packages": 41e6,
        "server": 0.2e6,
        **{f"model {v}": 0.25e6 for v in versions},
        "config": 800,
    }
    return ImageRecord(
        model=model,
        versions=versions,
        reference=f"slipway/{model}:{max(versions)}",
        image_id=digest(f"{model}image"),
        manifest_digest=digest(f"{model}manifest"),
        layers=[
            LayerRecord(
                name=name,
                digest=digest(model + name),
                diff_id=digest(model + name + "raw"),
                bytes=int(size),
                raw_bytes=int(size * 2.6),
                cached=name in {"base", "tensorflow"},
            )
            for name, size in layers.items()
        ],
        compression="gzip",
        base="debian bookworm, 2031-05-01",
        packages={"tensorflow-cpu": "2.21.0", "numpy": "2.4.6", "grpcio": "1.85.1"},
        created="2031-05-01T00:00:00Z",
    )


API_FILES = {
    "README.md": b"# How to call digits\n",
    "grpc_client.py": b"client = None\n",
    "openapi.json": b"{}\n",
    "requests/serving_default.row.json": b"{}",
    "requests/classify.row.json": b"{}",
}


def api(model: str, version: int) -> ApiRecord:
    entries = {
        name: FileEntry(digest=files.sha256_bytes(data), bytes=len(data)) for name, data in sorted(API_FILES.items())
    }
    return ApiRecord(
        model=model,
        version=version,
        signature="serving_default",
        snippets=[
            SnippetRecord(title="curl", file="serving_default.sh", text="curl --data '<&>'\n"),
            SnippetRecord(title="Python, gRPC", file="serving_default_grpc.py", text="import numpy as np\n"),
        ],
        tree=TreeManifest(digest=files.digest_of_digests({n: e.digest for n, e in entries.items()}), files=entries),
    )


def write_api_files(root) -> None:
    for name, data in API_FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def model_result(model: str = "digits", versions=(1, 2), benchmarked=(2,), api=None, **more) -> ModelResult:
    numbers = list(versions)
    return ModelResult(
        model=model,
        versions=[version(model, v, accuracy=0.9306 - 0.04 * (max(numbers) - v) / len(numbers)) for v in numbers],
        image=image(model, numbers),
        launch=launch(model, numbers),
        benchmarks=[benchmark(model, v, seed=v, **more) for v in benchmarked],
        api=api,
    )


def environment() -> Environment:
    return Environment(
        cpu="AMD EPYC 7B13",
        logical_cpus=2,
        memory_bytes=25_200_000_000,
        kernel="Linux 6.1.0-18-amd64",
        python="3.11.7",
        gpus=[],
        packages={"tensorflow-cpu": "2.21.0", "locust": "2.47.0", "numpy": "2.4.6"},
        commit="9f3c2ab51d07e4b0c1d2e3f405162738495a6b7c",
        dirty=False,
        slipway="0.1.0",
    )


def result(models=None, *, run_id="20310506T071200Z-0123abcd", created="2031-05-06T07:12:00Z", **changes) -> Result:
    models = models or [model_result()]
    stages = ["checkpoint", "export", "validate", "warmup", "servable"]
    seconds = random.Random(3)
    times = [
        StageTime(stage=stage, job=f"{m.model}/{v.version}", seconds=seconds.uniform(0.8, 30))
        for stage in stages
        for m in models
        for v in m.versions
    ]
    times += [
        StageTime(stage=s, job=m.model, seconds=t) for s, t in (("image", 41.0), ("launch", 22.5)) for m in models
    ]
    times += [
        StageTime(stage="benchmark", job=f"{m.model}/{b.version}", seconds=231.5) for m in models for b in m.benchmarks
    ]
    return Result(
        run_id=run_id,
        created=created,
        title="Handwritten digits",
        command="snakemake --cores all",
        environment=environment(),
        models=models,
        stage_times=times,
    ).model_copy(update=changes)


def with_repetitions(record: BenchmarkRecord, change) -> BenchmarkRecord:
    """Copy *record* with `change(cell, repetition)` in the place of every repetition."""
    cells = [
        cell.model_copy(update={"repetitions": [change(cell, repetition) for repetition in cell.repetitions]})
        for cell in record.cells
    ]
    return record.model_copy(update={"cells": cells})


def with_benchmark(made: Result, record: BenchmarkRecord) -> Result:
    """Copy *made* with *record* as the only benchmark of its first model."""
    first = made.models[0].model_copy(update={"benchmarks": [record]})
    return made.model_copy(update={"models": [first, *made.models[1:]]})


def write_records(model: ModelResult, root):
    """Write the records of *model* where the stages leave them."""
    for version in model.versions:
        number = str(version.version)
        version.checkpoint.write(root / "checkpoints" / model.model / number / "checkpoint.json")
        version.export.write(root / "exports" / model.model / f"{number}.json")
        version.validation.write(root / "validation" / model.model / f"{number}.json")
        version.warmup.write(root / "warmup" / model.model / number / "warmup.json")
        made = version.servable.model_copy(
            update={
                "tree": version.servable.tree.model_copy(update={"digest": digest(f"{model.model}{number}servable")})
            }
        )
        made.write(root / "manifests" / model.model / f"{number}.json")
    model.image.write(root / "images" / model.model / "image.json")
    model.launch.write(root / "launch" / f"{model.model}.json")
    if model.api:
        model.api.write(root / "api" / f"{model.model}.json")
        write_api_files(root / "api" / model.model)
    for record in model.benchmarks:
        record.write(root / "benchmarks" / model.model / str(record.version) / "benchmark.json")

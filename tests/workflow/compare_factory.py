"""Comparisons made up from a few numbers."""

from slipway.compare import metrics, verdict
from slipway.compare.records import ComparedCell, Comparison, Subject, WindowPair
from slipway.records import EngineRecord, Environment, Latency, Load, Payload, Placement, Repetition

DIGEST = "sha256:" + "ab" * 32


def latency(p50):
    return Latency(
        samples=5000, mean_us=p50, p50_us=p50, p90_us=p50, p95_us=p50, p99_us=p50 * 3, p999_us=None, max_us=p50 * 9
    )


def repetition(index=0, p50=500.0, **changes):
    values = {
        "index": index,
        "order": index,
        "window_s": 2.0,
        "discarded_s": 0.4,
        "completed": 2000,
        "errors": {},
        "wrong_answers": 0,
        "checked_answers": 2000,
        "throughput_rps": 1000.0,
        "predictions_per_s": 1000.0,
        "latency": latency(p50),
        "bytes_sent_per_request": 600.0,
        "bytes_received_per_request": 200.0,
        "server_cpu_us_per_request": 100.0,
        "generator_cpu_us_per_request": 20.0,
        "generator_utilisation": 0.3,
        "batch_sizes": {},
        "stages_us": {},
        "histogram": {},
        "per_slot": [],
        "invalid": [],
    }
    return Repetition(**(values | changes))


def pair(index=0, *, base=None, head=None, latency=(500.0, 500.0), invalid=()):
    return WindowPair(
        index=index,
        first="base",
        base=repetition(index, latency[0], **(base or {})),
        head=repetition(index, latency[1], invalid=list(invalid), **(head or {})),
    )


def cell(pairs, kind="closed", protocol="rest"):
    load = Load(kind="closed", concurrency=16) if kind == "closed" else Load(kind="open", rate=500.0)
    return ComparedCell(id=f"{protocol}-{kind}", protocol=protocol, load=load, pairs=list(pairs))


def subject(label="main", image_bytes=300_000_000):
    return Subject(
        label=label,
        commit="0123456789abcdef",
        image_created="2026-01-01T00:00:00Z",
        image_commit="0123456789abcdef",
        model="digits",
        version=2,
        image_id=DIGEST,
        image_bytes=image_bytes,
        servable_digest=DIGEST,
        server_flags=[],
        engine=EngineRecord(name="podman", version="5", isolated=True, network="host", rejected={}),
        ready_s=2.0,
        resident_bytes=500_000_000,
    )


def comparison(cells, *, base=None, head=None, cut_short="", title="digits: head against main"):
    base, head = base or subject(), head or subject("head")
    found = metrics.results(cells)
    fixed = verdict.fixed_results(base, head, cells)
    judged, reasons = verdict.judge(found, fixed, cut_short)
    return Comparison(
        title=title,
        started="2026-01-02T03:04:05+00:00",
        duration_s=90.0,
        command="slipway compare --base main",
        base=base,
        head=head,
        seed=1,
        window_s=2.0,
        offered_rate=500.0,
        payload=Payload(
            id="golden-1",
            signature="serving_default",
            rows=1,
            distinct=16,
            values_digest=DIGEST,
            rest_body_bytes=500,
            grpc_message_bytes=300,
        ),
        placement=Placement(logical_cpus=2, server_cpus="0", generator_cpus="1", pinned=True),
        environment=Environment(
            cpu="A CPU",
            logical_cpus=2,
            memory_bytes=8_000_000_000,
            kernel="Linux 6",
            python="3.11",
            gpus=[],
            packages={},
            commit=None,
            dirty=None,
            slipway="0.1.0",
        ),
        cells=list(cells),
        metrics=found,
        fixed=fixed,
        verdict=judged,
        reasons=reasons,
        cut_short=cut_short,
    )

"""The benchmark against a small server of real processes and sockets; `tests/end_to_end` runs it with the image."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.living import living
from tests.workflow.mischief import after_one_window

from slipway import benchmark, golden, procs, repetitions, servers, statistics
from slipway.errors import ContractViolation, InvalidMeasurement, ServerError
from slipway.golden import Golden
from slipway.records import BenchmarkRecord, ImageRecord, ServableRecord, TreeManifest
from slipway.settings import ServerSettings
from slipway.windows import Windows
from slipway_wire import payloads, predict, samples, tfrecord, warmup_log
from slipway_wire.tolerances import Tolerances

ROOT = Path(__file__).parents[1]
NULL_SERVER = Path(__file__).with_name("null_server.py")
DIGEST = "sha256:" + "0" * 64
ROWS = np.random.default_rng(1).random((20, 3), np.float32)
CONTRACT = """
format: 1
signatures:
  serving_default:
    method: predict
    inputs: {x: {shape: [N, 3]}}
    outputs: {y: {shape: [N, 3]}}
"""
SMALL = {"concurrency": [1, 3], "window_s": 0.3, "warmup_s": 0.1, "repetitions": 2, "cold_starts": 1}


def make_project(directory):
    """Write everything that the stages before leave."""
    (directory / "contract.yaml").write_text(CONTRACT)
    golden.write(directory / "golden.npz", Golden({"x": ROWS}, {"y": ROWS / 2 + 2}, None))
    shutil.copytree(ROOT / "testdata/saved_model_half_plus_two_cpu/00000123", directory / "servables/1")
    records = [warmup_log.encode("predict", predict.encode_request("m", {"x": ROWS[:rows]})) for rows in (1, 2)]
    (directory / "servables/1/assets.extra").mkdir()
    (directory / "servables/1" / warmup_log.WARMUP_FILE).write_bytes(tfrecord.frame_all(records))
    ImageRecord(
        model="m",
        versions=[1],
        reference="m:1",
        image_id=DIGEST,
        manifest_digest=DIGEST,
        layers=[],
        compression="none",
        base="",
        packages={},
        created="",
    ).write(directory / "image.json")
    ServableRecord(
        model="m",
        version=1,
        tree=TreeManifest(digest=DIGEST, files={}),
        checkpoint_digest=DIGEST,
        export_digest=DIGEST,
        warmup_digest=DIGEST,
    ).write(directory / "servable.json")
    return directory


def serve(patch, mischief="nothing@0"):
    """Let a plain local process be the null server instead of ours; give the flags of each one that is started."""
    given = []

    def argv(_spec, flags, _cleanup):
        given.append(flags)
        return [sys.executable, str(NULL_SERVER), mischief, *flags]

    patch.setattr(servers, "_process_argv", argv)
    return given


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project, and a lock of this test's own."""
    monkeypatch.setattr(benchmark, "lock_path", lambda: tmp_path / "lock")
    return make_project(tmp_path)


@pytest.fixture
def stoppable():
    """Let signals end us as they end a stage."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    procs.exit_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(project, **settings):
    parser = ArgumentParser()
    benchmark.add_arguments(parser)
    benchmark.run(
        parser.parse_args(
            [
                *("--model", "m", "--version", "1", "--threads", "64"),
                *("--settings", json.dumps(SMALL | settings), "--server-settings", '{"flags": ["--x=1"]}'),
                *("--launch-settings", '{"engine": "process"}', "--image-layout", str(project / "layout")),
                *("--image-record", str(project / "image.json"), "--servable-root", str(project / "servables")),
                *("--servable-record", str(project / "servable.json"), "--contract", str(project / "contract.yaml")),
                *("--golden", str(project / "golden.npz"), "--out", str(project / "out/benchmark.json")),
                *("--samples", str(project / "out/samples")),
            ]
        )
    )
    return BenchmarkRecord.read(project / "out/benchmark.json")


def left_behind(project):
    """Processes of ours, and files that are no result."""
    return [*living("null_server").values(), *living("slipway_loadtests").values()] + [
        path.name for path in (project / "out").iterdir() if "partial" in path.name
    ]


@dataclass(frozen=True)
class Measured:
    directory: Path
    record: BenchmarkRecord
    flags: list
    left_behind: list


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One small benchmark, where another one had failed before."""
    project = make_project(tmp_path_factory.mktemp("project"))
    (project / "out").mkdir()
    (project / "out/benchmark.failed.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "lock_path", lambda: project / "lock")
        flags = serve(patch)
        record = run(project, cold_starts=2, generator_processes=2)
    return Measured(project / "out", record, flags, left_behind(project))


def test_every_cell_is_measured_in_a_random_order(measured):
    cells = measured.record.cells
    every = [r for cell in cells for r in cell.repetitions]

    assert [cell.id for cell in cells[:4]] == ["rest-closed-1", "grpc-closed-1", "rest-closed-3", "grpc-closed-3"]
    assert [(cell.protocol, cell.load.kind) for cell in cells[4:]] == [("rest", "open"), ("grpc", "open")]
    assert cells[4].load.rate == cells[5].load.rate > 0
    assert all([r.index for r in cell.repetitions] == [0, 1] for cell in cells)
    assert len({r.order for r in every}) == len(every) == 12
    assert [r.order for r in every[:8]] != sorted(r.order for r in every[:8])


def test_every_number_follows_from_the_samples_that_are_kept(measured):
    for cell in measured.record.cells:
        for r in cell.repetitions:
            kept = samples.read(measured.directory / f"samples/{cell.id}/{r.index}.npz")
            ordered = repetitions.latencies_us(kept, cell.load)

            assert r.latency == repetitions.latency_record(ordered)
            assert r.histogram == statistics.log_linear_histogram(ordered)
            assert r.completed == pytest.approx(r.throughput_rps * r.window_s)
            assert (r.errors, r.wrong_answers) == ({}, 0)
            assert r.checked_answers == len(kept.planned_us) > 0


def test_a_distribution_is_read_off_every_single_request_that_counts(measured):
    """Percentiles of histograms would be off by their buckets; the raw samples are there."""
    for cell in measured.record.cells:
        counted = [
            repetitions.latencies_us(samples.read(measured.directory / f"samples/{cell.id}/{r.index}.npz"), cell.load)
            for r in cell.repetitions
            if not r.invalid
        ]
        if not counted:
            assert cell.distribution is None
            continue
        together = np.sort(np.concatenate(counted))
        found = dict(zip(cell.distribution.quantiles, cell.distribution.latency_us, strict=True))

        assert cell.distribution.samples == len(together)
        assert found[0.0] == together[0]
        assert found[0.5] == statistics.percentile(together, 0.5)


def test_the_server_is_asked_what_happened_in_each_window_alone(measured):
    for cell in measured.record.cells:
        for r in cell.repetitions:
            assert r.batch_sizes == {1: r.checked_answers}
            assert r.stages_us == {"compute": pytest.approx(1)}
            assert repetitions.MISCOUNTED not in r.invalid


def test_cpu_and_bytes_are_measured_per_request(measured):
    for cell in measured.record.cells:
        for r in cell.repetitions:
            assert r.server_cpu_us_per_request > 0
            assert r.generator_cpu_us_per_request > 0
            assert r.bytes_sent_per_request > 50
            assert r.bytes_received_per_request > 50


def test_what_was_sent_is_kept_beside_the_samples(measured):
    sent = payloads.read(measured.directory / "samples/payloads.tfrecord")

    assert len(sent) == measured.record.payloads[0].distinct == 16
    np.testing.assert_array_equal(np.concatenate([payload.inputs["x"] for payload in sent]), ROWS[:16])


def test_the_record_says_where_and_with_what_it_was_measured(measured):
    record = measured.record

    assert (record.engine.name, record.engine.isolated) == ("process", False)
    assert (record.servable_digest, record.image_id, record.server_flags) == (DIGEST, DIGEST, ["--x=1"])
    assert (record.window_s, record.warmup_s) == (SMALL["window_s"], SMALL["warmup_s"])
    assert record.environment.logical_cpus == os.cpu_count()
    assert record.placement.pinned == (record.placement.server_cpus != record.placement.generator_cpus)
    assert record.resident_bytes > 1e6
    assert set(record.locust) == {"locust", "gevent", "hpack"}
    assert [ceiling.protocol for ceiling in record.ceilings] == ["rest", "grpc"]
    # Which is higher, a ceiling or a server, is not asked: on a busy machine either may have had the bad moment.
    assert all(ceiling.throughput_rps > 0 and ceiling.concurrency == 3 for ceiling in record.ceilings)
    assert record.placement.generator_processes == 2
    assert [ceiling.processes for ceiling in record.ceilings] == [2, 2]
    assert "server CPU" not in record.not_measured
    assert "answers" not in record.not_measured
    assert (
        Tolerances.read(measured.directory / "samples/payloads.tolerances.json").of("serving_default", "y").rtol == 1e-4
    )
    assert BenchmarkRecord.model_validate_json(record.model_dump_json()) == record


def test_fresh_servers_are_started_with_and_without_warm_up(measured):
    starts = measured.record.cold_starts

    assert [(start.protocol, start.warmed) for start in starts] == [
        ("rest", True),
        ("rest", False),
        ("grpc", True),
        ("grpc", False),
    ]
    assert [benchmark.COLD_FLAG in given for given in measured.flags] == [False, True, False, True, False]
    for start in starts:
        assert len(start.first_requests_us) == benchmark.FIRST_REQUESTS
        assert min(start.first_requests_us) > 0
        assert start.ready_s > 0
        assert [(asked.signature, asked.rows) for asked in start.by_batch] == [
            ("serving_default", 1),
            ("serving_default", 2),
        ]
        assert all(min(asked.first_us, *asked.later_us) > 0 for asked in start.by_batch)


def test_nothing_is_left_behind_and_an_older_failure_is_gone(measured):
    assert measured.left_behind == []
    assert sorted(path.name for path in measured.directory.iterdir()) == [
        "benchmark.generator.log",
        "benchmark.json",
        "benchmark.null_server.log",
        "benchmark.server.log",
        "samples",
    ]


def test_wrong_answers_under_load_fail_the_stage_as_a_broken_contract(project, monkeypatch):
    serve(monkeypatch, after_one_window(monkeypatch, project, "lies"))

    with pytest.raises(
        ContractViolation, match=r"m version 1, .*answers under load are wrong: payload \d+: y\[0"
    ) as failure:
        run(project, cold_starts=0)

    assert failure.value.exit_code == 3
    told = BenchmarkRecord.read(project / "out/benchmark.failed.json")
    assert str(project / "out/benchmark.failed.json") in str(failure.value)
    assert not (project / "out/benchmark.json").exists()
    assert not (project / "out/samples").exists()
    assert all(r.wrong_answers == 0 for cell in told.cells for r in cell.repetitions[:-1])
    assert left_behind(project) == []


def test_failed_requests_under_load_fail_the_stage(project, monkeypatch):
    serve(monkeypatch, after_one_window(monkeypatch, project, "refuses"))

    with pytest.raises(
        InvalidMeasurement, match=r"requests failed \((HTTP 429|grpc-status 8): \d+\); the first: .*queue is full"
    ):
        run(project, cold_starts=0)

    assert left_behind(project) == []


def test_a_server_that_dies_under_load_is_told_with_its_last_words(project, monkeypatch):
    serve(monkeypatch, after_one_window(monkeypatch, project, "dies"))

    with pytest.raises(ServerError, match=r"died with exit code 134[\s\S]*std::bad_alloc[\s\S]*until then: .*failed"):
        run(project, cold_starts=0)

    assert left_behind(project) == []
    told = BenchmarkRecord.read(project / "out/benchmark.failed.json")
    assert "died with exit code 134" in told.cut_short
    assert re.fullmatch(r"cut short: \d of \d+ windows and 0 of 0 starts were measured", told.not_measured["the rest"])


def test_a_benchmark_that_is_stopped_keeps_what_it_measured_until_then(project, monkeypatch, stoppable):
    serve(monkeypatch)
    load = Windows.load

    def stopped(self, server, order):
        if self.order == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return load(self, server, order)

    monkeypatch.setattr(Windows, "load", stopped)
    with pytest.raises(procs.Stopped):
        run(project, cold_starts=0, generator_processes=2)

    told = BenchmarkRecord.read(project / "out/benchmark.failed.json")
    assert told.cut_short == "stopped by SIGINT"
    # Two, or one that a busy machine made measure again.
    assert sum(len(cell.repetitions) for cell in told.cells) in {1, 2}
    assert re.fullmatch(
        r"cut short: [0-2] of \d+ windows and 0 of 0 starts were measured", told.not_measured["the rest"]
    )
    assert left_behind(project) == []
    assert not (project / "out/samples").exists()


def test_a_window_that_breaks_a_rule_is_measured_again_once_and_then_does_not_count(project, monkeypatch, capsys):
    serve(monkeypatch)
    monkeypatch.setattr(repetitions, "MOST_LAG_US", -1.0)

    record = run(project, cold_starts=0, concurrency=[1], repetitions=1)

    every = [r for cell in record.cells for r in cell.repetitions]
    assert all(repetitions.LAGGING in r.invalid for r in every)
    # Each once, where there are so few.
    assert capsys.readouterr().err.count("measured again") == record.reruns == len(every)
    assert max(r.order for r in every) == 2 * len(every) - 1


HOLD = """
import sys
from pathlib import Path
from slipway.locks import waiting_lock
with waiting_lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_benchmark_waits_for_another_and_is_not_held_up_by_one_that_was_killed(project, monkeypatch, capsys):
    serve(monkeypatch)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, project / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    told = threading.Event()
    say = benchmark.say_waiting

    def end_the_other(pid):
        say(pid)
        told.set()
        holder.send_signal(signal.SIGKILL)

    monkeypatch.setattr(benchmark, "say_waiting", end_the_other)
    run(project, cold_starts=0, concurrency=[1], repetitions=1)
    holder.communicate()

    assert told.is_set()
    assert f"Another benchmark (process {holder.pid}) is measuring on this machine" in capsys.readouterr().err


def test_all_benchmarks_of_a_user_share_one_lock():
    assert benchmark.lock_path() == benchmark.lock_path()
    assert str(os.getuid()) in benchmark.lock_path().name
    assert os.access(benchmark.lock_path().parent, os.W_OK)


def test_no_more_cpus_are_used_than_the_job_was_given():
    available = sorted(os.sched_getaffinity(0))

    assert benchmark.available_cpus(1) == available[:1]
    assert benchmark.available_cpus(10_000) == available


def test_what_a_config_declares_has_the_names_by_which_the_server_tells_it():
    """Otherwise nothing would be compared; `tests/server/test_app.py` has the server's side."""
    server = ServerSettings(flags=["--grpc_max_threads=3", "--enable_model_warmup"])

    assert benchmark.declared_settings(server) == {
        "batching": "on",
        "batching.max_batch_size": "32",
        "batching.batch_timeout_micros": "0",
        "batching.max_enqueued_batches": "64",
        "batching.num_batch_threads": "2",
        "batching.allowed_batch_sizes": "1,2,4,8,16,32",
        "grpc_max_threads": "3",
        "enable_model_warmup": "true",
    }
    assert benchmark.declared_settings(ServerSettings(batching=None)) == {"batching": "off"}
    without_tensorflow = ServerSettings(batching=None, backend="stablehlo")
    assert benchmark.declared_settings(without_tensorflow) == {"batching": "off", "prefer_stablehlo": "true"}


@pytest.mark.parametrize(
    "flag",
    [
        "--enable_batching=false",
        "--batching_parameters_file=/b.txt",
        "--enable_per_model_batching_parameters",
        "--platform_config_file=/p.txt",
    ],
)
def test_what_flags_say_of_batching_takes_the_place_of_what_the_config_says(flag):
    declared = benchmark.declared_settings(ServerSettings(flags=[flag]))

    assert not [name for name in declared if name.partition(".")[0] == "batching"]


@pytest.mark.parametrize(
    ("flag", "told"), [("", "true"), ("=1", "true"), ("=True", "true"), ("=0", "false"), ("=false", "false")]
)
def test_a_boolean_is_declared_as_the_server_tells_it(flag, told):
    for backend in ("saved_model", "stablehlo"):
        server = ServerSettings(backend=backend, flags=[f"--prefer_stablehlo{flag}"])
        assert benchmark.declared_settings(server)["prefer_stablehlo"] == told

"""`slipway bench` on servers that somebody else started: real processes and sockets, good ones and bad ones."""

import json
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from tests.living import living
from tests.workflow.mischief import after_one_window
from tests.workflow.undisturbed import undisturb

from slipway import bench, repetitions
from slipway.errors import ContractViolation, InvalidMeasurement, ServerError, SettingsError
from slipway.records import TargetResult

NULL_SERVER = Path(__file__).with_name("null_server.py")
QUICK = ("--window", "0.15", "--repetitions", "1", "--concurrency", "1", "4")


class Running:
    """A null server with its mischief."""

    def __init__(self, mischief="nothing@0"):
        words = [sys.executable, NULL_SERVER, mischief, "--bind_address=127.0.0.1"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        # It says its ports when it listens on both.
        self.grpc, self.rest = map(int, self.process.stdout.readline().split())
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def arguments(self):
        return "--target", f"127.0.0.1:{self.grpc}", "--rest-target", f"127.0.0.1:{self.rest}", "--model", "m"


@pytest.fixture(scope="module")
def good():
    with Running() as server:
        yield server


@pytest.fixture(autouse=True)
def own_lock(tmp_path, monkeypatch):
    """A lock of this test's own, and a machine that nothing disturbs, as the rules see it."""
    monkeypatch.setattr(bench, "lock_path", lambda: tmp_path / "lock")
    undisturb(monkeypatch)


def run(directory, *words):
    parser = ArgumentParser()
    bench.add_arguments(parser)
    return bench.run(parser.parse_args([*words, "--out", str(directory / "out")]))


def result(directory):
    return TargetResult.read(directory / "out/result.json")


def test_a_running_server_is_measured_by_its_address_alone(good, tmp_path, capsys):
    # What changes its versions is not known: that scenario is not tried, and the rest is as good as without it.
    wanted = ("--scenario", "saturation", "open_loop", "hot_reload")
    asked = ("--rate", "50", "--server-pid", str(good.process.pid), "--generator-processes", "2")
    code = run(tmp_path, *good.arguments, *QUICK, *wanted, *asked)

    found = result(tmp_path).benchmark
    assert code == 0, capsys.readouterr().err
    assert [cell.id for cell in found.cells] == [
        *("rest-closed-1", "grpc-closed-1", "rest-closed-4", "grpc-closed-4", "rest-open-50", "grpc-open-50")
    ]
    every = [r for cell in found.cells for r in cell.repetitions]
    assert all(r.checked_answers > 0 and not r.wrong_answers for r in every)
    # Of a handful of requests on a busy machine, all may come between two looks that are one after the other.
    assert all(r.server_cpu_us_per_request > 0 for cell in found.cells[:4] for r in cell.repetitions)
    assert found.target.versions == {1: "AVAILABLE"}
    assert (found.version, found.servable_digest, found.image_id) == (1, None, None)
    assert [ceiling.protocol for ceiling in found.ceilings] == ["rest", "grpc"]
    assert {"image and model", "cold starts", "batching"} <= set(found.not_measured)
    assert [(one.name, one.is_untried) for one in found.scenarios] == [("hot_reload", True)]
    assert (found.window_s, found.warmup_s, found.placement.generator_processes) == (0.15, 0.5, 2)
    page = (tmp_path / "out/index.html").read_text()
    assert "Somebody else&#39;s server" in page
    assert "the load generator with 2 processes gets" in page
    assert json.loads((tmp_path / "out/result.json").read_text())["schema"] == "slipway.bench/1"
    assert len((tmp_path / "out/cells.csv").read_text().splitlines()) == 1 + len(every)
    out = capsys.readouterr().out
    assert "4 in flight" in out
    assert str(tmp_path / "out/index.html") in out
    assert not living("slipway_loadtests")


def test_a_scenario_runs_alone_on_one_protocol_with_rows_of_a_file(good, tmp_path, capsys):
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(1).random((6, 3)))
    code = run(
        *(tmp_path, "--target", f"http://127.0.0.1:{good.rest}", "--model", "m", "--window", "0.2"),
        *("--payload", str(tmp_path / "rows.npz"), "--scenario", "payload"),
        *("--set", "payload.rows=[1, 2]", "payload.window_s=0.4", "payload.repetitions=1"),
    )

    found = result(tmp_path).benchmark
    assert code == 0
    assert found.cells == []
    assert [(w.label, w.protocol) for w in found.scenarios[0].windows] in (
        [("1 row", "rest"), ("2 rows", "rest")],
        [("2 rows", "rest"), ("1 row", "rest")],
    )
    assert "rows of rows.npz" in found.target.payload
    assert found.not_measured["grpc"]
    # Its process was not named.
    assert all(w.repetition.server_cpu_us_per_request is None for w in found.scenarios[0].windows)
    assert "server CPU and memory" in found.not_measured
    assert "REST Predictions per second (2 rows): " in capsys.readouterr().out


def test_a_server_slower_than_the_schedule_is_an_invalid_measurement(tmp_path, capsys):
    words = ("--scenario", "open_loop", "--rate", "1000", "--window", "0.3", "--repetitions", "1")
    with Running("dawdles@0") as server:
        code = run(tmp_path, "--target", f"http://127.0.0.1:{server.rest}", "--model", "m", *words)

    assert code == 2
    # Which of the rules that a busy machine breaks as well is told first is not the question.
    assert "the measurement is invalid: 1 of 1 window broke a rule" in capsys.readouterr().err
    assert repetitions.OFF_RATE in result(tmp_path).benchmark.cells[0].repetitions[0].invalid


@pytest.mark.parametrize(
    ("mischief", "error", "message"),
    [
        ("lies", ContractViolation, r"m at http.*answers under load are wrong: payload \d+: y"),
        ("dies", (InvalidMeasurement, ServerError), r"requests failed .*no longer answers: the server died"),
        ("halves", InvalidMeasurement, r"m at http.*requests failed \(\w+.*the first: "),
        ("errs", ContractViolation, r"m at http.*answers under load are wrong: .*out of luck"),
    ],
)
def test_a_server_that_turns_bad_under_load_leaves_a_partial_report(mischief, error, message, tmp_path, monkeypatch):
    mischief = after_one_window(monkeypatch, tmp_path, mischief)
    with Running(mischief) as server, pytest.raises(error, match=message):
        run(tmp_path, *server.arguments, *QUICK)

    found = result(tmp_path).benchmark
    assert found.cut_short
    page = (tmp_path / "out/index.html").read_text()
    assert "Cut short" in page
    assert "every checked answer was right" not in page


@pytest.mark.parametrize(
    ("mischief", "message"),
    [
        ("halves@0", r"POST /v1/models/m:predict: no answer"),
        ("errs@0", r"POST /v1/models/m:predict: .*out of luck"),
        ("refuses@0", r"POST /v1/models/m:predict: expected 200, found 429: queue is full"),
    ],
)
def test_what_is_bad_from_the_start_is_told_before_any_load(mischief, message, tmp_path):
    with Running(mischief) as server, pytest.raises(ServerError, match=message):
        run(tmp_path, "--target", f"http://127.0.0.1:{server.rest}", "--model", "m")
    assert not (tmp_path / "out").exists()


def test_wrong_names_are_told_with_what_there_is(good, tmp_path):
    with pytest.raises(ServerError, match=r"model nope: GET .*found 404: Could not find any versions of model$"):
        run(tmp_path, "--target", f"127.0.0.1:{good.rest}", "--model", "nope")
    with pytest.raises(ServerError, match=r"has no signature other; it has: serving_default\.$"):
        run(tmp_path, *good.arguments, "--signature", "other")


def test_certificates_without_tls_are_a_mistake(good, tmp_path):
    with pytest.raises(
        SettingsError, match=r"^--ca-file: nothing is encrypted; say --tls, or name the target as https"
    ):
        run(tmp_path, *good.arguments, "--ca", "ca.pem")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scenario", "cold_start"), r"--scenario: cold_start needs a server that is started here"),
        (("--scenario", "nonsense"), r"only: no scenario nonsense"),
        (("--set", "payload.rows=1"), r"--set: expected SCENARIO.KEY=VALUE with one of the scenarios \(none"),
        (("--scenario", "soak", "--set", "soak.minute=1"), r"benchmark: scenarios.soak.*unknown key"),
        (("--configfile", "/nowhere.yaml"), r"--configfile: /nowhere.yaml: cannot be read"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_asked(words, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        run(tmp_path, "--target", "127.0.0.1:9", "--model", "m", *words)

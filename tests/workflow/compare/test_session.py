"""Two small servers of real processes and sockets; windows are too short to believe, long enough to count."""

import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.living import living
from tests.workflow.compare_factory import pair, subject
from tests.workflow.mischief import after_one_window

from slipway import payloads, procs, repetitions, servers
from slipway.benchmark import available_cpus
from slipway.compare import plan, session, verdict
from slipway.compare.page import render
from slipway.compare.plan import Plan, enough_s
from slipway.compare.session import Session
from slipway.compare.subjects import Side
from slipway.contract import read_contract
from slipway.errors import ContractViolation
from slipway.golden import Golden
from slipway.load_plan import Planned
from slipway.measuring import Machine
from slipway.records import Load
from slipway.servers import ServerSpec
from slipway.settings import LaunchSettings

NULL_SERVER = Path(__file__).parents[1] / "null_server.py"
ROWS = np.random.default_rng(1).random((20, 3), np.float32)
CONTRACT = """
format: 1
signatures:
  serving_default:
    method: predict
    inputs: {x: {shape: [N, 3]}}
    outputs: {y: {shape: [N, 3]}}
"""
QUICK = Plan(
    protocols=("rest",),
    users=2,
    open_share=0.1,
    window_s=0.15,
    open_window_s=0.15,
    warmup_s=0.05,
    calibrates=False,
    looks=(6,),
)


@pytest.fixture
def sides(tmp_path, monkeypatch):
    """Make sides whose servers do the mischief that is asked for."""
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    contract = read_contract(tmp_path / "contract.yaml")
    golden = Golden({"x": ROWS}, {"y": ROWS / 2 + 2}, None)
    sent = payloads.from_golden(golden, contract, model="m", version=1, signature="serving_default", rows=1)
    asked = {}

    def argv(spec, flags, _cleanup):
        return [sys.executable, str(NULL_SERVER), asked[spec.servable_root.name], *flags]

    monkeypatch.setattr(servers, "_process_argv", argv)

    def make(name, mischief="nothing@0"):
        asked[name] = mischief
        (tmp_path / name / "1").mkdir(parents=True)
        spec = ServerSpec("m", None, None, tmp_path / name, LaunchSettings(engine="process"))
        return Side(subject(name), spec, sent, golden, contract)

    return make


def compare(base, head, directory, how=QUICK):
    directory.mkdir(exist_ok=True)
    machine = Machine(available_cpus(2))
    return Session(base, head, how, machine, directory, title="m", command="slipway compare").run()


def test_both_servers_are_loaded_in_pairs_until_cpu_time_is_decided(sides, tmp_path):
    made = compare(sides("base"), sides("head"), tmp_path / "out")

    assert not made.cut_short
    assert {cell.id.split("-")[1] for cell in made.cells} == {"closed", "open"}
    closed = next(cell for cell in made.cells if cell.load.kind == "closed")
    [cpu] = [metric for metric in made.metrics if metric.metric == "cpu"]
    assert cpu.state in {"pass", "fail", "inconclusive"}
    assert len(closed.pairs) >= 6
    assert [pair.index for pair in closed.pairs] == list(range(len(closed.pairs)))
    assert all(abs(pair.base.order - pair.head.order) == 1 for pair in closed.pairs)
    assert {pair.first for pair in closed.pairs} == {"base", "head"}
    assert all((pair.base.order < pair.head.order) == (pair.first == "base") for pair in closed.pairs)
    assert made.base.engine.name == "process"
    assert made.head.resident_bytes
    # The same rate was offered to both.
    rates = {cell.load.rate for cell in made.cells if cell.load.kind == "open"}
    assert rates == {made.offered_rate}


def test_a_server_that_dies_cuts_it_short_and_what_there_is_is_kept(sides, tmp_path, monkeypatch):
    how = Plan(protocols=("rest",), users=1, open_share=None, window_s=0.1, warmup_s=0.02, calibrates=False)
    made = compare(sides("base"), sides("head", after_one_window(monkeypatch, tmp_path, "dies")), tmp_path / "out", how)

    assert made.verdict == "invalid"
    assert "died with exit code 134" in made.cut_short
    assert "latency" in made.not_measured


def test_an_image_is_never_stood_for_by_a_plain_process(sides, tmp_path):
    """That would run the same installed server on both sides, and prove nothing of the image."""
    made = compare(replace(sides("base"), is_image=True), sides("head"), tmp_path / "out")

    assert made.verdict == "invalid"
    assert "base is an image, which only a container engine can run; there is none here" in made.cut_short


def test_a_wrong_answer_ends_it_and_what_there_is_is_kept(sides, tmp_path, monkeypatch):
    made = compare(sides("base"), sides("head", after_one_window(monkeypatch, tmp_path, "lies")), tmp_path / "out")

    assert made.verdict == "wrong"
    assert verdict.EXIT_CODES[made.verdict] == ContractViolation.exit_code
    [reason] = made.reasons
    assert re.match(r"head \(head\), REST, \d+ .*answers under load are wrong", reason)
    assert "Wrong answers" in render(made)


def test_one_that_is_stopped_keeps_what_there_is_and_leaves_no_server(sides, tmp_path, monkeypatch):
    pair, before = Session._pair, {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def stopped(self, sides, planned, told):
        if sum(map(len, self.cells.values())) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        pair(self, sides, planned, told)

    monkeypatch.setattr(Session, "_pair", stopped)
    procs.exit_on_signals()
    try:
        made = compare(sides("base"), sides("head"), tmp_path / "out")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)

    assert made.verdict == "invalid"
    assert made.reasons == ["cut short: stopped by SIGTERM"]
    assert "the load generator's ceiling" in made.not_measured
    assert sum(len(cell.pairs) for cell in made.cells) == 2
    assert "It was cut short: stopped by SIGTERM." in render(made)
    assert not living("null_server")


def test_near_what_the_load_generator_can_do_cpu_time_decides_alone(sides, tmp_path, monkeypatch):
    """Windows of the open loop are as long as a p99 needs at the rate; stood in for by one that needs fewer requests."""
    monkeypatch.setattr(repetitions, "MOST_OF_CEILING", 0.0)
    monkeypatch.setattr(session, "offered_rate", lambda *_: 150.0)
    monkeypatch.setattr(plan, "RAREST", 0.5)
    how = replace(QUICK, open_window_s=None, calibrates=True)
    made = compare(sides("base"), sides("head"), tmp_path / "out", how)

    assert not made.cut_short
    [ceiling] = made.ceilings
    assert (ceiling.protocol, ceiling.concurrency) == ("rest", 2)
    assert ceiling.throughput_rps > 0 < ceiling.floor_p50_us
    assert not living("null_server")
    assert {path.name for path in (tmp_path / "out").glob("*.npz")} == set()
    found = {metric.metric: metric for metric in made.metrics}
    assert found["cpu"].state in {"pass", "fail", "inconclusive"}
    assert not found["throughput"].gates
    assert "came near to the most that the load generator can do" in found["throughput"].why_not
    assert not found["throughput"].unjudged
    lengths = {cell.load.kind: {pair.base.window_s for pair in cell.pairs} for cell in made.cells}
    assert lengths == {"closed": {0.15}, "open": {made.open_window_s}}
    assert made.open_window_s == enough_s(0.5, 150.0) > 0.15


@pytest.mark.parametrize(("rate", "void", "goes_on"), [(50.0, 1, True), (50.0, 2, False), (500.0, 2, True)])
def test_long_windows_are_not_spent_on_what_a_busy_host_has_undone(sides, tmp_path, rate, void, goes_on):
    waiting = Session(sides("base"), sides("head"), Plan(), Machine([0]), tmp_path, title="m", command="")
    planned = Planned("rest", Load(kind="open", rate=rate))
    waiting.cells = {planned: [pair(i, invalid=[repetitions.DISTURBED]) for i in range(void)]}

    assert waiting._wanted() == ([planned] if goes_on else [])


def test_a_bug_leaves_its_traceback_and_what_was_measured(sides, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Session, "_started", lambda *_: {}["grcp"])
    made = compare(sides("base"), sides("head"), tmp_path / "out")

    assert made.verdict == "invalid"
    assert made.cut_short == "a fault of Slipway itself, whose traceback is in the log: KeyError: 'grcp'"
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert "It was cut short: a fault of Slipway itself" in render(made)

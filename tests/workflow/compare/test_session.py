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
from tests.workflow.compare_factory import subject
from tests.workflow.mischief import after_one_window

from slipway import payloads, procs, servers
from slipway.benchmark import available_cpus
from slipway.compare import verdict
from slipway.compare.page import render
from slipway.compare.session import Plan, Session
from slipway.compare.subjects import Side
from slipway.contract import read_contract
from slipway.errors import ContractViolation
from slipway.golden import Golden
from slipway.measuring import Machine
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
QUICK = Plan(protocols=("rest",), users=2, open_share=0.1, window_s=0.15, warmup_s=0.05)


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


def compare(base, head, directory, plan=QUICK):
    directory.mkdir(exist_ok=True)
    machine = Machine(available_cpus(2))
    return Session(base, head, plan, machine, directory, title="m", command="slipway compare").run()


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
    plan = Plan(protocols=("rest",), users=1, open_share=None, window_s=0.1, warmup_s=0.02)
    made = compare(
        sides("base"), sides("head", after_one_window(monkeypatch, tmp_path, "dies")), tmp_path / "out", plan
    )

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
    assert sum(len(cell.pairs) for cell in made.cells) == 2
    assert "It was cut short: stopped by SIGTERM." in render(made)
    assert not living("null_server")

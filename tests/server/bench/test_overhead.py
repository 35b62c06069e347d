import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipway_wire import messages, payloads

BENCH = Path(__file__).parents[3] / "server" / "bench"


@pytest.fixture
def harness(monkeypatch):
    """The rooms of the script, which lie beside it and not on the path."""
    monkeypatch.syspath_prepend(str(BENCH))
    rooms = ("beside", "loads", "models", "peers", "processes", "rounds", "table")
    return SimpleNamespace(**{room: importlib.import_module(f"harness.{room}") for room in rooms})


def cells(harness, **rates):
    return {
        name: harness.rounds.Cell(name, dict, [{"per_s": rate, "cpu_us": 1e6 / rate} for rate in found])
        for name, found in rates.items()
    }


def test_a_ratio_is_taken_within_its_round(harness):
    """A slow round is slow for both: the ratio of medians would be 1."""
    measured = cells(harness, ours=[100, 10, 55], theirs=[50, 5, 55])

    assert harness.rounds.ratio(measured, "ours", "theirs", "per_s") == {"median": 2, "min": 1, "max": 2}


def test_every_cell_is_measured_once_a_round_in_an_order_that_changes(harness):
    order = []
    measured = [harness.rounds.Cell(name, lambda name=name: order.append(name) or {"per_s": 1.0}) for name in "abcd"]

    harness.rounds.run_rounds(measured, 4, print)

    rounds = [order[start : start + 4] for start in range(0, 16, 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len(set(map(tuple, rounds))) > 1
    assert all(len(cell.rounds) == 4 for cell in measured)


def failing(harness, name, good_rounds, **options):
    """A cell whose server answers *good_rounds* times."""
    answers = iter([{"per_s": 1.0}] * good_rounds)

    def measure():
        for found in answers:
            return found
        raise harness.processes.NoAnswer("it answered 503")

    return harness.rounds.Cell(name, measure, **options)


def test_a_server_of_others_that_no_longer_answers_costs_its_own_cell_alone(harness):
    told = []
    lost = failing(harness, "theirs", 1, may_be_lost=True)
    measured = [lost, harness.rounds.Cell("ours", lambda: {"per_s": 1.0})]

    harness.rounds.run_rounds(measured, 4, told.append)

    assert lost.lost == "in round 2 of 4, it answered 503"
    assert "round 2/4: theirs: in round 2 of 4, it answered 503" in told
    assert (len(lost.rounds), len(measured[1].rounds)) == (1, 4)


def test_ours_that_does_not_answer_ends_the_run(harness):
    with pytest.raises(SystemExit, match="it answered 503"):
        harness.rounds.run_rounds([failing(harness, "ours", 2)], 4, print)


def test_arrivals_differ_from_round_to_round_and_not_within_one(harness):
    seeds = []

    def measure(which, seed):
        seeds.append((seed, which))
        return {}

    measured = [
        harness.rounds.Cell(name, harness.rounds.by_round(lambda seed, name=name: measure(name, seed))) for name in "ab"
    ]

    harness.rounds.run_rounds(measured, 3, lambda _: None)

    assert sorted(seeds) == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_ours_is_compared_with_the_best_of_the_others_over_each_protocol_that_they_speak(harness):
    peaks = {"slipway, grpc": 1.0, "slipway, frozen, grpc": 2.0, "slipway, rest": 9.0, "slipway, frozen, rest": 2.0}
    pairs_of = harness.beside.pairs_of

    assert pairs_of(peaks | {"one, rest": 1.0, "other, rest": 3.0, "other, grpc": 1.0}, "slipway, frozen") == {
        "slipway, frozen, rest": "other, rest",
        "slipway, frozen, grpc": "other, grpc",
    }
    assert pairs_of(peaks | {"one, rest": 1.0}, "slipway, frozen") == {"slipway, frozen, rest": "one, rest"}
    assert pairs_of(peaks, "slipway, frozen") == {}
    # Who has not answered within the window has no half of a peak.
    assert pairs_of(peaks | {"one, rest": 0.0, "one, grpc": 1.0}, "slipway, frozen") == {
        "slipway, frozen, grpc": "one, grpc"
    }


def test_each_server_is_asked_at_half_of_its_own_peak_and_ours_at_half_of_the_rivals_too(harness):
    found = harness.beside.half_loads({"ours": 9.0, "theirs": 4.0, "other": 1.0}, "ours", "theirs")

    assert list(found.items()) == [
        ("ours, at half of its own peak", ("ours", 4.5)),
        ("theirs, at half of its own peak", ("theirs", 2.0)),
        ("ours, at half of the peak of theirs", ("ours", 2.0)),
    ]


@pytest.mark.parametrize(("answers", "note"), [(300, False), (5, True)])
def test_the_table_tells_how_late_requests_were_sent_and_of_how_many_p99_is(harness, answers, note):
    one = {"per_s": 3.0, "answers": answers, "p50_ms": 20.0, "p99_ms": 30.0, "late_p99_ms": 0.5}
    results = {
        "environment": {"cpus": 2, "machine": "a CPU", "python": "3.11", "load_1m_at_start": 0.04},
        "rounds": 1, "seconds": 1.0, "targets": [], "tables": {}, "skipped": {},
        "latency": {"grpc": harness.rounds.Cell("grpc", dict, [one]).told()},
    }  # fmt: skip

    told = harness.table.markdown(results)

    shown = f"{answers} ({answers} to {answers})"
    assert f"| grpc | 3 (3 to 3) | {shown} | 20 (20 to 20) | 30 (30 to 30) | 0.5 (0.5 to 0.5) |" in told
    assert ("p99 of fewer than 100 answers is the slowest of them." in told) == note


def test_the_table_tells_what_was_measured_and_which_aims_were_missed(harness):
    measured = cells(harness, ours=[1200, 1000, 1100], theirs=[100, 100, 100])
    found = harness.rounds.ratio(measured, "ours", "theirs", "per_s")
    aims = [
        harness.rounds.Target("throughput", found, 10),
        harness.rounds.Target("stretch", found, 15),
        harness.rounds.Target("latency", found, 2, is_at_least=False),
        harness.rounds.Target("told only", found),
    ]
    results = {
        "environment": {"cpus": 2, "machine": "a CPU", "python": "3.11", "load_1m_at_start": 0.04},
        "rounds": 3,
        "seconds": 1.0,
        "targets": [aim.told() for aim in aims],
        "tables": {"half_plus_two": {name: cell.told() for name, cell in measured.items()}},
        "tuning": {"litserve, half_plus_two, rest": {"one worker": 900.0, "two workers": 1100.0}},
        "skipped": {"resnet50": "Keras is not installed", "triton, rest": "it answered\n  501: no."},
    }

    lines = harness.table.markdown(results).splitlines()

    assert "| throughput | 11 (10 to 12) | ≥ 10 | met |" in lines
    assert "| stretch | 11 (10 to 12) | ≥ 15 | **not met** |" in lines
    assert "| latency | 11 (10 to 12) | ≤ 2 | **not met** |" in lines
    assert "| told only | 11 (10 to 12) |  |  |" in lines
    assert "| ours | 1,100 (1,000 to 1,200) | 909 (833 to 1,000) |  |" in lines
    assert "| litserve, half_plus_two, rest: two workers | **1,100** |" in lines
    assert "resnet50 was left out: Keras is not installed." in lines
    assert "triton, rest was left out: it answered 501: no." in lines


def test_the_table_tells_the_beginning_and_the_end_of_what_is_long(harness):
    results = {
        "environment": {"cpus": 2, "machine": "a CPU", "python": "3.11", "load_1m_at_start": 0.04},
        "rounds": 1, "seconds": 1.0, "targets": [], "tables": {}, "tuning": {"one, rest": {}},
        "skipped": {"one, rest": "it did not start: " + "a line of its log\n" * 100 + "No space left on device"},
    }  # fmt: skip

    told = harness.table.markdown(results)

    assert "one, rest was left out: it did not start: a line" in told
    assert "its log No space left on device." in told
    assert len(told) < 1000
    assert "Settings tried" not in told, "of a server that answered at none"


def test_nothing_is_sent_over_a_protocol_for_which_there_is_no_request(harness, monkeypatch, tmp_path):
    """A wrk whose script is not there would send GET, and measure how fast that is refused."""
    monkeypatch.setattr(harness.loads, "load", lambda *_: pytest.fail("a load generator was started"))
    server = harness.processes.Started(SimpleNamespace(pid=os.getpid()))

    with pytest.raises(ValueError, match="m has no request over rest"):
        harness.loads.drive("rest", server, harness.loads.Request("m", grpc=tmp_path / "m.grpc"), 1.0, [0], 8)
    with pytest.raises(ValueError, match="m has no request over grpc"):
        harness.loads.drive("grpc", server, harness.loads.Request("m", rest=tmp_path / "m.lua"), 1.0, [0], 8)


WRK = "  24 requests in 8.01s, 1.00MB read\nRequests/sec:      3.00\n"
H2LOAD = """finished in 7.61s, 3.15 req/s, 1.00KB/s
requests: 32 total, 32 started, 24 done, 24 succeeded, 0 failed, 0 errored, 0 timeout
traffic: 1.00KB (1000) total, 100B (100) headers (space savings 90.00%), 480B (480) data
"""


@pytest.mark.parametrize(
    ("protocol", "output", "time", "took"), [("rest", WRK, "-d8s", 8.01), ("grpc", H2LOAD, "7500ms", 7.5)]
)
def test_load_generators_are_given_times_that_they_can_read(
    harness, monkeypatch, tmp_path, protocol, output, time, took
):
    """Either refuses seven and a half seconds as they are."""
    commands = []
    monkeypatch.setattr(harness.loads, "load", lambda command, *_: (commands.append(command), (output, 0.5))[1])
    server = harness.processes.Started(SimpleNamespace(pid=os.getpid()))
    request = harness.loads.Request("m", tmp_path / "m.lua", "/p", tmp_path / "m.grpc", answer_bytes=20)

    found = harness.loads.drive(protocol, server, request, 7.5, [0], 8)

    assert time in commands[0]
    assert found["per_s"] == pytest.approx(24 / took)


def test_the_recommender_is_asked_the_same_by_either_method_and_protocol(harness):
    asked = harness.models.questions(harness.models.RECOMMENDER)
    (row,) = asked["Predict"].inputs["examples"]
    example = messages.Example.FromString(row)

    assert set(example.features.feature) == {"age", "cities", "gender", "price", "weekday"}
    assert list(asked["Classify"].inputs["inputs"]) == [row]
    for which, method in (("Predict", "predict"), ("Classify", "classify")):
        payload = asked[which].payload("recommender")
        again = payloads.of_message(payload.grpc_message, None, method)
        (found,) = next(iter(again.inputs.values()))
        assert messages.Example.FromString(found) == example
        assert payload.rest_path == f"/v1/models/recommender:{method}"
        assert payload.rest_body.startswith(b'{"signature_name":')


def test_the_cpu_of_children_counts(harness):
    """Other servers are several processes."""
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen(
        [sys.executable, "-c", parent, busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "done\n"

        assert harness.processes.cpu_s(process.pid) >= 0.3
        process.communicate("\n")


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--only=tiny", "tiny: not one of small, latency, plans, compute_bound, large, peers"),
        ("--peers=torchserve", "torchserve: not one of litserve, mlserver, triton"),
        ("--models=digits", "digits: not one of half_plus_two, digits_cnn, mnist_cnn, recommender"),
    ],
)
def test_a_name_that_is_none_is_refused_before_anything_starts(flag, told):
    done = subprocess.run([sys.executable, BENCH / "overhead.py", flag], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert told in done.stderr

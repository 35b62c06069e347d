import subprocess
import sys

import numpy as np
import psutil
import pytest

from slipway import calibration
from slipway.errors import InvalidMeasurement, ServerError
from slipway.load_generator import load_generator
from slipway_wire import payloads, samples
from slipway_wire.loads import LoadOrder
from slipway_wire.tolerances import Tolerance, Tolerances

EXACT = Tolerances(Tolerance(0, 0))


@pytest.fixture
def payload_file(tmp_path):
    x = np.zeros(3, np.float32)
    (tmp_path / "payloads").write_bytes(payloads.encode([payloads.make("m", {"x": x}, {"y": x})]))
    return tmp_path / "payloads"


def order(tmp_path, **more):
    given = {"users": 1, "warmup_s": 0.0, "window_s": 0.1, "drain_s": 0.1} | more
    # Nobody listens on port 1.
    return LoadOrder(protocol="rest", host="127.0.0.1", port=1, samples=str(tmp_path / "s.npz"), **given)


def test_an_order_is_run_and_watched_and_nothing_stays_behind(tmp_path, payload_file):
    with load_generator(payload_file, EXACT, log=tmp_path / "log") as generator:
        outcome, watched = generator.run(order(tmp_path), lambda: None, lambda window: window.end_ns - window.begin_ns)
        (pid,) = generator.pids
        assert psutil.pid_exists(pid)

    assert watched == 100_000_000
    assert outcome.errors.keys() == {"connection refused"}
    assert (tmp_path / "s.npz").exists()
    assert not psutil.pid_exists(pid)


def test_a_generator_that_cannot_start_is_told_with_its_last_words(tmp_path, payload_file):
    payload_file.write_bytes(b"damaged")

    with (
        load_generator(payload_file, EXACT, log=tmp_path / "log") as generator,
        pytest.raises(InvalidMeasurement, match=r"died with exit code 1[\s\S]*truncated"),
    ):
        generator.run(order(tmp_path), lambda: None, lambda _: None)


def test_waiting_ends_when_it_has_become_pointless(tmp_path, payload_file):
    def server_died():
        raise ServerError("died")

    with (
        load_generator(payload_file, EXACT, log=tmp_path / "log") as generator,
        pytest.raises(ServerError, match="died"),
    ):
        generator.run(order(tmp_path, window_s=60.0), server_died, lambda _: None)

    assert not any(map(psutil.pid_exists, generator.pids))


# --- several processes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A generator of two processes, and what it sends to."""
    directory = tmp_path_factory.mktemp("pair")
    x = np.zeros(3, np.float32)
    file = directory / "payloads.tfrecord"
    file.write_bytes(payloads.encode([payloads.make("m", {"x": x}, {"y": x})]))
    with (
        load_generator(file, EXACT, log=directory / "log", processes=2) as generator,
        calibration.null_server(file, directory / "null.log", [0], generators=2) as server,
    ):
        yield generator, server


def both(pair, path, **more):
    generator, server = pair
    given = {"protocol": "grpc", "port": server.grpc_port, "users": 3, "warmup_s": 0.1, "window_s": 0.3} | more
    outcome, window = generator.run(
        LoadOrder(host="127.0.0.1", samples=str(path), **given), server.check_alive, lambda window: window
    )
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return outcome, window, samples.read(path)


def test_processes_make_one_closed_loop(pair, tmp_path):
    outcome, window, found = both(pair, tmp_path / "s.npz")

    assert (outcome.generators, outcome.connections, outcome.errors) == (2, 3, {})
    assert outcome.requests == outcome.checked_answers == len(found.planned_us) > 0
    assert (found.origin_ns, found.end_us - found.begin_us) == (window.origin_ns, 300_000)
    assert (np.diff(found.planned_us) >= 0).all()
    # Each is a process with a core of its own to fill: what both used says nothing of either.
    assert outcome.busiest * 2 >= outcome.cpu_ns / (outcome.cpu_to_ns - outcome.cpu_from_ns)


def test_processes_follow_one_schedule_that_can_be_repeated(pair, tmp_path):
    made = [both(pair, tmp_path / "s.npz", rate=400.0, seed=seed)[2] for seed in ("a", "a", "b")]

    np.testing.assert_array_equal(made[0].planned_us, made[1].planned_us)
    assert not np.array_equal(made[0].planned_us, made[2].planned_us)
    # 160 are due. Two processes that drew the same would send two at every moment.
    assert 100 < len(made[0].planned_us) == len(np.unique(made[0].planned_us)) < 230


def test_a_lone_user_is_the_load_of_one_process(pair, tmp_path):
    outcome, _, _ = both(pair, tmp_path / "s.npz", users=1)

    assert (outcome.generators, outcome.busiest, outcome.connections) == (1, None, 1)


def test_when_one_of_them_dies_the_others_end_too(tmp_path, payload_file):
    def kill(_):
        psutil.Process(generator.pids[1]).kill()

    with (
        load_generator(payload_file, EXACT, log=tmp_path / "log", processes=2) as generator,
        pytest.raises(InvalidMeasurement, match="died with exit code -9"),
    ):
        generator.run(order(tmp_path, users=2, window_s=60.0), lambda: None, kill)

    assert not any(map(psutil.pid_exists, generator.pids))


def test_they_end_with_the_process_that_started_them(tmp_path, payload_file):
    """In the middle of a load, even after kill -9: what goes on would load the next benchmark's machine."""
    script = (
        "from pathlib import Path; from slipway.load_generator import LoadOrder, load_generator, Tolerances\n"
        f"with load_generator(Path({str(payload_file)!r}), Tolerances(), log=Path({str(tmp_path / 'log')!r}), processes=2) as g:\n"
        f"    order = LoadOrder.from_line({order(tmp_path, users=2, window_s=600.0).to_line()!r})\n"
        "    g.run(order, lambda: None, lambda _: print(*g.pids, flush=True))\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    generators = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
    owner.kill()
    owner.communicate()

    assert len(generators) == 2
    assert psutil.wait_procs(generators, timeout=120)[1] == []

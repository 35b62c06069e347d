import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest

from slipway.errors import InvalidMeasurement, ServerError
from slipway.load_generator import load_generator
from slipway_wire import payloads
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
        assert psutil.pid_exists(generator.pid)

    assert watched == 100_000_000
    assert outcome.errors.keys() == {"connection refused"}
    assert (tmp_path / "s.npz").exists()
    assert not psutil.pid_exists(generator.pid)


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

    assert not psutil.pid_exists(generator.pid)


def test_it_ends_with_the_process_that_started_it(tmp_path, payload_file):
    """Even after kill -9: a generator that goes on would load the next benchmark's machine."""
    script = (
        "import sys; from pathlib import Path; from slipway.load_generator import load_generator, Tolerances\n"
        f"with load_generator(Path({str(payload_file)!r}), Tolerances(), log=Path({str(tmp_path / 'log')!r})) as g:\n"
        "    print(g.pid, flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    generator = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
    owner.communicate()

    gone = threading.Event()
    psutil.wait_procs([generator], timeout=120, callback=lambda _: gone.set())
    assert gone.is_set()

"""The real load generator on the real null server; a quarter of a second is enough to count."""

import numpy as np
import psutil
import pytest

from slipway import calibration
from slipway.errors import InvalidMeasurement
from slipway.load_generator import load_generator
from slipway_wire import payloads
from slipway_wire.tolerances import Tolerance, Tolerances

EXACT = Tolerances(Tolerance(0, 0))
X = np.arange(6, dtype=np.float32)[None]


def write(path, expected):
    path.write_bytes(payloads.encode([payloads.make("m", {"x": X}, {"y": expected})]))
    return path


def test_both_protocols_have_a_ceiling_and_a_floor(tmp_path):
    file = write(tmp_path / "payloads.tfrecord", X / 2)
    with (
        load_generator(file, EXACT, log=tmp_path / "generator.log") as generator,
        calibration.null_server(file, tmp_path / "null.log", [0]) as server,
    ):
        pid = server.process.pid
        for protocol in ("rest", "grpc"):
            found = calibration.measure(generator, server, protocol, tmp_path / "samples.npz", users=8, window_s=0.25)
            assert found.protocol == protocol
            # With one in flight there is at most one answer per floor.
            assert found.throughput_rps > 0
            assert 0 < found.floor_p50_us < 1e6
            assert found.generator_cpu_us_per_request > 0
        assert not (tmp_path / "samples.npz").exists()

    assert not psutil.pid_exists(pid)


def test_answers_that_the_generator_does_not_expect_end_it(tmp_path):
    expected = write(tmp_path / "payloads.tfrecord", X / 2)
    others = write(tmp_path / "others.tfrecord", X / 3)
    with (
        load_generator(expected, EXACT, log=tmp_path / "generator.log") as generator,
        calibration.null_server(others, tmp_path / "null.log", [0]) as server,
        pytest.raises(InvalidMeasurement, match="calibration over rest: "),
    ):
        calibration.measure(generator, server, "rest", tmp_path / "samples.npz", users=1, window_s=0.1)


def test_a_null_server_without_payloads_does_not_start(tmp_path):
    (tmp_path / "empty.tfrecord").write_bytes(b"")
    with (
        pytest.raises(InvalidMeasurement, match=r"did not start; its log: .*null.log"),
        calibration.null_server(tmp_path / "empty.tfrecord", tmp_path / "null.log", [0]),
    ):
        pass
    assert "no records" in (tmp_path / "null.log").read_text()

import shutil
from dataclasses import replace

import numpy as np
import pytest

from slipway_loadtests import h2load
from slipway_wire import payloads
from slipway_wire.loads import LoadOrder, LoadWindow

X = np.array([1.0], np.float32)
PAYLOAD = payloads.make("m", {"x": X}, {"y": X})
ORDER = LoadOrder(protocol="grpc", host="::1", port=8500, users=4, warmup_s=0.5, window_s=2.0, samples="s.npz")
TOLD = """
finished in 1.00s, 26116.00 req/s, 5.28MB/s
requests: 26117 total, 26120 started, 26116 done, 26116 succeeded, 3 failed, 1 errored, 0 timeout
status codes: 26116 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 5.28MB (5536592) total, 1.12MB (1175265) headers (space savings 0.00%), 3.49MB (3656380) data
"""
WINDOW = LoadWindow(origin_ns=10_000_000_000, begin_ns=10_100_000_000, end_ns=10_400_000_000)


def test_the_command_line_is_the_order(tmp_path):
    words = h2load.command(ORDER, PAYLOAD, tmp_path / "body", tmp_path / "log")

    assert words[:5] == ["h2load", "-t1", "-c4", "-m1", "-D"]
    assert words[-1] == "http://[::1]:8500/tensorflow.serving.PredictionService/Predict"
    assert "--rps" not in words
    # The load goes on beyond the window, however long the program takes to start.
    assert int(words[5].removesuffix("ms")) > 2500


def test_a_rate_is_shared_by_the_connections(tmp_path):
    order = replace(ORDER, rate=1000.0)
    words = h2load.command(order, PAYLOAD, tmp_path / "body", tmp_path / "log")

    assert words[words.index("--rps") + 1] == "250"


def test_what_it_prints_is_read():
    assert h2load.parse_told(TOLD) == h2load.Told(done=26116, lost=1, data_bytes=3656380)
    with pytest.raises(ValueError, match="ended without its numbers; its last words: Segmentation fault"):
        h2load.parse_told("Segmentation fault\n")


def test_its_log_becomes_samples_on_our_clock():
    wall_ns = 1_700_000_000_000_000_000
    begin = (wall_ns + WINDOW.origin_ns) // 1000
    rows = [(150_000, 200, 900), (120_000, 200, 500), (-40, 200, 10), (399_000, 503, 7), (400_000, 200, 8), (5, -1, 3)]
    text = "".join(f"{begin + at}\t{status}\t{took}\n" for at, status, took in rows)

    found, errors = h2load.parse_log(text, WINDOW, wall_ns)

    assert found.planned_us.tolist() == [5, 120_000, 150_000, 399_000]
    assert found.service_us.tolist() == [3, 500, 900, 7]
    assert found.failed.tolist() == [True, False, False, True]
    assert (found.begin_us, found.end_us) == (100_000, 400_000)
    assert not found.slip_us.any()
    assert errors == {"HTTP 503": 1, "connection lost": 1}
    assert len(h2load.parse_log("", WINDOW, wall_ns)[0].planned_us) == 0


def test_answers_of_another_size_are_found_out():
    """An error over gRPC is HTTP 200 without a body."""
    told = h2load.Told(done=1000, lost=0, data_bytes=1000 * 25)

    assert h2load.wrong_size(ORDER, told, 20) is None
    assert h2load.wrong_size(ORDER, h2load.Told(1000, 0, 998 * 25), 20) is None  # two were under way
    assert h2load.wrong_size(ORDER, h2load.Told(1000, 0, 900 * 25), 20) == "22500 bytes are no 1000 answers of 25 bytes"


def test_it_is_here_if_the_shell_finds_it(monkeypatch, tmp_path):
    assert h2load.is_here() == (shutil.which("h2load") is not None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not h2load.is_here()

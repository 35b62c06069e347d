import json
import os
import subprocess
import sys

import pytest
import yaml
from tests.tools import compare_series, slowed_server
from tests.workflow import compare_factory as factory


def made(head_us):
    pairs = [factory.pair(i, head={"server_cpu_us_per_request": head_us + i % 3 / 10}) for i in range(14)]
    return factory.comparison([factory.cell(pairs)]).model_dump(mode="json")


def test_a_series_is_summed_up_by_metric():
    told = compare_series.told([made(100.0), made(101.0), made(120.0)])

    assert told.startswith("3 comparisons: 2 pass, 1 fail\n")
    (line,) = [line for line in told.splitlines() if line.startswith("| rest, cpu |")]
    assert [cell.strip() for cell in line.split("|")[2:7]] == ["1", "2", "0", "0", "+1.1 %"]


def test_what_a_request_costs_base_is_read_by_protocol():
    assert compare_series.cpu_us(made(120.0)) == {"rest": 100.0}


def test_a_side_is_the_project_served_by_a_server_that_burns_more(tmp_path):
    project = tmp_path / "project"
    (project / "config").mkdir(parents=True)
    (project / "config/config.yaml").write_text("launch: {engine: auto, timeout_s: 9}\n")
    (project / "results").mkdir()

    side = compare_series.make_side(project, tmp_path / "side", {"rest": 12.5})
    python = side / ".venv/bin/python"
    done = subprocess.run(
        [python, "-I", "-m", "slipway_server", "--version"], capture_output=True, text=True, check=True
    )

    assert yaml.safe_load((side / "config/config.yaml").read_text())["launch"] == {"engine": "process", "timeout_s": 9}
    assert (side / "results").samefile(project / "results")
    assert "rest=12.500" in python.read_text()
    assert os.access(python, os.X_OK)
    assert "TensorFlow ModelServer" in done.stdout


def test_a_side_with_another_batch_timeout_starts_its_server_with_parameters_of_its_own(tmp_path):
    """They come after the image's, and a later flag wins."""
    project = tmp_path / "project"
    (project / "config").mkdir(parents=True)
    config = {"server": {"batching": {"max_batch_size": 16, "batch_timeout_micros": 0, "allowed_batch_sizes": [4, 16]}}}
    (project / "config/config.yaml").write_text(yaml.safe_dump(config))

    side = compare_series.make_side(project, tmp_path / "side", {}, 5000)
    parameters = side / "batching.config"

    assert "batch_timeout_micros { value: 5000 }\n" in parameters.read_text()
    assert "max_batch_size { value: 16 }\n" in parameters.read_text()
    assert (side / ".venv/bin/python").read_text().endswith(f'"$@" "--batching_parameters_file={parameters}"\n')
    assert (
        yaml.safe_load((side / "config/config.yaml").read_text())["server"]["batching"]["batch_timeout_micros"] == 5000
    )


def test_a_comparison_that_was_stopped_is_run_again_and_a_finished_one_is_not(tmp_path, monkeypatch):
    runs = []

    def leave(argv, **_):
        runs.append(argv)
        place = tmp_path / "001"
        place.mkdir(exist_ok=True)
        stopped = "stopped by SIGTERM" if len(runs) == 1 else ""
        (place / "comparison.json").write_text(json.dumps(made(100.0) | {"cut_short": stopped}))
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(compare_series.subprocess, "run", leave)
    with pytest.raises(SystemExit, match=r"001: slipway compare came to no end, exit code 0; its log: .*001\.log"):
        compare_series.compare(tmp_path, tmp_path, tmp_path / "001", 1, [])
    compare_series.compare(tmp_path, tmp_path, tmp_path / "001", 1, [])
    again = compare_series.compare(tmp_path, tmp_path, tmp_path / "001", 1, [])

    assert len(runs) == 2
    assert compare_series.line(7, again).startswith("7: pass, 90 s: ")


def test_a_series_goes_on_only_with_what_it_was_begun_with(tmp_path):
    compare_series.check_alike(tmp_path / "out", {"slipway compare": ["--no-latency"]})
    compare_series.check_alike(tmp_path / "out", {"slipway compare": ["--no-latency"]})

    with pytest.raises(SystemExit, match=r"was begun with .*--no-latency.*Name another --out"):
        compare_series.check_alike(tmp_path / "out", {"slipway compare": []})


def test_a_slowed_server_burns_cpu_for_the_protocol_that_was_named():
    script = (
        "import time\n"
        "from tests.tools import slowed_server\n"
        "from slipway_server.serving import Serving\n"
        "Serving.exchange = lambda *arguments: arguments[1]\n"
        "slowed_server.slow_down({'rest': 0.05})\n"
        "def cost(protocol):\n"
        "    began = time.thread_time()\n"
        "    assert Serving.exchange(None, protocol, None) == protocol\n"
        "    return time.thread_time() - began\n"
        "print(cost('rest') >= 0.05, cost('grpc') < 0.05)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "True True\n"
    assert slowed_server.burn(0.0) is None

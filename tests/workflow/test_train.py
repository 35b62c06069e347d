"""Real scripts in real processes; TensorFlow's share (that the same script gives the same bytes) is in tests/end_to_end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.records import TrainRecord
from slipway.train import environment, failure
from slipway.train_settings import TrainSettings

# What the tests' scripts begin with: where to write, and what is wanted.
HEAD = """
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--options", type=json.loads)
given = parser.parse_args()
"""
WRITES = "(given.out / 'weights').write_text(json.dumps(given.options, sort_keys=True))\n"


@pytest.fixture
def train(tmp_path):
    """Run `slipway train` on a script of the given text; give its exit status and what it said."""
    (tmp_path / "work").mkdir()

    def command(text, settings):
        (tmp_path / "work/train.py").write_text(HEAD + text)
        settings = json.dumps({"script": "train.py"} | settings)
        place = ["--out", "made/1", "--record", "made/1.json"]
        words = ["--model", "m", "--version", "1", "--settings", settings, *place]
        return [sys.executable, "-m", "slipway", "train", *words]

    def run(text, **settings):
        return subprocess.run(
            command(text, settings),
            cwd=tmp_path / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    run.command = command
    run.work = tmp_path / "work"
    return run


def test_what_the_script_writes_is_kept_with_what_it_was_made_from(train):
    (train.work / "data.csv").write_text("1,2\n")

    done = train(WRITES + "print('epoch 1')\n", options={"seed": 3, "sizes": [1, 2]}, inputs=["data.csv"])

    assert done.returncode == 0, done.stdout
    assert "epoch 1" in done.stdout
    assert json.loads((train.work / "made/1/weights").read_text()) == {"seed": 3, "sizes": [1, 2]}
    record = TrainRecord.read(train.work / "made/1.json")
    record.tree.verify(train.work / "made/1")
    assert record.options == {"seed": 3, "sizes": [1, 2]}
    assert record.sources.keys() == {"train.py", "data.csv"}


def test_it_runs_in_the_working_directory_and_imports_from_beside_it_and_from_there(train):
    (train.work / "package").mkdir()
    (train.work / "package/sizes.py").write_text("WIDTH = 7\n")

    done = train(
        "import package.sizes\nassert pathlib.Path.cwd() == pathlib.Path(__file__).parent.absolute()\n" + WRITES
    )

    assert done.returncode == 0, done.stdout
    assert TrainRecord.read(train.work / "made/1.json").sources.keys() == {"train.py", "package/sizes.py"}
    assert sorted(p.name for p in (train.work / "package").iterdir()) == ["sizes.py"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            WRITES + "raise KeyError('no such column')\n",
            "m 1: train.py: exit status 1: KeyError: 'no such column' (line 8). All it said is in the log.",
        ),
        (WRITES + "sys.exit('no data to learn from')\n", "m 1: train.py: exit status 1: no data to learn from. All"),
        (WRITES + "sys.exit(3)\n", "m 1: train.py: exit status 3: it said nothing. All"),
        (WRITES + "os.kill(os.getpid(), 9)\n", "m 1: train.py: killed by signal 9: it said nothing. All"),
        ("", "m 1: train.py: ended well but wrote no file. It gets the directory to write to as --out."),
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package' (line 7)."),
    ],
    ids=["raises", "says and exits", "exits", "is killed", "writes nothing", "lacks a package"],
)
def test_a_script_that_fails_is_one_line_and_leaves_nothing(train, text, expected):
    done = train(text)

    (line,) = [line for line in done.stdout.splitlines() if line.startswith("slipway train: error: ")]
    assert done.returncode == 2
    assert expected in line
    assert list((train.work / "made").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"script": "learn.py"}, "train: no file learn.py; looked in "),
        ({"inputs": ["data.csv"]}, "train: no file data.csv; looked in "),
        ({"threads": 0}, "train: threads: should be greater than 0"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(train, settings, expected):
    done = train(WRITES, **settings)

    assert done.returncode == 2
    assert f"slipway train: error: {expected}" in done.stdout
    assert "Traceback" not in done.stdout


def test_progress_is_in_the_log_while_the_script_runs_and_a_stop_leaves_nothing(train):
    process = subprocess.Popen(
        train.command(WRITES + "print('epoch 1', os.getpid())\nimport signal; signal.pause()\n", {}),
        cwd=train.work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    word, _, child = process.stdout.readline().split()
    assert word == "epoch"

    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=200)

    assert "stopped by SIGTERM" in said
    until = time.monotonic() + 60
    while Path("/proc", child).exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path("/proc", child).exists()
    assert list((train.work / "made").iterdir()) == []


def test_computing_is_made_repeatable_and_the_gpu_is_seen_only_if_it_is_asked_for():
    ours = {"HOME": "/home/me", "TF_NUM_INTRAOP_THREADS": "8", "PYTHONPATH": "/opt/more"}

    default = environment(TrainSettings(script="t.py"), ours)
    other = environment(TrainSettings(script="t.py", threads=4, gpu=True), ours)

    assert default["HOME"] == "/home/me"
    assert default["PYTHONPATH"] == f"{Path.cwd()}{os.pathsep}/opt/more"
    assert default["PYTHONHASHSEED"] == "0"
    assert {default[f"TF_NUM_{kind}_THREADS"] for kind in ("INTRAOP", "INTEROP")} == {"1"}
    assert default["TF_DETERMINISTIC_OPS"] == "1"
    assert default["CUDA_VISIBLE_DEVICES"] == "-1"
    assert other["TF_NUM_INTRAOP_THREADS"] == other["OMP_NUM_THREADS"] == "4"
    assert "CUDA_VISIBLE_DEVICES" not in other


def test_a_long_last_line_is_cut():
    assert len(failure(1, ["x" * 5000], Path("t.py"))) < 400


def test_the_node_below_an_error_of_tensorflow_is_not_what_is_told():
    tail = ["Graph execution error:", "", "Attempting to use uninitialized value w", "\t [[{{node w/read}}]]", ""]

    assert failure(1, tail, Path("t.py")).startswith("exit status 1: Attempting to use uninitialized value w. ")

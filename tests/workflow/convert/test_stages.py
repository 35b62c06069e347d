"""One conversion with the line's stages as users get them: each in a process of its own."""

import signal
import subprocess
import sys
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml

from slipway import golden
from slipway.convert import ConversionRecord, stages
from slipway.errors import ContractViolation, SourceError

TESTDATA = Path(__file__).parents[2] / "testdata"
HALF_PLUS_TWO = TESTDATA / "saved_model_half_plus_two_cpu/00000123"


def start(*words, directory):
    command = [Path(sys.executable).with_name("slipway"), "convert", *map(str, words)]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_saved_model_becomes_a_base_path_with_all_that_proves_it(tmp_path):
    process = start(HALF_PLUS_TWO, "--out", "made", "--name", "half", "--model-version", "7", directory=tmp_path)
    table, told = process.communicate(timeout=400)
    assert process.returncode == 0, told

    record = ConversionRecord.read(tmp_path / "made/conversion.json")
    record.tree.verify(tmp_path / "made/7")
    rows = golden.read(tmp_path / "made/golden.npz")
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "7",
        "conversion.json",
        "contract.yaml",
        "golden.npz",
    }
    assert (record.model, record.version, record.signatures) == ("half", 7, ["serving_default"])
    assert record.words.startswith("a SavedModel in the format of TensorFlow 1")
    assert {parity.signature for parity in record.parity} == {"serving_default"}
    assert all(parity.ok and parity.max_abs == 0 and parity.rows == 64 for parity in record.parity)
    assert record.bytes == sum(p.stat().st_size for p in (tmp_path / "made/7").rglob("*") if p.is_file())
    assert set(record.seconds) == {"checkpoint", "export", "validate"}
    np.testing.assert_array_equal(rows.outputs["y"], rows.inputs["x"] / 2 + 2)
    assert "half 7  saved_model  serving_default  0 on 64 rows" in table
    (model,) = yaml.safe_load(table[table.index("models:") :])["models"].items()
    version = {"source": {"kind": "saved_model", "path": str(HALF_PLUS_TWO)}}
    assert model == ("half", {"contract": "made/contract.yaml", "versions": {7: version}})
    assert [line[:5] for line in told.splitlines() if line.startswith("[")] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "left out: classify_x_to_y, regress_x2_to_y3" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_it_finds_nothing(tmp_path, number):
    process = start(HALF_PLUS_TWO, "--out", "made", directory=tmp_path)
    for line in process.stderr:
        if line.startswith("[2/4]"):
            break
    process.send_signal(number)
    table, told = process.communicate(timeout=200)

    assert (process.returncode, table) == (128 + number, "")
    assert f"stopped by {number.name}; nothing half-made is kept" in told
    assert list(tmp_path.iterdir()) == []


def test_every_stage_takes_what_it_is_given():
    folder = stages.Folder(Path("work"), "m", 3)

    for stage, words in stages.commands(folder, "{}", Path("contract.yaml"), Path("out/3")).items():
        parser = ArgumentParser()
        import_module(f"slipway.{stage}").add_arguments(parser)
        arguments = parser.parse_args(words)
        assert (arguments.model, arguments.version) == ("m", 3)


def test_what_a_stage_says_is_said_without_its_name():
    violation = stages.fault(
        "validate",
        3,
        "noise\nslipway validate: error: m 1: y: expected 1, found 2\nslipway validate: error: m 1: all checks: x.failed.json\n",
    )
    broken = stages.fault("export", -9, "".join(f"{n}\n" for n in range(30)))

    assert (type(violation), str(violation)) == (ContractViolation, "m 1: y: expected 1, found 2")
    assert isinstance(stages.fault("export", 2, "slipway export: error: no\n"), SourceError)
    assert str(broken).splitlines()[0] == "export broke (exit status -9); the end of what it wrote:"
    assert str(broken).splitlines()[1:] == [f"  {n}" for n in range(10, 30)]

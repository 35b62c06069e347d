from pathlib import Path

import pytest
import yaml

from slipway import cli
from slipway.checks.structure import check_structure
from slipway.contract import read_contract

ROOT = Path(__file__).parents[2]
HALF_PLUS_TWO = ROOT / "tests/testdata/matrix_half_plus_two/1"
DIGITS = ROOT / "config/contracts/digits.yaml"


def slipway(*words):
    return cli.main(["contract", *map(str, words)])


def test_a_model_has_the_structure_of_its_own_first_contract(exported, tmp_path, capsys):
    """Written from the file alone, read as it stands, held against the file: nothing departs."""
    for number, model in enumerate((HALF_PLUS_TWO, exported.export)):
        path = tmp_path / f"{number}.yaml"
        assert slipway("init", model, "--out", path) == 0

        assert all(check.ok for check in check_structure(read_contract(path), model))
        assert slipway("check", path, "--model", model) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{path}: 2 signatures: serving_default (predict), classify (classify); {model} has their structure"
    )


def test_a_model_validates_against_its_own_first_contract(exported, fresh, tmp_path):
    path = tmp_path / "first.yaml"
    assert slipway("init", exported.export, "--out", path) == 0
    copy = exported.copy(tmp_path / "copy")
    version = type(copy)(copy.directory, copy.source, path)

    finished = version.run(fresh, "validate")

    assert finished.code == 0, finished.output


def test_what_somebody_wrote_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("mine")

    assert slipway("init", HALF_PLUS_TWO, "--out", path) == 2
    assert path.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


def test_without_a_place_it_is_printed(capsys):
    assert slipway("init", HALF_PLUS_TWO) == 0

    assert yaml.safe_load(capsys.readouterr().out)["format"] == 1


def test_faults_and_departures_are_told(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("format: 2")

    assert slipway("check", tmp_path / "bad.yaml") == 2
    assert capsys.readouterr().err.startswith(f"slipway contract: error: {tmp_path}/bad.yaml: format: ")
    assert slipway("check", DIGITS, "--model", HALF_PLUS_TWO) == 3
    assert "serving_default.inputs: expected image, found x" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new", "code", "said"), [
    ("", "", 0, "no difference\n"),
    ("doc: Tells", "doc: Says", 0, "documentation: doc: text changed: "),
    ("range: [0, 1], doc", "range: [0, 16], doc", 0, "compatible: signatures.serving_default.inputs.image.range: "),
    ("range: [0, 1], doc", "range: [0, 0.5], doc", 1, "breaking: signatures.serving_default.inputs.image.range: "),
])  # fmt: skip
def test_a_difference_that_breaks_callers_is_the_exit_code(old, new, code, said, tmp_path, capsys):
    (tmp_path / "new.yaml").write_text(DIGITS.read_text().replace(old, new))

    assert slipway("diff", DIGITS, tmp_path / "new.yaml") == code
    assert said in capsys.readouterr().out

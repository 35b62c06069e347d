"""What people hand in, good and bad; no TensorFlow is needed to tell."""

import tarfile
from pathlib import Path

import pytest

from slipway import cli, procs
from slipway.contract import Contract
from slipway.convert import subject
from slipway.convert.subject import Wanted
from slipway.errors import SettingsError, SourceError
from slipway.source_settings import SavedModelSource

TESTDATA = Path(__file__).parents[2] / "testdata"
HALF_PLUS_TWO = TESTDATA / "saved_model_half_plus_two_cpu"
CONTRACT = Path(__file__).parents[3] / "config/recipes/half_plus_two/contract.yaml"


def find(path, tmp_path, **keys):
    contract = keys.pop("contract", None)
    return subject.find(Wanted(str(path), contract, keys), tmp_path / "scratch", lambda _line: None)


def test_the_newest_version_of_a_base_path_is_the_model(tmp_path):
    found = find(TESTDATA / "saved_model_half_plus_two_2_versions", tmp_path, contract=CONTRACT)

    assert found.source.path.name == "00000124"
    assert found.name == "saved_model_half_plus_two_2_versions"
    assert found.contract is None


def test_a_contract_is_drafted_of_what_the_file_says(tmp_path):
    found = find(HALF_PLUS_TWO, tmp_path, inputs={"number": "x"}, outputs={"half": "y"})

    contract = Contract.model_validate(__import__("yaml").safe_load(found.contract))
    assert found.source == SavedModelSource(
        kind="saved_model", path=HALF_PLUS_TWO / "00000123", inputs={"number": "x"}, outputs={"half": "y"}
    )
    assert (list(contract.signatures), list(contract.default.inputs), list(contract.default.outputs)) == (
        ["serving_default"], ["number"], ["half"],
    )  # fmt: skip


def test_what_an_archive_holds_is_found(tmp_path):
    packed = tmp_path / "halves-2.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(HALF_PLUS_TWO / "00000123", "models/half")

    found = find(packed, tmp_path)
    assert (found.source.path, found.source.inside, found.name) == (packed, "models/half", "halves")
    assert subject.config("m", 1, found.source, "c.yaml")["models"]["m"]["versions"][1]["source"] == {
        "kind": "saved_model", "path": str(packed), "inside": "models/half",
    }  # fmt: skip


def test_one_of_several_in_an_archive_must_be_named(tmp_path):
    packed = tmp_path / "all.tar"
    with tarfile.open(packed, "w") as archive:
        for name in ("a", "b"):
            archive.add(HALF_PLUS_TWO / "00000123", name)

    with pytest.raises(SourceError, match=r"expected one model in it, found: a, b\. Name one: --inside"):
        find(packed, tmp_path)


@pytest.mark.parametrize(("place", "keys", "error", "said"), [
    ("nowhere/at.all", {}, SourceError, "there is nothing at this path"),
    ("web.h5", {}, SourceError, "this is a web page, and not a model"),
    ("saved_model_half_plus_two_tflite/00000123/model.tflite", {}, SourceError, "this is a TFLite model"),
    ("saved_model_half_plus_two_cpu", {"builder": "a:b"}, SettingsError, "--builder: "),
    ("saved_model_half_plus_two_cpu", {"freeze_inputs": {"z": 1}, "moving_average": True}, SettingsError, "--moving-average: "),
    ("saved_model_half_plus_two_cpu", {"signature": "other"}, SourceError, "no signature other; there are: classify_x_to_y"),
    ("saved_model_half_plus_two_cpu", {"inputs": {"a": "zz"}}, SourceError, "signature serving_default has no zz; it has: x, y"),
    ("saved_model_half_plus_two_cpu", {"inputs": {"1": "x"}}, SettingsError, "the source: "),
    ("https://models.example/m.tar.gz", {}, SettingsError, "--sha256: needed for what is fetched"),
])  # fmt: skip
def test_what_cannot_be_converted_is_one_line(place, keys, error, said, tmp_path):
    (tmp_path / "web.h5").write_bytes(b"<!DOCTYPE html>")
    path = place if ":" in place else tmp_path / place if place == "web.h5" else TESTDATA / place

    with pytest.raises(error) as caught:
        find(path, tmp_path, **keys)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("words", "said"), [
    (["--out", "there"], "there: is there already, and nothing is written over"),
    (["--out", "new", "--name", "Not A Name"], "--name: "),
    (["--out", "new", "--model-version", "0"], "--model-version: "),
    (["--out", "new", "--inputs", "x"], "--inputs: expected NAME=VALUE, got 'x'"),
    (["--out", "new", "--freeze", "a=1", "a=2"], "--freeze: a stands there twice"),
    (["--out", "new", "--contract", "gone.yaml"], "gone.yaml: no contract there"),
])  # fmt: skip
def test_a_mistake_costs_a_line_and_nothing_else(words, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(procs, "exit_on_signals", lambda: None)

    assert cli.main(["convert", str(HALF_PLUS_TWO), *words]) == 2

    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["there"]

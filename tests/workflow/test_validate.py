"""Broken models, broken files: each found, each with its line."""

import json

import pytest
import yaml

from slipway.records import ValidationRecord

MODEL = {
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", 2], "range": [0, 1]}},
            "outputs": {"y": {"shape": ["N", 2]}},
        }
    },
    "probe": {"batch_sizes": [1, 9]},
}
BROKEN = {
    "AcrossRows": ["serving_default.batch_invariance: expected the same answers within", "9 rows"],
    "Random": ["serving_default.ops: expected no forbidden op, found RandomUniform (", "serving_default.repeatable: "],
    "NotFinite": ["serving_default.outputs.y.finite: expected finite values, found "],
    "FewRows": ["serving_default.batch_size.9: expected answers, found InvalidArgumentError: ", "no more than 7 rows"],
    "OtherBits": [
        "serving_default.y: checkpoint→SavedModel: expected differences up to 1e-05 + 0.0001·|answer|, found "
    ],
}


def source(builder):
    return {"kind": "checkpoint", "path": "line.ckpt", "builder": f"user_models:{builder}"}


@pytest.mark.parametrize(("builder", "expected"), BROKEN.items(), ids=BROKEN)
def test_a_broken_model_is_found(builder, expected, user_version, user_files, fresh):
    """The golden answers are those of the sound model, as if the export had broken it."""
    version = user_version(source("Sound"), MODEL)
    assert version.run(fresh, "checkpoint", directory=user_files).code == 0
    version.source["builder"] = f"user_models:{builder}"

    finished = version.run(fresh, "export", "validate", directory=user_files)

    assert finished.code == 3, finished.output
    for words in expected:
        assert any(words in line for line in finished.errors), finished.errors
    assert all(line.startswith("mine 1: ") for line in finished.errors)
    assert not version.validation.exists()


def lines(finished):
    return [line.removeprefix("digits 1: ") for line in finished.errors]


def held_against(contract_changes, exported, fresh, directory):
    """Validate the good export against another contract."""
    version = exported.copy(directory / "copy")
    contract = yaml.safe_load(exported.contract.read_text())
    for path, value in contract_changes.items():
        at = contract
        *keys, last = path.split("/")
        for key in keys:
            at = at[key]
        at[last] = value
    path = directory / "contract.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    changed = type(version)(version.directory, version.source, path)
    return changed, changed.run(fresh, "validate")


def test_the_report_of_a_failed_validation_is_kept_until_it_succeeds(exported, fresh, tmp_path):
    changes = {
        "signatures/serving_default/outputs/logits/range": [0, 1],
        "golden/min_accuracy": 0.9999,
        "golden/atol": 0.0,
    }
    version, finished = held_against(changes, exported, fresh, tmp_path)

    assert finished.code == 3
    failed = version.directory / "validation.failed.json"
    told = lines(finished)
    assert told[0].startswith("serving_default.outputs.logits.range: expected 0 … 1, found -")
    assert told[1].startswith("golden.accuracy: expected at least 0.9999, found 0.")
    assert told[-1] == f"all checks: {failed}"
    assert len([check for check in ValidationRecord.read(failed).checks if not check.ok]) == 2
    assert not version.validation.exists()

    mended = type(version)(version.directory, version.source, exported.contract)
    assert mended.run(fresh, "validate").code == 0
    assert not failed.exists()
    assert ValidationRecord.read(version.validation).ok


def test_signatures_that_are_not_there_are_told_and_the_others_checked(exported, fresh, tmp_path):
    changes = {"signatures/rate": {"method": "regress", "value": "label"}, "golden/min_accuracy": 0.9999}
    _, finished = held_against(changes, exported, fresh, tmp_path)

    assert lines(finished)[0] == (
        "signatures: expected classify, rate, serving_default, found classify, serving_default"
    )
    assert lines(finished)[1].startswith("golden.accuracy: expected at least 0.9999")


@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_an_export_that_changed_is_refused_before_it_is_loaded(harm, exported, fresh, tmp_path):
    version = exported.copy(tmp_path / "copy")
    path = version.export / "variables/variables.data-00000-of-00001"
    data = path.read_bytes()
    match harm:
        case "cut":
            path.write_bytes(data[:-9])
        case "flip":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "remove":
            path.unlink()

    finished = version.run(fresh, "validate")

    assert finished.code == 2
    assert len(finished.errors) == 1
    assert "variables.data-00000-of-00001: " in finished.errors[0]
    assert finished.errors[0].endswith("and run again.")


def test_variables_that_cannot_be_read_are_a_failed_check(exported, fresh, tmp_path):
    """As if they had been damaged before the manifest was made."""
    version = exported.copy(tmp_path / "copy")
    path = version.export / "variables/variables.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    from slipway.records import ExportRecord, TreeManifest

    record = ExportRecord.read(version.export_record)
    record.model_copy(update={"tree": TreeManifest.of(version.export)}).write(version.export_record)

    finished = version.run(fresh, "validate")

    assert finished.code == 3
    assert any(line.startswith("v1.loader: expected loads, found ") for line in lines(finished)), finished.output


def test_the_report_tells_the_contract_and_the_distances(exported, fresh, tmp_path):
    version = exported.copy(tmp_path / "copy")

    assert version.run(fresh, "validate").code == 0

    record = ValidationRecord.read(version.validation)
    assert [signature.name for signature in record.signatures] == ["serving_default", "classify"]
    assert {(p.signature, p.output) for p in record.parity} == {
        ("serving_default", "logits"),
        ("serving_default", "probabilities"),
        ("serving_default", "label"),
        ("classify", "classes"),
        ("classify", "scores"),
    }
    assert record.accuracy == json.loads(version.checkpoint_record.read_text())["metrics"]["accuracy"]


@pytest.mark.parametrize(("builder", "told", "why_not"), [
    ("Random", {"deterministic": False}, "deterministic: false"),
    ("AcrossRows", {"row_independent": False, "max_rows": 7}, ""),
    ("FewRows", {"max_rows": 7}, ""),
])  # fmt: skip
def test_what_the_contract_tells_of_is_no_fault(builder, told, why_not, user_version, user_files, fresh):
    """From the checkpoint on: chance is allowed, and golden rows are asked in batches that the model takes, everywhere the same."""
    version = user_version(source(builder), MODEL | told)

    finished = version.run(fresh, "checkpoint", "export", "validate", directory=user_files)

    assert finished.code == 0, finished.output
    (parity,) = ValidationRecord.read(version.validation).parity
    assert (parity.ok, parity.why_not, parity.rows) == (True, why_not, 64)
    assert (parity.max_abs > 0.01) is (builder == "Random")

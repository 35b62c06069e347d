import io
import json

import numpy as np
import pytest
import yaml
from tests.workflow import warmup_factory as factory

from slipway import forms, rows, warmup
from slipway.contract import Contract, read_contract
from slipway.errors import SettingsError
from slipway.golden import Golden, read
from slipway.records import WarmupRecord
from slipway.settings import WarmupSettings
from slipway.warmup.sources import SyntheticRows
from slipway_wire import tfrecord, warmup_log

BUDGET = WarmupSettings().max_bytes


@pytest.fixture(scope="module")
def contract(trained):
    return read_contract(trained.contract)


@pytest.fixture(scope="module")
def golden(trained):
    return read(trained.golden)


def written(contract, golden, sizes=(1, 3), max_bytes=BUDGET):
    source, _ = warmup.row_source(WarmupSettings(), "digits", contract, golden, None, max(sizes))
    return warmup.records("digits", contract, source, sizes, max_bytes)


def content(*arguments):
    return tfrecord.frame_all(record for _, record in written(*arguments)[0])


def test_every_signature_is_warmed_in_every_batch_size(contract, golden):
    entries = [entry for entry, _ in written(contract, golden)[0]]

    assert [(entry.signature, entry.method, entry.rows, entry.source, entry.form) for entry in entries] == [
        ("serving_default", "predict", 1, "golden", "values"),
        ("serving_default", "predict", 3, "golden", "values"),
        ("classify", "classify", 1, "golden", "values"),
        ("classify", "classify", 3, "golden", "values"),
    ]


def test_records_carry_golden_rows(contract, golden):
    decoded = [warmup_log.decode(record) for record in tfrecord.read(io.BytesIO(content(contract, golden)))]

    np.testing.assert_array_equal(decoded[1].request.inputs["image"], golden.inputs["image"][:3])
    assert list(decoded[3].request.examples) == forms.encode(contract, "classify", golden.first(3))["inputs"].tolist()


def test_records_have_the_same_bytes_each_time(contract, golden):
    assert content(contract, golden) == content(contract, golden)


def test_inputs_without_golden_rows_are_drawn(contract):
    found, _ = written(contract, Golden({"x": np.zeros(1)}, {"y": np.zeros(1)}, None))

    assert {(entry.source, entry.synthetic_rows == entry.rows) for entry, _ in found} == {("synthetic", True)}
    assert rows.misfits(contract.default.inputs, warmup_log.decode(found[0][1]).request.inputs) == []


def test_more_records_than_a_server_takes_are_refused(contract):
    with pytest.raises(
        SettingsError, match="2 signatures in 501 batch sizes make 1002 warm-up records, a server takes 1000"
    ):
        warmup.check_count(contract, range(1, 502))


def resnet():
    image = {"dtype": "float32", "shape": ["N", 224, 224, 3], "range": [0, 1]}
    score = {"dtype": "float32", "shape": ["N", 1000]}
    signature = {"method": "predict", "inputs": {"image": image}, "outputs": {"scores": score}}
    return Contract.model_validate({"format": 1, "signatures": {"serving_default": signature}})


def test_large_images_fit_the_budget_and_what_does_not_is_told():
    """Of 224 x 224 pixels 105 fit as they are; a server fills up to 111 of them from one value."""
    contract = resnet()
    found, left_out = warmup.records("resnet", contract, SyntheticRows(contract), (1, 32, 64, 96, 111, 128), BUDGET)

    assert [(entry.rows, entry.form) for entry, _ in found] == [
        (1, "values"),
        (32, "values"),
        (64, "values"),
        (96, "filled"),
        (111, "filled"),
    ]
    assert sum(len(record) for _, record in found) <= BUDGET
    assert [(one.signature, one.rows, one.bytes) for one in left_out] == [
        ("serving_default", 128, 128 * 224 * 224 * 12)
    ]
    image = warmup_log.decode(found[4][1]).request.inputs["image"]
    assert image.shape == (111, 224, 224, 3)
    assert 0 < image[0, 0, 0, 0] < 1


def test_a_budget_without_room_is_refused(contract, golden):
    with pytest.raises(
        SettingsError, match=r"warmup\.max_bytes: 20 bytes hold no warm-up record; the smallest \(serving_default, 1"
    ):
        written(contract, golden, (1, 3), 20)


@pytest.mark.parametrize("sizes", ["", "0", "1,,2", "one"])
def test_batch_sizes_are_numbers(sizes):
    with pytest.raises(SettingsError) as caught:
        warmup.parse_sizes(sizes)

    assert str(caught.value) == f"--batch-sizes: expected numbers from 1 on, as in 1,2,4, got {sizes!r}"


# --- the stage, with a server ------------------------------------------------------------------------


def run(version, fresh, *more):
    return fresh.slipway(*version.words("warmup"), *more, directory=version.directory)


def test_the_server_replays_what_was_logged_and_what_was_made_up(exported, fresh, golden, tmp_path):
    """Filled tensors and filled Examples among them: the server loads the version with all of them."""
    version = exported.copy(tmp_path / "copy")
    image = golden.inputs["image"]
    logged = [factory.predict_record({"image": image[:1]}, "digits"), factory.predict_record({"image": image}, "mnist")]
    log = factory.write_log(tmp_path / "log", *logged)
    settings = {"source": "recorded", "recorded": {"path": str(log)}, "max_bytes": 1200}

    finished = run(version, fresh, "--settings", json.dumps(settings))

    assert finished.code == 0, finished.output
    record = WarmupRecord.read(version.warmup_record)
    assert [(e.signature, e.rows, e.source, e.synthetic_rows, e.form) for e in record.entries] == [
        ("serving_default", 1, "recorded", 0, "values"),
        ("serving_default", 4, "recorded", 0, "filled"),
        ("classify", 1, "synthetic", 1, "values"),
        ("classify", 4, "synthetic", 4, "filled"),
    ]
    assert record.replayed == 4
    assert record.bytes == version.warmup.stat().st_size <= 1200
    assert (record.log.taken, record.log.skipped) == (1, {"another model": 1})
    # No link to the export, no half-made servable.
    assert not list(version.directory.glob(".*.partial"))


def test_a_record_that_the_model_does_not_take_is_refused(exported, fresh, tmp_path):
    version = exported.copy(tmp_path / "copy")
    contract = yaml.safe_load(version.contract.read_text())
    contract["signatures"]["gone"] = contract["signatures"]["serving_default"]
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))

    finished = run(version, fresh, "--contract", tmp_path / "contract.yaml")

    assert finished.code == 3
    (error,) = finished.errors
    assert error.startswith('warm-up record 4 (gone, 1 rows): expected an answer, found: Serving signature key "gone"')
    assert not version.warmup.exists()
    assert not version.warmup_record.exists()
    assert not list(version.directory.glob(".*.partial"))


def test_nothing_is_written_if_the_export_changed(exported, fresh, tmp_path):
    version = exported.copy(tmp_path / "copy")
    with (version.export / "saved_model.pb").open("ab") as file:
        file.write(b"\0")

    finished = version.run(fresh, "warmup")

    assert finished.code == 2
    assert "saved_model.pb: changed after it was written" in finished.errors[0]
    assert not version.warmup.exists()

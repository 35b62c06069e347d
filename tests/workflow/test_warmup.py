import io

import numpy as np
import pytest

from slipway import rows, warmup
from slipway.contract import read_contract
from slipway.errors import ContractViolation, SettingsError, SourceError
from slipway.golden import Golden, read
from slipway.records import WarmupRecord
from slipway_wire import tfrecord, warmup_log


@pytest.fixture(scope="module")
def contract(trained):
    return read_contract(trained.contract)


@pytest.fixture(scope="module")
def golden(trained):
    return read(trained.golden)


def content(contract, golden, sizes=(1, 3)):
    return tfrecord.frame_all(record for _, record in warmup.records("digits", contract, golden, sizes))


def test_every_signature_is_warmed_in_every_batch_size(contract, golden):
    entries = [entry for entry, _ in warmup.records("digits", contract, golden, (1, 3))]

    assert [(entry.signature, entry.method, entry.rows) for entry in entries] == [
        ("serving_default", "predict", 1),
        ("serving_default", "predict", 3),
        ("classify", "classify", 1),
        ("classify", "classify", 3),
    ]


def test_records_carry_golden_rows(contract, golden):
    decoded = [warmup_log.decode(record) for record in tfrecord.read(io.BytesIO(content(contract, golden)))]

    np.testing.assert_array_equal(decoded[1].request.inputs["image"], golden.inputs["image"][:3])
    assert (
        list(decoded[3].request.examples)
        == rows.examples(contract, contract.signatures["classify"], golden.first(3)).tolist()
    )


def test_records_have_the_same_bytes_each_time(contract, golden):
    assert content(contract, golden) == content(contract, golden)


def test_inputs_without_golden_rows_are_drawn(contract):
    other = Golden({"x": np.zeros(1)}, {"y": np.zeros(1)}, None)

    asked = []
    warmup.replay(content(contract, other), lambda name, inputs: asked.append((name, inputs)))

    assert rows.misfits(contract.default.inputs, asked[0][1]) == []


def test_more_records_than_a_server_takes_are_refused(contract, golden):
    with pytest.raises(
        SettingsError, match="2 signatures in 501 batch sizes make 1002 warm-up records, a server takes 1000"
    ):
        list(warmup.records("digits", contract, golden, range(1, 502)))


def test_a_record_that_fails_is_named(contract, golden):
    def call(name, inputs):
        if name == "classify":
            raise SourceError("broken")

    with pytest.raises(
        ContractViolation, match=r"warm-up record 2 \(classify, 1 rows\): expected an answer, found: broken"
    ):
        warmup.replay(content(contract, golden), call)


def test_the_stage_writes_what_it_has_replayed(exported, fresh, tmp_path):
    version = exported.copy(tmp_path / "copy")

    finished = version.run(fresh, "warmup")

    assert finished.code == 0, finished.output
    record = WarmupRecord.read(version.warmup_record)
    assert record.replayed == len(record.entries) == 4
    assert record.bytes == version.warmup.stat().st_size


@pytest.mark.parametrize("sizes", ["", "0", "1,,2", "one"])
def test_batch_sizes_are_numbers(sizes):
    with pytest.raises(SettingsError) as caught:
        warmup.parse_sizes(sizes)

    assert str(caught.value) == f"--batch-sizes: expected numbers from 1 on, as in 1,2,4, got {sizes!r}"


def test_nothing_is_written_if_the_export_changed(exported, fresh, tmp_path):
    version = exported.copy(tmp_path / "copy")
    with (version.export / "saved_model.pb").open("ab") as file:
        file.write(b"\0")

    finished = version.run(fresh, "warmup")

    assert finished.code == 2
    assert "saved_model.pb: changed after it was written" in finished.errors[0]
    assert not version.warmup.exists()

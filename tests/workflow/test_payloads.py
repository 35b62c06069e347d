import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from slipway import payloads
from slipway.contract import Contract
from slipway.errors import SettingsError, SourceError
from slipway.golden import Golden
from slipway_wire import json_predict
from slipway_wire import payloads as wire

ROOT = Path(__file__).parents[1]
HALF_PLUS_TWO = ROOT / "testdata/saved_model_half_plus_two_cpu/00000123"

ROWS = np.random.default_rng(1).random((20, 3), np.float32)
GOLDEN = Golden({"x": ROWS}, {"y": ROWS / 2 + 2}, None)


def contract(**more):
    tensors = {"inputs": {"x": {"shape": ["N", 3]}}, "outputs": {"y": {"shape": ["N", 3]}}}
    return Contract.model_validate(
        {"format": 1, "signatures": {"serving_default": {"method": "predict", **tensors}, **more}}
    )


def sent(rows=1, signature="serving_default", of=GOLDEN, by=None):
    return payloads.from_golden(of, by or contract(), model="m", version=7, signature=signature, rows=rows)


@pytest.mark.parametrize(("rows", "distinct"), [(1, 16), (4, 5), (20, 1), (50, 1)])
def test_payloads_are_different_golden_rows_with_their_own_answers(rows, distinct):
    made = sent(rows)

    assert len(made) == distinct
    assert len({payload.grpc_message for payload in made}) == distinct
    for number, payload in enumerate(made):
        places = (np.arange(rows) + number * rows) % 20
        np.testing.assert_array_equal(payload.inputs["x"], ROWS[places])
        np.testing.assert_array_equal(payload.expected["y"], ROWS[places] / 2 + 2)
        assert payload.rest_path == "/v1/models/m/versions/7:predict"


def test_the_record_weighs_them_and_names_their_values():
    made = sent(4)
    told = payloads.record(made)

    assert (told.id, told.rows, told.distinct, told.signature) == ("golden-4", 4, 5, "serving_default")
    assert told.rest_body_bytes == np.mean([len(payload.rest_body) for payload in made])
    assert told.grpc_message_bytes == np.mean([len(payload.grpc_message) for payload in made])
    plain = [len(json.dumps({"instances": payload.inputs["x"].tolist()})) for payload in made[:4]]
    assert told.rest_plain_body_bytes == np.mean(plain) > told.rest_body_bytes
    assert told.values_digest == payloads.record(sent(4)).values_digest
    assert told.values_digest != payloads.record(sent(5)).values_digest


def test_a_signature_that_golden_data_do_not_cover_is_refused():
    other = {"method": "predict", "inputs": {"z": {"shape": ["N"]}}, "outputs": {"y": {"shape": ["N"]}}}
    with pytest.raises(SettingsError, match="golden data have no input z of other"):
        sent(signature="other", by=contract(other=other))
    with pytest.raises(SettingsError, match="no signature missing in the contract; there are: serving_default"):
        sent(signature="missing")


def test_more_rows_than_the_model_takes_are_refused():
    few = contract().model_copy(update={"max_rows": 2})

    assert sent(2, by=few)
    with pytest.raises(SettingsError, match=r"benchmark.rows: must be at most 2, the contract's max_rows, got 3"):
        sent(3, by=few)


# What the recipes have: classify as default, regress, words, and features in another order than JSON's.
MANY = Contract.model_validate(
    {
        "format": 1,
        "signatures": {
            "serving_default": {"method": "classify", "features": {"x": "b/x", "ids": "a/ids"}, "scores": "scores"},
            "own": {
                "method": "predict",
                "inputs": {"x": {"shape": ["N", 3]}, "ids": {"dtype": "int64", "shape": ["N", 2]}},
                "outputs": {"scores": {"shape": ["N", 2]}, "y": {"shape": ["N"]}},
            },
            "regress": {"method": "regress", "value": "y"},
            "words": {
                "method": "predict",
                "inputs": {
                    "x": {"shape": ["N", 3]},
                    "words": {
                        "dtype": "string",
                        "shape": ["N", 2],
                        "to": "ids",
                        "vocabulary": {"words": ["é", "b"], "oov": 0},
                    },
                },
            },
        },
        "golden": {"signature": "own"},
    }
)
OF_MANY = Golden(
    {"x": ROWS, "ids": np.arange(40).reshape(20, 2) % 2},
    {"scores": ROWS[:, :2] * np.float32(0.5), "y": ROWS[:, 2]},
    None,
)


def test_who_names_no_signature_asks_what_a_request_without_a_name_gets_or_the_models_own_form():
    assert payloads.chosen_signature(contract(), None) == "serving_default"
    assert payloads.chosen_signature(MANY, None) == "own"
    assert payloads.chosen_signature(MANY, "words") == "words"
    assert {payload.spec.signature_key for payload in sent(signature=None, of=OF_MANY, by=MANY)} == {"own"}


@pytest.mark.parametrize(
    ("signature", "method", "expected"),
    [
        ("serving_default", "classify", {"classes", "scores"}),
        ("regress", "regress", {"outputs"}),
        ("words", "predict", {"scores", "y"}),
    ],
)
def test_examples_and_words_are_loads_too(tmp_path, signature, method, expected):
    """What a file gives back is what was made, and a server that gives just that is right over both protocols."""
    made = sent(4, signature=signature, of=OF_MANY, by=MANY)
    (tmp_path / "p").write_bytes(wire.encode(made))

    found = wire.read(tmp_path / "p")

    for payload, read in zip(made, found, strict=True):
        assert (read.method, read.rows, read.rest_path) == (method, 4, f"/v1/models/m/versions/7:{method}")
        assert {n: a.tolist() for n, a in read.inputs.items()} == {n: a.tolist() for n, a in payload.inputs.items()}
        for answer in (
            read.expected,
            wire.decode_grpc_answer(read, wire.grpc_answer(read)),
            wire.decode_rest_answer(read, wire.rest_answer(read)),
        ):
            assert answer.keys() == payload.expected.keys() == expected
            for name, array in payload.expected.items():
                np.testing.assert_array_equal(answer[name], array)
                assert answer[name].dtype == array.dtype


def test_examples_that_differ_between_the_protocols_are_found():
    """HALF_PLUS_TWO classifies: the feature, not the order of bytes, is what counts."""
    tensors = {"inputs": {"x": {"shape": ["N", 1]}}, "outputs": {"y": {"shape": ["N", 1]}}}
    classify = Contract.model_validate(
        {
            "format": 1,
            "signatures": {
                "serving_default": {"method": "predict", **tensors},
                "classify_x_to_y": {"method": "classify", "scores": "y"},
            },
        }
    )
    golden = Golden({"x": ROWS[:, :1]}, {"y": ROWS[:, :1]}, None)
    made = sent(signature="classify_x_to_y", of=golden, by=classify)
    payloads.check_parity(made, HALF_PLUS_TWO)

    made[3] = dataclasses.replace(made[3], rest_body=made[4].rest_body)
    with pytest.raises(SourceError, match="payload 3, input inputs: REST and gRPC carry different values"):
        payloads.check_parity(made, HALF_PLUS_TWO)


def test_equal_values_pass_and_every_other_bit_is_found():
    """The signature of a real SavedModel reads both protocols, as the server will."""
    made = sent()
    payloads.check_parity(made, HALF_PLUS_TWO)

    nudged = np.nextafter(made[3].inputs["x"], np.float32(2))
    body = json_predict.encode_request({"x": nudged})
    made[3] = dataclasses.replace(made[3], rest_body=body)
    with pytest.raises(SourceError, match="payload 3, input x: REST and gRPC carry different values"):
        payloads.check_parity(made, HALF_PLUS_TWO)


def test_golden_data_in_another_dtype_than_the_signature_are_found():
    """float64 over gRPC would not be what JSON becomes, and no server would take it."""
    double = Golden({"x": ROWS.astype(np.float64)}, GOLDEN.outputs, None)

    with pytest.raises(SourceError, match=r"float32.* and float64"):
        payloads.check_parity(sent(of=double), HALF_PLUS_TWO)

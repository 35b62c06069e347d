import json

import numpy as np
import pytest
from google.protobuf import json_format
from tests.workflow import served_models as served

from slipway.api.calls import answers, calls
from slipway.golden import Golden
from slipway_wire import inference, messages, predict


def test_every_signature_is_called_with_a_golden_row(digits, golden):
    assert {name: call.method for name, call in digits.items()} == {
        "serving_default": "predict",
        "classify": "classify",
        "regress": "regress",
    }
    body = json.loads(digits["serving_default"].row_request())
    assert np.array_equal(np.float32(body["instances"]), golden.inputs["image"][:1])
    assert json.loads(digits["classify"].row_request())["signature_name"] == "classify"


def test_both_forms_of_a_request_ask_for_the_same(digits):
    call = digits["serving_default"]

    assert json.loads(call.columnar_request())["inputs"] == json.loads(call.row_request())["instances"]
    assert digits["classify"].columnar_request() is None


def test_answers_are_those_of_the_golden_data(digits, golden):
    row = json.loads(digits["serving_default"].row_answer())["predictions"][0]
    results = json.loads(digits["classify"].row_answer())["results"][0]

    assert row["label"] == golden.outputs["label"][0]
    assert np.allclose(row["logits"], golden.outputs["logits"][0])
    assert [label for label, _ in results] == [label.decode() for label in served.CLASSES]
    assert np.allclose([score for _, score in results], golden.outputs["probabilities"][0])
    assert np.allclose(json.loads(digits["regress"].row_answer())["results"], golden.outputs["best"][:1])


def test_answers_that_nobody_knows_are_left_out(golden):
    contract = served.digits_contract()
    without = Golden(golden.inputs, {"label": golden.outputs["label"]}, None)
    drawn = Golden({"other": golden.inputs["image"]}, golden.outputs, None)

    assert answers(contract, "serving_default", without, 1) is None
    assert answers(contract, "serving_default", drawn, 1) is None
    assert calls(contract, drawn, "digits")[0].row_answer() is None


def test_a_signature_that_json_cannot_carry_is_called_over_grpc(golden):
    contract = served.types_contract({"serving_default": ("uint16", ["x"], ["y"])})
    (call,) = calls(contract, golden, "types")

    assert call.row_request() is call.columnar_request() is None
    assert predict.decode_request(call.grpc_request()).inputs["x"].dtype == np.uint16


@pytest.mark.parametrize("name", ["serving_default", "classify", "regress"])
def test_grpcurl_sends_the_same_message(digits, name):
    call = digits[name]
    message = messages.PredictRequest() if call.method == "predict" else messages.ClassificationRequest()
    json_format.Parse(call.grpcurl_request(), message, descriptor_pool=messages.POOL)

    if call.method == "predict":
        sent, told = (predict.decode_request(m) for m in (call.grpc_request(), message.SerializeToString()))
        assert sent.spec == told.spec
        assert np.array_equal(sent.inputs["image"], told.inputs["image"])
        assert b"floatVal" in call.grpcurl_request()
    else:
        assert inference.decode_classify_request(message.SerializeToString()) == inference.decode_classify_request(
            call.grpc_request()
        )

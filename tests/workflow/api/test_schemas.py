import base64

import jsonschema
import numpy as np
import pytest
from tests.workflow import served_models as served

from slipway.api import schemas

ROW = [0.5] * 64
IMAGE = base64.b64encode(b"\x89PNG").decode()


def accepts(schema, body):
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).is_valid(body)


@pytest.mark.parametrize(
    ("form", "body", "fits"),
    [
        ("rows", {"instances": [ROW, ROW]}, True),
        ("rows", {"instances": [{"image": ROW}]}, True),
        ("rows", {"signature_name": "serving_default", "instances": [ROW]}, True),
        ("rows", {"signature_name": "", "instances": [ROW]}, True),
        ("columns", {"inputs": [ROW]}, True),
        ("columns", {"inputs": {"image": [ROW]}}, True),
        ("rows", {"instances": []}, False),
        ("rows", {"instances": [{"img": ROW}]}, False),
        ("rows", {"instances": [{"image": ROW, "more": 1}]}, False),
        ("rows", {"instances": [ROW[1:]]}, False),
        ("rows", {"instances": ROW}, False),
        ("rows", {"instances": [[*ROW[1:], 1.5]]}, False),
        ("rows", {"instances": [[*ROW[1:], "a"]]}, False),
        ("rows", {"instances": [ROW], "inputs": [ROW]}, False),
        ("rows", {"signature_name": "other", "instances": [ROW]}, False),
        ("columns", {"inputs": {"image": ROW}}, False),
        ("columns", {}, False),
    ],
)
def test_bodies_of_predict(form, body, fits):
    schema = schemas.requests(served.digits_contract(), "serving_default")[f"serving_default.{form}"]

    assert accepts(schema, body) == fits


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"signature_name": "classify", "examples": [{"image/raw": ROW}]}, True),
        ({"examples": [{"image/raw": ROW}]}, False),
        ({"signature_name": "classify", "examples": [{"image/raw": ROW[1:]}]}, False),
        ({"signature_name": "classify", "examples": [{"image": ROW}]}, False),
        ({"signature_name": "classify", "examples": []}, False),
    ],
)
def test_bodies_of_classify(body, fits):
    schema = schemas.requests(served.digits_contract(), "classify")["classify.examples"]

    assert accepts(schema, body) == fits


@pytest.mark.parametrize(
    ("dtype", "value", "fits"),
    [
        ("string", "text", True),
        ("string", {"b64": IMAGE}, True),
        ("string", {"b64": IMAGE, "more": 1}, False),
        ("string", 1, False),
        ("bool", True, True),
        ("bool", 1, False),
        ("int8", -128, True),
        ("int8", 128, False),
        ("uint32", 2**32 - 1, True),
        ("uint32", -1, False),
        ("int64", 2**63 - 1, True),
        ("int64", 1.5, False),
        ("float16", 0.5, True),
        ("float64", 1e300, True),
    ],
)
def test_elements_of_every_dtype(dtype, value, fits):
    contract = served.types_contract({"serving_default": (dtype, ["x"], ["y"])})
    schema = schemas.requests(contract, "serving_default")["serving_default.columns"]

    assert accepts(schema, {"inputs": [[value, value]]}) == fits


def test_a_size_that_varies_is_not_fixed_and_several_inputs_go_by_name():
    contract = served.types_contract({"serving_default": ("float32", ["a", "b"], ["a", "b"])})
    schema = schemas.requests(contract, "serving_default")["serving_default.rows"]

    assert accepts(schema, {"instances": [{"a": [1, 2, 3], "b": [1, 2, 3]}]})
    assert not accepts(schema, {"instances": [{"a": [1]}]})
    assert not accepts(schema, {"instances": [[1, 2]]})
    assert "T may vary" in str(schema)


def test_answers_name_outputs_only_where_there_are_several(digits):
    several = schemas.responses(served.digits_contract(), "serving_default")
    one = served.types_contract({"serving_default": ("float32", ["x"], ["y"])})
    single = schemas.responses(one, "serving_default")

    assert accepts(several["serving_default.predictions"], served_answer(digits["serving_default"]))
    assert accepts(single["serving_default.predictions"], {"predictions": [[1.0, 2.0]]})
    assert accepts(single["serving_default.outputs"], {"outputs": [[1.0, 2.0]]})
    assert not accepts(several["serving_default.predictions"], {"predictions": [[1.0]]})


def test_rounding_over_a_bound_is_no_fault_of_an_answer(digits):
    schema = schemas.responses(served.digits_contract(), "serving_default")["serving_default.predictions"]
    answer = served_answer(digits["serving_default"])
    answer["predictions"][0]["probabilities"][0] = float(np.nextafter(np.float32(1), np.float32(2)))

    assert accepts(schema, answer)


def test_what_json_cannot_carry_has_no_bodies():
    contract = served.types_contract({"serving_default": ("uint16", ["x"], ["y"])})

    assert schemas.requests(contract, "serving_default") == schemas.responses(contract, "serving_default") == {}


def served_answer(call):
    import json

    return json.loads(call.row_answer())

import pytest
from tests.workflow.contract.contract_factory import faults, small, with_signature

from slipway.contract import Contract
from slipway.contract.written import written_out


def test_an_alias_is_the_signature_itself():
    contract = Contract.model_validate(with_signature(alias="serving_default"))

    assert contract.signatures["other"] == contract.signatures["serving_default"]
    assert list(contract.signatures) == ["serving_default", "other"]


def test_a_predict_signature_without_tensors_has_those_of_the_models_own_form():
    pictures = {"image_bytes": {"dtype": "string", "shape": ["N"], "features": {}}}
    contract = Contract.model_validate(with_signature(method="predict", inputs=pictures))

    assert contract.signatures["other"].outputs == contract.default.outputs


def test_golden_signature_says_which_form_is_the_models_own():
    contract = small(golden={"signature": "predict_images"})
    contract["signatures"]["predict_images"] = contract["signatures"].pop("serving_default")
    contract["signatures"]["serving_default"] = {"method": "classify", "scores": "y"}
    contract["signatures"]["again"] = {"method": "predict"}

    read = Contract.model_validate(contract)

    assert read.default is read.signatures["predict_images"]
    assert read.signatures["again"].inputs == read.default.inputs


WRONG = {
    "of nothing": (
        with_signature(alias="predict"),
        ["signatures.other.alias: no signature predict; there are: serving_default"],
    ),
    "of itself": (
        with_signature(alias="other"),
        ["signatures.other.alias: no signature other; there are: serving_default"],
    ),
    "with more": (
        with_signature(alias="serving_default", doc="text"),
        ["signatures.other: an alias has no other keys than `alias`"],
    ),
}


@pytest.mark.parametrize(("contract", "expected"), WRONG.values(), ids=WRONG)
def test_an_alias_that_names_no_signature_is_one_line(contract, expected, tmp_path):
    assert faults(contract, tmp_path) == expected


@pytest.mark.parametrize("contract", [None, [], {}, {"signatures": []}, {"signatures": {1: None}, "golden": 3}])
def test_what_is_no_contract_is_left_to_the_validation(contract):
    assert written_out(contract) == contract

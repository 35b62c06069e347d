import pytest
from tests.workflow.contract.contract_factory import faults, with_default

from slipway.contract import OutputContract
from slipway.contract.expressions import Call, Name

X_INPUT = "signatures.serving_default.predict.inputs.x"
WRONG = {
    "rows do not come first": (
        with_default(inputs={"x": {"shape": [4, "N"]}}),
        [f"{X_INPUT}: shape must begin with N, the rows of a batch, got [4, 'N']"],
    ),
    "range the wrong way round": (
        with_default(inputs={"x": {"shape": ["N"], "range": [1, 0]}}),
        [f"{X_INPUT}: range must be [least, greatest], got [1.0, 0.0]"],
    ),
    "strings without values": (
        with_default(inputs={"x": {"shape": ["N"], "dtype": "string"}}),
        [
            (
                f"{X_INPUT}: a string input needs `values`: some strings that the model accepts; "
                "or what the strings are: example, features, image, vocabulary"
            )
        ],
    ),
    "arg max as a float": (
        with_default(outputs={"y": {"shape": ["N"], "from": "argmax(z)"}}),
        ["signatures.serving_default.predict.outputs.y: argmax(x) gives int32 or int64, got dtype float32"],
    ),
}


@pytest.mark.parametrize(("contract", "expected"), WRONG.values(), ids=WRONG)
def test_every_fault_is_a_line_of_its_own(contract, expected, tmp_path):
    assert faults(contract, tmp_path) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [({}, Name("own")), ({"from": "z"}, Name("z")), ({"from": "sigmoid(z)"}, Call("sigmoid", (Name("z"),), ()))],
)
def test_what_an_output_is_made_from(written, expected):
    assert OutputContract(shape=("N",), **written).expression("own") == expected

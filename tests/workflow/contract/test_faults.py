import pytest
from tests.workflow.contract.contract_factory import faults, small, with_default, with_signature

WRONG = {
    "no default signature": (
        small(signatures={"other": small()["signatures"]["serving_default"]}),
        ["signatures: serving_default is needed (`alias: …` makes one), there are: other (predict)"],
    ),
    "made from itself": (
        with_default(
            outputs={"a": {"shape": ["N"], "from": "softmax(b)"}, "b": {"shape": ["N"], "from": "sigmoid(a)"}}
        ),
        [
            "signatures.serving_default.outputs.a.from: is made from itself",
            "signatures.serving_default.outputs.b.from: is made from itself",
        ],
    ),
    "symbols without and without use": (
        with_default(inputs={"x": {"shape": ["N", "T"]}}) | {"probe": {"dims": {"K": 3}}},
        [
            "probe.dims: no size to try for T (in serving_default.inputs.x)",
            "probe.dims: no tensor has K in its shape",
        ],
    ),
    "scores of what is not there": (
        with_signature(method="classify", scores="probabilities"),
        ["signatures.other.scores: serving_default has no output probabilities; there are: y, kind"],
    ),
    "too few classes": (
        with_signature(method="classify", scores="y", classes=["a", "b"]),
        ["signatures.other.classes: y has 3 scores, got 2 classes"],
    ),
    "a vector to regress": (
        with_signature(method="regress", value="y", features={"z": "z"}),
        [
            "signatures.other.features: serving_default has no input z; there are: x",
            "signatures.other.value: y must have shape [N] or [N, 1], got ['N', 3]",
        ],
    ),
    "sizes that vary in an Example": (
        with_signature(method="classify", scores="y")
        | {
            "signatures": {
                "serving_default": with_default(inputs={"x": {"shape": ["N", "T"]}})["signatures"]["serving_default"],
                "other": {"method": "classify", "scores": "y"},
            },
            "probe": {"dims": {"T": 3}},
        },
        [
            (
                "signatures.other: input x has shape ['N', 'T'], but a tf.Example carries fixed sizes only; "
                "give its feature a `pad`"
            )
        ],
    ),
    "accuracy of what is not there": (
        small(golden={"label": "class", "min_accuracy": 0.9}),
        ["golden.label: serving_default has no output class; there are: y, kind"],
    ),
}


@pytest.mark.parametrize(("contract", "expected"), WRONG.values(), ids=WRONG)
def test_every_fault_is_a_line_of_its_own(contract, expected, tmp_path):
    assert faults(contract, tmp_path) == expected

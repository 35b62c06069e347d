import pytest
from tests.workflow.test_contract_draft import CLASSIFY, PREDICT, REGRESS, ROWS, F, drafted, predict

from slipway.contract_found import Signature, Tensor
from slipway.parsed_examples import Feature

TEXT = Tensor("string", None, "input_example:0")
PARSED = (
    Feature("age", "float32", (1,), (0.35,)),
    Feature("pair", "int64", (2,), (1, 2)),
    Feature("town", "string", None),
    Feature("yes: no", "string", ()),
)
PROBABILITIES = Tensor(F, (None, 3), "softmax:0")
HEAD = {
    "probabilities": PROBABILITIES,
    "logits": Tensor(F, (None, 3), "logits:0"),
    "class_ids": Tensor("int64", (None, 1), "ids:0"),
}


def test_a_classify_signature_is_made_of_the_default_ones_scores():
    classify = Signature(
        CLASSIFY,
        {"inputs": Tensor("string", (None,))},
        {"scores": Tensor(F, (None, 3))},
        features=(Feature("image/raw", "float32", (4,)),),
    )
    outputs = {"hidden": Tensor(F, (None, 3)), "probabilities": Tensor(F, (None, 3))}
    contract, _ = drafted({"serving_default": predict({"x": ROWS}, outputs), "classify": classify})

    assert contract.signatures["classify"].scores == "probabilities"
    assert contract.features(contract.signatures["classify"]) == {"x": "image/raw"}


def test_a_classify_signature_of_other_scores_is_left_out():
    classify = Signature(CLASSIFY, {"inputs": Tensor("string", (None,))}, {"scores": Tensor(F, (None, 9))})
    contract, text = drafted({"serving_default": predict({"x": ROWS}, {"y": ROWS}), "classify": classify})

    assert list(contract.signatures) == ["serving_default"]
    assert "# classify: classifies tf.Examples, but no output of" in text


@pytest.mark.parametrize(
    ("tensor", "drafted_value"), [("y:0", "y"), ("y3:0", None), ("StatefulPartitionedCall_1:0", "y"), ("", "y")]
)
def test_a_regression_by_another_tensor_of_the_same_graph_is_left_out(tensor, drafted_value):
    """half_plus_two regresses x2 to y3, which no output of its predict signature is."""
    regress = Signature(REGRESS, {"inputs": TEXT}, {"outputs": Tensor(F, (None, 1), tensor)})
    default = predict({"x": ROWS}, {"y": Tensor(F, (None, 1), "y:0")})
    contract, text = drafted({"serving_default": default, "regress": regress})

    found = contract.signatures.get("regress")
    assert (found and found.value) == drafted_value
    assert ("a guess by its shape" in text) == (drafted_value is not None and tensor != "y:0")


def test_an_estimator_keeps_its_names_and_what_it_parses():
    """What tf.estimator exports: the default classifies, and only `predict` gives tensors."""
    classify = Signature(
        CLASSIFY, {"inputs": TEXT}, {"scores": Tensor(F, (None, None), "softmax:0")}, PARSED, ("a", "b", "c")
    )
    regress = Signature(REGRESS, {"inputs": TEXT}, {"outputs": Tensor(F, (None, 1), "logistic:0")}, PARSED)
    own = Signature(PREDICT, {"examples": TEXT}, HEAD | {"z_logistic": Tensor(F, (None, 1), "logistic:0")}, PARSED)

    contract, text = drafted(
        {"classification": classify, "predict": own, "regression": regress, "serving_default": classify}
    )

    assert list(contract.signatures) == ["predict", "classification", "regression", "serving_default"]
    assert contract.golden.signature == "predict"
    examples = contract.default.inputs["examples"].example
    assert {name: (f.dtype, f.shape, f.count, f.default) for name, f in examples.items()} == {
        "age": ("float32", (1,), None, 0.35),
        "pair": ("int64", (2,), None, (1, 2)),
        "town": ("string", (), (0, 4), None),
        "yes: no": ("string", (), None, None),
    }
    assert contract.signatures["serving_default"].scores == "probabilities"
    assert contract.signatures["serving_default"].classes == ("a", "b", "c")
    assert contract.signatures["regression"].value == "z_logistic"
    assert "signature: predict, inputs:" not in text
    assert "source: {kind: saved_model, path: somewhere, signature: predict}" in text


def test_a_model_that_only_classifies_gets_a_signature_of_tensors():
    outputs = {"classes": Tensor("string", (None, 3), "tile:0"), "scores": PROBABILITIES}
    classify = Signature(CLASSIFY, {"inputs": TEXT}, outputs, PARSED)

    contract, text = drafted({"serving_default": classify})

    assert {name: s.method for name, s in contract.signatures.items()} == {
        "predict": "predict",
        "serving_default": "classify",
    }
    assert list(contract.default.inputs) == ["examples"]
    assert list(contract.default.outputs) == ["scores"]
    assert "source: {kind: saved_model, path: somewhere, inputs: {examples: inputs}}" in text
    assert "# fill in: classes, what each score stands for" in text


def test_a_model_that_only_regresses_does_too():
    regress = Signature(REGRESS, {"inputs": TEXT}, {"outputs": Tensor(F, (None,), "y:0")}, PARSED)

    contract, _ = drafted({"price": regress})

    assert {name: s.method for name, s in contract.signatures.items()} == {
        "serving_default": "predict",
        "price": "regress",
    }
    assert contract.signatures["price"].value == "outputs"


def test_many_classes_go_into_a_file():
    names = tuple(f"class {number}" for number in range(1000))
    scores = Tensor(F, (None, 1000), "s:0")
    classify = Signature(CLASSIFY, {"inputs": TEXT}, {"scores": scores}, PARSED, names)

    contract, text = drafted({"serving_default": classify})

    assert contract.signatures["serving_default"].classes is None
    assert "classes: {file: labels.txt}, one a line; the model's graph has 1000, from class 0 on" in text


def test_scores_whose_count_is_not_known_leave_the_default_to_the_tensors():
    classify = Signature(CLASSIFY, {"inputs": TEXT}, {"scores": Tensor(F, (None, None), "s:0")}, PARSED)

    contract, text = drafted({"serving_default": classify})

    assert list(contract.signatures) == ["serving_default"]
    assert contract.signatures["serving_default"].method == "predict"
    assert "# serving_default: classifies tf.Examples of age, pair, town, yes: no, but no output of" in text

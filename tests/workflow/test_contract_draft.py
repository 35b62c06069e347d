import pytest
import yaml

from slipway.contract import Contract
from slipway.contract_draft import write
from slipway.contract_found import Found, Signature, Tensor
from slipway.errors import SourceError

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))
F = "float"


def found(signatures, source=None, remarks=()):
    return Found("somewhere", source or {"kind": "saved_model", "path": "somewhere"}, signatures, remarks)


def predict(inputs, outputs, method=PREDICT):
    return Signature(method, inputs, outputs)


def drafted(*arguments):
    text = write(found(*arguments))
    return Contract.model_validate(yaml.safe_load(text)), text


ROWS = Tensor(F, (None, 4), "x:0")


def test_what_is_known_is_written_and_the_rest_marked():
    contract, text = drafted(
        {
            "serving_default": predict(
                {"x": ROWS}, {"dense_1/Softmax:0": Tensor(F, (None, 3), "dense_1/Softmax:0", "Softmax")}
            )
        }
    )

    assert contract.default.inputs["x"].shape == ("N", 4)
    assert contract.default.outputs["probabilities"].dtype == "float32"
    assert (
        "probabilities: {dtype: float32, shape: [N, 3]}   # in the model: dense_1/Softmax:0; fill in, perhaps:" in text
    )
    assert "outputs: {probabilities: 'dense_1/Softmax:0'}" in text


def test_sizes_that_vary_get_symbols_and_sizes_to_try():
    contract, _ = drafted(
        {
            "serving_default": predict(
                {"words": Tensor("string", (None, None)), "x": Tensor("int32", (None, None, 7))},
                {"y": Tensor("double", (None, None))},
            )
        }
    )

    assert [tensor.shape for tensor in contract.default.inputs.values()] == [("N", "T"), ("N", "T", 7)]
    assert contract.default.outputs["y"].dtype == "float64"
    assert contract.probe.dims == {"T": 4}


def test_a_batch_that_is_fixed_and_a_rank_that_is_not_known_are_told():
    _, text = drafted({"serving_default": predict({"x": Tensor(F, (1, 4)), "z": Tensor(F, None)}, {"y": ROWS})})

    assert "the model takes exactly 1 rows at once" in text
    assert "fill in: shape, the model does not say its rank" in text


def test_what_only_training_feeds_is_folded():
    """S4-11: every client had to send Dropout 1.0."""
    contract, text = drafted(
        {"serving_default": predict({"x": ROWS, "Dropout": Tensor(F, (), "Dropout:0")}, {"y": ROWS})}
    )

    assert list(contract.default.inputs) == ["x"]
    assert "# Dropout: float without rows, in the model Dropout:0; fold it: `freeze_inputs` of the source" in text
    assert "freeze_inputs: {Dropout: 1.0}" in text


def test_a_model_without_default_gets_one():
    """S2-08: clients of a model whose only signature is `prediction` must name it in every request."""
    contract, text = drafted({"prediction": predict({"x": ROWS}, {"y": ROWS})})

    assert list(contract.signatures) == ["serving_default"]
    assert "  serving_default:   # in the model: prediction" in text
    assert "signature: prediction" in text


def test_a_signature_that_nobody_can_type_is_renamed():
    contract, text = drafted(
        {
            "serving_default": predict({"x": ROWS}, {"y": Tensor(F, (None, 1))}),
            "tensorflow/serving/regress": Signature(
                REGRESS, {"inputs": Tensor("string", None)}, {"outputs": Tensor(F, (None, 1))}
            ),
            "odd": Signature("tensorflow/serving/unheard", {}, {}),
        }
    )

    assert list(contract.signatures) == ["serving_default", "regress"]
    assert contract.signatures["regress"].value == "y"
    assert "  regress:   # in the model: tensorflow/serving/regress" in text
    assert "# odd: method tensorflow/serving/unheard, which no request calls: left out" in text


def test_a_graph_source_is_given_with_its_tensors():
    _, text = drafted(
        {
            "serving_default": predict(
                {"In": Tensor(F, (None, 2), "In:0")}, {"a/b": Tensor(F, (None, 2), "a/b:0", "Add")}
            )
        },
        {"kind": "frozen_graph", "path": "f.pb"},
        ("mind the gap",),
    )

    assert "source: {kind: frozen_graph, path: f.pb, inputs: {In: 'In:0'}, outputs: {b: 'a/b:0'}}" in text
    assert "# NOTE mind the gap" in text


def test_what_cannot_be_drafted_is_told():
    with pytest.raises(
        SourceError,
        match=r"expected a signature with method tensorflow/serving/predict, or one that parses tf.Examples, found: c \(tens",
    ):
        write(found({"c": Signature(CLASSIFY, {}, {})}))
    with pytest.raises(SourceError, match="dtype bfloat16 has no form in a request"):
        write(found({"serving_default": predict({"x": Tensor("bfloat16", (None,), "x:0")}, {"y": ROWS})}))

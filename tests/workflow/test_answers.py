import numpy as np
import pytest

from slipway.answers import derive, pick
from slipway.contract import PredictSignature
from slipway.errors import SettingsError

RAW = np.array([[1.0, 3.0], [2.0, 0.0]], np.float32)


def signature(**outputs):
    return PredictSignature.model_validate({"method": "predict", "inputs": {"x": {"shape": ["N"]}}, "outputs": outputs})


def test_the_only_output_goes_by_any_name():
    assert pick({"dense_3": 7}, "logits") == 7


def test_several_outputs_go_by_their_own_names():
    assert pick({"a": 1, "b": 2}, "b") == 2
    with pytest.raises(SettingsError, match="the model has no output c; it has: a, b"):
        pick({"a": 1, "b": 2}, "c")


def test_outputs_are_made_from_each_other_and_from_the_models_own():
    made = derive(
        signature(
            label={"shape": ["N"], "dtype": "int32", "from": "argmax(share)"},
            share={"shape": ["N", 2], "from": "softmax(logits)"},
            on={"shape": ["N", 2], "from": "sigmoid(logits)"},
            logits={"shape": ["N", 2]},
        ),
        {"output": RAW},
    )

    assert list(made) == ["label", "share", "on", "logits"]
    assert made["logits"] is RAW
    assert made["label"].tolist() == [1, 0]
    assert made["label"].dtype == np.int32
    np.testing.assert_allclose(made["share"], np.exp(RAW) / np.exp(RAW).sum(axis=-1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(made["on"], 1 / (1 + np.exp(-RAW)), rtol=1e-6)
    assert made["share"].dtype == made["on"].dtype == np.float32


def test_an_output_may_be_called_as_another_of_the_model_is():
    """A plain name is always the model's: contract and model may use the same names crosswise."""
    made = derive(
        signature(a={"shape": ["N"], "from": "b"}, b={"shape": ["N"], "from": "a"}),
        {"a": np.zeros(1), "b": np.ones(1)},
    )

    assert (made["a"].item(), made["b"].item()) == (1, 0)


def test_large_logits_do_not_overflow():
    made = derive(signature(p={"shape": ["N", 2], "from": "softmax(x)"}), {"x": np.array([[1e4, 0]], np.float32)})

    assert made["p"].tolist() == [[1, 0]]

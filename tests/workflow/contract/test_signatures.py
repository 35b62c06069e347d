import pytest
from pydantic import TypeAdapter, ValidationError

from slipway.contract import ClassifySignature, PredictSignature, RegressSignature, Signature

KINDS = {
    "predict": ({"inputs": {"x": {"shape": ["N"]}}, "outputs": {"y": {"shape": ["N"]}}}, PredictSignature),
    "classify": ({"scores": "y"}, ClassifySignature),
    "regress": ({"value": "y"}, RegressSignature),
}


@pytest.mark.parametrize(("method", "rest", "kind"), [(m, *k) for m, k in KINDS.items()], ids=KINDS)
def test_the_method_says_what_a_signature_is(method, rest, kind):
    assert isinstance(TypeAdapter(Signature).validate_python({"method": method} | rest), kind)


def test_names_are_those_that_python_takes_as_arguments():
    """`dense_1/Softmax:0` is a name of the graph, not of the contract."""
    with pytest.raises(ValidationError, match="dense_1/Softmax:0"):
        PredictSignature.model_validate(
            {"method": "predict", "inputs": {"x": {"shape": ["N"]}}, "outputs": {"dense_1/Softmax:0": {"shape": ["N"]}}}
        )

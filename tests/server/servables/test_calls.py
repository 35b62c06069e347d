import numpy as np
import pytest

from slipway_server.servables.calls import check_method, classify_call, inference_call, predict_call, regress_call
from slipway_wire.inference import ExamplesRequest, InferenceTask, MultiInferenceRequest
from slipway_wire.model_spec import ModelSpec
from slipway_wire.predict import PredictRequest
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS, Signature
from slipway_wire.status import FailedPrecondition, Internal, InvalidArgument

X = np.float32([1.0])


@pytest.fixture
def signatures(fakes):
    return fakes.HalfPlusTwo().signatures


def test_predict_takes_the_default_signature_and_all_outputs(signatures):
    call = predict_call(PredictRequest(ModelSpec("m"), {"x": X}), signatures)

    assert (call.signature, dict(call.inputs), call.outputs) == ("serving_default", {"x": X}, ("y",))


def test_predict_with_an_unknown_signature_is_a_failed_precondition(signatures):
    """REST says INVALID_ARGUMENT for the same; both are TF Serving's."""
    with pytest.raises(FailedPrecondition, match=r'^Serving signature key "nope" not found\.$'):
        predict_call(PredictRequest(ModelSpec("m", signature_name="nope"), {"x": X}), signatures)


@pytest.mark.parametrize("request_", [{"inputs": {"z": X}}, {"inputs": {"x": X}, "output_filter": ("z",)}])
def test_predict_checks_names(signatures, request_):
    with pytest.raises(InvalidArgument):
        predict_call(PredictRequest(ModelSpec("m"), **request_), signatures)


def test_classify_and_regress_feed_the_serialized_examples(signatures):
    request = ExamplesRequest(ModelSpec("m", signature_name="regress"), [b"a", b"b"])

    call = regress_call(request, signatures)

    assert call.inputs["inputs"].tolist() == [b"a", b"b"]
    assert call.outputs == ("outputs",)
    with pytest.raises(InvalidArgument, match="Expected classification signature outputs"):
        classify_call(request, signatures)
    with pytest.raises(InvalidArgument, match="No signature was found with the name: nope"):
        classify_call(ExamplesRequest(ModelSpec("m", signature_name="nope"), [b"a"]), signatures)


def test_the_tasks_of_a_multi_inference_are_one_call(signatures):
    tasks = (
        InferenceTask(ModelSpec("m", signature_name="classify"), CLASSIFY),
        InferenceTask(ModelSpec("m", signature_name="regress"), REGRESS),
    )

    joint = inference_call(MultiInferenceRequest(tasks, [b"a"]), signatures)

    assert [(call.signature, call.outputs) for call in joint.calls] == [
        ("classify", ("classes", "scores")),
        ("regress", ("outputs",)),
    ]
    assert joint.inputs["inputs"].tolist() == [b"a"]
    assert joint.outputs == ("0/classes", "0/scores", "1/outputs")
    outputs = [{"classes": X, "scores": X + 1}, {"outputs": X + 2}]
    assert joint.parted(joint.joined(outputs)) == outputs


def test_a_multi_inference_needs_examples(signatures):
    tasks = (InferenceTask(ModelSpec("m", signature_name="classify"), CLASSIFY),)

    with pytest.raises(InvalidArgument, match="Input is empty"):
        inference_call(MultiInferenceRequest(tasks, []), signatures)


@pytest.mark.parametrize(
    ("api", "method", "error", "message"),
    [
        (
            "Predict",
            "other",
            Internal,
            f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}. Was: other",
        ),
        (
            "Classify",
            REGRESS,
            InvalidArgument,
            f"Expected classification signature method_name to be {CLASSIFY}. Was: {REGRESS}",
        ),
        (
            "Regress",
            "",
            InvalidArgument,
            f"Expected regression signature method_name to be {REGRESS}. Was: ",
        ),
    ],
)
def test_a_signature_of_another_method_is_told_in_tf_servings_words(api, method, error, message):
    with pytest.raises(error) as refusal:
        check_method(api, Signature("s", method, {}, {}))

    assert refusal.value.message == message


@pytest.mark.parametrize(
    ("api", "method"),
    [("Predict", PREDICT), ("Predict", CLASSIFY), ("Predict", REGRESS), ("Classify", CLASSIFY), ("Regress", REGRESS)],
)
def test_a_signature_of_the_same_method_is_not(api, method):
    check_method(api, Signature("s", method, {}, {}))


def test_a_signature_that_is_not_there_is_told_elsewhere():
    check_method("Predict", None)

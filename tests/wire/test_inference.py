import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import dtypes, inference, messages
from slipway_wire.inference import Classification, ExamplesRequest, InferenceTask, Regression
from slipway_wire.model_spec import ModelSpec
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS, Signature, TensorSpec
from slipway_wire.status import InvalidArgument, Unimplemented, WireError


def example(**features):
    message = messages.Example()
    for name, value in features.items():
        message.features.feature[name].int64_list.value.append(value)
    return message.SerializeToString()


SPEC = ModelSpec("m", version=1, signature_name="s")


# --- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [inference.decode_classify_request, inference.decode_regress_request])
def test_a_request_comes_back_as_it_was(decode):
    sent = [example(a=1), example(b=2)]

    request = decode(inference.encode_request("m", sent, version=1, signature_name="s"))

    assert request == ExamplesRequest(SPEC, sent)
    assert request.tensor().tolist() == sent
    assert request.tensor().shape == (2,)


def test_a_context_is_merged_into_every_example_and_gives_way_to_it():
    request = messages.ClassificationRequest(model_spec=messages.ModelSpec(name="m"))
    both = request.input.example_list_with_context
    both.context.MergeFromString(example(c=1, x=1))
    both.examples.add().MergeFromString(example(x=2))

    (serialized,) = inference.decode_classify_request(request.SerializeToString()).examples

    features = messages.Example.FromString(serialized).features.feature
    assert {name: features[name].int64_list.value[0] for name in features} == {"c": 1, "x": 2}


@pytest.mark.parametrize(("size", "is_taken"), [(2**17, True), (2**17 + 1, False)])
def test_a_context_in_every_example_becomes_only_so_much(monkeypatch, size, is_taken):
    """A small request could take all memory otherwise; nothing of it is made before that is known."""
    monkeypatch.setattr(inference, "_MAX_CONTEXTS_BYTES", 2**20)
    request = messages.RegressionRequest(model_spec=messages.ModelSpec(name="m"))
    both = request.input.example_list_with_context
    value = both.context.features.feature["c"].bytes_list.value
    value.append(b"")
    value[0] = bytes(size - both.context.ByteSize() - 12)
    value[0] += bytes(size - both.context.ByteSize())
    for _ in range(8):
        both.examples.add()

    assert both.context.ByteSize() == size
    if is_taken:
        assert len(inference.decode_regress_request(request.SerializeToString()).examples) == 8
    else:
        with pytest.raises(InvalidArgument, match="a context of 131073 bytes in 8 examples is 1048584 bytes"):
            inference.decode_regress_request(request.SerializeToString())


@pytest.mark.parametrize("kind", [None, "example_list", "example_list_with_context"])
def test_no_examples_are_refused_in_tf_servings_words(kind):
    request = messages.RegressionRequest(model_spec=messages.ModelSpec(name="m"))
    if kind:
        getattr(request.input, kind).SetInParent()
        if kind == "example_list_with_context":
            request.input.example_list_with_context.context.MergeFromString(example(c=1))

    decoded = inference.decode_regress_request(request.SerializeToString())

    with pytest.raises(InvalidArgument, match=r"^Input is empty\.$"):
        decoded.tensor()


def test_what_is_no_example_is_not_sent():
    with pytest.raises(InvalidArgument):
        inference.encode_request("m", [b"\xff"])


def multi(*tasks, name="m"):
    request = messages.MultiInferenceRequest()
    for signature, method in tasks:
        request.tasks.add(model_spec=messages.ModelSpec(name=name, signature_name=signature), method_name=method)
    request.input.example_list.examples.add()
    return request


def test_tasks_come_in_their_order():
    request = inference.decode_multi_inference_request(multi(("r", REGRESS), ("c", CLASSIFY)).SerializeToString())

    assert request.tasks == (
        InferenceTask(ModelSpec("m", signature_name="r"), REGRESS),
        InferenceTask(ModelSpec("m", signature_name="c"), CLASSIFY),
    )
    assert request.examples == [b""]


OTHER_MODEL = multi(("a", REGRESS), ("b", REGRESS))
OTHER_MODEL.tasks[1].model_spec.name = "other"


@pytest.mark.parametrize(
    "request_", [multi(), multi(("a", REGRESS), name=""), multi(("a", REGRESS), ("b", REGRESS), name="")]
)
def test_the_first_task_names_the_model(request_):
    with pytest.raises(InvalidArgument, match=r"^ModelSpec has no name specified\.$"):
        inference.decode_multi_inference_request(request_.SerializeToString())


NAMELESS = multi(("a", REGRESS), ("b", REGRESS))
NAMELESS.tasks[1].model_spec.name = ""


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (NAMELESS, InvalidArgument, "Found ModelSpec with an empty model name."),
        (
            OTHER_MODEL,
            InvalidArgument,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (multi(("a", REGRESS), ("a", CLASSIFY)), InvalidArgument, "Duplicate evaluation of signature: a"),
        (
            multi(("", REGRESS), ("serving_default", CLASSIFY)),
            InvalidArgument,
            "Duplicate evaluation of signature: serving_default",
        ),
        (multi(("nope", PREDICT)), InvalidArgument, "Requested signature not found in model graph: nope"),
        (multi(("a", PREDICT)), Unimplemented, f"Unsupported signature method_name: {PREDICT}"),
        (multi(("a", CLASSIFY)), InvalidArgument, None),
    ],
)
def test_tasks_that_cannot_run_together_are_told_in_tf_servings_words(request_, error, message):
    available = {key: signature(["inputs"], ["outputs"]) for key in ("a", "b", "serving_default")}
    decoded = inference.decode_multi_inference_request(request_.SerializeToString())

    with pytest.raises(error) as caught:
        inference.check_tasks(decoded, available)

    assert message is None or caught.value.message == message


# --- signatures ------------------------------------------------------------------------------------


def signature(inputs, outputs):
    def specs(names):
        return {name: TensorSpec(name, dtypes.FLOAT, None, f"{name}:0") for name in names}

    return Signature("s", "", specs(inputs), specs(outputs))


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [(["scores"], ("scores",)), (["classes"], ("classes",)), (["scores", "classes"], ("classes", "scores"))],
)
def test_a_classifier_gives_classes_scores_or_both(outputs, wanted):
    assert inference.check_classify_signature(signature(["inputs"], outputs)) == wanted


def test_a_regressor_gives_outputs():
    assert inference.check_regress_signature(signature(["inputs"], ["outputs"])) == ("outputs",)


@pytest.mark.parametrize(
    ("check", "inputs", "outputs", "message"),
    [
        (inference.check_classify_signature, [], ["scores"], "Expected one input Tensor."),
        (inference.check_classify_signature, ["inputs"], ["a", "b", "c"], "Expected one or two output Tensors, found 3"),
        (inference.check_classify_signature, ["x"], ["scores"], "No classification inputs found in SignatureDef: "),
        (inference.check_classify_signature, ["inputs"], ["y"], 'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: '),
        (inference.check_regress_signature, ["inputs", "x"], ["outputs"], "Expected one input Tensor."),
        (inference.check_regress_signature, ["inputs"], ["outputs", "y"], "Expected one output Tensor."),
        (inference.check_regress_signature, ["x"], ["outputs"], "No regression inputs found in SignatureDef: "),
        (inference.check_regress_signature, ["inputs"], ["y"], "No regression outputs found in SignatureDef: s (inputs: float […]) -> (y: float […])"),
    ],
)  # fmt: skip
def test_signatures_of_another_kind_are_told_in_tf_servings_words(check, inputs, outputs, message):
    with pytest.raises(InvalidArgument) as caught:
        check(signature(inputs, outputs))

    assert caught.value.message.startswith(message)


def test_a_missing_signature_is_an_invalid_argument_here():
    with pytest.raises(InvalidArgument, match=r"^No signature was found with the name: s$"):
        inference.find_signature({}, "s")


# --- results ---------------------------------------------------------------------------------------

CLASSES = np.array([[b"a", b"b"], [b"c", b"d"]], object)
SCORES = np.float32([[0.5, 0.25], [1, 2]])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"scores": SCORES[0]}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ({"scores": SCORES.astype(np.float64)}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"classes": SCORES}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ({"scores": SCORES[:1]}, "Expected scores output batch size of 2. Got: 1"),
        (
            {"classes": CLASSES, "scores": SCORES[:, :1]},
            "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
        ),
    ],
)
def test_a_classifier_that_gives_something_else_is_told_in_tf_servings_words(outputs, message):
    with pytest.raises(InvalidArgument) as caught:
        inference.classification(outputs, rows=2)

    assert caught.value.message == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.zeros((2, 2), np.float32),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
        ),
        (np.float32(1), "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []"),
        (np.zeros(3, np.float32), "Input batch size did not match output batch size: 2 vs. 3"),
        (np.zeros(2), "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
def test_a_regressor_that_gives_something_else_is_told_in_tf_servings_words(values, message):
    with pytest.raises(InvalidArgument) as caught:
        inference.regression({"outputs": np.asarray(values)}, rows=2)

    assert caught.value.message == message


@pytest.mark.parametrize("values", [np.float32([1, 2]), np.float32([[1], [2]])])
def test_a_regression_may_have_a_second_axis_of_one(values):
    assert inference.regression({"outputs": values}, rows=2).values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("classes", "scores"), [(CLASSES, SCORES), (CLASSES, None), (None, SCORES)], ids=["both", "classes", "scores"]
)
def test_a_classification_comes_back_as_it_was(classes, scores):
    spec, back = inference.decode_classify_response(
        inference.encode_classify_response(SPEC, Classification(classes, scores))
    )

    assert spec == SPEC
    assert back.classes.tolist() == (np.full((2, 2), b"", object) if classes is None else classes).tolist()
    assert back.scores.tolist() == (np.zeros((2, 2)) if scores is None else scores).tolist()


def test_a_label_that_is_not_utf8_does_not_break_the_answer():
    answer = Classification(np.array([[b"\xff"]], object), None)

    _, back = inference.decode_classify_response(inference.encode_classify_response(SPEC, answer))

    assert back.classes.tolist() == [["\ufffd".encode()]]


def test_a_regression_comes_back_as_it_was():
    spec, back = inference.decode_regress_response(
        inference.encode_regress_response(SPEC, Regression(np.float32([0.1, 2])))
    )

    assert spec == SPEC
    assert back.values.tolist() == np.float32([0.1, 2]).tolist()


def test_results_of_several_tasks_come_in_their_order():
    serialized = inference.encode_multi_inference_response(
        [(SPEC, Regression(np.float32([1]))), (SPEC, Classification(None, SCORES[:1]))]
    )

    first, second = messages.MultiInferenceResponse.FromString(serialized).results
    assert first.regression_result.regressions[0].value == 1
    assert [one.score for one in second.classification_result.classifications[0].classes] == [0.5, 0.25]
    assert first.model_spec.version.value == 1


@pytest.mark.parametrize(
    "decode",
    [
        inference.decode_classify_request,
        inference.decode_regress_request,
        inference.decode_multi_inference_request,
        inference.decode_classify_response,
        inference.decode_regress_response,
    ],
)
@given(data=st.binary(max_size=120))
def test_any_bytes_give_a_message_or_a_wire_error(decode, data):
    with contextlib.suppress(WireError):
        decode(data)

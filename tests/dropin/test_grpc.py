"""PredictionService and ModelService over plain grpcio; what the official stubs see is in test_official."""

import time

import ml_dtypes
import numpy as np
import pytest
from tests.dropin.processes import predict_request

from slipway_wire import inference, messages, model_metadata, model_status, paths, tensors

ONE = {"x": np.float32([1.0])}


def tensor(dtype, shape, **fields):
    """Make a TensorProto with typed fields; *shape* None leaves it out."""
    proto = messages.TensorProto(dtype=dtype, **fields)
    for size in shape or ():
        proto.tensor_shape.dim.add(size=size)
    return proto


def tasks(*specs):
    """Make a MultiInferenceRequest of (model, signature, method), for an example with x = 2."""
    request = messages.MultiInferenceRequest()
    for model, signature, method in specs:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
    return request


# Behaviour, request, code, part of the details.
REFUSED_PREDICT = [
    ("5.1-missing", messages.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("5.1-missing", predict_request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("5.1-version", predict_request("nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    ("5.1-version", predict_request("half_plus_two", version=7), "NOT_FOUND",
     "Servable not found for request: Specific(half_plus_two, 7)"),
    ("5.1-label", predict_request("half_plus_two", label="L"), "INVALID_ARGUMENT",
     "Unrecognized servable version label: L"),
    ("5.1-label", predict_request("nope", label="L"), "INVALID_ARGUMENT", "Unrecognized servable version label: L"),
    ("5.2-order", predict_request("nope", "S", {"z": messages.TensorProto(dtype=99)}), "NOT_FOUND", "Latest(nope)"),
    ("5.2-order", predict_request("half_plus_two", "S", {"z": messages.TensorProto(dtype=99)}), "FAILED_PRECONDITION",
     'Serving signature key "S" not found.'),
    ("5.2-unknown-signature", predict_request("half_plus_two", "S", ONE), "FAILED_PRECONDITION",
     'Serving signature key "S" not found.'),
    ("5.2-input-count", predict_request("half_plus_two", "", {}), "INVALID_ARGUMENT",
     "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}."),
    ("5.2-input-count", predict_request("half_plus_two", "", {"x": np.float32([1]), "b": np.float32([1])}), "INVALID_ARGUMENT",
     "input size does not match signature: 2!=1 len({b,x}) != len({x}). Sent extra: {b}. Missing but required: {}."),
    ("5.2-invalid-name", predict_request("half_plus_two", "", {"z": np.float32([1])}), "INVALID_ARGUMENT", "x"),
    ("5.2-undecodable", predict_request("half_plus_two", "", {"x": tensor(1, [3], tensor_content=b"abc")}), "INVALID_ARGUMENT",
     "tensor parsing error: x"),
    ("5.2-undecodable", predict_request("half_plus_two", "", {"x": tensor(1, [-2], float_val=[1])}), "INVALID_ARGUMENT",
     "tensor parsing error: x"),
    ("5.2-output-filter", predict_request("half_plus_two", "", ONE, output_filter=["z"]), "INVALID_ARGUMENT",
     "output tensor alias not found in signature: z Outputs expected to be in the set {y}."),
    ("5.2-output-filter", predict_request("half_plus_two", "", ONE, output_filter=["y", "y"]), "INVALID_ARGUMENT",
     "duplicate output tensor alias: y"),
    ("5.2-wrong-dtype", predict_request("half_plus_two", "", {"x": np.float64([1])}), "INVALID_ARGUMENT", ""),
    ("5.2-wrong-dtype", predict_request("half_plus_two", "", {"x": np.array([b"a"], object)}), "INVALID_ARGUMENT", ""),
]  # fmt: skip


@pytest.mark.behaviour(
    "5.1-missing",
    "5.1-version",
    "5.1-label",
    "5.2-order",
    "5.2-unknown-signature",
    "5.2-input-count",
    "5.2-invalid-name",
    "5.2-undecodable",
    "5.2-output-filter",
    "5.2-wrong-dtype",
)
@pytest.mark.parametrize(("behaviour", "request_message", "code", "details"), REFUSED_PREDICT)
def test_predict_refuses(server, behaviour, request_message, code, details):
    found = server.refusal(paths.GRPC_PREDICT, request_message)

    assert found[0] == code
    assert details in found[1]


@pytest.mark.behaviour("5.1-version", "5.1-label", "5.1-effective")
def test_the_answer_names_what_answered(server):
    for options, version in (
        ({}, 124),
        ({"version": 123}, 123),
        ({"label": "stable"}, 123),
        ({"label": "canary"}, 124),
    ):
        spec, outputs = server.predict("half_plus_two", ONE, **options)
        assert (spec.name, spec.version, spec.label, spec.signature_name) == (
            *("half_plus_two", version, None),
            "serving_default",
        )
        assert outputs == {"y": [2.5]}


@pytest.mark.behaviour("5.2-any-method")
def test_predict_calls_any_signature(server, example):
    answer = server.predict(
        "half_plus_two", {"inputs": np.array([example(x=2.0)], object)}, signature_name="regress_x_to_y"
    )

    assert answer[1] == {"outputs": [[3.0]]}


@pytest.mark.behaviour("5.2-defaults")
def test_an_input_left_out_has_its_default(server):
    """X is 0 where it is not sent; one input too many is still one too many."""
    assert server.predict("tf2", {})[1] == {"y": [2.0]}
    code, details = server.refusal(
        paths.GRPC_PREDICT, predict_request("tf2", "", {"x": np.float32([1]), "z": np.float32(1)})
    )
    assert (code, "input size does not match signature: 2!=1" in details) == ("INVALID_ARGUMENT", True)


@pytest.mark.behaviour("5.2-output-filter")
def test_only_the_filtered_outputs_are_answered(server):
    inputs = {"a": np.float32([1]), "b": np.array([b"s"], object)}

    assert server.predict("types", inputs, signature_name="two")[1] == {"a": [1.0], "b": [b"s"]}
    assert server.predict("types", inputs, signature_name="two", output_filter=["b"])[1] == {"b": [b"s"]}


@pytest.mark.behaviour("5.2-no-inputs")
def test_a_signature_without_inputs(server):
    """The counter keeps its count between calls."""
    signatures = ("reset_counter", "incr_counter", "incr_counter", "get_counter")
    values = [server.predict("counter", {}, signature_name=signature)[1]["output"] for signature in signatures]
    values.append(server.predict("counter", {"delta": np.float32(3)}, signature_name="incr_counter_by")[1]["output"])

    assert values == [0.0, 1.0, 2.0, 2.0, 5.0]


# dtype, TensorProto, the values of the answer
TENSORS = {
    "typed": ("float", tensor(1, [2], float_val=[1, 2]), [1.0, 2.0]),
    "content": ("float", tensor(1, [2], tensor_content=np.float32([1, 2]).tobytes()), [1.0, 2.0]),
    "last repeats": ("float", tensor(1, [3], float_val=[1, 2]), [1.0, 2.0, 2.0]),
    "zeros": ("float", tensor(1, [2]), [0.0, 0.0]),
    "scalar": ("float", tensor(1, None, float_val=[4]), 4.0),
    "empty": ("float", tensor(1, [0, 3]), []),
    "double": ("double", tensor(2, [1], double_val=[0.1]), [0.1]),
    "int32": ("int32", tensor(3, [1], int_val=[-7]), [-7]),
    "uint8": ("uint8", tensor(4, [1], int_val=[255]), [255]),
    "int16": ("int16", tensor(5, [1], int_val=[-5]), [-5]),
    "int8": ("int8", tensor(6, [1], int_val=[-5]), [-5]),
    "string": ("string", tensor(7, [2], string_val=[b"\xff", b""]), [b"\xff", b""]),
    "complex": ("complex64", tensor(8, [1], scomplex_val=[1, 2]), [1 + 2j]),
    "int64": ("int64", tensor(9, [1], int64_val=[-(2**63)]), [-(2**63)]),
    "bool": ("bool", tensor(10, [2], bool_val=[True, False]), [True, False]),
    "bfloat16": ("bfloat16", tensor(14, [1], half_val=[np.array(1.5, ml_dtypes.bfloat16).view(np.uint16)]), [1.5]),
    "uint16": ("uint16", tensor(17, [1], int_val=[65535]), [65535]),
    "half": ("half", tensor(19, [1], half_val=[np.float16(1.5).view(np.uint16)]), [1.5]),
    "uint32": ("uint32", tensor(22, [1], uint32_val=[2**32 - 1]), [2**32 - 1]),
    "uint64": ("uint64", tensor(23, [1], uint64_val=[2**64 - 1]), [2**64 - 1]),
}


@pytest.mark.behaviour("5.2-tensor-in", "5.2-tensor-out")
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_in_every_form(server, name):
    signature, proto, values = TENSORS[name]

    answer = server.call(paths.GRPC_PREDICT, predict_request("types", signature, {"x": proto}))

    output = messages.PredictResponse.FromString(answer).outputs["y"]
    assert tensors.from_proto(output).tolist() == values
    assert not output.tensor_content
    assert output.HasField("tensor_shape")
    assert output.dtype == proto.dtype


@pytest.mark.behaviour("1.3-enable_serialization_as_tensor_content")
def test_tensor_content_with_the_flag(batched):
    answer = batched.call(paths.GRPC_PREDICT, predict_request("types", "float", {"x": np.float32([1, 2])}))

    output = messages.PredictResponse.FromString(answer).outputs["y"]
    assert output.tensor_content == np.float32([1, 2]).tobytes()
    assert not output.float_val


@pytest.mark.behaviour("5.0-large-messages")
def test_tens_of_megabytes(server):
    array = np.arange(6_000_000, dtype=np.float32)

    answer = server.call(paths.GRPC_PREDICT, predict_request("types", "float", {"x": array}))

    assert np.array_equal(tensors.from_proto(messages.PredictResponse.FromString(answer).outputs["y"]), array)


@pytest.mark.behaviour("5.0-details-cut")
def test_long_details_are_cut(server):
    code, details = server.refusal(paths.GRPC_PREDICT, predict_request("n" * 3000))

    assert code == "NOT_FOUND"
    assert details == f"Servable not found for request: Latest({'n' * 3000}"[:1024] + "...TRUNCATED"


@pytest.mark.behaviour("5.0-deadline")
def test_a_call_ends_at_its_deadline(server, open_gate):
    began = time.monotonic()
    refused = server.refusal(paths.GRPC_PREDICT, predict_request("gated", "wait", ONE), timeout=0.3)

    assert refused[0] == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 60
    open_gate(server)
    assert server.predict("gated", ONE, signature_name="wait")[1] == {"y": [1.0]}


# tf.Example


def examples_request(kind, model, signature, *examples, context=None):
    request = kind()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if context is not None:
        request.input.example_list_with_context.context.MergeFromString(context)
        where = request.input.example_list_with_context.examples
    else:
        where = request.input.example_list.examples
    for one in examples:
        where.add().MergeFromString(one)
    return request


def classify(model, signature, *examples, **options):
    return examples_request(messages.ClassificationRequest, model, signature, *examples, **options)


def regress(model, signature, *examples, **options):
    return examples_request(messages.RegressionRequest, model, signature, *examples, **options)


@pytest.mark.behaviour("5.3-example-list", "5.4-classify", "5.4-regress", "5.1-effective")
def test_classify_and_regress(server, example):
    examples = [example(x=1.0), example(x=3.0)]

    answer = server.call(paths.GRPC_CLASSIFY, classify("half_plus_two", "classify_x_to_y", *examples))
    spec, found = inference.decode_classify_response(answer)
    assert (spec.name, spec.version, spec.signature_name) == ("half_plus_two", 124, "classify_x_to_y")
    assert found.scores.tolist() == [[2.5], [3.5]]
    answer = server.call(paths.GRPC_REGRESS, regress("half_plus_two", "regress_x_to_y2", *examples))
    assert inference.decode_regress_response(answer)[1].values.tolist() == [3.5, 4.5]


@pytest.mark.behaviour("5.4-classify", "5.4-regress")
def test_labels_and_columns(server, example):
    one = example(x=b"a")

    for signature in ("classify", "classes_only"):
        answer = server.call(paths.GRPC_CLASSIFY, classify("labelled", signature, one, one))
        response = messages.ClassificationResponse.FromString(answer)
        assert [len(each.classes) for each in response.result.classifications] == [1, 1]
        assert response.result.classifications[0].classes[0].label.encode() == one
    for signature in ("regress", "regress_column"):
        answer = server.call(paths.GRPC_REGRESS, regress("labelled", signature, one, one))
        assert inference.decode_regress_response(answer)[1].values.tolist() == [len(one)] * 2


@pytest.mark.behaviour("5.3-with-context")
def test_the_context_stands_in_front_of_each_example(server, example):
    """The label is what the model was fed, byte by byte; the example's own value wins in the graph."""
    context, one, empty = example(x=5.0), example(x=1.0), b""

    answer = server.call(
        paths.GRPC_CLASSIFY, classify("labelled", "classify", example(y=b"a"), context=example(z=b"b"))
    )
    label = messages.ClassificationResponse.FromString(answer).result.classifications[0].classes[0].label
    assert label.encode() == example(z=b"b") + example(y=b"a")
    answer = server.call(paths.GRPC_REGRESS, regress("half_plus_two", "regress_x_to_y", one, empty, context=context))
    assert inference.decode_regress_response(answer)[1].values.tolist() == [2.5, 4.5]


# Behaviour, method, request, part of the details.
REFUSED_EXAMPLES = [
    ("5.3-empty", paths.GRPC_CLASSIFY, classify("half_plus_two", "classify_x_to_y"), "Input is empty."),
    ("5.3-empty", paths.GRPC_REGRESS, regress("half_plus_two", "regress_x_to_y", context=b""), "Input is empty."),
    ("5.4-unknown-signature", paths.GRPC_CLASSIFY, classify("half_plus_two", "S", b""),
     "No signature was found with the name: S"),
    ("5.4-unknown-signature", paths.GRPC_REGRESS, regress("half_plus_two", "S", b""),
     "No signature was found with the name: S"),
    ("5.4-signature-form", paths.GRPC_CLASSIFY, classify("types", "two", b""), "Expected one input Tensor."),
    ("5.4-signature-form", paths.GRPC_CLASSIFY, classify("half_plus_two", "", b""), "No classification inputs found in SignatureDef: "),
    ("5.4-signature-form", paths.GRPC_REGRESS, regress("types", "two", b""), "Expected one input Tensor."),
    ("5.4-signature-form", paths.GRPC_REGRESS, regress("half_plus_two", "", b""), "No regression inputs found in SignatureDef: "),
    ("5.4-signature-form", paths.GRPC_REGRESS, regress("labelled", "classify", b""), "Expected one output Tensor."),
    ("5.4-classify-shape", paths.GRPC_CLASSIFY, classify("labelled", "flat", b""),
     "Expected Tensor shape: [batch_size num_classes] but got "),
    ("5.4-regress-type", paths.GRPC_REGRESS, regress("labelled", "regress_strings", b""), "DT_FLOAT"),
    ("5.1-missing", paths.GRPC_CLASSIFY, messages.ClassificationRequest(), "Missing ModelSpec"),
    ("5.1-missing", paths.GRPC_REGRESS, messages.RegressionRequest(), "Missing ModelSpec"),
]  # fmt: skip


@pytest.mark.behaviour(
    "5.3-empty",
    "5.4-unknown-signature",
    "5.4-signature-form",
    "5.4-classify-shape",
    "5.4-regress-type",
    "5.1-missing",
)
@pytest.mark.parametrize(("behaviour", "method", "request_message", "details"), REFUSED_EXAMPLES)
def test_classify_and_regress_refuse(server, behaviour, method, request_message, details):
    found = server.refusal(method, request_message)

    assert found[0] == "INVALID_ARGUMENT"
    assert details in found[1]


# MultiInference


@pytest.mark.behaviour("5.5-results")
def test_multi_inference_answers_in_order(server):
    request = tasks(
        ("half_plus_two", "regress_x_to_y", "regress"),
        ("half_plus_two", "classify_x_to_y", "classify"),
        ("half_plus_two", "regress_x_to_y2", "regress"),
    )

    results = messages.MultiInferenceResponse.FromString(server.call(paths.GRPC_MULTI_INFERENCE, request)).results

    assert [one.model_spec.signature_name for one in results] == [
        "regress_x_to_y",
        "classify_x_to_y",
        "regress_x_to_y2",
    ]
    assert {(one.model_spec.name, one.model_spec.version.value) for one in results} == {("half_plus_two", 124)}
    assert results[0].regression_result.regressions[0].value == 3.0
    assert results[1].classification_result.classifications[0].classes[0].score == 3.0
    assert results[2].regression_result.regressions[0].value == 4.0


REFUSED_TASKS = [
    ("5.5-no-task", tasks(), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("5.5-one-model", tasks(("half_plus_two", "regress_x_to_y", "regress"), ("tf2", "regress_x_to_y", "regress")),
     "INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    ("5.5-one-model", tasks(("half_plus_two", "regress_x_to_y", "regress"), ("", "regress_x_to_y2", "regress")),
     "INVALID_ARGUMENT", ""),
    ("5.5-duplicate", tasks(*2 * [("half_plus_two", "regress_x_to_y", "regress")]), "INVALID_ARGUMENT",
     "Duplicate evaluation of signature: regress_x_to_y"),
    ("5.5-unknown-signature", tasks(("half_plus_two", "S", "regress")), "INVALID_ARGUMENT",
     "Requested signature not found in model graph: S"),
    ("5.5-method", tasks(("half_plus_two", "regress_x_to_y", "predict")), "UNIMPLEMENTED",
     "Unsupported signature method_name: tensorflow/serving/predict"),
    ("5.1-version", tasks(("nope", "S", "regress")), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
]  # fmt: skip


@pytest.mark.behaviour("5.5-no-task", "5.5-one-model", "5.5-duplicate", "5.5-unknown-signature", "5.5-method")
@pytest.mark.parametrize(("behaviour", "request_message", "code", "details"), REFUSED_TASKS)
def test_multi_inference_refuses(server, behaviour, request_message, code, details):
    found = server.refusal(paths.GRPC_MULTI_INFERENCE, request_message)

    assert found[0] == code
    assert details in found[1]


# Metadata and status


@pytest.mark.behaviour("5.6-answer", "5.1-effective")
def test_metadata(server):
    answer = server.call(paths.GRPC_GET_MODEL_METADATA, model_metadata.encode_request("half_plus_two"))

    spec, signatures = model_metadata.decode_response(answer)
    assert (spec.name, spec.version, spec.signature_name) == ("half_plus_two", 124, "")
    assert set(signatures) >= {"serving_default", "regress_x_to_y", "classify_x_to_y"}
    packed = messages.GetModelMetadataResponse.FromString(answer).metadata["signature_def"]
    assert packed.type_url.endswith("/tensorflow.serving.SignatureDefMap")


REFUSED_METADATA = [
    (messages.GetModelMetadataRequest(metadata_field=["signature_def"]), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (messages.GetModelMetadataRequest(model_spec={"name": "tf2"}), "INVALID_ARGUMENT",
     "GetModelMetadataRequest must specify at least one metadata_field"),
    (messages.GetModelMetadataRequest(model_spec={"name": "tf2"}, metadata_field=["graph"]), "INVALID_ARGUMENT",
     "Metadata field graph is not supported"),
    (messages.GetModelMetadataRequest(model_spec={"name": "nope"}, metadata_field=["signature_def"]), "NOT_FOUND",
     "Servable not found for request: Latest(nope)"),
]  # fmt: skip


@pytest.mark.behaviour("5.6-errors")
@pytest.mark.parametrize(("request_message", "code", "details"), REFUSED_METADATA)
def test_metadata_refuses(server, request_message, code, details):
    found = server.refusal(paths.GRPC_GET_MODEL_METADATA, request_message)

    assert found[0] == code
    assert details in found[1]


@pytest.mark.behaviour("5.7-answer")
def test_status(server):
    def versions(**options):
        answer = server.call(paths.GRPC_GET_MODEL_STATUS, model_status.encode_request("half_plus_two", **options))
        return [(one.version, one.state) for one in model_status.decode_response(answer)]

    assert versions() == [(124, "AVAILABLE"), (123, "AVAILABLE")]
    assert versions(version=123) == [(123, "AVAILABLE")]
    labelled = messages.GetModelStatusRequest(model_spec={"name": "half_plus_two", "version_label": "nope"})
    answer = messages.GetModelStatusResponse.FromString(server.call(paths.GRPC_GET_MODEL_STATUS, labelled))
    assert [one.state for one in answer.model_version_status] == [30, 30]


@pytest.mark.behaviour("5.7-errors")
def test_status_refuses(server):
    def refusal(**spec):
        message = messages.GetModelStatusRequest(model_spec=spec) if spec else messages.GetModelStatusRequest()
        return server.refusal(paths.GRPC_GET_MODEL_STATUS, message)

    assert refusal()[0] == "INVALID_ARGUMENT"
    assert refusal(name="nope")[0] == "NOT_FOUND"
    assert refusal(name="half_plus_two", version=messages.ModelSpec(version={"value": 7}).version)[0] == "NOT_FOUND"


@pytest.mark.behaviour("5.0-services")
def test_an_unknown_method_is_unimplemented(server):
    assert server.refusal("/tensorflow.serving.PredictionService/Nope", b"")[0] == "UNIMPLEMENTED"
    assert server.refusal("/tensorflow.serving.Nope/Predict", b"")[0] == "UNIMPLEMENTED"


@pytest.mark.behaviour("10.5-health", "1.3-enable_grpc_healthcheck_service")
def test_health(server, batched):
    def check(service):
        return messages.HealthCheckRequest(service=service)

    for service in ("", "ModelService", "PredictionService"):
        answer = server.call(paths.GRPC_HEALTH_CHECK, check(service))
        assert messages.HealthCheckResponse.FromString(answer).status == 1
    assert server.refusal(paths.GRPC_HEALTH_CHECK, check("nope"))[0] == "NOT_FOUND"
    assert batched.refusal(paths.GRPC_HEALTH_CHECK, check(""))[0] == "UNIMPLEMENTED"

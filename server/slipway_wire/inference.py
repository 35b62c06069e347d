"""Classify, Regress and MultiInference over gRPC: serialized tf.Examples in, labelled scores or values out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from slipway_wire import dtypes, messages, model_spec, signatures
from slipway_wire.dtypes import DataType
from slipway_wire.model_spec import ModelSpec
from slipway_wire.signatures import Signature
from slipway_wire.status import InvalidArgument, Unimplemented
from slipway_wire.tensors import Array

INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
OUTPUTS = "outputs"

# What the contexts of one request may become, when each of its examples has got one.
_MAX_CONTEXTS_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class ExamplesRequest:
    """
    A Classify or Regress call.

    Attributes:
        spec: Model, version or label, signature.
        examples: One serialized tf.Example per row; a context is already part of each.
    """

    spec: ModelSpec
    examples: Sequence[bytes]

    def tensor(self) -> Array:
        """
        Make the string tensor of shape [rows] that is fed to the signature's one input.

        Raises:
            InvalidArgument: There is no example. TF Serving, too, finds the model and the signature first.
        """
        if not self.examples:
            raise InvalidArgument("Input is empty.")
        return examples_tensor(self.examples)


@dataclass(frozen=True, slots=True)
class InferenceTask:
    """One signature of a MultiInference call, and by which method to run it: as sent, not checked yet."""

    spec: ModelSpec
    method: str


@dataclass(frozen=True, slots=True)
class MultiInferenceRequest:
    """Several signatures of one model over the same examples, in one run; at least one, the first with a name."""

    tasks: tuple[InferenceTask, ...]
    examples: Sequence[bytes]

    @property
    def spec(self) -> ModelSpec:
        """The model, version or label that is asked: the first task's."""
        return self.tasks[0].spec

    def tensor(self) -> Array:
        """See `ExamplesRequest.tensor`."""
        return ExamplesRequest(self.spec, self.examples).tensor()


@dataclass(frozen=True, slots=True)
class Classification:
    """
    The answer of a Classify call.

    Attributes:
        classes: Labels, object array of bytes, shape [rows, k]; None if the model gives none.
        scores: float32, shape [rows, k]; None if the model gives none. Never are both None.
    """

    classes: Array | None
    scores: Array | None


@dataclass(frozen=True, slots=True)
class Regression:
    """The answer of a Regress call: float32 values, shape [rows]."""

    values: Array


def examples_tensor(examples: Sequence[bytes]) -> Array:
    """Make the string tensor of shape [rows] from serialized examples."""
    tensor = np.empty(len(examples), object)
    tensor[:] = examples
    return tensor


# --- requests --------------------------------------------------------------------------------------


def encode_request(
    model: str,
    examples: Sequence[bytes],
    *,
    version: int | None = None,
    label: str | None = None,
    signature_name: str = "",
) -> bytes:
    """
    Write a ClassificationRequest or, which is the same on the wire, a RegressionRequest.

    Raises:
        InvalidArgument: If one of *examples* is no serialized tf.Example.
    """
    request = messages.ClassificationRequest(
        model_spec=model_spec.to_proto(ModelSpec(model, version, label, signature_name))
    )
    for example in examples:
        try:
            request.input.example_list.examples.add().MergeFromString(example)
        except DecodeError as error:
            raise InvalidArgument("not a tf.Example") from error
    serialized: bytes = request.SerializeToString(deterministic=True)
    return serialized


def decode_classify_request(serialized: bytes) -> ExamplesRequest:
    """Read a ClassificationRequest, or raise InvalidArgument: malformed, or no model named."""
    return examples_from_proto(_parse(messages.ClassificationRequest, serialized))


def decode_regress_request(serialized: bytes) -> ExamplesRequest:
    """Read a RegressionRequest, or raise InvalidArgument: malformed, or no model named."""
    return examples_from_proto(_parse(messages.RegressionRequest, serialized))


def decode_multi_inference_request(serialized: bytes) -> MultiInferenceRequest:
    """
    Read a MultiInferenceRequest.

    Raises:
        InvalidArgument: If it is malformed, there are no tasks, or the first names no model. The model is found before
            anything else is looked at; see `check_tasks`.
    """
    return multi_inference_from_proto(_parse(messages.MultiInferenceRequest, serialized))


def examples_from_proto(request: Any) -> ExamplesRequest:
    """Read a ClassificationRequest or RegressionRequest message."""
    return ExamplesRequest(model_spec.from_request(request), _examples(request.input))


def multi_inference_from_proto(request: Any) -> MultiInferenceRequest:
    """Read a MultiInferenceRequest message; see `decode_multi_inference_request`."""
    if not request.tasks:
        raise InvalidArgument("ModelSpec has no name specified.")
    model_spec.from_proto(request.tasks[0].model_spec)
    tasks = tuple([InferenceTask(model_spec.unchecked(task.model_spec), task.method_name) for task in request.tasks])
    return MultiInferenceRequest(tasks, _examples(request.input))


def check_tasks(request: MultiInferenceRequest, available: Mapping[str, Signature]) -> list[tuple[str, ...]]:
    """
    Say which outputs to compute for each task.

    Raises:
        InvalidArgument: A task names no model or another than the first, a signature that is not *available*, or one
            that has been asked for already; or the signature does not fit the method.
        Unimplemented: A task's method is neither classify nor regress.

    Source of order and texts: tensorflow_serving/servables/tensorflow/multi_inference.cc.
    """
    outputs: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for task in request.tasks:
        key = task.spec.signature_key
        if not task.spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.spec.name != request.tasks[0].spec.name:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if key in seen:
            raise InvalidArgument(f"Duplicate evaluation of signature: {key}")
        seen.add(key)
        if key not in available:
            raise InvalidArgument(f"Requested signature not found in model graph: {key}")
        if task.method == signatures.CLASSIFY:
            outputs.append(check_classify_signature(available[key]))
        elif task.method == signatures.REGRESS:
            outputs.append(check_regress_signature(available[key]))
        else:
            raise Unimplemented(f"Unsupported signature method_name: {task.method}")
    return outputs


def _parse(message_class: Any, serialized: bytes) -> Any:
    try:
        return message_class.FromString(serialized)
    except DecodeError as error:
        raise InvalidArgument(f"the message is not a {message_class.DESCRIPTOR.name}") from error


def _examples(proto: Any) -> list[bytes]:
    kind = proto.WhichOneof("kind")
    if kind == "example_list":
        examples = [example.SerializeToString() for example in proto.example_list.examples]
    elif kind == "example_list_with_context":
        both = proto.example_list_with_context
        context = context_for(len(both.examples), both.context.SerializeToString())
        examples = [context + example.SerializeToString() for example in both.examples]
    else:
        examples = []
    return examples


def context_for(count: int, context: bytes) -> bytes:
    """
    Return *context*, to be put in front of each of *count* serialized examples.

    Two serialized messages, one after the other, are their merge: what both have is the example's.

    Raises:
        InvalidArgument: It would become too much: a megabyte may hold half a megabyte of context, and a quarter of a million
            examples.
    """
    if count * len(context) > _MAX_CONTEXTS_BYTES:
        raise InvalidArgument(
            f"a context of {len(context)} bytes in {count} examples is {count * len(context)} bytes, and at most "
            f"{_MAX_CONTEXTS_BYTES} are taken; ask for fewer examples at once"
        )
    return context


# --- signatures ------------------------------------------------------------------------------------


def find_signature(available: Mapping[str, Signature], key: str) -> Signature:
    """Pick the signature a Classify or Regress call names, or raise InvalidArgument in TF Serving's words."""
    try:
        return available[key]
    except KeyError:
        raise InvalidArgument(f"No signature was found with the name: {key}") from None


def check_classify_signature(signature: Signature) -> tuple[str, ...]:
    """
    Say which outputs to compute for Classify: those of `classes` and `scores` there are.

    Raises:
        InvalidArgument: If the signature has not the inputs and outputs of a classifier.

    Source: tensorflow_serving/servables/tensorflow/classifier.cc (PreProcessClassification).
    """
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {_describe(signature)}")
    outputs = tuple(alias for alias in (CLASSES, SCORES) if alias in signature.outputs)
    if not outputs:
        raise InvalidArgument(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {_describe(signature)}"
        )
    return outputs


def check_regress_signature(signature: Signature) -> tuple[str, ...]:
    """
    Say which output to compute for Regress.

    Raises:
        InvalidArgument: If the signature has not the input and output of a regressor.

    Source: tensorflow_serving/servables/tensorflow/regressor.cc (PreProcessRegression).
    """
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {_describe(signature)}")
    if OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {_describe(signature)}")
    return (OUTPUTS,)


def _describe(signature: Signature) -> str:
    inputs = ", ".join(map(str, signature.inputs.values()))
    outputs = ", ".join(map(str, signature.outputs.values()))
    return f"{signature.name} ({inputs}) -> ({outputs})"


# --- results ---------------------------------------------------------------------------------------


def classification(outputs: Mapping[str, Array], rows: int) -> Classification:
    """
    Check what the model gave for Classify.

    Args:
        outputs: `classes` (strings) and `scores` (float32), one or both, each of shape [rows, k].
        rows: Number of examples asked about.

    Raises:
        InvalidArgument: If a shape or dtype is another one.

    Source: tensorflow_serving/servables/tensorflow/classifier.cc (PostProcessClassificationResult).
    """
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for name, array, data_type in ((CLASSES, classes, dtypes.STRING), (SCORES, scores, dtypes.FLOAT)):
        if array is None:
            continue
        if array.ndim != 2:
            raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        _check_dtype(f"Expected {name} Tensor of {data_type.enum_name}. Got: ", array, data_type)
        if len(array) != rows:
            raise InvalidArgument(f"Expected {name} output batch size of {rows}. Got: {len(array)}")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return Classification(classes, scores)


def regression(outputs: Mapping[str, Array], rows: int) -> Regression:
    """
    Check what the model gave for Regress: `outputs`, float32, of shape [rows] or [rows, 1].

    Raises:
        InvalidArgument: If shape or dtype is another one.

    Source: tensorflow_serving/servables/tensorflow/regressor.cc (PostProcessRegressionResult).
    """
    values = outputs[OUTPUTS]
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise InvalidArgument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
        )
    if len(values) != rows:
        raise InvalidArgument(f"Input batch size did not match output batch size: {rows} vs. {len(values)}")
    _check_dtype(f"Expected output Tensor of {dtypes.FLOAT.enum_name}.  Got: ", values, dtypes.FLOAT)
    return Regression(values.reshape(rows))


def _check_dtype(message: str, array: Array, wanted: DataType) -> None:
    found = dtypes.from_numpy(array.dtype)
    if found is not wanted:
        raise InvalidArgument(message + found.enum_name)


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


# --- responses -------------------------------------------------------------------------------------


def encode_classify_response(spec: ModelSpec, answer: Classification) -> bytes:
    """Write a ClassificationResponse; *spec* is the one that served."""
    response = messages.ClassificationResponse(model_spec=model_spec.to_proto(spec))
    _fill_classification(response.result, answer)
    serialized: bytes = response.SerializeToString()
    return serialized


def encode_regress_response(spec: ModelSpec, answer: Regression) -> bytes:
    """Write a RegressionResponse; *spec* is the one that served."""
    response = messages.RegressionResponse(model_spec=model_spec.to_proto(spec))
    _fill_regression(response.result, answer)
    serialized: bytes = response.SerializeToString()
    return serialized


def inference_results(
    request: MultiInferenceRequest, outputs: Sequence[Mapping[str, Array]]
) -> list[Classification | Regression]:
    """
    Check what the model gave for each task; see `classification` and `regression`.

    Args:
        request: What was asked, `check_tasks` passed.
        outputs: For each task, output alias -> array.
    """
    rows = len(request.examples)
    return [
        classification(arrays, rows) if task.method == signatures.CLASSIFY else regression(arrays, rows)
        for task, arrays in zip(request.tasks, outputs, strict=True)
    ]


def encode_multi_inference_response(results: Sequence[tuple[ModelSpec, Classification | Regression]]) -> bytes:
    """Write a MultiInferenceResponse, results in the order of the tasks."""
    response = messages.MultiInferenceResponse()
    for spec, answer in results:
        result = response.results.add(model_spec=model_spec.to_proto(spec))
        if isinstance(answer, Classification):
            _fill_classification(result.classification_result, answer)
        else:
            _fill_regression(result.regression_result, answer)
    serialized: bytes = response.SerializeToString()
    return serialized


def _fill_classification(result: Any, answer: Classification) -> None:
    shaped = answer.scores if answer.classes is None else answer.classes
    assert shaped is not None  # a Classification has one of the two
    result.SetInParent()
    labels = [[b""] * shaped.shape[1]] * len(shaped) if answer.classes is None else answer.classes.tolist()
    scores = [[0.0] * shaped.shape[1]] * len(shaped) if answer.scores is None else answer.scores.tolist()
    for row_labels, row_scores in zip(labels, scores, strict=True):
        row = result.classifications.add()
        for label, score in zip(row_labels, row_scores, strict=True):
            # A label is a proto string: what is not UTF-8 cannot be sent as it is.
            row.classes.add(label=label.decode(errors="replace"), score=score)


def _fill_regression(result: Any, answer: Regression) -> None:
    result.SetInParent()
    for value in answer.values.tolist():
        result.regressions.add(value=value)


def decode_classify_response(serialized: bytes) -> tuple[ModelSpec, Classification]:
    """
    Read a ClassificationResponse.

    Raises:
        InvalidArgument: If it is malformed, or its rows have different numbers of classes.
    """
    response = _parse(messages.ClassificationResponse, serialized)
    rows = [list(row.classes) for row in response.result.classifications]
    width = len(rows[0]) if rows else 0
    if any(len(row) != width for row in rows):
        raise InvalidArgument("the rows of a ClassificationResponse have different numbers of classes")
    classes = examples_tensor([one.label.encode() for row in rows for one in row]).reshape(len(rows), width)
    scores = np.array([one.score for row in rows for one in row], np.float32).reshape(len(rows), width)
    return model_spec.from_request(response), Classification(classes, scores)


def decode_regress_response(serialized: bytes) -> tuple[ModelSpec, Regression]:
    """Read a RegressionResponse, or raise InvalidArgument."""
    response = _parse(messages.RegressionResponse, serialized)
    values = np.array([one.value for one in response.result.regressions], np.float32)
    return model_spec.from_request(response), Regression(values)

"""
The load's payload file: requests and the answers they must get, as a TFRecord of PredictionLog messages.

It is the format of TF Serving's own request logs and warm-up records, so that those can be sent as load,
too. The REST form of a request is derived from the gRPC form: both protocols carry the same values, bit for bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from slipway_wire import inference, json_examples, json_predict, messages, paths, predict, tfrecord
from slipway_wire.inference import CLASSES, INPUTS, OUTPUTS, SCORES, Classification, Regression
from slipway_wire.model_spec import ModelSpec
from slipway_wire.paths import PostVerb, rest_path
from slipway_wire.status import InvalidArgument
from slipway_wire.tensors import Array

_LOG_FIELDS: Mapping[str, PostVerb] = {
    "predict_log": "predict",
    "classify_log": "classify",
    "regress_log": "regress",
}


@dataclass(frozen=True, slots=True)
class Payload:
    """
    One request in both protocols.

    Attributes:
        spec: Model, version, signature.
        inputs: Input name -> array; of Classify and Regress `inputs`, serialized tf.Examples of shape [rows].
        grpc_message: Serialized request, as it stands in the file.
        rest_path: Path of the POST.
        rest_body: JSON, row format, the shortest digits that read back to the same numbers.
        expected: Output name -> array; `classes` and `scores` of Classify, `outputs` of Regress. None if the file has no
            answer.
        method: What is called.
    """

    spec: ModelSpec
    inputs: Mapping[str, Array]
    grpc_message: bytes
    rest_path: str
    rest_body: bytes
    expected: Mapping[str, Array] | None
    method: PostVerb = "predict"

    @property
    def rows(self) -> int:
        """Rows in the request."""
        return min(len(array) if array.ndim else 1 for array in self.inputs.values())

    @property
    def grpc_method(self) -> str:
        """Full name of the gRPC method."""
        return paths.GRPC_METHODS[self.method]


def of_message(message: bytes, expected: Mapping[str, Array] | None, method: PostVerb = "predict") -> Payload:
    """
    Make the payload of a serialized PredictRequest, ClassificationRequest or RegressionRequest.

    Raises:
        InvalidArgument: If it is none, names no model, asks about nothing, or cannot be said in JSON.
    """
    if method == "predict":
        request = predict.decode_request(message)
        # A map of protobuf has another order in each process; of a request there is to be one text.
        spec, inputs = request.spec, dict(sorted(request.inputs.items()))
        body = json_predict.encode_request(inputs, signature_name=spec.signature_name)
    else:
        asked = inference.decode_classify_request(message)  # a RegressionRequest has the same fields
        spec, inputs = asked.spec, {INPUTS: asked.tensor()}
        body = json_examples.encode_request(asked.examples, signature_name=spec.signature_name)
    return Payload(
        spec=spec,
        inputs=inputs,
        grpc_message=message,
        rest_path=rest_path(spec.name, method, version=spec.version, label=spec.label),
        rest_body=body,
        expected=expected,
        method=method,
    )


def make(
    model: str,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array] | None,
    *,
    version: int | None = None,
    label: str | None = None,
    signature_name: str = "",
    method: PostVerb = "predict",
) -> Payload:
    """Make a payload from values, see `Payload`; dtypes go out as they are. A *label* stands in place of a *version*."""
    if method == "predict":
        message = predict.encode_request(model, inputs, version=version, label=label, signature_name=signature_name)
    else:
        examples = inputs[INPUTS].tolist()
        message = inference.encode_request(model, examples, version=version, label=label, signature_name=signature_name)
    return of_message(message, expected, method)


def decode_rest_answer(payload: Payload, body: bytes) -> dict[str, Array]:
    """
    Read a REST answer to *payload*, or raise InvalidArgument.

    JSON tells neither the name of a single output nor how wide a float is: both are as *payload* expects them.
    """
    assert payload.expected is not None  # without expectations nobody asks
    if payload.method == "classify":
        return _classified(json_examples.decode_classify_response(body))
    if payload.method == "regress":
        return {OUTPUTS: json_examples.decode_regress_response(body).values}
    found = json_predict.decode_response(body)
    named = found if isinstance(found, dict) else {next(iter(payload.expected)): found}
    return {name: _as_expected(array, payload.expected.get(name)) for name, array in named.items()}


def _as_expected(found: Array, expected: Array | None) -> Array:
    if expected is None or expected.dtype.kind != "f" or found.dtype.kind not in "fiu":
        return found
    return found.astype(expected.dtype)


def decode_grpc_answer(payload: Payload, message: bytes) -> dict[str, Array]:
    """Read a gRPC answer to *payload*, or raise InvalidArgument."""
    return _decoded(payload.method, message)


def _decoded(method: PostVerb, message: bytes) -> dict[str, Array]:
    match method:
        case "predict":
            return predict.decode_response(message)[1]
        case "classify":
            return _classified(inference.decode_classify_response(message)[1])
        case "regress":
            return {OUTPUTS: inference.decode_regress_response(message)[1].values}


def _classified(answer: Classification) -> dict[str, Array]:
    both = {CLASSES: answer.classes, SCORES: answer.scores}
    return {name: array for name, array in both.items() if array is not None}


def grpc_answer(payload: Payload, *, as_content: bool = False) -> bytes:
    """Write what is expected as the serialized answer of a server; *as_content*: see `predict.encode_response`."""
    assert payload.expected is not None  # without expectations there is nothing to write
    expected = payload.expected
    match payload.method:
        case "predict":
            return predict.encode_response(payload.spec, expected, as_content=as_content)
        case "classify":
            return inference.encode_classify_response(payload.spec, _classification(expected))
        case "regress":
            return inference.encode_regress_response(payload.spec, Regression(expected[OUTPUTS]))


def rest_answer(payload: Payload) -> bytes:
    """Write what is expected as the JSON, in row format, of a server that gives just that."""
    assert payload.expected is not None  # likewise
    expected = payload.expected
    match payload.method:
        case "predict":
            return json_predict.encode_response(expected, row_format=True)
        case "classify":
            return json_examples.encode_classify_response(_classification(expected))
        case "regress":
            return json_examples.encode_regress_response(Regression(expected[OUTPUTS]))


def _classification(expected: Mapping[str, Array]) -> Classification:
    return Classification(expected.get(CLASSES), expected.get(SCORES))


def encode(payloads: Iterable[Payload]) -> bytes:
    """Write the content of a payload file; equal payloads, equal bytes."""
    return tfrecord.frame_all(_record(payload) for payload in payloads)


def _record(payload: Payload) -> bytes:
    log = messages.PredictionLog()
    logged = getattr(log, f"{payload.method}_log")
    logged.request.MergeFromString(payload.grpc_message)
    if payload.expected is not None:
        logged.response.MergeFromString(grpc_answer(payload, as_content=True))
    serialized: bytes = log.SerializeToString(deterministic=True)
    return serialized


def read(path: Path) -> list[Payload]:
    """
    Read the payload file (or TF Serving request log) at *path*.

    Raises:
        OSError: If it cannot be opened.
        DataLoss: If a record is cut off or damaged.
        InvalidArgument: If a record is no PredictionLog of a Predict, Classify or Regress call, or there is none at all.
    """
    with path.open("rb") as stream:
        payloads = [_payload(record, f"{path}: record {number}") for number, record in enumerate(tfrecord.read(stream))]
    if not payloads:
        raise InvalidArgument(f"{path}: no records")
    return payloads


def _payload(record: bytes, where: str) -> Payload:
    try:
        log = messages.PredictionLog.FromString(record)
    except DecodeError as error:
        raise InvalidArgument(f"{where}: not a PredictionLog") from error
    field = log.WhichOneof("log_type")
    if field not in _LOG_FIELDS:
        raise InvalidArgument(f"{where}: expected a {', '.join(_LOG_FIELDS)}, got {field}")
    logged, method = getattr(log, field), _LOG_FIELDS[field]
    expected = _decoded(method, logged.response.SerializeToString()) if logged.HasField("response") else None
    return of_message(logged.request.SerializeToString(deterministic=True), expected, method)

"""
The load's payload file: requests and the answers they must get, as a TFRecord of PredictionLog messages.

It is the format of TF Serving's own request logs and warm-up records, so that those can be sent as load,
too. The REST form of a request is derived from the gRPC form: both protocols carry the same values, bit for bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from slipway_wire import json_predict, messages, predict, tfrecord
from slipway_wire.model_spec import ModelSpec
from slipway_wire.paths import rest_path
from slipway_wire.status import InvalidArgument
from slipway_wire.tensors import Array


@dataclass(frozen=True, slots=True)
class Payload:
    """
    One request in both protocols.

    Attributes:
        spec: Model, version, signature.
        inputs: Input name -> array.
        grpc_message: Serialized PredictRequest, as it stands in the file.
        rest_path: Path of the POST.
        rest_body: JSON, row format, the shortest digits that read back to the same numbers.
        expected: Output name -> array; None if the file has no answer.
    """

    spec: ModelSpec
    inputs: Mapping[str, Array]
    grpc_message: bytes
    rest_path: str
    rest_body: bytes
    expected: Mapping[str, Array] | None

    @property
    def rows(self) -> int:
        """Rows in the request."""
        return min(len(array) if array.ndim else 1 for array in self.inputs.values())


def of_message(message: bytes, expected: Mapping[str, Array] | None) -> Payload:
    """
    Make the payload of a serialized PredictRequest.

    Raises:
        InvalidArgument: If it is none, names no model, or cannot be said in JSON.
    """
    request = predict.decode_request(message)
    spec, inputs = request.spec, dict(request.inputs)
    return Payload(
        spec=spec,
        inputs=inputs,
        grpc_message=message,
        rest_path=rest_path(spec.name, "predict", version=spec.version, label=spec.label),
        rest_body=json_predict.encode_request(inputs, signature_name=spec.signature_name),
        expected=expected,
    )


def make(
    model: str,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array] | None,
    *,
    version: int | None = None,
    signature_name: str = "",
) -> Payload:
    """Make a payload from values; dtypes go out as they are."""
    return of_message(predict.encode_request(model, inputs, version=version, signature_name=signature_name), expected)


def decode_rest_answer(payload: Payload, body: bytes) -> dict[str, Array]:
    """
    Read a REST answer to *payload*, or raise InvalidArgument.

    JSON tells neither the name of a single output nor how wide a float is: both are as *payload* expects them.
    """
    assert payload.expected is not None  # without expectations nobody asks
    found = json_predict.decode_response(body)
    named = found if isinstance(found, dict) else {next(iter(payload.expected)): found}
    return {name: _as_expected(array, payload.expected.get(name)) for name, array in named.items()}


def _as_expected(found: Array, expected: Array | None) -> Array:
    if expected is None or expected.dtype.kind != "f" or found.dtype.kind not in "fiu":
        return found
    return found.astype(expected.dtype)


def decode_grpc_answer(payload: Payload, message: bytes) -> dict[str, Array]:
    """Read a gRPC answer to *payload*, or raise InvalidArgument."""
    return predict.decode_response(message)[1]


def encode(payloads: Iterable[Payload]) -> bytes:
    """Write the content of a payload file; equal payloads, equal bytes."""
    return tfrecord.frame_all(_record(payload) for payload in payloads)


def _record(payload: Payload) -> bytes:
    log = messages.PredictionLog()
    log.predict_log.request.MergeFromString(payload.grpc_message)
    if payload.expected is not None:
        answer = predict.encode_response(payload.spec, payload.expected, as_content=True)
        log.predict_log.response.MergeFromString(answer)
    serialized: bytes = log.SerializeToString(deterministic=True)
    return serialized


def read(path: Path) -> list[Payload]:
    """
    Read the payload file (or TF Serving request log) at *path*.

    Raises:
        OSError: If it cannot be opened.
        DataLoss: If a record is cut off or damaged.
        InvalidArgument: If a record is no PredictionLog of a Predict call, or there is none at all.
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
    if log.WhichOneof("log_type") != "predict_log":
        raise InvalidArgument(f"{where}: expected a predict_log, got {log.WhichOneof('log_type')}")
    expected = None
    if log.predict_log.HasField("response"):
        expected = predict.decode_response(log.predict_log.response.SerializeToString())[1]
    return of_message(log.predict_log.request.SerializeToString(deterministic=True), expected)

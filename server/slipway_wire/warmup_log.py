"""Warm-up records: PredictionLog messages, as the file `assets.extra/tf_serving_warmup_requests` holds them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.message import DecodeError

from slipway_wire import inference, messages, predict, protobuf
from slipway_wire.inference import ExamplesRequest, MultiInferenceRequest
from slipway_wire.predict import PredictRequest
from slipway_wire.status import InvalidArgument, Unimplemented

# Below a version directory; source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.h.
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000

Method = Literal["predict", "classify", "regress", "multi_inference"]
_LOG_FIELD: dict[Method, str] = {
    "predict": "predict_log",
    "classify": "classify_log",
    "regress": "regress_log",
    "multi_inference": "multi_inference_log",
}
_METHOD = {field: method for method, field in _LOG_FIELD.items()}


@dataclass(frozen=True, slots=True)
class WarmupRequest:
    """
    A recorded request to replay; model name and version in its spec are those of the time of recording.

    Attributes:
        method: What kind of request it is.
        request: As it was sent.
        served_version: The version that answered it, where the log says so.
    """

    method: Method
    request: PredictRequest | ExamplesRequest | MultiInferenceRequest
    served_version: int | None = None


def encode(method: Method, request: bytes, response: bytes | None = None, metadata: bytes | None = None) -> bytes:
    """
    Write a PredictionLog; one that holds only a request has the same bytes for the same request.

    Args:
        method: What kind of request it is.
        request: Serialized, as `predict.encode_request` or `inference.encode_request` gives it.
        response: Serialized answer; None: leave it out.
        metadata: Serialized LogMetadata; None: leave them out.
    """
    number = messages.PredictionLog.DESCRIPTOR.fields_by_name[_LOG_FIELD[method]].number
    log = protobuf.bytes_field(1, request)  # `request` is field 1 of PredictLog, ClassifyLog, …
    if response is not None:
        log += protobuf.bytes_field(2, response)  # likewise
    head = b"" if metadata is None else protobuf.bytes_field(1, metadata)
    return head + protobuf.bytes_field(number, log)


def decode(record: bytes) -> WarmupRequest | None:
    """
    Read one record.

    Returns:
        The request, or None if the record has no log type (TF Serving does nothing for it).

    Raises:
        InvalidArgument: If the record is no PredictionLog, or its request is malformed.
        Unimplemented: For logs of streamed predictions and of session runs.
    """
    try:
        log = messages.PredictionLog.FromString(record)
    except DecodeError as error:
        raise InvalidArgument("Failed to parse warmup record: not a PredictionLog") from error
    field = log.WhichOneof("log_type")
    if field is None:
        return None
    if field not in _METHOD:
        raise Unimplemented(f"Unsupported log_type for warmup: {field}")
    method, request = _METHOD[field], getattr(log, field).request
    read: Callable[[Any], PredictRequest | ExamplesRequest | MultiInferenceRequest] = inference.examples_from_proto
    if method == "predict":
        read = predict.request_from_proto
    elif method == "multi_inference":
        read = inference.multi_inference_from_proto
    served = log.log_metadata.model_spec
    return WarmupRequest(method, read(request), served.version.value if served.HasField("version") else None)

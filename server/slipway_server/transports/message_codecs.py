"""What gRPC and REST share where bodies are the messages of TensorFlow Serving's services."""

from slipway_server.servables.calls import Signatures, predict_call
from slipway_server.servables.loader import Call, Tensors
from slipway_wire import inference, predict
from slipway_wire.model_spec import ModelSpec

LARGE_BYTES = 1024 * 1024
"""Messages from this size on are read and written on other threads, so that small ones need not wait for them."""


def is_large(outputs: Tensors) -> bool:
    """Say whether the answer to Predict is to be written on another thread."""
    return sum([array.nbytes for array in outputs.values()]) >= LARGE_BYTES


def predict_body(body: bytes, signatures: Signatures) -> Call:
    """
    Read a serialized PredictRequest for a version with *signatures*.

    Raises:
        WireError: It is none, or does not fit them.
    """
    return predict_call(predict.decode_request(body), signatures)


def classify_response(spec: ModelSpec, outputs: Tensors, examples: int) -> bytes:
    """Write the ClassificationResponse to so many *examples*; see `inference.classification`."""
    return inference.encode_classify_response(spec, inference.classification(outputs, examples))


def regress_response(spec: ModelSpec, outputs: Tensors, examples: int) -> bytes:
    """Write the RegressionResponse to so many *examples*; see `inference.regression`."""
    return inference.encode_regress_response(spec, inference.regression(outputs, examples))

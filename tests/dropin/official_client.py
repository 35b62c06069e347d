"""
TF Serving's own client package, in a process of its own: its messages and ours cannot live in one.

Reads a command a line from standard input, JSON, and writes its outcome as a line of JSON:
{"stub", "method", "request", "target", "timeout", "tls"} -> {"code", "details", "response", "trailing"}; requests and responses
in protobuf's JSON form with the names of the .proto files. An input `{"tensor": VALUES, "dtype": D}` goes through
tf.make_tensor_proto, as everybody writes it. {"trace": target} traces the server with TensorFlow's profiler client.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

# What TensorFlow prints must not stand between the outcomes.
outcomes = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import grpc  # noqa: E402
import tensorflow as tf  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}
MODEL_SERVICE = {"GetModelStatus", "HandleReloadConfigRequest"}


def channel_to(command):
    if "tls" not in command:
        return grpc.insecure_channel(command["target"])
    files = {key: Path(name).read_bytes() for key, name in command["tls"].items()}
    return grpc.secure_channel(command["target"], grpc.ssl_channel_credentials(**files))


def made(command):
    request = dict(command["request"])
    arrays = request.pop("tensors", {})
    message = json_format.ParseDict(request, REQUESTS[command["method"]]())
    for alias, (values, dtype) in arrays.items():
        message.inputs[alias].CopyFrom(tf.make_tensor_proto(values, dtype=dtype))
    return message


def call(command):
    with channel_to(command) as channel:
        service = model_service_pb2_grpc.ModelServiceStub
        if command["method"] not in MODEL_SERVICE:
            service = prediction_service_pb2_grpc.PredictionServiceStub
        try:
            response = getattr(service(channel), command["method"])(made(command), timeout=command.get("timeout", 60))
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details()}
        shown = json_format.MessageToDict(response, preserving_proto_field_name=True)
        arrays = {alias: tf.make_ndarray(tensor) for alias, tensor in getattr(response, "outputs", {}).items()}
        return {
            "code": "OK",
            "response": shown,
            "arrays": {
                alias: (array.astype("U") if array.dtype == object else array).tolist()
                for alias, array in arrays.items()
            },
        }


def trace(command):
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.client.trace(command["trace"], directory, duration_ms=command.get("duration_ms", 500))
        return {"files": [path.name for path in Path(directory).rglob("*") if path.is_file()]}


for line in sys.stdin:
    command = json.loads(line)
    try:
        outcome = trace(command) if "trace" in command else call(command)
    except Exception as error:  # whatever it is, the test shows it
        outcome = {"code": "CLIENT_ERROR", "details": repr(error)}
    print(json.dumps(outcome), file=outcomes, flush=True)

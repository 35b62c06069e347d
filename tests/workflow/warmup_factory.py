"""Contracts and request logs for tests of the warm-up."""

from slipway.contract import Contract
from slipway_wire import dtypes, inference, messages, predict, tfrecord, warmup_log
from slipway_wire.signatures import PREDICT, Signature, TensorSpec

CONTRACT = Contract.model_validate(
    {
        "format": 1,
        "signatures": {
            "serving_default": {
                "method": "predict",
                "inputs": {"x": {"dtype": "float32", "shape": ["N", 2], "range": [0, 1]}},
                "outputs": {"y": {"dtype": "float32", "shape": ["N", 3]}},
            },
            "tokens": {
                "method": "predict",
                "inputs": {
                    "ids": {"dtype": "int64", "shape": ["N", "T"], "range": [0, 99]},
                    "text": {"dtype": "string", "shape": ["N"], "values": ["a", "b"]},
                },
                "outputs": {"y": {"dtype": "float32", "shape": ["N", 3]}},
            },
            "classify": {"method": "classify", "scores": "y"},
        },
        "probe": {"dims": {"T": 4}},
    }
)
SIGNATURES = {
    "serving_default": Signature(
        "serving_default", PREDICT, {"x": TensorSpec("x", dtypes.FLOAT, (None, 2), "x:0")}, {}
    ),
}


def example(**features):
    """Serialize a tf.Example of float features."""
    made = messages.Example()
    for name, values in features.items():
        made.features.feature[name].float_list.value.extend(values)
    return made.SerializeToString(deterministic=True)


def predict_record(inputs, model="m", signature="", version=None, served=None):
    """Make a PredictionLog of a Predict request; *served*: the version that its metadata name."""
    metadata = None
    if served is not None:
        metadata = messages.LogMetadata(model_spec=messages.ModelSpec(name=model))
        metadata.model_spec.version.value = served
        metadata = metadata.SerializeToString()
    request = predict.encode_request(model, inputs, version=version, signature_name=signature)
    return warmup_log.encode("predict", request, metadata=metadata)


def classify_record(examples, model="m", signature="classify"):
    return warmup_log.encode("classify", inference.encode_request(model, examples, signature_name=signature))


def write_log(path, *records):
    path.write_bytes(tfrecord.frame_all(records))
    return path

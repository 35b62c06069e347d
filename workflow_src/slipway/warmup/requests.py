"""
Rows -> PredictionLog records, with all their values or with one that fills them.

A TensorProto may state its whole shape and carry a single value: whoever reads it repeats the value
(tensorflow/core/framework/tensor.cc, Tensor::FromProto; `tf.make_ndarray`). A list of tf.Examples may have a context
that is part of every Example (tensorflow_serving/apis/input.proto): with the first one as context, the others are empty.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt

from slipway_wire import dtypes, inference, messages, predict, tensors, warmup_log
from slipway_wire.model_spec import ModelSpec, to_proto

Array = npt.NDArray[Any]
Method = Literal["predict", "classify", "regress"]


def with_values(model: str, signature: str, method: Method, inputs: Mapping[str, Array]) -> bytes:
    """
    Write a PredictionLog that carries every value.

    Args:
        model: Name of the model.
        signature: Name of the signature.
        method: How it is called.
        inputs: As its SignatureDef has them; for classify and regress `inputs`, serialized tf.Examples of shape [rows].
    """
    if method == "predict":
        request = predict.encode_request(model, inputs, signature_name=signature)
    else:
        request = inference.encode_request(model, inputs[inference.INPUTS].tolist(), signature_name=signature)
    return warmup_log.encode(method, request)


def filled(model: str, signature: str, method: Method, one_row: Mapping[str, Array], rows: int) -> bytes | None:
    """
    Write a PredictionLog of *rows* rows that carries the first value of each input alone.

    Args:
        model: Name of the model.
        signature: Name of the signature.
        method: How it is called.
        one_row: Name -> array of shape [1, …].
        rows: Rows that the server is to see.

    Returns:
        None if the server would refuse to fill so much memory from one value.
    """
    spec = to_proto(ModelSpec(model, signature_name=signature))
    if method != "predict":
        examples = messages.ClassificationRequest(model_spec=spec)
        given = examples.input.example_list_with_context
        given.context.MergeFromString(one_row[inference.INPUTS][0])
        for _ in range(rows):
            given.examples.add()
        return warmup_log.encode(method, examples.SerializeToString(deterministic=True))
    request = messages.PredictRequest(model_spec=spec)
    for name, array in one_row.items():
        shape = (rows, *array.shape[1:])
        data_type = dtypes.from_numpy(array.dtype)
        assert data_type.numpy is not None  # as it came from numpy
        if math.prod(shape) * data_type.numpy.itemsize > tensors.MAX_FILLED_BYTES:
            return None
        proto = tensors.to_proto(array.reshape(-1)[:1], as_content=False)
        del proto.tensor_shape.dim[:]
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        request.inputs[name].CopyFrom(proto)
    return warmup_log.encode(method, request.SerializeToString(deterministic=True))


def values_bytes(one_row: Mapping[str, Array], rows: int) -> int:
    """Estimate from one row, without making the others, what the values of *rows* rows weigh."""
    return rows * sum(
        sum(map(len, array.ravel().tolist())) if array.dtype == object else array.nbytes for array in one_row.values()
    )

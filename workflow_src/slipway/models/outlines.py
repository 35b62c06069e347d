"""What a model's file takes and gives, as Keras and TensorFlow read it; nothing of it runs."""

from pathlib import Path

import keras
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from slipway.contract_draft import Tensor
from slipway.errors import SourceError, one_line

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
# What a training graph ends in beside its answers.
_NO_ANSWER = frozenset({"Assert", "Const", "NoOp", "SaveV2", "RestoreV2", "MergeSummary", "VariableV2", "VarHandleOp"})

Outline = tuple[dict[str, Tensor], dict[str, Tensor]]


def of_keras(path: Path) -> Outline:
    """
    Read the inputs and outputs of a whole model saved by Keras; code in it (Lambda layers) is not run.

    Returns:
        Inputs and outputs by name; a single output without a name of its own is called as its layer.

    Raises:
        SourceError: It cannot be read, or says nothing of its inputs (a subclassed model).
    """
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise SourceError(f"{path}: cannot be read by Keras: {one_line(error)}") from error
    try:
        inputs, outputs = model.inputs, model.outputs
        # A Sequential has no names for what it gives.
        names = list(getattr(model, "output_names", None) or [layer.name for layer in model.layers[-len(outputs) :]])
    except (AttributeError, ValueError) as error:
        raise SourceError(f"{path}: the model does not say what it takes; write the contract by hand") from error
    return (
        {tensor.name: Tensor(tensor.dtype, tuple(tensor.shape)) for tensor in inputs},
        {name: Tensor(tensor.dtype, tuple(tensor.shape)) for name, tensor in zip(names, outputs, strict=True)},
    )


def of_graph(path: Path) -> Outline:
    """
    Read what a GraphDef (.pb) or a MetaGraphDef (.meta) can take and give: its placeholders, and tensors that nothing uses.

    Raises:
        SourceError: It is no graph, or TensorFlow does not take it.
    """
    try:
        if path.suffix == ".meta":
            graph_def = meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes()).graph_def
        else:
            graph_def = graph_pb2.GraphDef.FromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise SourceError(f"{path}: expected a graph, found something else: {one_line(error)}") from error
    if not graph_def.node:
        raise SourceError(f"{path}: expected a graph, found none; the file is empty or damaged")
    for node in graph_def.node:
        node.device = ""
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except Exception as error:
        raise SourceError(f"{path}: TensorFlow does not take this graph: {one_line(error)}") from error
    operations = graph.get_operations()
    inputs = {op.name: _tensor(op.outputs[0]) for op in operations if op.type in _PLACEHOLDERS}
    fed = {op.name for op in operations if op.type in _PLACEHOLDERS}
    outputs = {
        op.name: _tensor(op.outputs[0])
        for op in operations
        if op.outputs
        and op.type not in _NO_ANSWER
        and op.name not in fed
        and not any(tensor.consumers() for tensor in op.outputs)
        and op.outputs[0].dtype.is_numpy_compatible
        and op.outputs[0].dtype != tf.resource
        and _depends_on(op, fed)
    }
    if not inputs or not outputs:
        raise SourceError(
            f"{path}: expected placeholders and what is computed from them, found {len(operations)} ops without"
        )
    return inputs, outputs


def _tensor(tensor: tf.Tensor) -> Tensor:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Tensor(tensor.dtype.base_dtype.name, shape, tensor.name, tensor.op.type)


def _depends_on(op: tf.Operation, names: set[str]) -> bool:
    waiting, seen = [op], {op.name}
    while waiting:
        current = waiting.pop()
        if current.name in names:
            return True
        behind = [tensor.op for tensor in current.inputs if tensor.op.name not in seen]
        seen |= {one.name for one in behind}
        waiting += behind
    return False

"""What a model's file takes and gives, as Keras and TensorFlow read it; nothing of it runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from slipway.contract_found import Tensor
from slipway.errors import SourceError, one_line
from slipway.models import keras_models

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
# What a training graph ends in beside its answers.
_NO_ANSWER = frozenset({"Assert", "Const", "NoOp", "SaveV2", "RestoreV2", "MergeSummary", "VariableV2", "VarHandleOp"})

Outline = tuple[dict[str, Tensor], dict[str, Tensor]]


def of_keras(path: Path, loader: keras_models.Loader = "auto", *, unsafe: bool = False) -> Outline:
    """
    Read the inputs and outputs of a whole model saved by Keras; code in it (Lambda layers) is not run, unless *unsafe*.

    Returns:
        Inputs and outputs by name; a single output without a name of its own is called as its layer.

    Raises:
        SourceError: It cannot be read, or says nothing of its inputs (a subclassed model).
    """
    try:
        model = keras_models.load_whole(path, loader, unsafe=unsafe)
    except SourceError as error:
        raise SourceError(f"{path}: cannot be read by Keras: {one_line(error)}") from error
    return of_model(model, str(path))


def of_model(model: Any, where: str) -> Outline:
    """
    Read the inputs and outputs of a model in memory, of either Keras.

    Args:
        model: What a file or a user's function gave.
        where: What errors call it.

    Raises:
        SourceError: It says nothing of its inputs (a subclassed model, a tf.Module).
    """
    try:
        inputs, outputs = model.inputs, model.outputs
        # A Sequential has no names for what it gives.
        names = list(getattr(model, "output_names", None) or [layer.name for layer in model.layers[-len(outputs) :]])
        return (
            {tensor.name: _keras_tensor(tensor) for tensor in inputs},
            {name: _keras_tensor(tensor) for name, tensor in zip(names, outputs, strict=True)},
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: the model does not say what it takes; write the contract by hand") from error


def _keras_tensor(tensor: Any) -> Tensor:
    # Keras 3 has the name of a dtype, Keras 2 the dtype itself.
    return Tensor(getattr(tensor.dtype, "name", tensor.dtype), tuple(tensor.shape))


def of_tensors(graph_def: bytes, tensors: Iterable[str], where: str) -> dict[str, Tensor]:
    """
    Let TensorFlow say dtypes and shapes of *tensors* in a graph that the op policy has let pass.

    Args:
        graph_def: Serialized GraphDef.
        tensors: Names with the number of the output.
        where: What errors call the graph.

    Raises:
        SourceError: TensorFlow does not take it, or a tensor is not in it.
    """
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_pb2.GraphDef.FromString(graph_def), name="")
        return {name: _tensor(graph.get_tensor_by_name(name)) for name in tensors}
    except Exception as error:
        raise SourceError(f"{where}: TensorFlow does not take this graph: {one_line(error)}") from error


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

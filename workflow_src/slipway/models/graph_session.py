"""The part of a graph that its answers need, in a session of TensorFlow 1: as the source's own framework runs it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError

from slipway.errors import SourceError, one_line
from slipway.graphs.cutting import TABLES, initializer_of, needed, part
from slipway.graphs.names import PLACEHOLDERS, op_of
from slipway.graphs.plans import Plan, asset_file
from slipway.graphs.restoring import Stored
from slipway_wire import tensors

Array = npt.NDArray[Any]


def single_threaded() -> Any:
    """Make a session's configuration with which the last bits of an answer are the same each time."""
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def to_tensorflow(graph: Any) -> Any:
    """Give a GraphDef message to TensorFlow, which has classes of its own; raise ValueError if they do not take it."""
    try:
        return tf.compat.v1.GraphDef.FromString(graph.SerializeToString())
    except DecodeError as error:  # such as text that is none, which our reader lets pass
        raise ValueError(str(error)) from error


def answer(
    plan: Plan, inputs: Mapping[str, Array], directory: Path, prefix: Path | None, averages: Mapping[str, Stored]
) -> dict[str, Array]:
    """
    Answer by `Session.run` on the original ops, restored by the graph's own Saver.

    Args:
        plan: Of the graph.
        inputs: The contract's name -> array.
        directory: Where the source's files are.
        prefix: The checkpoint; None if the graph has no variables.
        averages: Variables that take another value of the checkpoint than the Saver gives them.

    Returns:
        The contract's name of each output -> array.

    Raises:
        SourceError: If TensorFlow cannot import, restore or run it.
    """
    graph = tf.Graph()
    try:
        with graph.as_default(), tf.compat.v1.Session(graph=graph, config=single_threaded()) as session:
            feeds = _import(plan, inputs)
            if prefix is not None and plan.variables:
                _restore(plan, session, prefix)
                _overwrite(averages, session, prefix)
            _fill_tables(plan, session, directory)
            feeds |= {tensor: tensors.from_proto(proto) for tensor, proto in plan.frozen.items()}
            found: dict[str, Array] = session.run(dict(plan.ends.outputs), feeds)
    except (tf.errors.OpError, ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{plan.source.where}: {_told(plan, inputs, error)}") from error
    return {name: np.asarray(array) for name, array in found.items()}


def _told(plan: Plan, inputs: Mapping[str, Array], error: Exception) -> str:
    text = one_line(error)
    if "Cannot feed value of shape" in text or "Incompatible" in text:
        sent = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in inputs.items())
        return f"the graph does not take {sent}: {text}. Correct `inputs` in the contract."
    if isinstance(error, tf.errors.FailedPreconditionError):
        return f"the checkpoint does not hold all that the outputs need: {text}"
    return text


def _import(plan: Plan, inputs: Mapping[str, Array]) -> dict[Any, Array]:
    """Import the original; an input that is no placeholder becomes one."""
    feeds: dict[Any, Array] = {}
    mapped = {}
    for name, tensor in plan.ends.inputs.items():
        if tensor in plan.placeholders:
            feeds[tensor] = inputs[name]
        else:
            made = tf.compat.v1.placeholder(tf.as_dtype(_dtype(inputs[name])), name="slipway_input")
            mapped[tensor], feeds[made] = made, inputs[name]
    tf.graph_util.import_graph_def(to_tensorflow(plan.original), input_map=mapped, name="")
    return feeds


def _dtype(array: Array) -> Any:
    return tf.string if array.dtype == object else array.dtype


def _restore(plan: Plan, session: Any, prefix: Path) -> None:
    source = plan.source
    if source.restore_op:
        session.run(op_of(source.restore_op), {source.filename_tensor: str(prefix)})
    else:
        _overwrite(plan.variables, session, prefix)


def _overwrite(values: Mapping[str, Stored], session: Any, prefix: Path) -> None:
    """Put tensors of the checkpoint into variables, past the graph's own Saver."""
    for name, stored in values.items():
        variable = session.graph.get_tensor_by_name(f"{name}:0")
        dtype = tf.as_dtype(stored.dtype)
        (value,) = tf.raw_ops.RestoreV2(
            prefix=str(prefix), tensor_names=[stored.key], shape_and_slices=[stored.part], dtypes=[dtype]
        )
        if variable.dtype == tf.resource:
            session.run(tf.raw_ops.AssignVariableOp(resource=variable, value=value))
        else:
            session.run(tf.raw_ops.Assign(ref=variable, value=value).op)


def _fill_tables(plan: Plan, session: Any, directory: Path) -> None:
    for node in plan.original.node:
        if node.op not in TABLES:
            continue
        filler = initializer_of(plan.original, node.name)
        feeds = {}
        if filler is not None and "TextFile" in filler.op:
            tensor = _full(filler.input[1])
            feeds[tensor] = str(asset_file(plan, tensor, _path(session, tensor), directory))
        if filler is not None:
            session.run(filler.name, feeds)


def _full(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _path(session: Any, tensor: str) -> bytes:
    try:
        return bytes(session.run(tensor))
    except tf.errors.InvalidArgumentError:  # a placeholder: the loader of a SavedModel feeds it
        return b""


def constants(plan: Plan, wanted: list[str]) -> list[Array]:
    """Compute tensors of the graph that need no inputs and no weights, such as the words of a vocabulary."""
    names = needed(plan.source.where, plan.source.graph, wanted)
    fed = [node.name for node in plan.source.graph.node if node.name in names and node.op in PLACEHOLDERS]
    graph = tf.Graph()
    try:
        with graph.as_default(), tf.compat.v1.Session(graph=graph, config=single_threaded()) as session:
            tf.graph_util.import_graph_def(to_tensorflow(part(plan.source.graph, names)), name="")
            # The path of an asset is fed by who loads a SavedModel; it has a name of its own there.
            found = session.run(wanted, {f"{name}:0": b"" for name in fed})
    except (tf.errors.OpError, ValueError) as error:
        raise SourceError(f"{plan.source.where}: a lookup table cannot be filled: {one_line(error)}") from error
    return [np.asarray(array) for array in found]

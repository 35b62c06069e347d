"""
Signatures called as TensorFlow 2 functions, for versions whose variables the session loader does not restore.

A Keras 3 model that a bare `tf.Module` holds is one: its variables are in the checkpoint, but not where the graph's restore
function looks for them, and TF Serving answers "Could not find variable". A call costs some 100 µs more than one of a session,
and threads are those that all such versions share.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from slipway_server.backends.ops import first_line
from slipway_server.config_files import BatchingPolicy
from slipway_server.servables.loader import Call
from slipway_wire import messages, signatures
from slipway_wire.status import InvalidArgument, error_of
from slipway_wire.tensors import Array

logger = logging.getLogger(__name__)

# The signature of initialisers, which tf.saved_model.save of TensorFlow 2 always writes.
_WRITTEN_BY_2 = "__saved_model_init_op"


class FunctionServable:
    """A SavedModel as TensorFlow 2 loads it."""

    def __init__(self, loaded: Any, meta_graph: Any) -> None:
        """
        Take over what was loaded.

        Args:
            loaded: What `tf.saved_model.load` returned; the functions need it alive.
            meta_graph: The MetaGraphDef that was loaded, as a message of the wire package.
        """
        self.batching_policy: BatchingPolicy | None = None
        self._loaded = loaded
        self._functions: dict[str, Any] = dict(loaded.signatures)
        described = signatures.from_meta_graph(meta_graph)
        self.signatures = {name: described[name] for name in described if name in self._functions}
        self.signature_defs = messages.SignatureDefMap(signature_def=meta_graph.signature_def).signature_def

    def run(self, call: Call) -> dict[str, Array]:
        """
        Run one signature.

        Raises:
            WireError: With TensorFlow's code and message; InvalidArgument for what does not fit the function.
        """
        try:
            fed = {alias: tf.convert_to_tensor(array) for alias, array in call.inputs.items()}
            answer = self._functions[call.signature](**fed)
            return {alias: _as_array(answer[alias]) for alias in call.outputs}
        except tf.errors.OpError as error:
            raise error_of(error.error_code, first_line(error.message)) from error
        except (TypeError, ValueError) as error:
            raise InvalidArgument(first_line(str(error))) from error

    def run_together(self, calls: Sequence[Call]) -> list[dict[str, Array]]:
        """Run several signatures one after the other; each is a function of its own."""
        return [self.run(call) for call in calls]

    def close(self) -> None:
        """Let go of the functions and their variables."""
        self._functions.clear()
        self._loaded = None


def loaded_if_unrestored(
    session: Any, directory: Path, tags: Sequence[str], meta_graph: Any
) -> FunctionServable | None:
    """
    Load *directory* as TensorFlow 2 does if *session* holds variables without a value that a signature needs, and tell why.

    Args:
        session: Into which the version has been loaded.
        directory: Of the version.
        tags: Of the meta graph.
        meta_graph: The MetaGraphDef message with these tags.

    Returns:
        None if nothing is amiss, if TensorFlow 1 wrote the version, or if this does not load it either.
    """
    if _WRITTEN_BY_2 not in meta_graph.signature_def:
        return None
    unrestored = _unrestored_variables(session, meta_graph)
    if not unrestored:
        return None
    named = f"{len(unrestored)} of its variables without a value ({', '.join(unrestored[:3])})"
    try:
        servable = FunctionServable(tf.saved_model.load(str(directory), tags=list(tags)), meta_graph)
    except Exception as error:  # signatures that need none of these variables can be served all the same
        logger.warning(
            "%s: the session loader leaves %s, and calling its functions is no way out: %s",
            directory,
            named,
            first_line(str(error)),
        )
        return None
    logger.warning(
        "%s: the session loader, and TF Serving, leave %s; it is served by calling its functions, some 100 µs slower a "
        "call. Keras' model.export() writes a SavedModel without this.",
        directory,
        named,
    )
    return servable


def _unrestored_variables(session: Any, meta_graph: Any) -> list[str]:
    """Name the variables without a value from which a signature's outputs are computed."""
    graph = session.graph
    # Keras writes each variable twice, and the first of the two is nobody's.
    handles = [operation for operation in _needed(graph, meta_graph) if operation.type == "VarHandleOp"]
    if not handles:
        return []
    with graph.as_default():
        checks = [tf.raw_ops.VarIsInitializedOp(resource=handle.outputs[0]) for handle in handles]
    return [handle.name for handle, holds in zip(handles, session.run(checks), strict=True) if not holds]


def _needed(graph: Any, meta_graph: Any) -> list[Any]:
    """List the operations that the outputs of signatures need, in the order of the graph; all, if that cannot be told."""
    operations = graph.get_operations()
    specs = [spec for one in signatures.from_meta_graph(meta_graph).values() for spec in one.outputs.values()]
    if not all(spec.graph_name for spec in specs):
        return list(operations)  # a sparse or composite tensor
    names = {spec.graph_name.partition(":")[0] for spec in specs}
    waiting = [operation for operation in operations if operation.name in names]
    needed: set[Any] = set()
    while waiting:
        operation = waiting.pop()
        if operation not in needed:
            needed.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
            waiting += operation.control_inputs
    return [operation for operation in operations if operation in needed]


def _as_array(tensor: Any) -> Array:
    value = tensor.numpy()
    if isinstance(value, bytes):
        # A scalar string; numpy's own string type would drop zero bytes at its end.
        scalar: Array = tf.make_ndarray(tf.make_tensor_proto(value))
        return scalar
    array: Array = value
    return array

"""Variables become constants: TensorFlow folds them, fuses more, and a large convolution net runs some 20 % faster."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import convert_to_constants, op_def_registry

from slipway_server.servables import synthesis
from slipway_wire import signatures
from slipway_wire.signatures import Signature

logger = logging.getLogger(__name__)

# What oneDNN's other choice of kernels may change, as fractions; a wrong constant changes far more.
_RTOL, _ATOL = 1e-3, 1e-5

# Marked stateful for what their bodies may hold; the bodies are looked at, too.
_CALLS = {"StatefulPartitionedCall", "If", "While", "Case", "Placeholder"}

# A serialized GraphDef may not be larger, and constants are part of it.
_MAX_GRAPH_BYTES = 2**31 - 1


def frozen(session: Any, meta_graph: Any, config: Any, where: str) -> Any:
    """
    Return a session in which the variables of *session* are constants, or *session* itself if that cannot be.

    It cannot be if a graph has other state (tables, counters, random numbers), is too large as one message, or answers
    requests made up from its signatures otherwise than before. The reason is logged.

    Args:
        session: Initialised; closed if another one is returned.
        meta_graph: Its MetaGraphDef message.
        config: ConfigProto of the new session.
        where: Names the version in the log.
    """
    described = signatures.from_meta_graph(meta_graph)
    try:
        graph_def = _frozen_graph(session, list(described.values()))
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
        other = tf.compat.v1.Session(graph=graph, config=config)
        try:
            checked = _check_parity(session, other, list(described.values()))
        except BaseException:
            other.close()
            raise
    except Exception as error:  # whatever it is, the version can be served as it is
        reason = str(error) if isinstance(error, _NotFrozenError) else f"{type(error).__name__}: {error}"
        logger.warning("%s: its variables stay variables (--freeze_variables): %s", where, " ".join(reason.split()))
        return session
    session.close()
    logger.info(
        "%s: its variables are constants now; signatures compared and found to answer as before: %d", where, checked
    )
    return other


class _NotFrozenError(Exception):
    """Why a version is served as it is."""


def _served(described: Sequence[Signature]) -> Iterator[Signature]:
    """Leave out what no request can name a tensor of: initialisers, and sparse or composite tensors."""
    for signature in described:
        specs = [*signature.inputs.values(), *signature.outputs.values()]
        if signature.outputs and not signature.name.startswith("__") and all(spec.graph_name for spec in specs):
            yield signature


def _frozen_graph(session: Any, described: Sequence[Signature]) -> Any:
    tensors = {
        spec.graph_name
        for signature in _served(described)
        for spec in [*signature.inputs.values(), *signature.outputs.values()]
    }
    nodes = sorted({name.partition(":")[0] for name in tensors})
    variables = session.graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
    size = sum(int(np.prod(variable.shape)) * variable.dtype.size for variable in variables)
    if size > _MAX_GRAPH_BYTES:
        raise _NotFrozenError(f"its variables take {size} bytes, and a graph holds at most {_MAX_GRAPH_BYTES}")
    graph_def = convert_to_constants.convert_variables_to_constants_from_session_graph(
        session, session.graph.as_graph_def(), nodes
    )
    if stateful := sorted(_stateful_ops(graph_def)):
        raise _NotFrozenError(f"it holds state: {', '.join(stateful)}")
    return graph_def


def _stateful_ops(graph_def: Any) -> set[str]:
    """Name the ops that keep state, in the graph and in the functions it calls; what saves and restores is not called."""
    functions = {function.signature.name: function for function in graph_def.library.function}
    called: set[str] = set()
    found: set[str] = set()
    waiting = [list(graph_def.node)]
    while waiting:
        for node in waiting.pop():
            found.add(node.op)
            named = {function.name for value in node.attr.values() for function in [value.func, *value.list.func]}
            for name in ({node.op} | named) & functions.keys() - called:
                called.add(name)
                waiting.append(list(functions[name].node_def))
    return {op for op in found - functions.keys() - _CALLS if op_def_registry.get(op).is_stateful}


def _check_parity(session: Any, other: Any, described: Sequence[Signature]) -> int:
    """Ask both sessions the same, and return how many signatures could be asked."""
    checked = set()
    for signature in _served(described):
        for rows in (1, 3):
            inputs = synthesis.inputs(signature, rows=rows, seed=rows)
            if inputs is None:
                continue
            expected, found = _run(session, signature, inputs), _run(other, signature, inputs)
            if (expected is None) != (found is None):
                raise _NotFrozenError(f"{signature.name} answers where it refused before, or the other way round")
            if expected is None or found is None:
                continue
            checked.add(signature.name)
            for alias, before, after in zip(signature.outputs, expected, found, strict=True):
                if not _is_same(before, after):
                    raise _NotFrozenError(f"output {alias} of {signature.name} is another than before")
    if not checked:
        raise _NotFrozenError("no signature takes a request that can be made up to compare the answers")
    return len(checked)


def _run(session: Any, signature: Signature, inputs: Any) -> Sequence[Any] | None:
    options = config_pb2.CallableOptions(
        feed=[signature.inputs[alias].graph_name for alias in inputs],
        fetch=dict.fromkeys(spec.graph_name for spec in signature.outputs.values()),
    )
    run = session._make_callable_from_options(options)  # noqa: SLF001  # as the servable runs it
    try:
        values = dict(zip(options.fetch, run(*inputs.values()), strict=True))
    except tf.errors.OpError:
        return None
    return [values[spec.graph_name] for spec in signature.outputs.values()]


def _is_same(before: Any, after: Any) -> bool:
    before, after = np.asarray(before), np.asarray(after)
    if before.dtype != after.dtype or before.shape != after.shape:
        return False
    if before.dtype.kind in "fc":
        return bool(np.allclose(before, after, rtol=_RTOL, atol=_ATOL, equal_nan=True))
    return bool(np.array_equal(before, after))

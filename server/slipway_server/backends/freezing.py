"""Variables become constants: TensorFlow folds them, fuses more, and a large convolution net runs some 20 % faster."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import convert_to_constants, op_def_registry

from slipway_server.backends import parity
from slipway_server.servables.loader import Tensors
from slipway_wire import signatures
from slipway_wire.signatures import Signature

logger = logging.getLogger(__name__)

# What oneDNN's other choice of kernels may change; a wrong constant changes far more.
_IS_SAME = parity.within(rtol=1e-3, atol=1e-5)

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
            asked = list(described.values())
            before, after = (parity.answers(_asking(one), asked) for one in (session, other))
            checked = parity.check(before, after, _IS_SAME)
        except BaseException:
            other.close()
            raise
    except Exception as error:  # whatever it is, the version can be served as it is
        is_told = isinstance(error, _NotFrozenError | parity.AnotherAnswerError)
        reason = str(error) if is_told else f"{type(error).__name__}: {error}"
        logger.warning("%s: its variables stay variables (--freeze_variables): %s", where, " ".join(reason.split()))
        return session
    session.close()
    logger.info(
        "%s: its variables are constants now; signatures compared and found to answer as before: %d", where, checked
    )
    return other


class _NotFrozenError(Exception):
    """Why a version is served as it is."""


def _frozen_graph(session: Any, described: Sequence[Signature]) -> Any:
    tensors = {
        spec.graph_name
        for signature in parity.served(described)
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


def _asking(session: Any) -> parity.Ask:
    def ask(signature: Signature, inputs: Tensors) -> Sequence[Any] | None:
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

    return ask

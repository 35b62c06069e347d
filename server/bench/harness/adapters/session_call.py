"""
The model call that every other server gets: TensorFlow's session callable, as fast as ours.

Runs in the other server's environment and imports nothing of Slipway: what is compared is the servers, not what their users
know of TensorFlow.
"""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2


def load(directory: str, signature: str) -> tuple[Callable[[np.ndarray], dict[str, np.ndarray]], np.dtype]:
    """
    Load a SavedModel.

    Args:
        directory: Of one version.
        signature: Name of a signature with one input.

    Returns:
        A function from an array of shape [rows, …] to the outputs by name, and the dtype of that array.
    """
    threads = int(os.environ.get("BENCH_INTRA_THREADS", "0"))
    session = tf.compat.v1.Session(
        graph=tf.Graph(),
        config=config_pb2.ConfigProto(intra_op_parallelism_threads=threads, use_per_session_threads=True),
    )
    with session.graph.as_default():
        graph = tf.compat.v1.saved_model.load(session, ["serve"], directory)
    found = graph.signature_def[signature]
    ((_, info),) = found.inputs.items()
    names = list(found.outputs)
    options = config_pb2.CallableOptions(feed=[info.name], fetch=[found.outputs[name].name for name in names])
    # On the caller's thread, as in our server.
    options.run_options.inter_op_thread_pool = -1
    run = session._make_callable_from_options(options)  # noqa: SLF001  # the only way to it

    def call(rows: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, run(rows), strict=True))

    return call, np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)


def as_lists(outputs: dict[str, np.ndarray]) -> dict[str, list]:
    """Write one row of outputs or several as lists, bytes as text."""
    return {name: _text(array.tolist()) for name, array in outputs.items()}


def _text(value: object) -> object:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value

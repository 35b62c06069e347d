"""
The model call that every other server gets: TensorFlow's session callable, as fast as ours.

Runs in the other server's environment and imports nothing of Slipway: what is compared is the servers, not what their users
know of TensorFlow.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2


class Loaded(NamedTuple):
    """
    What other servers need to know of a model.

    Attributes:
        call: From an array of shape [rows, …] to the outputs by name.
        dtype: Of that array.
        row: Its shape without the rows; -1: any size.
        outputs: Name -> dtype and shape of a row.
    """

    call: Callable[[np.ndarray], dict[str, np.ndarray]]
    dtype: np.dtype
    row: tuple[int, ...]
    outputs: dict[str, tuple[np.dtype, tuple[int, ...]]]


def load(directory: str, signature: str) -> Loaded:
    """
    Load a SavedModel.

    Args:
        directory: Of one version.
        signature: Name of a signature with one input.
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

    return Loaded(call, *_described(info), {name: _described(found.outputs[name]) for name in names})


def _described(info: Any) -> tuple[np.dtype, tuple[int, ...]]:
    return np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype), tuple(one.size for one in info.tensor_shape.dim[1:])


def as_lists(outputs: dict[str, np.ndarray]) -> dict[str, list]:
    """Write one row of outputs or several as lists, bytes as text."""
    return {name: _text(array.tolist()) for name, array in outputs.items()}


def _text(value: object) -> object:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value

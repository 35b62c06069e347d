"""Payloads out of nothing: random values that fit a server's own signature, for servers nobody has golden data of."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway_loadtests.http1 import HttpConnection, get
from slipway_loadtests.tls import handshake
from slipway_wire import model_metadata, payloads
from slipway_wire.loads import Tls
from slipway_wire.paths import rest_path
from slipway_wire.payloads import Payload
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.status import InvalidArgument

DISTINCT = 8


def ask_signature(host: str, port: int, model: str, name: str, tls: Tls | None = None) -> Signature:
    """
    Ask a server over REST, or over HTTPS if *tls* is given, for a signature of *model*.

    Raises:
        OSError: If a certificate that *tls* names cannot be read.
        RequestFailed: If it does not answer.
        InvalidArgument: If there is no such signature, or it is not one for Predict.
    """
    connection = HttpConnection(host, port, handshake(tls, host, "http/1.1"))
    try:
        named = tls.server_name if tls and tls.server_name else host
        body = connection.call(get(named, port, rest_path(model, "metadata")))
    finally:
        connection.close()
    _, signatures = model_metadata.decode_json(body)
    found = signatures.get(name)
    if found is None or found.method != PREDICT:
        there = ", ".join(key for key, signature in signatures.items() if signature.method == PREDICT)
        raise InvalidArgument(f"{model} has no predict signature {name}; there are: {there or 'none'}")
    return found


def draw(model: str, signature: Signature, *, rows: int, seed: int) -> Iterator[Payload]:
    """
    Draw `DISTINCT` payloads: floats from 0 to 1, integers from 0 to 9, words; nobody knows the answers to expect.

    Args:
        model: Name of the model.
        signature: Gives names, dtypes and shapes; an axis of any size gets *rows* if it is the first, else 1.
        rows: Rows in each request.
        seed: Same seed, same payloads.
    """
    random = np.random.default_rng(seed)
    for _ in range(DISTINCT):
        inputs = {name: _values(random, spec, rows) for name, spec in signature.inputs.items()}
        yield payloads.make(model, inputs, None, signature_name=signature.name)


def _values(random: np.random.Generator, spec: TensorSpec, rows: int) -> npt.NDArray[Any]:
    shape = spec.shape if spec.shape is not None else (None,)
    sizes = [size or (rows if axis == 0 else 1) for axis, size in enumerate(shape)]
    dtype = spec.dtype.numpy
    if dtype is None:
        raise InvalidArgument(f"{spec}: values of this type cannot be drawn")
    if dtype == np.dtype(object):
        words = np.array([b"alpha", b"beta", b"gamma"], object)
        return words[random.integers(0, len(words), sizes)]
    drawn = random.random(sizes) if dtype.kind in "fc" else random.integers(0, 2 if dtype.kind == "b" else 10, sizes)
    return drawn.astype(dtype)

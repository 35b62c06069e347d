"""Plain clients of a model server, one for each protocol: a Predict request out, named arrays back."""

from collections.abc import Mapping
from typing import Any, Protocol, Self, cast

import grpc
import numpy as np
import numpy.typing as npt

from slipway.contract import PredictSignature
from slipway.errors import ServerError
from slipway.model_clients import GrpcModel, RestModel

Array = npt.NDArray[Any]
_TIMEOUT_S = 60.0


class Client(Protocol):
    """Calls serving_default over one protocol, on one connection."""

    def predict(self, version: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """
        Send one request.

        Args:
            version: Of the model.
            inputs: Name -> array of shape [rows, …].

        Returns:
            Output name -> array of shape [rows, …].

        Raises:
            ServerError: If the answer is an error, or none.
        """


class RestClient:
    """Row format over one HTTP/1.1 connection. Use it as a context manager."""

    def __init__(self, host: str, port: int, model: str, signature: PredictSignature, signature_name: str = "") -> None:
        """
        Say whom to call.

        Args:
            host: Of the server.
            port: Its REST port.
            model: Name of the model.
            signature: Gives the names and dtypes of outputs, of which JSON says little.
            signature_name: Its key; empty for the default.
        """
        self._model = RestModel(host, port, model)
        self._signature, self._signature_name = signature, signature_name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()

    def predict(self, version: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Client`."""
        expected = {name: output.numpy_dtype() for name, output in self._signature.outputs.items()}
        return self._model.predict(self._signature_name, inputs, expected, version)


class GrpcClient:
    """PredictionService over one channel. Use it as a context manager."""

    def __init__(self, host: str, port: int, model: str, signature_name: str = "") -> None:
        """Say whom to call: the server's host and gRPC port, the model's name and its signature (empty: the default)."""
        self._model, self._signature_name = GrpcModel(host, port, model), signature_name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()

    def predict(self, version: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Client`."""
        return self._model.predict(self._signature_name, inputs, version)


def call(target: str, method: str, request: bytes, timeout_s: float = _TIMEOUT_S) -> bytes:
    """
    Make one gRPC call on a channel of its own.

    Args:
        target: `host:port`.
        method: Path of the method, as in `slipway_wire.paths`.
        request: The message.
        timeout_s: For how long to wait for the answer.

    Raises:
        ServerError: The answer is an error, or none; with the server's code and words.
    """
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        caller = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            answer: bytes = caller(request, timeout=timeout_s)
        except grpc.RpcError as error:
            failed = cast("grpc.Call", error)
            raise ServerError(f"{target}: {method}: {failed.code().name}: {failed.details()}") from error
    return answer


def predict_in_parts(client: Client, version: int, inputs: Mapping[str, Array], sizes: list[int]) -> dict[str, Array]:
    """
    Send all rows of *inputs*, as requests of *sizes* rows in turn, and put the answers together again.

    Returns:
        Output name -> array of shape [rows, …].
    """
    rows = len(next(iter(inputs.values())))
    parts = []
    start, turn = 0, 0
    while start < rows:
        size = sizes[turn % len(sizes)]
        parts.append(client.predict(version, {name: array[start : start + size] for name, array in inputs.items()}))
        start, turn = start + size, turn + 1
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

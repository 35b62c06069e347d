"""Plain clients of a model server, one for each protocol: a Predict request out, named arrays back."""

import http.client
import json
from collections.abc import Mapping
from typing import Any, Protocol, Self, cast

import grpc
import numpy as np
import numpy.typing as npt

from slipway.contract import PredictSignature
from slipway.errors import ServerError
from slipway_wire import json_predict, paths, predict
from slipway_wire.status import InvalidArgument

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

    def __init__(self, host: str, port: int, model: str, signature: PredictSignature) -> None:
        """
        Say whom to call.

        Args:
            host: Of the server.
            port: Its REST port.
            model: Name of the model.
            signature: Gives the names and dtypes of outputs, of which JSON says little.
        """
        self._connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        self._model, self._signature = model, signature

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def predict(self, version: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Client`."""
        path = paths.rest_path(self._model, "predict", version=version)
        try:
            self._connection.request("POST", path, json_predict.encode_request(inputs))
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"POST {path}: no answer ({error or type(error).__name__}).") from error
        if response.status != http.HTTPStatus.OK:
            raise ServerError(f"POST {path}: expected 200, found {response.status}: {_message(body)}")
        try:
            answer = json_predict.decode_response(body)
        except InvalidArgument as error:
            raise ServerError(f"POST {path}: {error}") from error
        # A single output goes without its name.
        named = answer if isinstance(answer, dict) else {next(iter(self._signature.outputs)): answer}
        return {name: self._typed(name, array) for name, array in named.items()}

    def _typed(self, name: str, array: Array) -> Array:
        output = self._signature.outputs.get(name)
        is_number = array.dtype.kind in "biuf" and output is not None and output.dtype != "string"
        return array.astype(output.numpy_dtype()) if is_number and output is not None else array


class GrpcClient:
    """PredictionService over one channel. Use it as a context manager."""

    def __init__(self, host: str, port: int, model: str) -> None:
        """Say whom to call: the server's host and gRPC port, and the model's name."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(f"{host}:{port}", options=options)
        self._call = self._channel.unary_unary(
            paths.GRPC_PREDICT, request_serializer=bytes, response_deserializer=bytes
        )
        self._model = model

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def predict(self, version: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Client`."""
        request = predict.encode_request(self._model, inputs, version=version)
        try:
            answer: bytes = self._call(request, timeout=_TIMEOUT_S)
            _, outputs = predict.decode_response(answer)
        except grpc.RpcError as error:
            call = cast("grpc.Call", error)
            raise ServerError(f"{paths.GRPC_PREDICT}: {call.code().name}: {call.details()}") from error
        except InvalidArgument as error:
            raise ServerError(f"{paths.GRPC_PREDICT}: {error}") from error
        return outputs


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


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")

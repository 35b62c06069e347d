"""Clients of any signature of one model, wherever it is served: REST or gRPC, plain or TLS."""

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, cast

import grpc
import numpy as np
import numpy.typing as npt

from slipway.errors import ServerError
from slipway.security import OPEN, Security, grpc_channel, headers, http_connection
from slipway_wire import inference, json_examples, json_predict, model_metadata, paths, predict
from slipway_wire.inference import Classification, Regression
from slipway_wire.paths import Verb
from slipway_wire.signatures import Signature
from slipway_wire.status import InvalidArgument

Array = npt.NDArray[Any]
_TIMEOUT_S = 60.0


class ModelClient(Protocol):
    """Calls any signature of one model, or of one version of it, on one connection. Use it as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def signatures(self) -> dict[str, Signature]:
        """Ask what the model takes and gives, or raise ServerError."""

    def metadata(self) -> tuple[int | None, dict[str, Signature]]:
        """Ask the same, and which version that is (None: it does not say), or raise ServerError."""

    def call_predict(self, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Send tensors: name -> array; give outputs in the signature's dtypes, or raise ServerError."""

    def call_classify(self, signature: str, examples: Sequence[bytes]) -> Classification:
        """Send serialized tf.Examples, one a row, or raise ServerError."""

    def call_regress(self, signature: str, examples: Sequence[bytes]) -> Regression:
        """Send serialized tf.Examples, one a row, or raise ServerError."""


class RestModel:
    """A `ModelClient` over REST."""

    def __init__(
        self,
        host: str,
        port: int,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        prefix: str = "",
        security: Security = OPEN,
    ) -> None:
        """
        Say whom to call.

        Args:
            host: Of the server.
            port: Its REST port.
            model: Name of the model.
            version: The version to ask; None: the one that the server chooses.
            label: A version's label, in place of *version*.
            prefix: What a gateway puts in front of the path, such as /models.
            security: TLS and token.

        Raises:
            SettingsError: If a file of certificates cannot be used.
        """
        self._connection = http_connection(host, port, security, timeout_s=_TIMEOUT_S)
        self._name, self._version, self._label, self._prefix = model, version, label, prefix
        self._headers = headers(port, security)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def signatures(self) -> dict[str, Signature]:
        """See `ModelClient`."""
        return self.metadata()[1]

    def metadata(self) -> tuple[int | None, dict[str, Signature]]:
        """See `ModelClient`."""
        path, body = self._ask("metadata", None, self._version)
        try:
            spec, found = model_metadata.decode_json(body)
        except InvalidArgument as error:
            raise ServerError(f"GET {path}: {error}") from error
        return spec.version, found

    def call_predict(self, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `ModelClient`; in columnar format, which needs no rows and gives what has none."""
        expected = {name: output.dtype.numpy for name, output in signature.outputs.items()}
        return self.predict(signature.name, inputs, expected, self._version, row_format=False)

    def predict(
        self,
        signature: str,
        inputs: Mapping[str, Array],
        expected: Mapping[str, npt.DTypeLike | None],
        version: int | None,
        *,
        row_format: bool = True,
    ) -> dict[str, Array]:
        """
        Send tensors.

        Args:
            signature: Name of the signature; empty for the default.
            inputs: Name -> array; in row format of shape [rows, …].
            expected: Output name -> dtype, of which JSON says little; a single output goes without its name, too.
            version: The version to ask, or None.
            row_format: `instances` rather than `inputs`.

        Raises:
            ServerError: If the answer is an error, or none; or if JSON cannot carry an input.
        """
        try:
            request = json_predict.encode_request(inputs, row_format=row_format, signature_name=signature)
        except InvalidArgument as error:
            raise ServerError(f"{error}. Over gRPC it goes.") from error
        path, body = self._ask("predict", request, version)
        try:
            answer = json_predict.decode_response(body)
        except InvalidArgument as error:
            raise ServerError(f"POST {path}: {error}") from error
        named = answer if isinstance(answer, dict) else {next(iter(expected)): answer}
        return {name: _typed(array, expected.get(name)) for name, array in named.items()}

    def call_classify(self, signature: str, examples: Sequence[bytes]) -> Classification:
        """See `ModelClient`."""
        path, body = self._ask(
            "classify", json_examples.encode_request(examples, signature_name=signature), self._version
        )
        try:
            return json_examples.decode_classify_response(body)
        except InvalidArgument as error:
            raise ServerError(f"POST {path}: {error}") from error

    def call_regress(self, signature: str, examples: Sequence[bytes]) -> Regression:
        """See `ModelClient`."""
        path, body = self._ask(
            "regress", json_examples.encode_request(examples, signature_name=signature), self._version
        )
        try:
            return json_examples.decode_regress_response(body)
        except InvalidArgument as error:
            raise ServerError(f"POST {path}: {error}") from error

    def _ask(self, verb: Verb, request: bytes | None, version: int | None) -> tuple[str, bytes]:
        path = self._prefix + paths.rest_path(self._name, verb, version=version, label=self._label)
        method = "GET" if request is None else "POST"
        try:
            self._connection.request(method, path, request, self._headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{method} {path}: no answer ({error or type(error).__name__}).") from error
        if response.status != http.HTTPStatus.OK:
            raise ServerError(f"{method} {path}: expected 200, found {response.status}: {_message(body)}")
        return path, body


class GrpcModel:
    """A `ModelClient` over gRPC."""

    def __init__(
        self,
        host: str,
        port: int,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        security: Security = OPEN,
    ) -> None:
        """See `RestModel`; *port* is the gRPC port."""
        self._channel = grpc_channel(host, port, security)
        self._name, self._version, self._label = model, version, label
        self._metadata = (("authorization", f"Bearer {security.token}"),) if security.token else ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def signatures(self) -> dict[str, Signature]:
        """See `ModelClient`."""
        return self.metadata()[1]

    def metadata(self) -> tuple[int | None, dict[str, Signature]]:
        """See `ModelClient`."""
        request = model_metadata.encode_request(self._name, version=self._version, label=self._label)
        method = paths.GRPC_GET_MODEL_METADATA
        try:
            spec, found = model_metadata.decode_response(self._ask(method, request))
        except InvalidArgument as error:
            raise ServerError(f"{method}: {error}") from error
        return spec.version, found

    def call_predict(self, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `ModelClient`."""
        return self.predict(signature.name, inputs, self._version)

    def predict(self, signature: str, inputs: Mapping[str, Array], version: int | None) -> dict[str, Array]:
        """Send tensors; see `RestModel.predict`."""
        request = predict.encode_request(
            self._name, inputs, version=version, label=self._label, signature_name=signature
        )
        try:
            return predict.decode_response(self._ask(paths.GRPC_PREDICT, request))[1]
        except InvalidArgument as error:
            raise ServerError(f"{paths.GRPC_PREDICT}: {error}") from error

    def call_classify(self, signature: str, examples: Sequence[bytes]) -> Classification:
        """See `ModelClient`."""
        try:
            return inference.decode_classify_response(self._ask_examples(paths.GRPC_CLASSIFY, signature, examples))[1]
        except InvalidArgument as error:
            raise ServerError(f"{paths.GRPC_CLASSIFY}: {error}") from error

    def call_regress(self, signature: str, examples: Sequence[bytes]) -> Regression:
        """See `ModelClient`."""
        try:
            return inference.decode_regress_response(self._ask_examples(paths.GRPC_REGRESS, signature, examples))[1]
        except InvalidArgument as error:
            raise ServerError(f"{paths.GRPC_REGRESS}: {error}") from error

    def _ask_examples(self, method: str, signature: str, examples: Sequence[bytes]) -> bytes:
        request = inference.encode_request(
            self._name, examples, version=self._version, label=self._label, signature_name=signature
        )
        return self._ask(method, request)

    def _ask(self, method: str, request: bytes) -> bytes:
        call = self._channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            answer: bytes = call(request, timeout=_TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            failed = cast("grpc.Call", error)
            raise ServerError(f"{method}: {failed.code().name}: {_line(failed.details() or '')}") from error
        return answer


def _typed(array: Array, dtype: npt.DTypeLike | None) -> Array:
    """Give numbers the dtype that was promised; JSON knows int64 and float64."""
    if dtype is None or array.dtype.kind not in "biuf" or np.dtype(dtype).kind not in "biuf":
        return array
    return array.astype(dtype)


def _message(body: bytes) -> str:
    try:
        return _line(str(json.loads(body)["error"]))
    except (ValueError, KeyError, TypeError):
        return _line(body[:200].decode(errors="replace"))


def _line(text: str) -> str:
    """Put TensorFlow's messages of several lines into one."""
    return " ".join(text.split())

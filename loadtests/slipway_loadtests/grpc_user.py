"""Locust users that speak gRPC: Predict, Classify or Regress of `PredictionService` over HTTP/2."""

from typing import Any

from slipway_loadtests.h2c import GrpcConnection, message
from slipway_loadtests.tls import Handshake
from slipway_loadtests.users import ClosedLoopUser, OpenLoopUser
from slipway_wire import dtypes, messages, predict, tensors
from slipway_wire.loads import Encoding
from slipway_wire.payloads import Payload
from slipway_wire.tensors import Array

# Fields of TensorProto whose entries are the values themselves.
_LISTED = {"float_val", "double_val", "int_val", "int64_val", "string_val", "bool_val", "uint32_val", "uint64_val"}


class GrpcUser(ClosedLoopUser):
    """A caller over gRPC."""

    protocol = "grpc"


class GrpcArrivals(OpenLoopUser):
    """Calls over gRPC on a schedule."""

    protocol = "grpc"


def frame(payload: Payload, host: str, port: int, body: bytes) -> bytes:
    """Frame a message; headers are the connection's."""
    return message(body)


def connect(host: str, port: int, payload: Payload, handshake: Handshake | None = None) -> GrpcConnection:
    """Open a connection for calls of *payload*'s method and exchange settings."""
    return GrpcConnection(host, port, payload.grpc_method, handshake)


def encode(payload: Payload, encoding: Encoding) -> bytes:
    """Make the message: as it was made beforehand; or from its values, as raw bytes or one field per value as plain clients do."""
    if encoding == "prebuilt":
        return payload.grpc_message
    spec = payload.spec
    if encoding in {"naive", "plain_prebuilt"}:
        request = messages.PredictRequest()
        request.MergeFromString(
            predict.encode_request(
                spec.name, {}, version=spec.version, label=spec.label, signature_name=spec.signature_name
            )
        )
        for name, array in payload.inputs.items():
            request.inputs[name].CopyFrom(_plain(array))
        return bytes(request.SerializeToString())
    return predict.encode_request(
        spec.name, payload.inputs, version=spec.version, label=spec.label, signature_name=spec.signature_name
    )


def _plain(array: Array) -> Any:
    """Make a TensorProto value by value, as `make_tensor_proto` does of a list."""
    data_type = dtypes.from_numpy(array.dtype)
    if data_type.field not in _LISTED:
        return tensors.to_proto(array, as_content=False)
    proto = messages.TensorProto(dtype=data_type.number)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, data_type.field).extend(array.ravel().tolist())
    return proto


def read(answer: bytes, encoding: Encoding) -> object:
    """Read an answer; a plain client goes through the same library."""
    return predict.decode_response(answer)

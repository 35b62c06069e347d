"""Locust users that speak gRPC: Predict, Classify or Regress of `PredictionService` over HTTP/2 without TLS."""

from slipway_loadtests.h2c import GrpcConnection, message
from slipway_loadtests.users import ClosedLoopUser, OpenLoopUser
from slipway_wire.payloads import Payload


class GrpcUser(ClosedLoopUser):
    """A caller over gRPC."""

    protocol = "grpc"


class GrpcArrivals(OpenLoopUser):
    """Calls over gRPC on a schedule."""

    protocol = "grpc"


def prepare(payload: Payload, host: str, port: int) -> bytes:
    """Make the framed message; headers are the connection's."""
    return message(payload.grpc_message)


def connect(host: str, port: int, payload: Payload) -> GrpcConnection:
    """Open a connection for calls of *payload*'s method and exchange settings."""
    return GrpcConnection(host, port, payload.grpc_method)

"""Both transports of gRPC: what holds for one must hold for the other."""

import pytest

from slipway_server.transports import grpcio_server
from slipway_server.transports.http2 import server as http2


@pytest.fixture(params=[http2.start_server, grpcio_server.start_server], ids=["slipway", "grpcio"])
def start_grpc(request):
    """`start_grpc(services, addresses, options, callers, tls)` starts a server of each kind in turn."""
    return request.param

"""Locust users that speak REST: `POST /v1/models/…:predict`, `:classify` or `:regress` over HTTP/1.1."""

from slipway_loadtests.http1 import HttpConnection, post
from slipway_loadtests.users import ClosedLoopUser, OpenLoopUser
from slipway_wire.payloads import Payload


class RestUser(ClosedLoopUser):
    """A caller over REST."""

    protocol = "rest"


class RestArrivals(OpenLoopUser):
    """Requests over REST on a schedule."""

    protocol = "rest"


def prepare(payload: Payload, host: str, port: int) -> bytes:
    """Make the whole request, headers included."""
    return post(host, port, payload.rest_path, payload.rest_body)


def connect(host: str, port: int, _payload: Payload) -> HttpConnection:
    """Open a connection, for requests of any method."""
    return HttpConnection(host, port)

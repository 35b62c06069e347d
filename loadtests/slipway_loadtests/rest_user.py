"""Locust users that speak REST: `POST /v1/models/…:predict`, `:classify` or `:regress` over HTTP/1.1."""

import base64
import json
from typing import Any

from slipway_loadtests.http1 import HttpConnection, post
from slipway_loadtests.tls import Handshake
from slipway_loadtests.users import ClosedLoopUser, OpenLoopUser
from slipway_wire import json_predict
from slipway_wire.loads import Encoding
from slipway_wire.payloads import Payload


class RestUser(ClosedLoopUser):
    """A caller over REST."""

    protocol = "rest"


class RestArrivals(OpenLoopUser):
    """Requests over REST on a schedule."""

    protocol = "rest"


def frame(payload: Payload, host: str, port: int, body: bytes) -> bytes:
    """Make the whole request of a *body* for *payload*'s path, headers included."""
    return post(host, port, payload.rest_path, body)


def connect(host: str, port: int, _payload: Payload, handshake: Handshake | None = None) -> HttpConnection:
    """Open a connection, for requests of any method."""
    return HttpConnection(host, port, handshake)


def encode(payload: Payload, encoding: Encoding) -> bytes:
    """Make the body: as it was made beforehand; or from its values, as fast as we can or as most clients do."""
    if encoding == "prebuilt":
        return payload.rest_body
    if encoding in {"naive", "plain_prebuilt"}:
        return _plain_body(payload)
    return json_predict.encode_request(payload.inputs, signature_name=payload.spec.signature_name)


def _plain_body(payload: Payload) -> bytes:
    columns = {name: _plain(array.tolist()) for name, array in payload.inputs.items()}
    if len(columns) == 1:
        instances = next(iter(columns.values()))
    else:
        instances = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    named = {"signature_name": payload.spec.signature_name} if payload.spec.signature_name else {}
    return json.dumps({**named, "instances": instances}).encode()


def _plain(values: Any) -> Any:
    if isinstance(values, list):
        return [_plain(value) for value in values] if values and isinstance(values[0], list | bytes) else values
    return {"b64": base64.b64encode(values).decode()} if isinstance(values, bytes) else values


def read(answer: bytes, encoding: Encoding) -> object:
    """Read an answer, as fast as we can or as most clients do."""
    return json.loads(answer) if encoding == "naive" else json_predict.decode_response(answer)

"""GetModelStatus: which versions of a model there are and how they fare, over gRPC and as JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from slipway_wire import messages, model_spec
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import Code, InvalidArgument

State = Literal["UNKNOWN", "START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """
    One version of a model.

    Attributes:
        version: Its number.
        state: Where it is in its life.
        code: OK, or why loading failed.
        message: What went wrong, empty if nothing did.
    """

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


def encode_request(model: str, *, version: int | None = None, label: str | None = None) -> bytes:
    """Write a GetModelStatusRequest."""
    request = messages.GetModelStatusRequest(model_spec=model_spec.to_proto(ModelSpec(model, version, label)))
    serialized: bytes = request.SerializeToString()
    return serialized


def decode_request(serialized: bytes) -> ModelSpec:
    """Read a GetModelStatusRequest, or raise InvalidArgument: malformed, or no model named."""
    try:
        return model_spec.from_request(messages.GetModelStatusRequest.FromString(serialized))
    except DecodeError as error:
        raise InvalidArgument("the message is not a GetModelStatusRequest") from error


def encode_response(versions: Iterable[VersionStatus]) -> bytes:
    """Write a GetModelStatusResponse, versions in the order given (TF Serving: highest first)."""
    serialized: bytes = _to_proto(versions).SerializeToString()
    return serialized


def encode_json(versions: Iterable[VersionStatus]) -> bytes:
    """Write the body of `GET /v1/models/NAME`: every field, one space of indentation, versions as strings."""
    return json_format.MessageToJson(
        _to_proto(versions),
        indent=1,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=messages.POOL,
    ).encode()


def _to_proto(versions: Iterable[VersionStatus]) -> Any:
    response = messages.GetModelStatusResponse()
    for status in versions:
        response.model_version_status.add(
            version=status.version,
            state=messages.ModelVersionStatus.State.Value(status.state),
            status=messages.StatusProto(error_code=int(status.code), error_message=status.message),
        )
    return response


def decode_response(serialized: bytes) -> list[VersionStatus]:
    """Read a GetModelStatusResponse, or raise InvalidArgument."""
    try:
        return _from_proto(messages.GetModelStatusResponse.FromString(serialized))
    except DecodeError as error:
        raise InvalidArgument("the message is not a GetModelStatusResponse") from error


def decode_json(body: bytes) -> list[VersionStatus]:
    """Read the body of an answer to `GET /v1/models/NAME`, or raise InvalidArgument."""
    try:
        document = orjson.loads(body)
        if not isinstance(document, dict):
            raise InvalidArgument("the body is not a model status")
        response = json_format.ParseDict(
            document, messages.GetModelStatusResponse(), ignore_unknown_fields=True, descriptor_pool=messages.POOL
        )
    except (orjson.JSONDecodeError, json_format.ParseError) as error:
        raise InvalidArgument("the body is not a model status") from error
    return _from_proto(response)


def _from_proto(response: Any) -> list[VersionStatus]:
    states: dict[int, State] = {messages.ModelVersionStatus.State.Value(name): name for name in get_args(State)}
    known_codes = {int(code) for code in Code}
    return [
        VersionStatus(
            version=entry.version,
            state=states.get(entry.state, "UNKNOWN"),
            code=Code(entry.status.error_code) if entry.status.error_code in known_codes else Code.UNKNOWN,
            message=entry.status.error_message,
        )
        for entry in response.model_version_status
    ]

"""HandleReloadConfigRequest: another configuration for a running server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from slipway_wire import messages
from slipway_wire.status import Code, InvalidArgument


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """
    What is to be served from now on.

    Attributes:
        config: ModelServerConfig message.
        metric_names: Counters of which the caller wants to know how much they rise by it.
    """

    config: Any
    metric_names: tuple[str, ...]


def encode_request(config: Any, metric_names: tuple[str, ...] = ()) -> bytes:
    """Write a ReloadConfigRequest for a ModelServerConfig message."""
    serialized: bytes = messages.ReloadConfigRequest(config=config, metric_names=metric_names).SerializeToString()
    return serialized


def decode_request(serialized: bytes) -> ReloadRequest:
    """Read a ReloadConfigRequest, or raise InvalidArgument: the bytes are none."""
    try:
        request = messages.ReloadConfigRequest.FromString(serialized)
    except DecodeError as error:
        raise InvalidArgument("the message is not a ReloadConfigRequest") from error
    return ReloadRequest(request.config, tuple(request.metric_names))


def encode_response(increases: Mapping[str, int]) -> bytes:
    """Write the ReloadConfigResponse of a change that went well: metric name -> by how much it has risen."""
    response = messages.ReloadConfigResponse(status={"error_code": int(Code.OK)})
    for name, increase in increases.items():
        response.metric.add(name=name, int64_value_increase=increase)
    serialized: bytes = response.SerializeToString()
    return serialized


def decode_response(serialized: bytes) -> dict[str, int]:
    """Read a ReloadConfigResponse: metric name -> by how much it has risen; InvalidArgument if the bytes are none."""
    try:
        response = messages.ReloadConfigResponse.FromString(serialized)
    except DecodeError as error:
        raise InvalidArgument("the message is not a ReloadConfigResponse") from error
    return {metric.name: metric.int64_value_increase for metric in response.metric}

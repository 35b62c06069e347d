"""The gRPC services' messages as bodies over REST: whose clients speak HTTP/1.1, but need not write numbers as text."""

from collections.abc import Mapping
from dataclasses import replace

from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument

CONTENT_TYPE = b"application/x-protobuf"

# Source: what Prometheus, OpenTelemetry and Google's APIs send and take.
_TYPES = frozenset({CONTENT_TYPE, b"application/protobuf", b"application/vnd.google.protobuf"})


def is_protobuf(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a request with *headers* (lower-case name -> value) has a message as its body, and gets one."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower() in _TYPES


def agreed(asked: ModelSpec, named: ModelSpec) -> ModelSpec:
    """
    Return whom a request is for whose path has *asked* and whose message has *named* a model: the same.

    Raises:
        InvalidArgument: They are not, or ask for different versions of it.
    """
    if asked.name != named.name:
        raise InvalidArgument(
            f'the path asks for model "{asked.name}", and model_spec in the body for "{named.name}"; they are to be the same'
        )
    if asked.version is None and asked.label is None:
        return named
    if (named.version, named.label) not in {(None, None), (asked.version, asked.label)}:
        raise InvalidArgument(
            f"the path asks for {_version(asked)} of model {asked.name}, and model_spec in the body for {_version(named)}; "
            "name it in one place, or the same in both"
        )
    return replace(named, version=asked.version, label=asked.label)


def _version(spec: ModelSpec) -> str:
    return f"version {spec.version}" if spec.label is None else f'the version with label "{spec.label}"'

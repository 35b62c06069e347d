"""Which model a request is for."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from slipway_wire import messages, protobuf
from slipway_wire.status import InvalidArgument

DEFAULT_SIGNATURE = "serving_default"

# Of each of these messages.
_REQUEST_SPEC = 1

# Longer ones are read each time: what is remembered is chosen by clients.
_MAX_REMEMBERED_BYTES = 256


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """
    A model and, if the caller cares, which version and signature of it.

    Attributes:
        name: Never empty.
        version: The version itself, or None.
        label: A version label, or None; never together with `version`.
        signature_name: As sent; empty stands for `serving_default`.
    """

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = ""

    @property
    def signature_key(self) -> str:
        """The signature meant, with the default filled in."""
        return self.signature_name or DEFAULT_SIGNATURE


def from_request(request: Any) -> ModelSpec:
    """
    Read the `model_spec` of a request message.

    Raises:
        InvalidArgument: If there is none, or it has no name.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    serialized = request.model_spec.SerializeToString()
    return _remembered(serialized) if len(serialized) <= _MAX_REMEMBERED_BYTES else from_proto(request.model_spec)


@lru_cache(maxsize=1024)
def _remembered(serialized: bytes) -> ModelSpec:
    """Read a ModelSpec as it was read before: requests name the same few again and again."""
    return from_proto(messages.ModelSpec.FromString(serialized))


def from_proto(spec: Any) -> ModelSpec:
    """Read a ModelSpec message, or raise InvalidArgument if it has no name."""
    if not spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    return unchecked(spec)


def unchecked(spec: Any) -> ModelSpec:
    """Read a ModelSpec message whose name may be empty."""
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        name=spec.name,
        version=spec.version.value if choice == "version" else None,
        label=spec.version_label if choice == "version_label" else None,
        signature_name=spec.signature_name,
    )


def instead(request: bytes, spec: ModelSpec) -> bytes:
    """
    Let a serialized PredictRequest, ClassificationRequest or RegressionRequest name *spec*, all of it given, instead.

    Messages that stand one behind the other are one, and of what both say the last counts (protobuf.dev, "Last One Wins").
    """
    return request + protobuf.bytes_field(_REQUEST_SPEC, to_proto(spec).SerializeToString())


def to_proto(spec: ModelSpec) -> Any:
    """Make the ModelSpec message."""
    message = messages.ModelSpec(name=spec.name, signature_name=spec.signature_name)
    if spec.version is not None:
        message.version.value = spec.version
    elif spec.label is not None:
        message.version_label = spec.label
    return message

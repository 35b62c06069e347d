"""A server that somebody else started: what it serves, how it is called, and what cannot be known of it."""

import contextlib
import socket
from dataclasses import dataclass, replace

import psutil

from slipway.errors import ServerError, SettingsError
from slipway.model_clients import GrpcModel, ModelClient, RestModel
from slipway.records import Protocol
from slipway.security import OPEN, Security
from slipway.targets import Target
from slipway_wire import dtypes
from slipway_wire.model_spec import ModelSpec
from slipway_wire.paths import PostVerb
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS, Signature

_TIMEOUT_S = 5.0
METHODS: dict[str, PostVerb] = {PREDICT: "predict", CLASSIFY: "classify", REGRESS: "regress"}


@dataclass(frozen=True, slots=True)
class TargetServer:
    """
    What is loaded: addresses, and a process if it is known.

    Attributes:
        places: Protocol -> where it is spoken.
        pid: Of the server, if it runs on this host and somebody said so.
        security: Certificates for the places that have TLS.
    """

    places: dict[Protocol, Target]
    pid: int | None = None
    security: Security = OPEN

    def protection(self) -> dict[Protocol, Security]:
        """Say how connections are protected, by protocol; those that are plain are not in it."""
        return {protocol: replace(self.security, tls=True) for protocol, place in self.places.items() if place.tls}

    def addresses(self) -> dict[Protocol, tuple[str, int]]:
        """Give host and port of each protocol."""
        return {protocol: (place.host, place.port) for protocol, place in self.places.items()}

    def pids(self) -> list[int]:
        """List its processes; [] unless one was named."""
        if self.pid is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
        return []

    def check_alive(self) -> None:
        """Raise ServerError if the process that was named is gone; of others only their requests tell."""
        if self.pid is not None and not psutil.pid_exists(self.pid):
            raise ServerError(f"The server died: its process {self.pid} is gone.")

    def last_words(self) -> str:
        """Say whether it still listens, after something went wrong."""
        gone = [str(place) for place in self.places.values() if not _listens(place)]
        return f" {' and '.join(gone)} no longer answers: the server died or was stopped." if gone else ""


def _listens(place: Target) -> bool:
    try:
        socket.create_connection((place.host, place.port), _TIMEOUT_S).close()
    except OSError:
        return False
    return True


def client(server: TargetServer, protocol: Protocol, spec: ModelSpec) -> ModelClient:
    """Make a client of the model, version or label that *spec* names; nothing is sent yet."""
    place = server.places[protocol]
    kind = GrpcModel if protocol == "grpc" else RestModel
    security = server.protection().get(protocol, OPEN)
    return kind(place.host, place.port, spec.name, version=spec.version, label=spec.label, security=security)


@dataclass(frozen=True, slots=True)
class Found:
    """
    What is called.

    Attributes:
        signature: As the server has it.
        method: How it is called.
        version: The version that answers, as the server says; None: it does not.
    """

    signature: Signature
    method: PostVerb
    version: int | None


def find_signature(server: TargetServer, spec: ModelSpec, method: PostVerb | None) -> Found:
    """
    Ask each protocol for the signature that *spec* names, and choose how it is called.

    Args:
        server: Is asked.
        spec: Model, version or label, signature.
        method: As the user wants it; None: as the signature says.

    Returns:
        The signature and its version as the last protocol tells them (gRPC, where it is spoken), and the method.

    Raises:
        ServerError: There is no such model or signature; with what there is.
        SettingsError: It is not called so.
    """
    found, version = None, None
    name = spec.signature_key
    for protocol, place in server.places.items():
        with client(server, protocol, spec) as asked:
            try:
                version, known = asked.metadata()
            except ServerError as error:
                raise ServerError(f"{place}: model {spec.name}: {error}") from error
        if name not in known:
            there = ", ".join(known) or "none"
            raise ServerError(f"{place}: model {spec.name} has no signature {name}; it has: {there}.")
        found = known[name]
    assert found is not None  # somebody was asked
    own = METHODS.get(found.method)
    if own is None:
        raise SettingsError(f"--signature: {name} is called by {found.method!r}, which no request of the load can be")
    # Predict takes the tensors of any signature, as TensorFlow Serving does.
    if method not in (None, own, "predict"):
        others = [key for key, one in known.items() if METHODS.get(one.method) == method]
        raise SettingsError(
            f"--method {method}: {name} is called by {own}; signatures called by {method}: {', '.join(others) or 'none'}"
        )
    if (method or own) != "predict" and not takes_examples(found):
        told = ", ".join(map(str, found.inputs.values()))
        raise SettingsError(f"--signature: {name} takes {told}, which {own} does not carry; say --method predict")
    return Found(found, method or own, version)


def takes_examples(signature: Signature) -> bool:
    """Say whether *signature* is fed with serialized tf.Examples, as those of Classify and Regress are."""
    return METHODS.get(signature.method) in ("classify", "regress") and all(
        spec.dtype is dtypes.STRING for spec in signature.inputs.values()
    )

"""Where a model is served, as people write it on a command line, and a client for it."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from slipway import security
from slipway.errors import SettingsError
from slipway.model_clients import GrpcModel, ModelClient, RestModel
from slipway.records import Protocol

# The ports of TensorFlow Serving's own image.
DEFAULT_PORTS: dict[Protocol, int] = {"rest": 8501, "grpc": 8500}
NAMES: dict[Protocol, str] = {"rest": "REST", "grpc": "gRPC"}
_SCHEMES: dict[str, tuple[Protocol, bool]] = {
    "http": ("rest", False),
    "https": ("rest", True),
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
}
_FORMS = "expected HOST, HOST:PORT, or http://, https://, grpc://, grpcs:// and these"


@dataclass(frozen=True, slots=True)
class Target:
    """
    One address of one protocol.

    Attributes:
        protocol: What is spoken there.
        host: Name or address, without brackets.
        port: As given, or that of TensorFlow Serving's image; 443 with TLS.
        tls: Whether the connection is encrypted.
        prefix: What a gateway puts in front of REST paths.
    """

    protocol: Protocol
    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    def __str__(self) -> str:
        """Write it as a URL."""
        scheme = next(name for name, meant in _SCHEMES.items() if meant == (self.protocol, self.tls))
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.prefix}"


def parse(word: str, protocol: str | None) -> list[Target]:
    """
    Read one TARGET.

    Args:
        word: `HOST`, `HOST:PORT`, or a URL whose scheme is http, https, grpc or grpcs; http may have a path in front.
        protocol: rest, grpc, or both (on the same port, which Slipway's server can do, or on each one's default
            port); None: what the scheme says, REST without one.

    Raises:
        SettingsError: If it is none of these, or *protocol* contradicts its scheme.
    """
    try:
        parts = urlsplit(word if "://" in word else f"//{word}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"{word}: {error}; {_FORMS}.") from error
    if not host or parts.query or parts.fragment or parts.username:
        raise SettingsError(f"{word}: no address; {_FORMS}.")
    security.check_host(host)
    prefix = parts.path.rstrip("/")
    if not parts.scheme:
        if prefix:
            raise SettingsError(f"{word}: a path needs a scheme: http://{word}")
        wanted: tuple[Protocol, ...] = ("rest", "grpc") if protocol == "both" else (_named(protocol),)
        return [Target(one, host, port or DEFAULT_PORTS[one]) for one in wanted]
    if parts.scheme not in _SCHEMES:
        raise SettingsError(f"{word}: unknown scheme {parts.scheme}; {_FORMS}.")
    spoken, tls = _SCHEMES[parts.scheme]
    if protocol not in (None, spoken):
        raise SettingsError(
            f"{word}: is {NAMES[spoken]}, but --protocol says {protocol}. Name both addresses, or leave --protocol out."
        )
    if prefix and spoken == "grpc":
        raise SettingsError(f"{word}: gRPC has no path {prefix}")
    return [Target(spoken, host, port or (443 if tls else DEFAULT_PORTS[spoken]), tls, prefix)]


def _named(protocol: str | None) -> Protocol:
    return "grpc" if protocol == "grpc" else "rest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which model is called, and how."""
    versions = parser.add_mutually_exclusive_group()
    versions.add_argument("--version", type=int, metavar="N", help="ask this version; else the server chooses")
    versions.add_argument("--label", metavar="LABEL", help="ask the version with this label, such as canary")
    security.add_arguments(parser)
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a bearer token in one line")


def connect(target: Target, model: str, arguments: argparse.Namespace) -> ModelClient:
    """
    Make a client of *model* at *target*, as `add_arguments` declared; nothing is sent yet.

    Raises:
        SettingsError: If a file of certificates or a token cannot be used.
    """
    protected = security.of_arguments(arguments, tls=target.tls, token=_token(arguments.token_file))
    version, label = arguments.version, arguments.label
    if target.protocol == "grpc":
        return GrpcModel(target.host, target.port, model, version=version, label=label, security=protected)
    return RestModel(
        target.host, target.port, model, version=version, label=label, prefix=target.prefix, security=protected
    )


def _token(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--token-file: {path}: cannot be read as ASCII text ({error}).") from error
    if not token or len(token.split()) > 1:
        raise SettingsError(f"--token-file: {path}: expected one word.")
    return token

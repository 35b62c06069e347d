"""A server that somebody else started: what it speaks, what it serves, and what cannot be known of it."""

import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from slipway import targets
from slipway.errors import ServerError, SettingsError
from slipway.model_clients import GrpcModel, RestModel
from slipway.records import Protocol
from slipway.targets import Target
from slipway_wire.signatures import Signature

_TIMEOUT_S = 5.0
# RFC 9113: the client's preface, and a SETTINGS frame without settings.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_GET = b"GET /v1/models/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_SETTINGS = 4
# RFC 8446, section 5.1: an alert's content type and the versions that stand after it.
_TLS_ALERT = b"\x15\x03"


@dataclass(frozen=True, slots=True)
class TargetServer:
    """
    What is loaded: addresses, and a process if it is known.

    Attributes:
        places: Protocol -> where it is spoken.
        pid: Of the server, if it runs on this host and somebody said so.
    """

    places: dict[Protocol, Target]
    pid: int | None = None

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


def find(words: Sequence[str], rest_word: str | None) -> dict[Protocol, Target]:
    """
    Find out what is spoken where.

    Args:
        words: `--target`: HOST, HOST:PORT (what it speaks is found out) or a URL whose scheme says it.
        rest_word: `--rest-target`: where REST is, beside gRPC at a single one of *words*.

    Returns:
        Protocol -> address, REST first.

    Raises:
        SettingsError: An address that is none, or one that asks for TLS.
        ServerError: Nobody listens there, it says nothing, or speaks something else.
    """
    found: dict[Protocol, Target] = {}
    for word in words:
        found |= _spoken_at(word, "grpc" if rest_word else None)
    if rest_word:
        found |= _spoken_at(rest_word, "rest")
    order: tuple[Protocol, ...] = ("rest", "grpc")
    return {protocol: found[protocol] for protocol in order if protocol in found}


def _spoken_at(word: str, wanted: Protocol | None) -> dict[Protocol, Target]:
    has_scheme = "://" in word
    asked = targets.parse(word, None if has_scheme or wanted is None else wanted)
    if not has_scheme and wanted is None:
        # Without a port TensorFlow Serving's own are tried, each for its protocol.
        asked = targets.parse(word, "both")
    found: dict[Protocol, Target] = {}
    faults = []
    for place in asked:
        if place.tls:
            raise SettingsError(f"{place}: the load generator speaks no TLS; name the server's plain port.")
        if place.prefix:
            raise SettingsError(f"{place}: a path in front is not supported here; name the server itself.")
        try:
            spoken = spoken_protocols(place.host, place.port)
        except ServerError as error:
            faults.append(error)
            continue
        if place.protocol in spoken:
            found[place.protocol] = place
        else:
            there = " and ".join(targets.NAMES[p] for p in spoken)
            faults.append(ServerError(f"{place}: expected {targets.NAMES[place.protocol]}, found {there}."))
    if not found or (faults and (has_scheme or wanted)):
        raise faults[0]
    return found


def spoken_protocols(host: str, port: int) -> list[Protocol]:
    """
    Ask a port in HTTP/1.1 and in HTTP/2 whether it understands.

    Raises:
        ServerError: Nobody listens there, or it speaks neither; with TLS as the likely reason where it is one.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    over_http2, over_http1 = (_asked(host, port, where, question) for question in (_PREFACE, _GET))
    spoken: list[Protocol] = []
    if over_http1.startswith(b"HTTP/1."):
        spoken.append("rest")
    if len(over_http2) >= 9 and over_http2[3] == _SETTINGS:
        spoken.append("grpc")
    if spoken:
        return spoken
    if over_http1.startswith(_TLS_ALERT) or over_http2.startswith(_TLS_ALERT) or _takes_tls(host, port):
        raise ServerError(f"{where}: speaks TLS, which the load generator does not. Name the server's plain port.")
    said = (over_http1 or over_http2)[:40]
    told = f"answered {said!r}" if said else "took the connection and answered nothing"
    raise ServerError(f"{where}: {told}; expected REST (HTTP/1.1) or gRPC (HTTP/2). Is this a model server's port?")


def _asked(host: str, port: int, where: str, question: bytes) -> bytes:
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as connection:
            connection.settimeout(_TIMEOUT_S)
            answer = b""
            with contextlib.suppress(OSError):
                connection.sendall(question)
                while len(answer) < 9 and (more := connection.recv(4096)):
                    answer += more
            return answer
    except OSError as error:
        raise ServerError(
            f"{where}: no connection ({error.strerror or error}). Is the server running there?"
        ) from error


def _takes_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def client(place: Target, model: str, version: int | None) -> RestModel | GrpcModel:
    """Make a plain client of *model* there; nothing is sent yet."""
    kind = GrpcModel if place.protocol == "grpc" else RestModel
    return kind(place.host, place.port, model, version=version)


def signature_of(places: dict[Protocol, Target], model: str, version: int | None, name: str) -> Signature:
    """
    Ask each protocol for the signature.

    Returns:
        As the last protocol tells it: gRPC, where it is spoken.

    Raises:
        ServerError: There is no such model or signature, or it is not one of Predict; with what there is.
    """
    found: Signature | None = None
    for place in places.values():
        with client(place, model, version) as asked:
            try:
                known = asked.signatures()
            except ServerError as error:
                raise ServerError(f"{place}: model {model}: {error}") from error
        if name not in known:
            raise ServerError(f"{place}: model {model} has no signature {name}; it has: {', '.join(known) or 'none'}.")
        found = known[name]
    assert found is not None  # somebody was asked
    if found.method != "tensorflow/serving/predict":
        predicts = [key for key, one in known.items() if one.method == "tensorflow/serving/predict"]
        raise SettingsError(
            f"--signature: {name} is called by {found.method}; `slipway bench` loads predict signatures: "
            f"{', '.join(predicts) or 'there is none'}"
        )
    return found

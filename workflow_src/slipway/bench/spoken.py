"""What is spoken at an address: REST or gRPC, plain or over TLS; found out by asking, and told where it is not what was meant."""

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace

from slipway import targets
from slipway.errors import ServerError, SettingsError
from slipway.records import Protocol
from slipway.security import OPEN, Security
from slipway.targets import Target

_TIMEOUT_S = 5.0
# RFC 9113: the client's preface, and a SETTINGS frame without settings.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_GET = b"GET /v1/models/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_SETTINGS = 4
# RFC 8446, section 5.1: an alert's content type and the versions that stand after it.
_TLS_ALERT = b"\x15\x03"
_ASKS = "asks for a client's certificate (--cert-file FILE, --key-file FILE)"
_DISBELIEVES = "does not believe the client's certificate"
# What OpenSSL calls the alerts of a server that wants a certificate, or does not like the one that it got.
_WANTED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_DISLIKED = ("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_UNKNOWN")


class _NotAgreedError(Exception):
    """The server speaks another protocol over TLS than was asked for, and says so."""


def find(words: Sequence[str], rest_word: str | None, security: Security = OPEN) -> dict[Protocol, Target]:
    """
    Find out what is spoken where.

    Args:
        words: `--target`: HOST, HOST:PORT (what it speaks is found out) or a URL whose scheme says it.
        rest_word: `--rest-target`: where REST is, beside gRPC at a single one of *words*.
        security: TLS for addresses without a scheme, if it says so; certificates for all that have TLS.

    Returns:
        Protocol -> address, REST first.

    Raises:
        SettingsError: An address that is none, or whose scheme contradicts *security*.
        ServerError: Nobody listens there, it says nothing, or speaks something else; plain where TLS is expected, or TLS
            where it is not.
    """
    found: dict[Protocol, Target] = {}
    for word in words:
        found |= _spoken_at(word, "grpc" if rest_word else None, security)
    if rest_word:
        found |= _spoken_at(rest_word, "rest", security)
    order: tuple[Protocol, ...] = ("rest", "grpc")
    return {protocol: found[protocol] for protocol in order if protocol in found}


def _spoken_at(word: str, wanted: Protocol | None, security: Security) -> dict[Protocol, Target]:
    has_scheme = "://" in word
    asked = targets.parse(word, None if has_scheme or wanted is None else wanted)
    if not has_scheme:
        # Without a port TensorFlow Serving's own are tried, each for its protocol.
        asked = [replace(place, tls=security.tls) for place in targets.parse(word, wanted or "both")]
    found: dict[Protocol, Target] = {}
    faults = []
    for place in asked:
        if security.tls and not place.tls:
            raise SettingsError(f"{word}: says that it is plain, and --tls that it is not; leave one of them out.")
        if place.prefix:
            raise SettingsError(f"{place}: a path in front is not supported here; name the server itself.")
        try:
            spoken = spoken_protocols(place.host, place.port, replace(security, tls=place.tls))
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


def spoken_protocols(host: str, port: int, security: Security = OPEN) -> list[Protocol]:
    """
    Ask a port in HTTP/1.1 and in HTTP/2 whether it understands, over TLS if *security* says so.

    Raises:
        ServerError: Nobody listens there, or it speaks neither; with TLS, or its absence, as the reason where it is one.
        SettingsError: A file of certificates cannot be used.
    """
    where = _where(host, port)
    over_http2, over_http1 = (
        _asked(host, port, where, question, security, alpn) for question, alpn in ((_PREFACE, "h2"), (_GET, "http/1.1"))
    )
    spoken: list[Protocol] = []
    if over_http1.startswith(b"HTTP/1."):
        spoken.append("rest")
    if len(over_http2) >= 9 and over_http2[3] == _SETTINGS:
        spoken.append("grpc")
    if spoken:
        return spoken
    alerted = over_http1.startswith(_TLS_ALERT) or over_http2.startswith(_TLS_ALERT)
    if not security.tls and (alerted or _takes_tls(host, port)):
        raise ServerError(f"{where}: speaks TLS. Say --tls, and --ca-file FILE if its authority is not the system's.")
    said = (over_http1 or over_http2)[:40]
    told = f"answered {said!r}" if said else "took the connection and answered nothing"
    if security.tls and not said:
        # With TLS 1.3 a server hangs up on whom it does not know, and its reason may be lost.
        told += f" over TLS: perhaps it {_DISBELIEVES if security.certificate else _ASKS}"
    raise ServerError(f"{where}: {told}; expected REST (HTTP/1.1) or gRPC (HTTP/2). Is this a model server's port?")


def _where(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _asked(host: str, port: int, where: str, question: bytes, security: Security, alpn: str) -> bytes:
    """Send *question* and give what comes; nothing where HTTP/2 was not agreed upon, as gRPC over TLS must."""
    try:
        with _connected(host, port, where, security, alpn) as connection:
            if isinstance(connection, ssl.SSLSocket) and alpn == "h2" and connection.selected_alpn_protocol() != "h2":
                return b""
            return _answered(connection, question, where)
    except _NotAgreedError:
        return b""
    except OSError as error:
        raise ServerError(
            f"{where}: no connection ({error.strerror or error}). Is the server running there?"
        ) from error


def _answered(connection: socket.socket, question: bytes, where: str) -> bytes:
    answer = b""
    try:
        connection.sendall(question)
        while len(answer) < 9 and (more := connection.recv(4096)):
            answer += more
    except ssl.SSLError as error:
        if (why := _refused(error)) is not None:
            raise ServerError(f"{where}: {why}.") from error
    except OSError:
        pass
    return answer


@contextlib.contextmanager
def _connected(host: str, port: int, where: str, security: Security, alpn: str) -> Iterator[socket.socket]:
    with contextlib.ExitStack() as stack:
        connection: socket.socket = stack.enter_context(socket.create_connection((host, port), _TIMEOUT_S))
        connection.settimeout(_TIMEOUT_S)
        if security.tls:
            context = security.context()
            context.set_alpn_protocols([alpn])
            try:
                secured = context.wrap_socket(connection, server_hostname=security.server_name or host)
            except (ssl.SSLError, ConnectionError, TimeoutError) as error:
                if "NO_APPLICATION_PROTOCOL" in str(error):
                    raise _NotAgreedError from error
                raise ServerError(_why_no_tls(host, port, where, error)) from error
            connection = stack.enter_context(secured)
        yield connection


def _refused(error: OSError) -> str | None:
    """Say what a server's alert means for the client's certificate; None if it means something else."""
    said = str(error).upper().replace(" ", "_")
    if any(alert in said for alert in _WANTED):
        return _ASKS
    return _DISBELIEVES if any(alert in said for alert in _DISLIKED) else None


def _why_no_tls(host: str, port: int, where: str, error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message
        advice = (
            "--server-name NAME says whose it is" if "mismatch" in said else "name who signed it with --ca-file FILE"
        )
        return f"{where}: its certificate is not believed ({said}); {advice}."
    with contextlib.suppress(ServerError):
        spoken = " and ".join(targets.NAMES[protocol] for protocol in spoken_protocols(host, port))
        return f"{where}: speaks {spoken} without TLS; leave --tls out (or say http:// or grpc://)."
    if (why := _refused(error)) is not None:
        return f"{where}: {why}."
    return f"{where}: TLS does not come about ({error.strerror or error}). Is this a model server's port?"


def negotiated(place: Target, security: Security) -> str:
    """
    Say what TLS at *place* comes to: its version, the cipher, and whether the client showed a certificate.

    Raises:
        ServerError: It does not come about.
    """
    alpn = "h2" if place.protocol == "grpc" else "http/1.1"
    with _connected(place.host, place.port, str(place), security, alpn) as connection:
        assert isinstance(connection, ssl.SSLSocket)  # it was one when it was found
        cipher = connection.cipher()
        told = [connection.version() or "TLS", *([cipher[0]] if cipher else [])]
    return ", ".join([*told, *(["client certificate"] if security.certificate else [])])


def _takes_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False

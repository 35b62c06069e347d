"""How connections to a server are protected: TLS, certificates of both sides, a bearer token."""

import argparse
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from slipway.errors import SettingsError
from slipway_wire.loads import Tls


@dataclass(frozen=True, slots=True)
class Security:
    """
    How a connection is protected, and how the caller shows who it is.

    Attributes:
        tls: Encrypt, and check the server's certificate.
        authorities: PEM file with the certificates that it is checked with; None: the system's.
        token: Bearer token; empty: none.
        certificate: PEM file with the caller's own certificate, and those up to its authority's; None: none is shown.
        key: PEM file with its private key; None: it is in *certificate*.
        server_name: The name that the server's certificate must be for, and that requests are addressed to; None: the
            host that is connected to.
    """

    tls: bool = False
    authorities: Path | None = None
    token: str = ""
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """
        Read the certificates.

        Raises:
            SettingsError: A file cannot be used; it is named.
        """
        try:
            context = ssl.create_default_context(cafile=self.authorities)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"{self.authorities}: no certificates in PEM ({error}).") from error
        if self.certificate is not None:
            try:
                # Without a password callback OpenSSL would ask at the terminal.
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
            except (OSError, ssl.SSLError) as error:
                where = f"{self.certificate} and {self.key}" if self.key else str(self.certificate)
                raise SettingsError(f"{where}: no certificate with its own key in PEM ({error}).") from error
        return context

    def of_load(self) -> Tls | None:
        """Say it as the load generator hears it; None where nothing is encrypted."""
        if not self.tls:
            return None
        authorities, certificate, key = (
            str(path.absolute()) if path else None for path in (self.authorities, self.certificate, self.key)
        )
        return Tls(authorities=authorities, certificate=certificate, key=key, server_name=self.server_name)


OPEN = Security()


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted; give one that is not")


class _NamedConnection(http.client.HTTPSConnection):
    """HTTPS to an address whose certificate is for another name than the address."""

    def __init__(self, host: str, port: int, *, timeout: float, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls, self._server_name = context, server_name

    def connect(self) -> None:
        """Connect, and shake hands with the name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def http_connection(host: str, port: int, security: Security = OPEN, *, timeout_s: float) -> http.client.HTTPConnection:
    """Make an HTTP connection, of TLS if *security* says so; nothing is sent yet. Raises SettingsError as `context`."""
    if not security.tls:
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    context = security.context()
    if security.server_name:
        named = security.server_name
        return _NamedConnection(host, port, timeout=timeout_s, context=context, server_name=named)
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def headers(port: int, security: Security) -> dict[str, str]:
    """Give what each HTTP request says of the caller, and of whom it is for where that is not the address."""
    found = {"Authorization": f"Bearer {security.token}"} if security.token else {}
    return found | ({"Host": f"{security.server_name}:{port}"} if security.server_name else {})


def grpc_channel(host: str, port: int, security: Security = OPEN) -> grpc.Channel:
    """Make a gRPC channel, of TLS if *security* says so; nothing is sent yet. Raises SettingsError as `context`."""
    options: list[tuple[str, int | str]] = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not security.tls:
        return grpc.insecure_channel(target, options=options)
    security.context()  # gRPC says nothing of a file that holds no certificate
    if security.server_name:
        options.append(("grpc.ssl_target_name_override", security.server_name))
    certificate = _read(security.certificate)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(security.authorities),
        private_key=_read(security.key) or certificate,
        certificate_chain=certificate,
    )
    return grpc.secure_channel(target, credentials, options=options)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}).") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the certificates."""
    parser.add_argument(
        "--ca-file", "--ca", type=Path, metavar="FILE", help="certificates (PEM) that https and grpcs trust"
    )
    parser.add_argument(
        "--cert-file", type=Path, metavar="FILE", help="own certificate (PEM), for servers that ask for one"
    )
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="its private key, if --cert-file has none")
    parser.add_argument(
        "--server-name", metavar="NAME", help="what the server's certificate is for, if not for the address"
    )


def of_arguments(arguments: argparse.Namespace, *, tls: bool, token: str = "") -> Security:
    """
    Put together what `add_arguments` declared.

    Raises:
        SettingsError: A key is named without its certificate, or the server's name cannot be one.
    """
    if arguments.server_name:
        check_host(arguments.server_name, "--server-name: ")
    if arguments.key_file and not arguments.cert_file:
        raise SettingsError("--key-file: which certificate is it of? Name it with --cert-file.")
    return Security(
        tls, arguments.ca_file, token, arguments.cert_file, arguments.key_file, arguments.server_name or None
    )


def check_host(name: str, where: str = "") -> None:
    """
    Refuse what can be no host's name or address, which only opening a connection would find, each way with another error.

    Raises:
        SettingsError: A part of it is empty or longer than DNS allows, or it has blanks; *where* is told in front.
    """
    try:
        name.encode("idna")
    except UnicodeError as error:
        raise SettingsError(f"{where}{name}: no name of a host: {error.__cause__ or error}.") from error
    if not name.isprintable() or " " in name:
        raise SettingsError(f"{where}{name!r}: no name of a host: it has blanks or control characters.")


def named(arguments: argparse.Namespace) -> list[str]:
    """List the options of `add_arguments` that are given; without TLS they would mean nothing."""
    found = {
        "--ca-file": arguments.ca_file,
        "--cert-file": arguments.cert_file,
        "--key-file": arguments.key_file,
        "--server-name": arguments.server_name,
    }
    return [option for option, value in found.items() if value]

"""TLS: the SSLConfig file becomes an identity that was tried out before any port opens, for gRPC and REST alike."""

import contextlib
import logging
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway_server.config_files import read_text
from slipway_wire import messages
from slipway_wire.status import InvalidArgument

logger = logging.getLogger(__name__)

_BEGIN = "-----BEGIN "
_PEM_KINDS = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")


@dataclass(frozen=True, slots=True)
class Tls:
    """
    Who the server is, and whom it believes.

    Attributes:
        key: Private key, PEM, not encrypted.
        certificate: The server's certificate and those between it and its authority's, PEM.
        client_authority: Certificates of whoever signs clients' certificates, PEM; None: clients need none.
    """

    key: str = field(repr=False)
    certificate: str = field(repr=False)
    client_authority: str | None = field(default=None, repr=False)

    def context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """Make the context of a listening socket that offers *protocols* by ALPN; TLS 1.2 or later."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with _as_file(self.key) as key, _as_file(self.certificate) as certificate:
            context.load_cert_chain(certificate, key)
        if self.client_authority is not None:
            context.load_verify_locations(cadata=self.client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(list(protocols))
        return context


def read(path: Path) -> Tls:
    """
    Read a text-format SSLConfig and try out what it says.

    As in TF Serving, `server_key`, `server_cert` and `custom_ca` hold PEM text; what holds no PEM block is the
    path of a PEM file, relative to the directory of *path*. Without `client_verify`, `custom_ca` is passed over.

    Raises:
        InvalidArgument: Something is missing, unreadable or damaged, or does not fit the rest; the field is named.

    Source: tensorflow_serving/config/ssl_config.proto.
    """
    config = read_text(path, messages.SSLConfig)
    key = _pem(path, "server_key", config.server_key, "PRIVATE KEY")
    certificate = _pem(path, "server_cert", config.server_cert, "CERTIFICATE")
    authority = None
    if config.client_verify:
        if not config.custom_ca:
            raise InvalidArgument(
                f"{path}: client_verify needs custom_ca: the certificates of whoever signs the clients' certificates"
            )
        authority = _pem(path, "custom_ca", config.custom_ca, "CERTIFICATE")
    tls = Tls(key, certificate, authority)
    _try_out(path, tls)
    return tls


def _pem(path: Path, name: str, value: str, kind: str) -> str:
    """Return the PEM text of a field: its value, or the content of the file that it names."""
    if not value.strip():
        raise InvalidArgument(f"{path}: {name} is missing; give PEM text or the path of a PEM file")
    where = f"{path}: {name}"
    if _BEGIN not in value:
        file = path.parent / value.strip()
        where += f" ({file})"
        try:
            value = file.read_text()
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else "not text"
            raise InvalidArgument(f"{where}: {what}; give PEM text (-----BEGIN …) or the path of a PEM file") from error
    kinds = _PEM_KINDS.findall(value)
    if not any(found.endswith(kind) for found in kinds):
        raise InvalidArgument(f"{where}: expected a PEM block {kind}, found {', '.join(kinds) or 'none'}")
    if kind == "PRIVATE KEY" and ("ENCRYPTED PRIVATE KEY" in kinds or "Proc-Type: 4,ENCRYPTED" in value):
        raise InvalidArgument(f"{where}: the key is encrypted, and nobody is there to be asked; decrypt it first")
    return value


def _try_out(path: Path, tls: Tls) -> None:
    """Have OpenSSL read everything; say, too, if the certificate's time is over, which only clients would notice."""
    try:
        context = Tls(tls.key, tls.certificate).context([])
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = "server_key does not belong to server_cert; the first certificate in server_cert is the server's own"
        else:
            what = f"server_key or server_cert is damaged: {error.reason or error}"
        raise InvalidArgument(f"{path}: {what}") from error
    if tls.client_authority is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=tls.client_authority)
        except ssl.SSLError as error:
            raise InvalidArgument(f"{path}: custom_ca is damaged: {error.reason or error}") from error
    if fault := _fault_of(context, tls.certificate):
        logger.warning("%s: clients that check server_cert will refuse it: %s", path, fault)


def _fault_of(context: ssl.SSLContext, certificate: str) -> str | None:
    """Shake hands in memory with a client that believes in the server's own certificates: what then is wrong is time."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(cadata=certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):  # flights of a handshake, and then some
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError:
                return None
    return None


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Give *text* a path: OpenSSL reads keys from files only, and a key has no place on a disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

"""TLS for load: certificates are read once, and all connections of a session share what was read."""

import ssl
from dataclasses import dataclass
from typing import Literal

import gevent.socket
import gevent.ssl

from slipway_wire.loads import Tls

Alpn = Literal["h2", "http/1.1"]


@dataclass(frozen=True, slots=True)
class Handshake:
    """
    What turns a connection that was just opened into one of TLS.

    Attributes:
        context: Whom to believe, and who we are.
        server_name: The name that the server's certificate must be for.
        alpn: What will be spoken; gRPC's HTTP/2 has to be agreed upon, HTTP/1.1 is what is spoken where nobody says otherwise.
    """

    context: gevent.ssl.SSLContext
    server_name: str
    alpn: Alpn

    def shake(self, connected: gevent.socket.socket) -> gevent.socket.socket:
        """Give *connected* as one of TLS, or raise OSError (ssl.SSLError is one)."""
        secured = self.context.wrap_socket(connected, server_hostname=self.server_name)
        if self.alpn == "h2" and secured.selected_alpn_protocol() != "h2":
            secured.close()
            raise OSError("the server does not agree to HTTP/2 (ALPN h2), which gRPC is spoken over")
        return secured


def handshake(tls: Tls | None, host: str, alpn: Alpn) -> Handshake | None:
    """
    Read the certificates that *tls* names, for connections to *host*; None where there is no TLS.

    Raises:
        OSError: A file cannot be read, or holds no such thing.
    """
    if tls is None:
        return None
    context = gevent.ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.authorities)
    context.set_alpn_protocols([alpn])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return Handshake(context, tls.server_name or host, alpn)

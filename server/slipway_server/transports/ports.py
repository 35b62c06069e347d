"""TCP ports: found out to be free before models are loaded, opened after."""

import errno
import socket

from slipway_server.settings import Port
from slipway_wire.status import Unavailable


def bind(address: str, port: Port, *, flag: str, dual_stack: bool = False) -> socket.socket:
    """
    Bind, but do not listen: clients are refused until somebody does.

    Args:
        address: IP address or host name.
        port: Where; "auto": any free port.
        flag: The flag that chose the port, for the error.
        dual_stack: If *address* is 0.0.0.0, take IPv6, too, where the machine has it.

    Raises:
        Unavailable: The port is taken, or the address is not this machine's.
    """
    everywhere = dual_stack and address == "0.0.0.0" and socket.has_dualstack_ipv6()  # noqa: S104  # as TF Serving
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            "::" if everywhere else address, number(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not everywhere)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(target)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise cannot_listen(address, port, flag, error) from error
    return bound


def bind_unix(path: str) -> socket.socket:
    """
    Bind a UNIX socket at *path*, where nothing is.

    Raises:
        Unavailable: It cannot be made there.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
    except OSError as error:
        bound.close()
        raise Unavailable(
            f"gRPC cannot listen on unix:{path}: {error.strerror or error}; choose another path with --grpc_socket_path"
        ) from error
    return bound


def cannot_listen(address: str, port: Port, flag: str, error: OSError) -> Unavailable:
    """Say why nobody can listen there, and what to do."""
    if error.errno == errno.EADDRINUSE:
        what = "is in use by another process"
    else:
        what = f"cannot be listened on: {error.strerror}"
    return Unavailable(f"port {port} on {address} {what}; choose another with --{flag}, or auto for any that is free")


def number(port: Port) -> int:
    """Return what the operating system takes: 0 for any free port."""
    return 0 if port == "auto" else port


def host_in_target(address: str) -> str:
    """Write *address* as it stands before `:port`."""
    return f"[{address}]" if ":" in address else address

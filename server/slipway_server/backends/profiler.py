"""TensorFlow's own profiler service, on a port of its own that only this machine can reach."""

import contextlib
import os
import socket
import stat
from pathlib import Path

import tensorflow as tf

from slipway_wire.status import Unavailable


def start() -> int:
    """
    Start the service.

    It listens on every address of the machine, and cannot be told otherwise; so its socket is bound to the loopback
    device, which the kernel lets any process do (Linux 5.7). It ends with the process.

    Returns:
        The TCP port.

    Raises:
        Unavailable: The service does not start, or its port cannot be closed to other machines.
    """
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as reserved:
        # TensorFlow shares the port with us and with nobody else, while there is no other way to tell it which is free.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("", 0))
        port: int = reserved.getsockname()[1]
        tf.profiler.experimental.server.start(port)
    listeners = _listeners(port)
    try:
        if not listeners:
            raise Unavailable(f"TensorFlow's profiler service did not start on port {port}")
        for listener in listeners:
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
            except OSError as error:
                for one in listeners:
                    one.shutdown(socket.SHUT_RDWR)
                raise Unavailable(
                    f"the profiler is not served: its port {port} cannot be closed to other machines "
                    f"({error.strerror}); --enable_profiler=false leaves it out"
                ) from error
    finally:
        for listener in listeners:
            listener.close()
    return port


def mark(name: str) -> None:
    """Leave an event *name* in the trace that is being taken, if any: an idle server would have none, which is an error."""
    with tf.profiler.experimental.Trace(name):
        pass


def _listeners(port: int) -> list[socket.socket]:
    """Duplicate this process's own sockets that listen on *port*."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            descriptor = int(entry.name)
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            candidate = socket.socket(fileno=os.dup(descriptor))
            if (
                candidate.family in {socket.AF_INET, socket.AF_INET6}
                and candidate.type == socket.SOCK_STREAM
                and candidate.getsockname()[1] == port
                and candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            ):
                found.append(candidate)
            else:
                candidate.close()
    return found

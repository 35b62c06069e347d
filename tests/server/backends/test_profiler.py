import socket
import subprocess
import sys

CHILD = """
from slipway_server.backends import profiler

print(profiler.start(), flush=True)
profiler.mark("event")
input()
"""


def other_addresses():
    """The machine's addresses that are not loopback's, as far as they can be found without asking the network."""
    found = set()
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))  # sends nothing: it is a datagram socket
            except OSError:
                continue
            found.add(probe.getsockname()[0])
    return found - {"127.0.0.1", "::1"}


def reaches(address, port):
    try:
        socket.create_connection((address, port), 5.0).close()
    except OSError:
        return False
    return True


def test_the_profilers_port_is_open_to_this_machine_only():
    """In a process of its own: once started, it cannot be stopped."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        port = int(child.stdout.readline())

        assert reaches("127.0.0.1", port)
        assert not any(reaches(address, port) for address in other_addresses())
    finally:
        child.communicate(b"\n", timeout=60.0)
    assert child.returncode == 0

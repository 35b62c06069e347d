import socket

import pytest

from slipway_server.transports import ports
from slipway_wire.status import Unavailable


def test_auto_is_a_port_that_can_be_listened_on():
    with ports.bind("127.0.0.1", "auto", flag="port") as bound:
        bound.listen()
        socket.create_connection(bound.getsockname(), timeout=90).close()


def test_nobody_is_let_in_before_somebody_listens():
    """Models load between the two; a client must not hang meanwhile."""
    with ports.bind("127.0.0.1", "auto", flag="port") as bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname(), timeout=90)


def test_a_port_in_use_is_told_in_one_line_with_the_flag():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(Unavailable) as refusal:
            ports.bind("127.0.0.1", port, flag="rest_api_port")

    assert refusal.value.message == (
        f"port {port} on 127.0.0.1 is in use by another process; "
        "choose another with --rest_api_port, or auto for any that is free"
    )


def test_an_address_of_another_machine_is_told():
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1 cannot be listened on: Cannot assign"):
        ports.bind("192.0.2.1", "auto", flag="port")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_everywhere_is_ipv6_too():
    with ports.bind("0.0.0.0", "auto", flag="rest_api_port", dual_stack=True) as bound:
        bound.listen()
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, bound.getsockname()[1]), timeout=90).close()


def test_targets():
    assert ports.host_in_target("::1") == "[::1]"
    assert ports.host_in_target("127.0.0.1") == "127.0.0.1"
    assert ports.number("auto") == 0
    assert ports.number(8500) == 8500

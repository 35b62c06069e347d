import socket

import pytest
from tests.loadtests.conftest import scripted_peer

from slipway_loadtests.connections import RequestFailed, open_socket, receive, send, sent_again, transferred


def test_the_kernel_counts_every_byte_in_both_directions():
    def echo(peer):
        while data := peer.recv(65536):
            peer.sendall(data + data)

    with scripted_peer(echo) as port:
        connected = open_socket("127.0.0.1", port)
        before = transferred(connected)
        for size in (1, 1000, 30_000):
            send(connected, bytes(size))
            missing = 2 * size
            while missing:
                missing -= len(receive(connected, missing))
        after = transferred(connected)
        connected.close()

    assert before == (0, 0)
    assert after == (31_001, 62_002)
    assert transferred(connected) is None


def test_what_tcp_sent_again_is_told_by_itself():
    """Nothing is lost on loopback, and this peer reads at once."""
    with scripted_peer(lambda peer: peer.recv(10)) as port:
        connected = open_socket("127.0.0.1", port)
        send(connected, b"x")
        assert sent_again(connected) == 0
        connected.close()

    assert sent_again(connected) is None


def test_nagle_is_off():
    with scripted_peer(lambda peer: peer.recv(1)) as port:
        connected = open_socket("127.0.0.1", port)
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connected.close()


def test_a_peer_that_is_gone_is_told_as_a_failed_request():
    with scripted_peer(lambda _: None) as port:
        connected = open_socket("127.0.0.1", port)
        with pytest.raises(RequestFailed, match="connection closed"):
            receive(connected)
        with pytest.raises(RequestFailed, match="connection lost"):
            send(connected, bytes(50_000_000))
        connected.close()


def test_an_error_says_its_kind_first():
    assert str(RequestFailed("HTTP 503", "busy")) == "HTTP 503: busy"
    assert str(RequestFailed("timeout")) == "timeout"

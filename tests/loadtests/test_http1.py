import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.loadtests.conftest import http_server, scripted_peer

from slipway_loadtests.connections import RequestFailed
from slipway_loadtests.http1 import Head, HttpConnection, get, parse_head, post

REQUEST = post("127.0.0.1", 1, "/v1/models/m:predict", b"{}")


def read_request(peer: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += peer.recv(65536)
    return body


def ask(script, request=REQUEST):
    """Send one request to a peer that reads it and then follows *script*."""

    def play(peer):
        read_request(peer)
        script(peer)

    with scripted_peer(play) as port:
        connection = HttpConnection("127.0.0.1", port)
        try:
            return connection.call(request), connection.usable
        finally:
            connection.close()


def test_answers_of_every_size_arrive_whole_on_one_connection():
    """From nothing to more than any buffer on the way."""
    peers = set()

    def echo(handler, body):
        peers.add(handler.client_address)
        return body

    with http_server(echo) as port:
        connection = HttpConnection("127.0.0.1", port)
        for size in (0, 1, 2, 1000, 65535, 65536, 300_000, 3_000_000, 7):
            body = bytes(range(256)) * (size // 256) + bytes(size % 256)

            assert connection.call(post("127.0.0.1", port, "/", body)) == body
        connection.close()

    assert len(peers) == 1


def test_a_prepared_post_is_what_http_asks_for():
    assert post("h", 8501, "/v1/models/m:predict", b'{"x":1}') == (
        b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h:8501\r\n"
        b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n"
        b'{"x":1}'
    )
    assert get("h", 8501, "/v1/models/m").startswith(b"GET /v1/models/m HTTP/1.1\r\nHost: h:8501\r\n")


def test_an_error_status_fails_and_keeps_the_connection():
    def answer(handler, body):
        if body == b"bad":
            handler.send_response(503)
            handler.send_header("Content-Length", "4")
            handler.end_headers()
            handler.wfile.write(b"busy")
            return None
        return b"good"

    with http_server(answer) as port:
        connection = HttpConnection("127.0.0.1", port)
        with pytest.raises(RequestFailed, match="HTTP 503: busy") as failure:
            connection.call(post("127.0.0.1", port, "/", b"bad"))
        assert failure.value.reusable
        assert connection.call(post("127.0.0.1", port, "/", b"fine")) == b"good"
        connection.close()


@pytest.mark.parametrize(
    "cut", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234"]
)
def test_a_connection_closed_in_mid_answer_is_an_error_not_a_short_answer(cut):
    with pytest.raises(RequestFailed, match=r"connection closed|connection lost") as failure:
        ask(lambda peer: peer.sendall(cut))
    assert not failure.value.reusable


@pytest.mark.parametrize(
    ("answer", "body", "usable"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
            b"abcde",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", b"to the end", False),
        (b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok", b"ok", True),
    ],
)
def test_every_way_to_end_a_body_is_understood(answer, body, usable):
    assert ask(lambda peer: peer.sendall(answer)) == (body, usable)


def test_an_answer_may_come_byte_by_byte():
    def trickle(peer):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello":
            peer.sendall(bytes([octet]))

    assert ask(trickle) == (b"hello", True)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not an HTTP/1.1 answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEXTRA", "after the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk size"),
        (b"A" * 70_000, "no end of headers"),
    ],
)
def test_what_is_not_http_is_a_protocol_error(answer, complaint):
    with pytest.raises(RequestFailed, match=complaint) as failure:
        ask(lambda peer: peer.sendall(answer))
    assert failure.value.kind == "protocol error"


def test_nobody_listening_is_told(refused_port):
    with pytest.raises(RequestFailed, match="connection refused"):
        HttpConnection("127.0.0.1", refused_port)


names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).filter(
    lambda name: name not in {"content-length", "transfer-encoding", "connection"}
)


@settings(max_examples=60)
@given(st.integers(200, 599), st.integers(0, 10**12), st.lists(st.tuples(names, names)))
def test_headers_that_do_not_matter_change_nothing(status, length, others):
    lines = [f"{name}: {value}" for name, value in others]
    lines.insert(len(lines) // 2, f"Content-Length: {length}")
    expected = 0 if status in (204, 304) else length

    found = parse_head("\r\n".join([f"HTTP/1.1 {status} Whatever", *lines]).encode())

    assert found == Head(status, expected, chunked=False, closes=False)

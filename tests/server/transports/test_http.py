import asyncio
import dataclasses
import http.client as http_client
import socket
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.transports import http, ports
from slipway_server.transports.held import Held
from slipway_server.transports.http import Connections, HttpConnection, HttpServer, Limits, Response

WAIT_S = 90.0


def error(status, message):
    return Response(status, message.encode(), b"text/plain")


async def echo(request):
    return Response(200, b"%b %b %b" % (request.method.encode(), request.target.encode(), request.body), b"text/plain")


class Server:
    """Any handler behind a real socket."""

    def __init__(self, loop_thread, handler, held=None, **limits):
        self.server = HttpServer(handler, error, Limits(**limits), held)
        bound = ports.bind("127.0.0.1", "auto", flag="rest_api_port")
        self.port = bound.getsockname()[1]
        loop_thread.run(self.server.start(bound))

    def limit(self, **limits):
        """Have other limits from now on, on open connections, too: times are short only when nobody must keep up."""
        connections = self.server.connections
        connections.limits = dataclasses.replace(connections.limits, **limits)
        for connection in tuple(connections._open):
            connection._limits = connections.limits

    async def stop(self):
        self.server.stop()
        for connection in tuple(self.server.connections._open):
            connection._transport.abort()

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@pytest.fixture
def serve(loop_thread):
    servers = []

    def start(handler=echo, **limits):
        servers.append(Server(loop_thread, handler, **limits))
        return servers[-1]

    yield start
    for server in servers:
        loop_thread.run(server.stop())


def read_answer(stream, *, has_body=True):
    """Read one answer: status line, headers, body."""
    status = stream.readline().decode().rstrip()
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.partition(b": ")
        headers[name.decode().lower()] = value.decode()
    return status, headers, stream.read(int(headers.get("content-length", 0))) if has_body else b""


def ask(connection, *requests, count=None):
    connection.sendall(b"".join(requests))
    with connection.makefile("rb") as stream:
        return [read_answer(stream) for _ in range(count or len(requests))]


def post(target, body, *headers):
    lines = [b"POST %b HTTP/1.1" % target, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_connection_serves_one_request_after_the_other(serve):
    with serve().connect() as connection:
        first = ask(connection, post(b"/a", b"1"))[0]
        second = ask(connection, post(b"/b", b""))[0]

    assert first == ("HTTP/1.1 200 OK", {"content-type": "text/plain", "content-length": "9"}, b"POST /a 1")
    assert second[2] == b"POST /b "


def test_pipelined_requests_are_answered_in_their_order(serve):
    """The first is held back until the others are done."""
    others = asyncio.Event()

    async def handler(request):
        if request.target == "/first":
            await others.wait()
        elif request.target == "/third":
            others.set()
        return await echo(request)

    with serve(handler).connect() as connection:
        answers = ask(connection, post(b"/first", b"1"), post(b"/second", b"2"), post(b"/third", b"3"))

    assert [body for _, _, body in answers] == [b"POST /first 1", b"POST /second 2", b"POST /third 3"]


def test_a_client_cannot_have_more_under_way_than_the_limit(serve):
    at_once, most = 0, 0

    async def handler(request):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        for _ in range(3):
            await asyncio.sleep(0)
        at_once -= 1
        return await echo(request)

    with serve(handler).connect() as connection:
        answers = ask(connection, *[post(b"/x", b"%d" % number) for number in range(200)])

    assert [body for _, _, body in answers] == [b"POST /x %d" % number for number in range(200)]
    assert most == http.MAX_PIPELINED


def test_a_chunked_body_is_put_together(serve):
    with serve().connect() as connection:
        (answer,) = ask(
            connection,
            b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        )

    assert answer[2] == b"POST /c abcde"


CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: mine\r\n"


def test_a_trailer_is_no_header(serve):
    """Neither of its own request nor of the next: who checks headers has not seen it (RFC 9110, 6.5.1)."""

    async def handler(request):
        headers = sorted(request.headers.items())
        return Response(200, b"%b %b" % (b",".join(b"%b=%b" % one for one in headers), request.body), b"text/plain")

    trailers = b"0\r\nAuthorization: theirs\r\nContent-Encoding: gzip\r\nX-New: 1\r\n\r\n"
    with serve(handler).connect() as connection:
        first, second = ask(connection, CHUNKED + b"\r\n3;a=b\r\nabc\r\n" + trailers, post(b"/d", b"1"))

    assert first[2] == b"authorization=mine,host=x,transfer-encoding=chunked abc"
    assert second[2] == b"content-length=1,host=x 1"


@pytest.mark.parametrize(
    ("beside", "not_counted"),
    [
        (b"3\r\nabc\r\n0\r\nX: ", 43),
        (b"3;x=", 0),
        (b"3\r\nabc\r\n0\r\nX: 1\r\n" + b"X: 1\r\n" * 5000 + b"Y: ", 43),
    ],
    ids=["trailer", "extension", "trailers"],
)
def test_what_is_beside_a_body_is_bounded(serve, beside, not_counted):
    """Not counted are the body and the frames of two chunks. The last byte is the one too many."""
    with serve().connect() as connection, connection.makefile("rb") as stream:
        # So that the head is not read together with what follows.
        connection.sendall(CHUNKED + b"Expect: 100-continue\r\n\r\n")
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        stream.readline()
        connection.sendall(beside + b"y" * (http.MAX_HEAD_BYTES + 1 + not_counted - len(beside)))
        line, headers, body = read_answer(stream)
        assert line.startswith("HTTP/1.1 431 ")
        assert headers["connection"] == "close"
        assert body == b"Extensions of chunks and trailers exceed 65536 bytes"
        assert is_closed(connection)


def test_small_pieces_take_little_more_than_what_is_in_them():
    """Bytes that clients send by twos, and sometimes more at once: no object each."""
    large = bytes(1000)
    pieces = [b"%02d" % (number % 100) if number % 10 else large for number in range(50_000)]

    async def play():
        connection = HttpConnection(echo, error, Connections())
        connection.connection_made(Transport())
        connection.data_received(CHUNKED + b"\r\n")
        for start in range(0, len(pieces), 5000):
            connection.data_received(
                b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces[start : start + 5000])
            )
        parts = connection._parts
        connection.connection_lost(None)
        return parts

    parts = asyncio.run(play())

    assert b"".join(parts) == b"".join(pieces)
    assert sum(map(sys.getsizeof, parts)) < 1.1 * sum(map(len, pieces))
    assert len(parts) < 10_000


def test_small_chunks_are_no_extensions_and_earn_no_room_for_trailers():
    """A byte a chunk: what frames it is five times the body, and twice what extensions may be."""
    chunks = b"1\r\nx\r\n" * 30_000

    async def play(end):
        connections, transport = Connections(), Transport()
        connection = HttpConnection(echo, error, connections)
        connection.connection_made(transport)
        connection.data_received(CHUNKED + b"\r\n")
        for start in range(0, len(chunks), 50_000):
            connection.data_received(chunks[start : start + 50_000])
        connection.data_received(end)
        connection.data_received(b"\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        assert connections.held.now == 0
        return transport.written

    room = http.MAX_HEAD_BYTES
    assert asyncio.run(play(b"0\r\nX: " + b"y" * (room - 10))).endswith(b"POST /c " + b"x" * 30_000)
    assert b" 431 " in asyncio.run(play(b"0\r\nX: " + b"y" * (room + 20)))


@pytest.mark.parametrize(
    ("request_", "keeps"),
    [
        (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET /a HTTP/1.0\r\n\r\n", False),
        (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_as_the_client_wishes(serve, request_, keeps):
    with serve().connect() as connection:
        ((_, headers, _),) = ask(connection, request_)
        if keeps:
            assert ask(connection, request_)
            assert headers.get("connection") == ("keep-alive" if b"1.0" in request_ else None)
        else:
            assert headers["connection"] == "close"
            assert connection.recv(1) == b""


def test_a_head_request_gets_no_body(serve):
    with serve().connect() as connection:
        connection.sendall(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + post(b"/b", b"1"))
        with connection.makefile("rb") as stream:
            head = read_answer(stream, has_body=False)
            following = read_answer(stream)

    assert head[1]["content-length"] == "8"
    assert following[2] == b"POST /b 1"


def test_a_client_that_asks_before_it_sends_is_told_to(serve):
    with serve().connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        stream.readline()
        connection.sendall(b"ok")
        assert read_answer(stream)[2] == b"POST /a ok"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no http at all\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (http.MAX_HEAD_BYTES + 1), "HTTP/1.1 431 "),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (http.MAX_BODY_BYTES + 1),
            "HTTP/1.1 413 ",
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n", "HTTP/1.1 400 "),
    ],
)
def test_what_cannot_be_read_on_is_answered_and_ends_the_connection(serve, sent, status):
    with serve().connect() as connection:
        ((line, headers, body),) = ask(connection, sent)
        assert line.startswith(status)
        assert headers["connection"] == "close"
        assert body
        assert connection.recv(1) == b""


def test_what_came_before_a_broken_request_is_answered_first(serve):
    with serve().connect() as connection:
        good, bad = ask(connection, post(b"/a", b"1"), b"broken\r\n\r\n")

    assert good[2] == b"POST /a 1"
    assert bad[0].startswith("HTTP/1.1 400")


def test_a_fault_of_ours_is_answered_without_its_details(serve, caplog):
    async def handler(request):
        raise KeyError("secret")

    with serve(handler).connect() as connection:
        ((line, _, body),) = ask(connection, post(b"/a", b"1"))

    assert line.startswith("HTTP/1.1 500")
    assert body == b"internal error"
    assert "secret" in caplog.text


def test_a_client_that_goes_away_ends_the_work_for_it(serve):
    began, cancelled = threading.Event(), threading.Event()

    async def handler(request):
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with serve(handler).connect() as connection:
        connection.sendall(post(b"/a", b"1"))
        assert began.wait(WAIT_S)

    assert cancelled.wait(WAIT_S)


def test_a_client_that_does_not_read_is_not_read_from(serve):
    """Answers pile up to a bound, not in memory without end."""
    answered = 0

    async def handler(request):
        nonlocal answered
        answered += 1
        return Response(200, bytes(1_000_000))

    server = serve(handler)
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # whatever the system is set to
        connection.settimeout(0.3)
        sent = 0
        try:
            while sent < 2000:
                connection.sendall(post(b"/a", bytes(10_000)))
                sent += 1
        except TimeoutError:
            pass

        assert sent < 2000
        assert answered < 200


class Transport:
    """What was written, and whether it was closed."""

    def __init__(self):
        self.written = b""
        self.closed = False

    def get_extra_info(self, name):
        return ("127.0.0.1", 5000) if name == "peername" else None

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def get_write_buffer_size(self):
        return 0


STREAM = (
    post(b"/a", b"one")
    + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    + b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=1\r\nabc\r\n0\r\nX: y\r\n\r\n"
    + post(b"/d", b"last", b"Connection: close")
)


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_however_the_bytes_arrive_the_answers_are_the_same(cuts):
    async def play(cuts):
        transport = Transport()
        connection = HttpConnection(echo, error, Connections())
        connection.connection_made(transport)
        for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
            connection.data_received(STREAM[start:end])
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert transport.closed
        return transport.written

    assert asyncio.run(play(cuts)) == asyncio.run(play([]))


def test_large_bodies_one_after_the_other_keep_their_connection(serve):
    """A body is larger than what a head may be; the read that ends it is no part of the next head."""
    connection = http_client.HTTPConnection("127.0.0.1", serve().port, timeout=WAIT_S)
    bodies = [b"a" * size for size in (100_000, 400_000, 4_000_000, 65_537)]

    answers = []
    for body in bodies:
        connection.request("POST", "/x", body)
        answers.append(connection.getresponse().read())
    connection.close()

    assert answers == [b"POST /x " + body for body in bodies]


def test_an_absolute_target_is_the_path_in_it(serve):
    with serve().connect() as connection:
        answers = ask(connection, post(b"http://x:1/a?b", b"1"), post(b"HTTPS://x", b"2"), post(b"/http://x/", b"3"))

    assert [body for _, _, body in answers] == [b"POST /a?b 1", b"POST / 2", b"POST /http://x/ 3"]


UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")


@pytest.mark.parametrize("body", [b"", b"body"])
def test_an_upgrade_is_passed_over(serve, body):
    """`curl --http2` asks for one with every request; the connection goes on in HTTP/1.1."""
    with serve().connect() as connection:
        first, second = ask(connection, post(b"/a", body, *UPGRADE), post(b"/b", b"2", *UPGRADE))
        (third,) = ask(connection, post(b"/c", b"3"))

    assert (first[2], second[2], third[2]) == (b"POST /a " + body, b"POST /b 2", b"POST /c 3")
    assert "connection" not in first[1]


def test_http2_with_prior_knowledge_is_refused(serve):
    with serve().connect() as connection:
        ((line, _, _),) = ask(connection, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

    assert line.startswith("HTTP/1.1 400")


def is_closed(connection):
    """Wait until the server has closed, or cut, the connection; whatever it still sends is not looked at."""
    try:
        while connection.recv(2**16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_one_connection_too_many_is_turned_away(serve):
    server = serve(connections=2)
    with server.connect() as one, server.connect() as two:
        assert ask(one, post(b"/a", b"1"))
        assert ask(two, post(b"/a", b"1"))
        with server.connect() as three, three.makefile("rb") as stream:
            line, headers, body = read_answer(stream)
            assert (line, headers["connection"]) == ("HTTP/1.1 503 Service Unavailable", "close")
            assert b"2 connections" in body
            assert is_closed(three)
        assert ask(one, post(b"/a", b"1"))

    with server.connect() as four:
        assert ask(four, post(b"/a", b"1"))


QUICK = {"idle_s": 0.05, "request_s": 0.05, "unread_s": 0.05, "sweep_s": 0.02, "slowest_bytes_per_s": 10**9}
PATIENT = {"idle_s": 1e9, "request_s": 1e9, "unread_s": 1e9}


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /a HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n123",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    ],
)
def test_a_request_that_does_not_arrive_is_not_waited_for(serve, sent):
    """A slow loris holds a connection and a head's or body's memory for a while, not for ever."""
    with serve(**{**PATIENT, **QUICK, "idle_s": 1e9}).connect() as connection:
        connection.sendall(post(b"/a", b"1") + sent)
        with connection.makefile("rb") as stream:
            assert read_answer(stream)[2] == b"POST /a 1"
            line, headers, _ = read_answer(stream)
            assert line.startswith("HTTP/1.1 408")
            assert headers["connection"] == "close"
        assert is_closed(connection)


def test_bytes_one_by_one_do_not_win_time(serve):
    with serve(**{**PATIENT, **QUICK, "idle_s": 1e9}).connect() as connection:
        connection.settimeout(0.01)
        received = b""
        while not received:
            try:
                connection.sendall(b"G")
                received = connection.recv(1000) or b"closed"
            except TimeoutError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                received = b"closed"

    assert received.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400", b"closed"))


def test_an_idle_connection_is_closed_without_a_word(serve):
    server = serve(**PATIENT, sweep_s=0.02)
    with server.connect() as fresh, server.connect() as used:
        assert ask(used, post(b"/a", b"1"))
        server.limit(idle_s=0.05)
        assert fresh.recv(1) == b""
        assert used.recv(1) == b""


def test_who_waits_for_an_answer_is_not_idle(serve, loop_thread):
    slow, began = asyncio.Event(), threading.Event()

    async def handler(request):
        began.set()
        await slow.wait()
        return await echo(request)

    server = serve(handler, **{**QUICK, **PATIENT})
    with server.connect() as waiting:
        waiting.sendall(post(b"/slow", b"1"))
        assert began.wait(WAIT_S)
        server.limit(**QUICK)
        for _ in range(3):  # three lives of an idle connection
            with server.connect() as idle:
                assert idle.recv(1) == b""
        loop_thread.loop.call_soon_threadsafe(slow.set)
        with waiting.makefile("rb") as stream:
            assert read_answer(stream)[2] == b"POST /slow 1"


def test_a_client_that_never_reads_is_cut_off(serve, fakes):
    async def handler(request):
        return Response(200, bytes(8_000_000))

    server = serve(handler, **PATIENT, sweep_s=0.02)
    with server.connect() as connection:
        connection.sendall(post(b"/a", b"") * 3)
        with server.connect() as other:
            assert len(ask(other, post(b"/a", b""))[0][2]) == 8_000_000
        server.limit(unread_s=0.05)
        fakes.wait_for(lambda: not len(server.server.connections), "the connection to be cut")

    assert server.server.connections.held.now == 0


def test_bodies_of_all_connections_together_are_bounded(serve, fakes):
    hold = threading.Event()

    async def handler(request):
        await asyncio.to_thread(hold.wait)
        return await echo(request)

    server = serve(handler, bodies_bytes=1000)
    with server.connect() as one, server.connect() as two, server.connect() as three, server.connect() as four:
        one.sendall(post(b"/a", bytes(600)))
        fakes.wait_for(lambda: server.server.connections.held.now >= 600, "the first body")
        ((refused, _, _),) = ask(two, post(b"/a", bytes(401)))
        ((chunked, _, _),) = ask(
            three, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n" + bytes(512)
        )
        ((alone, _, _),) = ask(four, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
        hold.set()
        with one.makefile("rb") as stream:
            answer = read_answer(stream)

    assert (refused[:12], chunked[:12], alone[:12]) == ("HTTP/1.1 503", "HTTP/1.1 503", "HTTP/1.1 413")
    assert answer[2] == b"POST /a " + bytes(600)
    assert server.server.connections.held.now == 0


def test_what_others_hold_leaves_no_room_for_bodies_but_for_what_has_none(serve):
    """Who asks whether the server is well is not to be told that it is not."""
    held = Held(1000)
    server = serve(echo, held=held)
    held.now = 1001
    with server.connect() as one, server.connect() as two:
        ((refused, _, _),) = ask(one, post(b"/a", b"1"))
        (answered, again) = ask(two, *[b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"] * 2)
    held.now -= 1001

    assert refused.startswith("HTTP/1.1 503")
    assert answered[2] == again[2] == b"GET /health "
    assert held.now == 0


def test_large_answers_are_sent_whole_and_in_order(serve):
    async def handler(request):
        return Response(200, request.body * 50_000)

    with serve(handler).connect() as connection:
        answers = ask(connection, *[post(b"/a", b"%d" % number) for number in range(9)])

    assert [body for _, _, body in answers] == [b"%d" % number * 50_000 for number in range(9)]


@pytest.mark.parametrize("how", ["sleep", "thread", "future", "task"])
def test_a_handler_may_wait_for_what_it_likes(serve, how):
    async def handler(request):
        if how == "sleep":
            await asyncio.sleep(0.001)
        elif how == "thread":
            await asyncio.to_thread(threading.get_ident)
        elif how == "future":
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_exception, KeyError("x"))
            with pytest.raises(KeyError):
                await future
        else:
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))
        return await echo(request)

    with serve(handler).connect() as connection:
        assert ask(connection, post(b"/a", b"1"))[0][2] == b"POST /a 1"


PIECES = st.lists(
    st.sampled_from(
        [
            post(b"/a", b"1"),
            b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
            b"0\r\nHost: y\r\nX: 1\r\n\r\n",
            b"1;a=b\r\nx\r\n",
            b"ffffffffffffffff\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Length: 99999999999999999999\r\n\r\n",
            b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 3\r\n\r\n",
            b"Expect: 100-continue\r\n\r\n",
            b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n",
            b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\n\r\n",
            b"GET http:///// HTTP/1.1\r\n\r\n",
            b"HEAD /h HTTP/1.0\r\n\r\n",
            b"\r\n",
            b" folded\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ]
    )
    | st.binary(max_size=30),
    max_size=12,
)


@settings(max_examples=150)
@given(st.lists(PIECES, max_size=4))
def test_whatever_comes_the_server_goes_on(reads):
    """Without a socket, so that nothing is hidden by timing: no exception leaves the connection, and its books are even."""

    async def play():
        connections = Connections()
        transport = Transport()
        connection = HttpConnection(echo, error, connections)
        connection.connection_made(transport)
        for pieces in reads:
            connection.data_received(b"".join(pieces))
            for _ in range(3):
                await asyncio.sleep(0)
            connection.grow_older(1.0)
        connection.connection_lost(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert connections.held.now == 0
        assert len(connections) == 0
        assert all(line.startswith(b"HTTP/1.1 ") for line in transport.written[:9].splitlines())

    asyncio.run(play())


COMMON = [
    post(b"/a", b"1"),
    post(b"/a", b"22", b"Accept: */*"),
    post(b"/a", b"1", b"Connection: close"),
    post(b"/a", b"1", b"Expect: 100-continue"),
    post(b"/a", b"1", b"Upgrade: h2c", b"Connection: upgrade"),
    post(b"http://elsewhere/a", b"1"),
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /b HTTP/1.0\r\nHost: x\r\n\r\n",
    b"GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.sampled_from(COMMON), max_size=3).map(b"".join), max_size=4)
    | st.lists(PIECES.map(b"".join), max_size=4)
    | st.lists(st.sampled_from(COMMON), max_size=4).flatmap(
        lambda sent: st.lists(st.integers(0, sum(map(len, sent))), max_size=6).map(
            lambda cuts: [
                b"".join(sent)[start:end]
                for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), sum(map(len, sent))], strict=True)
            ]
        )
    )
)
def test_a_head_that_is_known_means_what_it_means_to_the_parser(reads):
    async def play(*, knows):
        connections = Connections()
        for request in COMMON if knows else []:
            before = HttpConnection(echo, error, connections)
            before.connection_made(Transport())
            before.data_received(request)
            before.connection_lost(None)
        transport = Transport()
        connection = HttpConnection(echo, error, connections)
        connection.connection_made(transport)
        for data in reads:
            if not knows:
                connections.known_heads = http.KnownHeads()
            connection.data_received(data)
            for _ in range(3):
                await asyncio.sleep(0)
        connection.connection_lost(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert connections.held.now == 0
        return transport.written, transport.closed

    assert asyncio.run(play(knows=True)) == asyncio.run(play(knows=False))


def test_a_body_for_which_there_is_no_room_is_refused_however_well_its_head_is_known():
    async def play():
        connections = Connections(Limits(bodies_bytes=10))
        transport = Transport()
        connection = HttpConnection(echo, error, connections)
        connection.connection_made(transport)
        connection.data_received(post(b"/a", b"12345678"))
        for _ in range(3):
            await asyncio.sleep(0)
        connections.held.now = 5
        connection.data_received(post(b"/a", b"12345678"))
        return transport.written

    assert b" 503 " in asyncio.run(play())


def test_what_was_begun_is_answered_before_a_connection_ends(serve):
    """A server that drains says `closes` with every answer; three that were asked at once are all owed one."""
    release = asyncio.Event()
    begun = threading.Semaphore(0)

    async def drain(request):
        begun.release()
        await release.wait()
        return Response(200, request.body, b"text/plain", closes=True)

    server = serve(drain)
    with server.connect() as connection:
        connection.sendall(b"".join(post(b"/", body) for body in (b"one", b"two", b"three")))
        for _ in range(3):
            assert begun.acquire(timeout=WAIT_S)
        release._loop.call_soon_threadsafe(release.set)
        with connection.makefile("rb") as stream:
            answers = [read_answer(stream) for _ in range(3)]
            assert stream.read() == b""

    assert [body for _, _, body in answers] == [b"one", b"two", b"three"]
    assert [headers.get("connection") for _, headers, _ in answers] == [None, None, "close"]


def test_the_end_waits_for_clients_that_still_read_their_answer(serve, loop_thread):
    size = 16 * 1024 * 1024

    async def much(_request):
        return Response(200, b"x" * size, b"text/plain", closes=True)

    server = serve(much)
    with server.connect() as connection:
        connection.sendall(post(b"/", b""))
        with connection.makefile("rb") as stream:
            assert stream.readline().startswith(b"HTTP/1.1 200")
            loop_thread.loop.call_soon_threadsafe(server.server.stop)
            flushed = asyncio.run_coroutine_threadsafe(server.server.flush(WAIT_S), loop_thread.loop)
            assert not flushed.done()
            assert len(stream.read()) > size
        flushed.result(WAIT_S)


def test_the_end_does_not_wait_for_ever(serve, loop_thread):
    server = serve()
    with server.connect() as connection:
        assert ask(connection, post(b"/", b"one"))[0][2] == b"POST / one"
        connection.sendall(b"POST / HTTP/1.1\r\n")
        loop_thread.run(server.server.flush(0.01))


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("10.0.0.1", 80), "ipv4:10.0.0.1:80"),
        (("::ffff:10.0.0.1", 80, 0, 0), "ipv4:10.0.0.1:80"),
        (("::1", 80, 0, 0), "ipv6:[::1]:80"),
        ("/a/socket", ""),
        (None, ""),
    ],
)
def test_the_other_end_is_named_as_grpc_names_it(address, peer):
    transport = Transport()
    transport.get_extra_info = lambda _: address

    assert http._peer_of(transport) == peer


class Gathering:
    """Takes in whatever has a body of digits; the test says what becomes of it."""

    def __init__(self):
        self.taken = {}
        self.cancelled = []
        self.has_taken = threading.Semaphore(0)
        self.has_lost = threading.Semaphore(0)

    def take(self, request, turn):
        if not request.body.isdigit():
            return None
        self.taken[request.body] = request, turn
        self.has_taken.release()
        return Place(self, request.body)


class Place:
    def __init__(self, gathering, body):
        self.gathering, self.body = gathering, body

    def cancel(self):
        self.gathering.cancelled.append(self.body)
        self.gathering.has_lost.release()


@pytest.fixture
def gathering(serve):
    """Requests that a gathering server has taken in."""
    gathering = Gathering()
    gathering.server = serve()
    gathering.server.server.connections.gatherer = gathering
    return gathering


async def respond(gathering, *bodies):
    for body in bodies:
        gathering.taken[body][1].respond(Response(200, b"together " + body, b"text/plain"))


def taken(gathering, requests):
    for _ in range(requests):
        assert gathering.has_taken.acquire(timeout=WAIT_S)


def test_what_goes_together_is_answered_in_order_among_what_does_not(gathering, loop_thread):
    """Whichever is ready first."""
    with gathering.server.connect() as connection:
        connection.sendall(b"".join(post(b"/x", body) for body in (b"1", b"a", b"2", b"3")))
        taken(gathering, 3)
        loop_thread.run(respond(gathering, b"3", b"1", b"2"))
        with connection.makefile("rb") as stream:
            answers = [read_answer(stream)[2] for _ in range(4)]
        # The connection goes on, and its books are kept.
        assert ask(connection, post(b"/y", b"b"))[0][2] == b"POST /y b"

    assert answers == [b"together 1", b"POST /x a", b"together 2", b"together 3"]
    assert gathering.server.server.connections.held.now == 0
    assert not gathering.cancelled


def test_what_was_to_go_together_may_go_alone_after_all(gathering, loop_thread):
    """At once, or after it has waited for something."""

    async def late(request):
        await asyncio.sleep(0)
        return await echo(request)

    async def begin_alone(handler, body):
        request, turn = gathering.taken[body]
        turn.begin_alone(handler(request))

    for handlers in ((echo, echo), (late, echo), (echo, late), (late, late)):
        with gathering.server.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(post(b"/x", b"1") + post(b"/x", b"2"))
            taken(gathering, 2)
            for body, handler in zip((b"2", b"1"), handlers, strict=True):
                loop_thread.run(begin_alone(handler, body))
            assert [read_answer(stream)[2] for _ in range(2)] == [b"POST /x 1", b"POST /x 2"]


def test_who_leaves_gives_up_its_place_among_others(gathering, loop_thread):
    with gathering.server.connect() as connection:
        connection.sendall(post(b"/x", b"1") + post(b"/x", b"2"))
        taken(gathering, 2)
        loop_thread.run(respond(gathering, b"2"))
    assert gathering.has_lost.acquire(timeout=WAIT_S)

    # The other one waited only to be sent.
    assert gathering.cancelled == [b"1"]

    async def held():
        return gathering.server.server.connections.held.now

    assert loop_thread.run(held()) == 0


def test_who_has_begun_again_alone_is_cancelled_there_when_it_leaves(gathering, loop_thread):
    cancelled = threading.Semaphore(0)

    async def forever():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.release()
            raise

    async def begin_alone():
        gathering.taken[b"1"][1].begin_alone(forever())

    with gathering.server.connect() as connection:
        connection.sendall(post(b"/x", b"1"))
        taken(gathering, 1)
        loop_thread.run(begin_alone())
    assert cancelled.acquire(timeout=WAIT_S)
    assert not gathering.cancelled


def test_no_more_requests_are_gathered_than_may_be_under_way(gathering, loop_thread):
    numbers = [b"%d" % number for number in range(2 * http.MAX_PIPELINED)]
    with gathering.server.connect() as connection:
        connection.sendall(b"".join(post(b"/x", body) for body in numbers))
        taken(gathering, http.MAX_PIPELINED)
        assert list(gathering.taken) == numbers[: http.MAX_PIPELINED]
        loop_thread.run(respond(gathering, *gathering.taken))
        taken(gathering, http.MAX_PIPELINED)
        loop_thread.run(respond(gathering, *numbers[http.MAX_PIPELINED :]))
        with connection.makefile("rb") as stream:
            assert [read_answer(stream)[2] for _ in numbers] == [b"together " + body for body in numbers]

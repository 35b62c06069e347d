import contextlib
import gc
import threading
import tracemalloc

import grpc
import pytest
import trustme

from slipway_server.transports.rpc import Bidirectional, Incoming, ServerStreaming, Unary
from slipway_server.transports.tls import Tls
from slipway_wire.status import Code, Internal, Unavailable, error_of

WAIT_S = 90.0


class Echo:
    """Methods of each kind; what came with the last call is kept."""

    def __init__(self):
        self.incoming = None
        self.ended = threading.Event()

    async def unary(self, body, incoming: Incoming):
        self.incoming = incoming
        if body.startswith(b"raise "):
            raise error_of(int(body.split()[1]), "x" * int(body.split()[2].rstrip(b"\0")))
        if body == b"full":
            raise Unavailable("full", retry_after_s=3)
        if body == b"bug":
            raise RuntimeError("a secret")
        return body

    async def count(self, body, incoming):
        try:
            for number in range(int(body)):
                yield str(number).encode()
            raise Internal("counted")
        finally:
            self.ended.set()

    async def both(self, messages, incoming):
        async for message in messages:
            yield message.upper()

    def services(self):
        return {
            "test.Echo": {
                "Unary": Unary(self.unary),
                "Count": ServerStreaming(self.count),
                "Both": Bidirectional(self.both),
            }
        }


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def serve(start_grpc, loop_thread, echo):
    """`serve(...)` serves *echo* over a real port and gives a channel."""
    with contextlib.ExitStack() as cleanup:

        def start(address="127.0.0.1:0", options=None):
            server, ports = loop_thread.run(start_grpc(echo.services(), [address], options or {}))
            cleanup.callback(lambda: loop_thread.run(server.stop(None)))
            channel = cleanup.enter_context(
                grpc.insecure_channel(address.replace(":0", f":{ports[0]}") if ports[0] else address)
            )
            channel.port = ports[0]
            return channel

        yield start


def ask(channel, body, **options):
    return channel.unary_unary("/test.Echo/Unary")(body, **{"timeout": WAIT_S, **options})


def refused(call):
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    return refusal.value.code().name, refusal.value.details()


def test_handlers_learn_deadline_metadata_and_peer(serve, echo):
    channel = serve()

    assert ask(channel, b"body", timeout=90.0, metadata=[("x-id", "7"), ("x-raw-bin", b"\0\xff")]) == b"body"

    assert 30.0 < echo.incoming.timeout_s < 91.5  # gRPC rounds up
    assert echo.incoming.metadata["x-id"] == "7"
    assert echo.incoming.metadata["x-raw-bin"] == b"\0\xff"
    assert echo.incoming.peer.startswith("ipv4:127.0.0.1:")
    ask(channel, b"", timeout=None)
    assert echo.incoming.timeout_s == float("inf")


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_errors_keep_their_code(serve, code):
    assert refused(lambda: ask(serve(), b"raise %d 3" % code)) == (code.name, "xxx")


def test_long_details_are_cut(serve):
    code, details = refused(lambda: ask(serve(), b"raise 5 5000"))

    assert code == "NOT_FOUND"
    assert details == "x" * 1024 + "...TRUNCATED"


def test_a_fault_of_ours_tells_no_secrets(serve):
    code, details = refused(lambda: ask(serve(), b"bug"))

    assert code == "INTERNAL"
    assert "secret" not in details


def test_answers_in_a_stream_come_before_the_error_that_ends_it(serve):
    answers = serve().unary_stream("/test.Echo/Count")(b"3", timeout=WAIT_S)

    assert [next(answers) for _ in range(3)] == [b"0", b"1", b"2"]
    assert refused(lambda: next(answers)) == ("INTERNAL", "counted")


def test_a_stream_ends_when_its_reader_leaves(serve, echo):
    answers = serve().unary_stream("/test.Echo/Count")(b"1000000000", timeout=WAIT_S)
    next(answers)
    answers.cancel()

    assert echo.ended.wait(WAIT_S)


def test_messages_go_both_ways_in_one_call(serve):
    assert list(serve().stream_stream("/test.Echo/Both")(iter([b"a", b"b"]), timeout=WAIT_S)) == [b"A", b"B"]


def test_two_servers_cannot_share_a_port_unnoticed(start_grpc, serve, echo, loop_thread):
    """With gRPC's default SO_REUSEPORT the second would start, and each get half of the clients."""
    port = serve().port

    with pytest.raises((RuntimeError, Unavailable)):
        loop_thread.run(start_grpc(echo.services(), [f"127.0.0.1:{port}"], {}))


def test_channel_arguments_of_the_user_win(serve):
    channel = serve(options={"grpc.max_receive_message_length": 100})

    assert refused(lambda: ask(channel, bytes(200)))[0] == "RESOURCE_EXHAUSTED"
    assert ask(channel, bytes(100)) == bytes(100)


def test_a_unix_socket_answers_too(serve, echo, tmp_path):
    assert ask(serve(f"unix:{tmp_path}/socket"), b"body") == b"body"
    assert echo.incoming.peer.startswith("unix:")


def test_a_request_id_goes_back_with_answers_and_errors(serve, echo):
    channel = serve()
    method = channel.unary_unary("/test.Echo/Unary")
    sent = (("x-request-id", "req-1"), ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    _, call = method.with_call(b"hello", timeout=WAIT_S, metadata=sent)
    assert ("x-request-id", "req-1") in [tuple(one) for one in call.trailing_metadata()]
    assert echo.incoming.caller.request_id == "req-1"
    assert echo.incoming.caller.trace.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert echo.incoming.caller.peer.startswith("ipv4:127.0.0.1:")

    with pytest.raises(grpc.RpcError) as refusal:
        method(b"bug", timeout=WAIT_S, metadata=sent)
    assert ("x-request-id", "req-1") in [tuple(one) for one in refusal.value.trailing_metadata()]
    assert refusal.value.details() == "internal error (id req-1)"

    assert method.with_call(b"hello", timeout=WAIT_S)[1].trailing_metadata() == ()
    assert echo.incoming.caller is None


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def credentials(authority, identity=None):
    return grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(),
        identity and identity.private_key_pem.bytes(),
        identity and identity.cert_chain_pems[0].bytes(),
    )


@pytest.fixture
def serve_tls(start_grpc, loop_thread, echo, authority, tmp_path):
    """`serve_tls(verifies_clients=...)` serves *echo* over TLS, on TCP and on a UNIX socket; gives both addresses."""
    with contextlib.ExitStack() as cleanup:

        def start(*, verifies_clients=False):
            ours = authority.issue_cert("localhost")
            tls = Tls(
                ours.private_key_pem.bytes().decode(),
                ours.cert_chain_pems[0].bytes().decode(),
                authority.cert_pem.bytes().decode() if verifies_clients else None,
            )
            socket = f"unix:{tmp_path}/socket"
            server, (port, _) = loop_thread.run(start_grpc(echo.services(), ["127.0.0.1:0", socket], {}, tls=tls))
            cleanup.callback(lambda: loop_thread.run(server.stop(None)))
            return [f"127.0.0.1:{port}", socket]

        yield start


def ask_over(address, channel_credentials):
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", "localhost")]
    with grpc.secure_channel(address, channel_credentials, options) as channel:
        return ask(channel, b"body")


@pytest.mark.behaviour("11-server")
@pytest.mark.parametrize("place", [0, 1], ids=["TCP", "UNIX socket"])
def test_tls_serves_who_trusts_the_certificate_and_nobody_in_plain_text(serve_tls, authority, place):
    address = serve_tls()[place]

    assert ask_over(address, credentials(authority)) == b"body"
    assert refused(lambda: ask_over(address, credentials(trustme.CA())))[0] == "UNAVAILABLE"
    with grpc.insecure_channel(address) as plain:
        assert refused(lambda: ask(plain, b"body"))[0] == "UNAVAILABLE"


@pytest.mark.behaviour("11-client-verify")
@pytest.mark.parametrize("place", [0, 1], ids=["TCP", "UNIX socket"])
def test_mutual_tls_serves_clients_of_the_authority_only(serve_tls, authority, place):
    address = serve_tls(verifies_clients=True)[place]

    assert ask_over(address, credentials(authority, authority.issue_cert("me"))) == b"body"
    assert refused(lambda: ask_over(address, credentials(authority)))[0] == "UNAVAILABLE"
    stranger = trustme.CA().issue_cert("me")
    assert refused(lambda: ask_over(address, credentials(authority, stranger)))[0] == "UNAVAILABLE"


def test_a_full_queue_tells_when_to_try_again(serve):
    """In seconds for people, in the milliseconds of gRPC's retry policies for clients that have one."""
    with pytest.raises(grpc.RpcError) as refusal:
        ask(serve(), b"full")

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    trailing = dict(refusal.value.trailing_metadata())
    assert (trailing["retry-after"], trailing["grpc-retry-pushback-ms"]) == ("3", "3000")


def test_a_failed_call_leaves_nothing_of_its_message_behind(serve):
    """Not even until the next garbage collection, which counts objects and not bytes."""
    channel = serve()
    body = b"raise 3 1" + bytes(2_000_000)
    refused(lambda: ask(channel, body))
    tracemalloc.start()
    gc.disable()
    try:
        for _ in range(10):
            assert refused(lambda: ask(channel, body))[0] == "INVALID_ARGUMENT"
        held, _ = tracemalloc.get_traced_memory()
    finally:
        gc.enable()
        tracemalloc.stop()

    assert held < 6_000_000


def test_a_burst_of_thousands_of_calls_is_answered(serve):
    """With limits meant for attacks, part of an honest client's burst was cancelled, or its connection ended."""
    channel = serve()
    method = channel.unary_unary("/test.Echo/Unary")

    calls = [method.future(b"%d" % number, timeout=3 * WAIT_S) for number in range(6000)]

    assert [call.result() for call in calls] == [b"%d" % number for number in range(6000)]

import contextlib

import grpc
import pytest

from slipway_server.transports.profiler import PROFILER_SERVICE, ProfilerApi
from slipway_server.transports.rpc import Unary
from slipway_wire.status import NotFound, Unavailable

WAIT_S = 90.0


async def answer(body, incoming):
    if body == b"refuse":
        raise NotFound("no such session")
    assert 0.0 < incoming.timeout_s <= WAIT_S + 1.0
    return body.upper()


@pytest.fixture
def serve(start_grpc, loop_thread):
    """`serve(start=...)` serves what forwards to a stand-in of TensorFlow's server, and gives a channel."""
    with contextlib.ExitStack() as cleanup:

        def listen(services):
            server, (port,) = loop_thread.run(start_grpc(services, ["127.0.0.1:0"], {}))
            cleanup.callback(lambda: loop_thread.run(server.stop(None)))
            return port

        port = listen({PROFILER_SERVICE: {"Profile": Unary(answer)}})
        starts = []

        def start_once():
            starts.append(port)
            return port

        def start(start=start_once):
            async def make():
                return ProfilerApi(start, lambda _name: None)

            api = loop_thread.run(make())
            cleanup.callback(lambda: loop_thread.run(api.close()))
            channel = cleanup.enter_context(grpc.insecure_channel(f"127.0.0.1:{listen(api.services())}"))
            channel.starts = starts
            return channel

        yield start


def profile(channel, body):
    return channel.unary_unary(f"/{PROFILER_SERVICE}/Profile")(body, timeout=WAIT_S)


def test_calls_are_passed_on_and_the_profiler_is_started_by_the_first(serve):
    channel = serve()

    assert channel.starts == []
    assert [profile(channel, b"a"), profile(channel, b"b")] == [b"A", b"B"]
    assert len(channel.starts) == 1


def test_the_profilers_own_errors_are_passed_on(serve):
    with pytest.raises(grpc.RpcError) as refusal:
        profile(serve(), b"refuse")

    assert (refusal.value.code().name, refusal.value.details()) == ("NOT_FOUND", "no such session")


def test_a_profiler_that_cannot_start_is_told_and_tried_again(serve):
    def refuse():
        raise Unavailable("not today")

    channel = serve(start=refuse)

    for _ in range(2):
        with pytest.raises(grpc.RpcError) as refusal:
            profile(channel, b"a")
        assert (refusal.value.code().name, refusal.value.details()) == ("UNAVAILABLE", "not today")

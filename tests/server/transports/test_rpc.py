import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.transports import rpc
from slipway_server.transports.rpc import Bidirectional, Incoming, ServerStreaming, Unary
from slipway_wire.status import Unauthenticated


@given(st.text(max_size=1024))
def test_details_of_a_usual_length_are_told_whole(text):
    assert rpc.details(text) == text


@given(st.text(min_size=1025, max_size=3000))
def test_long_details_are_cut_as_tf_serving_cuts_them(text):
    """They travel in a header, and peers limit its size: uncut, the client would see another error."""
    assert rpc.details(text) == text[:1024] + "...TRUNCATED"


class Methods:
    async def unary(self, body, incoming):
        return body

    async def twice(self, body, incoming):
        yield body
        yield body

    async def both(self, messages, incoming):
        async for message in messages:
            yield message


async def stream(*messages):
    for message in messages:
        yield message


async def collected(messages):
    return [message async for message in messages]


def check(authorization):
    if authorization != "Bearer s3cret":
        raise Unauthenticated("no")


def test_guarded_services_of_every_kind_let_in_only_who_may():
    methods = Methods()
    kinds = {
        "Unary": Unary(methods.unary),
        "Twice": ServerStreaming(methods.twice),
        "Both": Bidirectional(methods.both),
    }
    services = rpc.guarded({"shut": kinds, "open": kinds}, check, {"open"})
    known, unknown = Incoming(metadata={"authorization": "Bearer s3cret"}), Incoming()
    shut = services["shut"]

    assert {name: type(method) for name, method in shut.items()} == {n: type(m) for n, m in kinds.items()}
    assert asyncio.run(shut["Unary"].handle(b"a", known)) == b"a"
    assert asyncio.run(collected(shut["Twice"].handle(b"a", known))) == [b"a", b"a"]
    assert asyncio.run(collected(shut["Both"].handle(stream(b"a", b"b"), known))) == [b"a", b"b"]
    with pytest.raises(Unauthenticated):
        asyncio.run(shut["Unary"].handle(b"a", unknown))
    for name, argument in (("Twice", b"a"), ("Both", b"")):
        with pytest.raises(Unauthenticated):
            asyncio.run(collected(shut[name].handle(argument, unknown)))
    assert asyncio.run(services["open"]["Unary"].handle(b"a", unknown)) == b"a"


class Taking:
    """Takes all calls in."""

    def __init__(self):
        self.taken = []

    def take(self, body, incoming, call):
        self.taken.append((body, call))
        return call


def test_only_who_may_is_taken_in_to_go_on_together():
    """The others go alone, and are refused there."""
    taking = Taking()
    guarded = rpc.guarded({"s": {"m": Unary(Methods().unary, together=taking), "n": Unary(Methods().unary)}}, check, ())
    together = guarded["s"]["m"].together

    assert together.take(b"a", Incoming(metadata={"authorization": "Bearer s3cret"}), "first") == "first"
    assert together.take(b"b", Incoming(), "second") is None
    assert taking.taken == [(b"a", "first")]
    assert guarded["s"]["n"].together is None
    assert rpc.guarded({"s": {"m": Unary(Methods().unary, together=taking)}}, check, {"s"})["s"]["m"].together is taking

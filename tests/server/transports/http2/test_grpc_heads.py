import base64
import math
from urllib.parse import unquote

import hpack
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.callers import Callers
from slipway_server.transports.http2.grpc_heads import (
    percent_encoded,
    read_timeout,
    reader_of,
    routes_of,
    trailers,
    trailers_only,
)
from slipway_server.transports.http2.headers import Head
from slipway_server.transports.rpc import Unary
from slipway_wire.status import Internal, NotFound, Unavailable

GRPC = (b"content-type", b"application/grpc")


async def nothing(body, incoming):
    return b""


METHOD = Unary(nothing)
ROUTES = routes_of({"a.B": {"C": METHOD}})


def read(*fields, callers=None, method=b"POST", path=b"/a.B/C", **options):
    return reader_of(ROUTES, "ipv4:1.2.3.4:5", callers or Callers())(Head(method, path, fields, **options))


def fields_of(block):
    return {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(block.end, raw=True)}


def test_a_plain_call():
    head = read(GRPC, (b"te", b"trailers"))

    assert head.method is METHOD
    assert head.incoming.timeout_s == math.inf
    assert head.incoming.metadata == {}
    assert head.incoming.peer == "ipv4:1.2.3.4:5"
    assert (head.encoding, head.refusal) == ("identity", None)


def test_metadata_is_what_is_not_the_protocols():
    head = read(
        GRPC,
        (b"te", b"trailers"),
        (b"grpc-accept-encoding", b"gzip"),
        (b"grpc-encoding", b"gzip"),
        (b"user-agent", b"me"),
        (b"key", b" value\t"),
        (b"pad-bin", b"AQI="),
        (b"nopad-bin", b"AQI"),
        (b"two-bin", b"AQI=, Aw"),
        (b"none-bin", b""),
    )

    assert head.encoding == "gzip"
    assert head.incoming.metadata == {
        "user-agent": "me",
        "key": "value",
        "pad-bin": b"\1\2",
        "nopad-bin": b"\1\2",
        "two-bin": b"\3",
        "none-bin": b"",
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"2H", 7200), (b"3M", 180), (b"4S", 4), (b"5m", 0.005), (b"6u", 6e-6), (b"7n", 7e-9), (b"99999999S", 99999999)],
)
def test_timeouts_in_every_unit(text, seconds):
    assert read_timeout(text) == pytest.approx(seconds)
    assert read(GRPC, (b"grpc-timeout", text)).incoming.timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"1s", b"-1S", b"1.5S", b"123456789S", b"1S "])
def test_malformed_timeouts(text):
    with pytest.raises(Internal, match="grpc-timeout"):
        read_timeout(text)


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ((GRPC,), {"path": b"/a.B/D"}, {b":status": b"200", b"grpc-status": b"12"}),
        ((GRPC,), {"path": b"/a.B/C?x"}, {b":status": b"200", b"grpc-status": b"12"}),
        ((GRPC,), {"method": b"GET"}, {b":status": b"405"}),
        ((), {}, {b":status": b"415"}),
        (((b"content-type", b"application/json"),), {}, {b":status": b"415"}),
        (((b"content-type", b"application/grpc-web"),), {}, {b":status": b"415"}),
        ((GRPC, (b"grpc-timeout", b"soon")), {}, {b":status": b"200", b"grpc-status": b"13"}),
        (
            (GRPC, (b"grpc-encoding", b"br")),
            {},
            {b"grpc-status": b"12", b"grpc-accept-encoding": b"identity, deflate, gzip"},
        ),
        ((GRPC, (b"x-bin", b"!")), {}, {b"grpc-status": b"3"}),
        ((), {"is_too_large": True}, {b"grpc-status": b"8"}),
    ],
)
def test_what_is_refused_is_answered_with_one_block(fields, options, expected):
    refusal = read(*fields, **options).refusal

    assert refusal.ends_stream
    assert expected.items() <= fields_of(refusal).items()


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"application/grpc;charset=x", b"Application/gRPC"])
def test_content_types_of_grpc(kind):
    assert read((b"content-type", kind)).method is METHOD


@given(st.text())
def test_messages_travel_as_printable_ascii(message):
    encoded = percent_encoded(message)

    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode()) == message.encode(errors="replace").decode()


def test_errors_tell_code_message_and_when_to_try_again():
    error = Unavailable("the queue is full – wait", retry_after_s=2)

    end, only = fields_of(trailers(error)), fields_of(trailers_only(error))

    status = Status.FromString(base64.b64decode(end.pop(b"grpc-status-details-bin") + b"=="))
    assert (status.code, status.message) == (14, "the queue is full – wait")
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 2
    only.pop(b"grpc-status-details-bin")
    assert end == {
        b"grpc-status": b"14",
        b"grpc-message": b"the queue is full %E2%80%93 wait",
        b"retry-after": b"2",
        b"grpc-retry-pushback-ms": b"2000",
    }
    assert only.items() > end.items()
    assert only[b":status"] == b"200"


def test_long_messages_are_cut_as_tf_serving_cuts_them():
    told = fields_of(trailers(NotFound("x" * 5000)))[b"grpc-message"]
    assert told == b"x" * 1024 + b"...TRUNCATED"

import gzip
import itertools
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.transports.held import Held
from slipway_server.transports.http2.grpc_messages import Inflater, MessageReader, prefix
from slipway_server.transports.http2.limits import Limits
from slipway_wire.status import Internal, ResourceExhausted


def framed(flag, message):
    return struct.pack(">BL", flag, len(message)) + message


def reader(limits=None, held=None):
    return MessageReader(limits or Limits(), held or Held(2**30))


def decompressed(flag, message, encoding, limit, step=2**30):
    inflater = Inflater(flag, message, encoding, limit)
    while not inflater.is_done:
        assert inflater.step(step) <= step
    return inflater.plain()


MESSAGES = st.lists(
    st.tuples(st.integers(0, 1), st.one_of(st.binary(max_size=20), st.integers(4000, 5000).map(bytes))), max_size=5
)


@given(MESSAGES, st.lists(st.integers(0, 30_000), max_size=10), st.booleans())
def test_messages_come_out_whole_however_they_are_cut(messages, cuts, as_views):
    body = b"".join(framed(*message) for message in messages)
    held = Held(2**30)
    one = reader(held=held)
    borders = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]

    got = []
    for begin, end in itertools.pairwise(borders):
        chunk = body[begin:end]
        got += one.feed(memoryview(chunk) if as_views else chunk)

    assert got == messages
    assert one.is_between
    assert held.now == len(body)
    one.forget()
    assert held.now == 0


def test_byte_by_byte():
    one = reader()
    body = framed(0, b"abc") + framed(1, b"")
    assert [message for byte in body for message in one.feed(bytes([byte]))] == [(0, b"abc"), (1, b"")]


def test_many_small_messages_in_one_piece_are_read_in_linear_time():
    """Cutting each from the front of what is left would take minutes."""
    assert len(reader().feed(framed(0, b"") * 200_000)) == 200_000


def test_bytes_one_by_one_are_not_kept_as_objects():
    one = reader()
    one.feed(framed(0, bytes(100_000))[:5])
    for _ in range(50_000):
        one.feed(b"x")
    assert len(one._parts) <= 2


def test_what_is_missing_is_known_with_the_length():
    one = reader()
    one.feed(b"\0\0\0")
    assert (one.missing, one.is_between) == (0, False)
    one.feed(b"\0\x0aab")
    assert one.missing == 8


def test_a_message_over_the_limit_is_refused_by_its_length_alone():
    """The text is gRPC's own, on which clients match."""
    with pytest.raises(ResourceExhausted, match=r"Received message larger than max \(101 vs\. 100\)"):
        reader(Limits(max_message_bytes=100)).feed(b"\0\0\0\0\x65")
    assert reader(Limits(max_message_bytes=100)).feed(framed(0, bytes(100)))


def test_the_server_holds_only_so_much_for_all():
    held = Held(1000)
    first, second = reader(held=held), reader(held=held)
    first.feed(framed(0, bytes(990))[:900])
    with pytest.raises(ResourceExhausted, match="holds 1100 bytes"):
        second.feed(framed(0, bytes(990))[:200])
    second.forget()
    first.release(500)
    assert held.now == 400
    first.release(5000)
    assert held.now == 0


def test_a_message_that_can_never_be_held_is_refused_by_its_length_alone():
    """To be told to try again later would be of no use."""
    with pytest.raises(ResourceExhausted, match=r"Received message larger than max \(1001 vs\. 1000\)"):
        reader(held=Held(1000)).feed(b"\0\0\0\x03\xe9")


@given(st.binary(max_size=3000), st.integers(1, 3001))
def test_compressed_messages(message, step):
    assert decompressed(1, gzip.compress(message), "gzip", 3000, step) == message
    assert decompressed(1, zlib.compress(message), "deflate", 3000, step) == message


@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("step", [65_535, 65_536, 2**20])
def test_long_messages_come_in_steps_whatever_they_are_cut_into(step, level):
    """Longer than what is handed to zlib at a time, compressed or not."""
    message = random.Random(step).randbytes(150_000) + bytes(400_000)
    inflater = Inflater(1, gzip.compress(message, level), "gzip", len(message))

    steps = []
    while not inflater.is_done:
        steps.append(inflater.step(step))

    assert inflater.plain() == message
    assert max(steps) <= step
    assert sum(steps) == len(message)
    inflater.forget()
    assert inflater.plain() == b""


def test_a_step_ends_though_nothing_comes():
    """Blocks of deflate may be empty: a megabyte of them, read at once, would hold up the event loop."""
    packer = zlib.compressobj(wbits=31)
    blocks = packer.flush(zlib.Z_FULL_FLUSH) + b"\0\0\0\xff\xff" * 200_000
    inflater = Inflater(1, blocks + packer.flush(), "gzip", 1000)

    assert inflater.step(100_000) == 0
    assert not inflater.is_done
    steps = 1
    while not inflater.is_done:
        inflater.step(100_000)
        steps += 1
    assert steps >= len(blocks) // (100_000 + 65_536)
    assert inflater.plain() == b""


@pytest.mark.parametrize("length", [999, 1000, 1001])
@pytest.mark.parametrize("step", [1, 500, 1000, 1001, 5000])
def test_the_limit_is_the_same_in_any_steps(length, step):
    message = gzip.compress(bytes(length))
    if length <= 1000:
        assert decompressed(1, message, "gzip", 1000, step) == bytes(length)
    else:
        with pytest.raises(ResourceExhausted, match="larger than max after decompression"):
            decompressed(1, message, "gzip", 1000, step)


@pytest.mark.parametrize(
    ("flag", "message", "encoding", "error"),
    [
        (1, b"x", "identity", Internal),
        (2, gzip.compress(b"x"), "gzip", Internal),
        (1, b"no gzip", "gzip", Internal),
        (1, b"", "gzip", Internal),
        (1, gzip.compress(b"x" * 100)[:-9], "gzip", Internal),
        (1, gzip.compress(b"x") + b"y", "gzip", Internal),
        (1, gzip.compress(b"x") * 2, "gzip", Internal),
        (1, zlib.compress(b"x"), "gzip", Internal),
        (1, gzip.compress(bytes(10_000_000)), "gzip", ResourceExhausted),
    ],
    ids=[
        "no encoding",
        "flag 2",
        "garbage",
        "nothing",
        "cut off",
        "more behind",
        "two members",
        "wrong format",
        "bomb",
    ],
)
def test_what_cannot_be_decompressed(flag, message, encoding, error):
    for step in (7, 2**20):
        with pytest.raises(error):
            decompressed(flag, message, encoding, 1000, step)


def test_prefix():
    assert prefix(0, 258) == b"\0\0\0\1\2"

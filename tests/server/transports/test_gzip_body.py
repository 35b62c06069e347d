import gzip
import random
import zlib
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.transports import gzip_body
from slipway_server.transports.gzip_body import INPUT_BYTES, MAX_MEMBERS, GzipBody
from slipway_wire.status import InvalidArgument

NO_LIMIT = 2**31
PLAIN = st.binary(max_size=40) | st.integers(0, 500).map(bytes)


def read(body, piece=2**20, most=NO_LIMIT):
    """Decompress all of *body*; no piece is larger than asked."""
    zipped = GzipBody(body, most)
    while not zipped.is_done:
        before = zipped.size
        came = zipped.go_on(piece)
        assert came <= piece
        assert zipped.size == before + came
    assert len(zipped.plain()) == zipped.size
    return zipped.plain()


@settings(max_examples=150)
@given(st.lists(PLAIN, max_size=6), st.integers(1, 50), st.integers(1, 2000))
def test_whatever_the_members_and_pieces_are_the_whole_is_the_same(members, input_bytes, piece):
    body = b"".join(gzip.compress(plain) for plain in members)

    with mock.patch.object(gzip_body, "INPUT_BYTES", input_bytes):
        assert read(body, piece) == b"".join(members)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_body_of_many_inputs_and_pieces_is_put_together(level):
    noise = random.Random(1).randbytes(5 * INPUT_BYTES + 1)
    plain = noise + bytes(3 * 2**20)

    assert read(gzip.compress(plain, level)) == plain
    assert read(gzip.compress(noise, level) + gzip.compress(bytes(2**20), level), 70_000) == noise + bytes(2**20)


BODY = gzip.compress(b"one" * 100) + gzip.compress(random.Random(2).randbytes(100))


def test_a_body_that_is_cut_off_is_an_error_wherever_that_is():
    first = len(gzip.compress(b"one" * 100))

    assert read(BODY[:first]) == b"one" * 100
    for size in {*range(1, len(BODY))} - {first}:
        with pytest.raises(InvalidArgument, match="The gzip body is cut off"):
            read(BODY[:size])


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip",
        BODY + b"no gzip",
        BODY[:-5] + bytes([BODY[-5] ^ 1]) + BODY[-4:],  # the checksum's last byte
        BODY[:-1] + bytes([BODY[-1] ^ 1]),  # the length's
    ],
)
def test_a_body_that_is_damaged_is_an_error(body):
    with pytest.raises(InvalidArgument, match="The body is not gzip, though Content-Encoding says so"):
        read(body)


def test_no_more_is_decompressed_than_is_asked_for():
    zipped = GzipBody(gzip.compress(bytes(10_000_000)), 1000)

    assert zipped.go_on(600) == 600
    with pytest.raises(InvalidArgument, match="The decompressed body exceeds 1000 bytes"):
        zipped.go_on(600)
    assert zipped.size == 1200


def test_many_members_cost_no_more_than_their_number_allows(monkeypatch):
    """What zlib is given and gives back is counted: it once was the square of the body."""
    work = {"members": 0, "bytes": 0}

    def counting(wbits):
        member = zlib.decompressobj(wbits)
        work["members"] += 1

        class Counted:
            def __getattr__(self, name):
                return getattr(member, name)

            def decompress(self, data, most):
                work["bytes"] += len(data)
                return member.decompress(data, most)

        return Counted()

    monkeypatch.setattr(
        gzip_body, "zlib", SimpleNamespace(decompressobj=counting, error=zlib.error, MAX_WBITS=zlib.MAX_WBITS)
    )
    empty = gzip.compress(b"")

    assert read(empty * MAX_MEMBERS) == b""
    assert work["members"] == MAX_MEMBERS
    work.update(members=0, bytes=0)
    with pytest.raises(InvalidArgument, match=f"more than {MAX_MEMBERS} members; compress it as one"):
        read(empty * 100_000)

    assert work["members"] == MAX_MEMBERS
    assert work["bytes"] <= MAX_MEMBERS * INPUT_BYTES


def test_a_piece_ends_even_if_nothing_comes():
    """Empty blocks are five bytes that give nothing, as many as the body has room for."""
    zipper = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    body = zipper.compress(b"a") + zipper.flush(zlib.Z_SYNC_FLUSH)
    body += b"\0\0\0\xff\xff" * 500_000 + zipper.flush()
    zipped = GzipBody(body, NO_LIMIT)

    came = [zipped.go_on(1000), zipped.go_on(1000)]

    assert came == [1, 0]
    assert not zipped.is_done
    assert zipped.go_on(1000) == 0
    assert zipped.is_done


def test_a_body_of_nothing_is_done():
    assert read(b"") == b""

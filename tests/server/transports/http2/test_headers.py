import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.frames import ConnectionFault, StreamFault
from slipway_server.transports.http2.headers import Block, HeaderReader
from slipway_server.transports.http2.limits import Limits

PSEUDO = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/m"), (b":authority", b"here")]
NAMES = st.from_regex(rb"[a-z][a-z0-9\-]{0,8}", fullmatch=True).filter(
    lambda name: name not in {b"te", b"content-length", b"connection", b"keep-alive", b"upgrade"}
)
VALUES = st.binary(max_size=20).map(lambda value: bytes(set(value) - {0, 10, 13}))


def reader(**limits):
    calls = []

    def interpret(head):
        calls.append(head)
        return head

    made = HeaderReader(Limits(**limits), interpret)
    made.calls = calls
    return made


def read(one, block):
    return one.known.get(block) or one.read(block)


@given(st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=4), min_size=1, max_size=12), st.booleans())
def test_every_block_means_what_a_plain_decoder_reads(requests, huffman):
    """Blocks that were seen before are answered from memory; a change of the table in between must not be missed."""
    encoder, ours, plain = hpack.Encoder(), reader(), hpack.Decoder()

    for fields in [*requests, *requests]:
        block = encoder.encode(PSEUDO + fields, huffman=huffman)
        assert list(read(ours, block).meaning.fields) == [
            (bytes(name), bytes(value)) for name, value in plain.decode(block, raw=True) if name[:1] != b":"
        ]


def test_a_block_that_was_seen_is_not_read_again():
    encoder, ours = hpack.Encoder(), reader()
    blocks = [encoder.encode(PSEUDO) for _ in range(5)]

    heads = [read(ours, block).meaning for block in blocks]

    assert len(set(map(id, heads[1:]))) == 1
    assert len(ours.calls) == 2, "the first block fills the table, the second is the first that means itself"


def test_a_literal_with_indexing_empties_the_memory():
    """The same bytes mean something else once the table has moved."""
    ours = reader()
    begin = b"\x83\x86\x44\x04/s/m\x41\x01h"
    ours.read(begin)
    newest = b"\x83\x86\x44\x01/\xbe"  # :path /, then the newest entry twice over
    with pytest.raises(StreamFault):
        ours.read(newest)
    named = b"\x83\x86\x04\x02/a\x40\x01x\x01y"
    ours.read(named)
    again = b"\x83\x86\x04\x02/a\xbe"

    first = read(ours, again).meaning.fields
    ours.read(b"\x83\x86\x04\x02/a\x40\x01x\x01z")
    second = read(ours, again).meaning.fields

    assert (first, second) == ([(b"x", b"y")], [(b"x", b"z")])


def test_the_memory_is_bounded():
    ours = reader()
    for number in range(500):
        ours.read(b"\x83\x86\x04\x04/%03d" % number)
    assert len(ours.known) <= 64
    ours.read(b"\x83\x86\x04\x7f\xd0\x0f/" + b"a" * 2126)
    assert max(map(len, ours.known)) < 2048


MALFORMED = {
    "no method": PSEUDO[1:],
    "no scheme": [PSEUDO[0], *PSEUDO[2:]],
    "no path": [*PSEUDO[:2], PSEUDO[3]],
    "empty path": [*PSEUDO[:2], (b":path", b"")],
    "path twice": [*PSEUDO, PSEUDO[2]],
    "unknown pseudo-header": [*PSEUDO, (b":proto", b"x")],
    "status in a request": [*PSEUDO, (b":status", b"200")],
    "pseudo-header behind others": [PSEUDO[0], PSEUDO[1], (b"a", b"b"), PSEUDO[2]],
    "upper case": [*PSEUDO, (b"Content-type", b"x")],
    "empty name": [*PSEUDO, (b"", b"x")],
    "space in a name": [*PSEUDO, (b"a b", b"x")],
    "line break in a value": [*PSEUDO, (b"a", b"x\r\ny: z")],
    "zero in a value": [*PSEUDO, (b"a", b"\0")],
    "line break in the path": [*PSEUDO[:2], (b":path", b"/a\n")],
    "connection": [*PSEUDO, (b"connection", b"close")],
    "transfer-encoding": [*PSEUDO, (b"transfer-encoding", b"chunked")],
    "te": [*PSEUDO, (b"te", b"gzip")],
    "two lengths": [*PSEUDO, (b"content-length", b"1"), (b"content-length", b"2")],
    "no length": [*PSEUDO, (b"content-length", b"-1")],
    "long length": [*PSEUDO, (b"content-length", b"9" * 5000)],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_concern_their_stream_only(fields):
    """RFC 9113, sections 8.1 to 8.3; the next request is read as if nothing had been."""
    encoder, ours = hpack.Encoder(), reader()

    with pytest.raises(StreamFault, match="PROTOCOL_ERROR"):
        ours.read(encoder.encode(fields))

    assert read(ours, encoder.encode(PSEUDO)).meaning.path == b"/s/m"


def test_a_list_somewhat_too_large_is_told_and_the_table_lives_on():
    encoder, ours = hpack.Encoder(), reader(max_header_list_bytes=1000)

    assert read(ours, encoder.encode([*PSEUDO, (b"a", b"b" * 1000)])).meaning.is_too_large
    assert not read(ours, encoder.encode(PSEUDO)).meaning.is_too_large


BOMBS = {
    "one entry named again and again": b"\x40\x01a\x7f\x81\x1f" + b"b" * 4096 + b"\xbe" * 4000,
    "many small fields": b"\x00\x01a\x00" * 16_000,
    "long integers": b"\xff" + b"\x80" * 60_000,
    "Huffman without end": b"\x00\x01a\xff\xf2\x03" + b"\xff" * 60_000,
    "sizes of the table": b"\x20" * 60_000,
    "a size that was never allowed": b"\x3f\xe2\x7f",
    "an index that is not there": b"\xff\x20",
    "index 0": b"\x80",
    "cut off": b"\x40\x05ab",
    "nothing behind a literal": b"\x40",
}


@pytest.mark.parametrize("block", BOMBS.values(), ids=BOMBS)
def test_bombs_and_garbage_end_the_connection_quickly(block):
    """HPACK bomb: CVE-2016-6581. What cannot be decoded leaves a table of unknown state (RFC 9113, section 4.3)."""
    with pytest.raises(ConnectionFault, match=r"COMPRESSION_ERROR|ENHANCE_YOUR_CALM"):
        reader().read(block)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_read_or_refused(blocks):
    ours = reader()
    for block in blocks:
        try:
            read(ours, block)
        except StreamFault:
            pass
        except ConnectionFault:
            return


def test_trailers_are_read_for_the_table_and_checked():
    ours = reader()
    ours.read_trailers(b"\x40\x01x\x01y")
    assert read(ours, b"\x83\x86\x04\x02/a\xbe").meaning.fields == [(b"x", b"y")]
    with pytest.raises(StreamFault):
        ours.read_trailers(b"\x83")


FIELDS = st.lists(
    st.tuples(st.sampled_from([b":status", b"content-type", b"grpc-status", b"x-y"]), st.binary(max_size=400)),
    max_size=4,
)


@given(FIELDS, st.booleans(), st.integers(1, 30), st.sampled_from([b"", b"\x20"]))
def test_blocks_of_ours_are_read_by_hpack_whole_or_in_parts(fields, ends_stream, max_frame, first):
    block = Block([(b":status", b"200"), *fields], ends_stream=ends_stream)
    decoded = [(b":status", b"200"), *fields]

    whole = block.begin + b"\0\0\0\5" + block.end
    assert [tuple(field) for field in hpack.Decoder().decode(whole[9:], raw=True)] == decoded
    assert whole[4] == frames.END_HEADERS | ends_stream
    at, joined, kinds = 0, b"", []
    parts = block.split(b"\0\0\0\5", first, max_frame)
    while at < len(parts):
        length = int.from_bytes(parts[at : at + 3], "big")
        assert length <= max_frame
        kinds.append((parts[at + 3], bool(parts[at + 4] & frames.END_HEADERS)))
        joined += parts[at + 9 : at + 9 + length]
        at += 9 + length
    assert [tuple(field) for field in hpack.Decoder().decode(joined, raw=True)] == decoded
    assert [kind for kind, _ in kinds] == [frames.HEADERS] + [frames.CONTINUATION] * (len(kinds) - 1)
    assert [ends for _, ends in kinds] == [False] * (len(kinds) - 1) + [True]

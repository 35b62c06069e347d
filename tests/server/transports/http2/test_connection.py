"""The connection against frames by hand, the known attacks, and the Python package h2 as a peer that minds the rules."""

import itertools
import struct

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.frames import ErrorCode
from slipway_server.transports.http2.headers import Block
from slipway_server.transports.http2.limits import Limits

from .conftest import HEAD, REQUEST, TRAILERS, Client, read_frames

W = 4096
SMALL = Limits(initial_window_bytes=W, connection_window_bytes=2 * 65_535, max_concurrent_streams=3)


# --- requests and answers -------------------------------------------------------------------------------


def test_the_server_speaks_first_and_acknowledges_settings(make_client):
    client = make_client(greets=False)

    first, *_ = client.take()
    client.send(frames.PREFACE + frames.settings_frame({}))

    assert (first.kind, first.flags) == (frames.SETTINGS, 0)
    assert dict(frames.read_settings(first.payload))[frames.MAX_CONCURRENT_STREAMS] == 1024
    assert [(f.kind, f.flags) for f in client.take()] == [(frames.SETTINGS, frames.ACK)]


def test_a_request_is_answered_with_headers_data_trailers(make_client):
    client = make_client(echoes=True)

    client.headers(1)
    client.data(1, b"body", ends=True)

    assert client.answers() == {1: b"body"}
    assert [(f.kind, f.flags) for f in client.got[-3:]] == [
        (frames.HEADERS, frames.END_HEADERS),
        (frames.DATA, 0),
        (frames.HEADERS, frames.END_HEADERS | frames.END_STREAM),
    ]
    assert client.connection.streams == {}


def conversation():
    """Requests of every shape, as one string of bytes."""
    client = Client()
    block = [client.block() for _ in range(9)]
    body = bytes(range(256)) * 8

    def data(flags, stream, payload):
        return frames.frame(frames.DATA, flags, stream, payload)

    return b"".join(
        [
            frames.PREFACE,
            frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 100_000, 99: 1}),
            frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block[0]),
            frames.frame(frames.HEADERS, frames.END_HEADERS, 3, block[1]),
            data(0, 1, body),
            data(frames.END_STREAM, 3, b"x"),
            frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\3\1"),
            data(frames.PADDED, 1, b"\x05padded" + bytes(5)),
            data(frames.PADDED | frames.END_STREAM, 1, b"\0"),
            frames.frame(99, 255, 7, b"an extension"),
            frames.frame(frames.PING, 0, 0, b"12345678"),
            frames.frame(frames.HEADERS, frames.END_STREAM, 5, block[2][:2]),
            frames.frame(frames.CONTINUATION, 0, 5, b""),
            frames.frame(frames.CONTINUATION, frames.END_HEADERS, 5, block[2][2:]),
            frames.frame(
                frames.HEADERS,
                frames.END_HEADERS | frames.PADDED | frames.PRIORITISED,
                7,
                b"\x03" + b"\0\0\0\1\xff" + block[3] + bytes(3),
            ),
            frames.window_update(7, 10),
            data(0, 7, b""),
            data(0, 7, b"with trailers"),
            frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 7, b"\x00\x01a\x01b"),
            frames.frame(frames.SETTINGS, frames.ACK, 0),
            frames.frame(frames.HEADERS, frames.END_HEADERS, 9, block[4]),
            data(0, 9, b"given up"),
            frames.rst_stream(9, ErrorCode.CANCEL),
        ]
    )


CONVERSATION = conversation()
BODIES = {1: bytes(range(256)) * 8 + b"padded", 3: b"x", 5: b"", 7: b"with trailers"}


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=8))
@settings(max_examples=60)
def test_however_bytes_are_cut_they_mean_the_same(cuts):
    client = Client(echoes=True, greets=False)

    borders = [0, *sorted(cuts), len(CONVERSATION)]
    for begin, end in itertools.pairwise(borders):
        client.send(CONVERSATION[begin:end])

    assert client.answers() == BODIES
    assert client.listener.were_reset == [9]
    assert client.goaway() is None
    assert client.connection.streams == {}


def test_byte_by_byte_they_mean_the_same_too():
    client = Client(echoes=True, greets=False)
    for at in range(len(CONVERSATION)):
        client.send(CONVERSATION[at : at + 1])
    assert client.answers() == BODIES


def test_the_first_block_declares_that_no_table_is_used(make_client):
    """A peer that allows a smaller table than 4096 bytes must hear of it before any header (RFC 7541, section 4.2)."""
    client = make_client(echoes=True)
    client.settings({frames.HEADER_TABLE_SIZE: 0})
    for stream in (1, 3):
        client.headers(stream, ends=True)

    blocks = [f.payload for f in client.take() if f.kind == frames.HEADERS]

    assert blocks[0][:1] == b"\x20"
    assert blocks[2] == blocks[0][1:]


def test_a_long_block_of_ours_is_continued(make_client):
    client = make_client()
    client.headers(1, ends=True)

    client.connection.send_head(
        client.listener.streams[1], Block([(b":status", b"200"), (b"long", b"x" * 40_000)], ends_stream=True)
    )

    assert [f.kind for f in client.take()] == [frames.HEADERS, frames.CONTINUATION, frames.CONTINUATION]


# --- windows, ours and theirs -----------------------------------------------------------------------------


@given(
    sizes=st.lists(
        st.one_of(st.integers(0, 100), st.integers(65_000, 66_000), st.integers(0, 200_000)), min_size=1, max_size=4
    ),
    window=st.integers(0, 70_000),
    max_frame=st.sampled_from([16_384, 16_385, 50_000]),
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 90_000)), max_size=20),
    portion=st.sampled_from([1, 20_000, 2**30]),
)
@settings(max_examples=60)
def test_no_answer_outruns_the_clients_windows_and_all_arrive(sizes, window, max_frame, steps, portion):
    client = Client()
    client.settings({frames.INITIAL_WINDOW_SIZE: window, frames.MAX_FRAME_SIZE: max_frame})
    bodies = {}
    windows = {0: 65_535}
    for number, size in enumerate(sizes):
        stream = 2 * number + 1
        client.headers(stream, ends=True)
        bodies[stream] = bytes([number]) * size
        windows[stream] = window
        client.connection.answer(client.listener.streams[stream], HEAD, b"", bodies[stream], TRAILERS)

    def check():
        while True:
            got = client.take(portion)
            for frame in got:
                if frame.kind == frames.DATA:
                    assert len(frame.payload) <= max_frame
                    windows[0] -= len(frame.payload)
                    windows[frame.stream] -= len(frame.payload)
                    assert min(windows[0], windows[frame.stream]) >= 0
            if not got and not client.connection.has_output:
                return

    check()
    for which, increment in steps:
        stream = 0 if which == 0 else 2 * (which - 1) + 1
        if stream in windows:
            client.window_update(stream, increment)
            windows[stream] += increment
            check()
    for stream in windows:
        client.window_update(stream, 300_000 * (len(sizes) if stream == 0 else 1))
        windows[stream] += 300_000 * (len(sizes) if stream == 0 else 1)
    check()

    assert client.answers() == bodies


def test_a_new_initial_window_holds_for_open_streams_even_if_it_makes_theirs_negative(make_client):
    """RFC 9113, section 6.9.2."""
    client = make_client()
    client.settings({frames.INITIAL_WINDOW_SIZE: 10})
    client.headers(1, ends=True)
    client.connection.answer(client.listener.streams[1], HEAD, b"", b"x" * 30, TRAILERS)
    sent = lambda: sum(len(f.payload) for f in client.take() if f.kind == frames.DATA)  # noqa: E731

    assert sent() == 10
    client.settings({frames.INITIAL_WINDOW_SIZE: 4})
    client.window_update(1, 6)
    assert sent() == 0
    client.window_update(1, 1)
    assert sent() == 1
    client.settings({frames.INITIAL_WINDOW_SIZE: 100})
    assert sent() == 19
    assert client.answers() == {1: b"x" * 30}


def test_answers_take_turns(make_client):
    """A long answer does not hold up a short one."""
    client = make_client()
    for stream, size in ((1, 60_000), (3, 20_000)):
        client.headers(stream, ends=True)
        client.connection.answer(client.listener.streams[stream], HEAD, b"", b"x" * size, TRAILERS)

    order = [f.stream for f in client.take() if f.kind == frames.DATA]

    assert order == [1, 3, 1, 3, 1]


def test_our_own_connection_window_is_renewed(make_client):
    client = make_client(SMALL, echoes=True)
    client.window_update(0, 2**30)
    for number in range(200):
        client.headers(2 * number + 1)
        client.data(2 * number + 1, b"x" * W, ends=True)
        client.take()

    assert len(client.listener.done) == 200
    assert client.goaway() is None
    renewed = sum(f.number for f in client.got if f.kind == frames.WINDOW_UPDATE and f.stream == 0)
    assert renewed >= 200 * W - 2 * 65_535


def test_padding_counts_and_is_given_back(make_client):
    """Who waits for leave to send a message would wait for ever if padding had used it up."""
    client = make_client(SMALL)
    client.headers(1)
    client.frame(frames.DATA, frames.PADDED, 1, b"\xc8" + b"x" * 100 + bytes(200))

    updates = [f.number for f in client.take() if f.kind == frames.WINDOW_UPDATE and f.stream == 1]

    assert client.listener.bodies == {1: b"x" * 100}
    assert updates == [201]


def test_what_is_granted_comes_in_parts(make_client):
    client = make_client(Limits(initial_window_bytes=W))
    client.headers(1)
    client.connection.grant(client.listener.streams[1], 2**25)
    granted, sent = W, 0

    while sent < W + 2**25:
        part = min(2**20, W + 2**25 - sent)
        granted += sum(f.number for f in client.take() if f.kind == frames.WINDOW_UPDATE and f.stream == 1)
        assert sent + part <= granted <= sent + 2**25
        client.data(1, bytes(part))
        sent += part

    assert len(client.listener.bodies[1]) == W + 2**25
    client.data(1, b"x")
    assert client.resets() == {1: ErrorCode.FLOW_CONTROL_ERROR}


# --- what peers get wrong -----------------------------------------------------------------------------------

F = frames.frame
OPEN = "a request on stream 1 of which the head has come"
CONNECTION_ERRORS = {
    "HTTP/1": (None, b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
    "no SETTINGS": (None, frames.PREFACE + F(frames.PING, 0, 0, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "DATA before SETTINGS": (None, frames.PREFACE + F(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS before SETTINGS": (None, frames.PREFACE + F(frames.HEADERS, 4, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "ACK for SETTINGS": (None, frames.PREFACE + F(frames.SETTINGS, 1, 0), ErrorCode.PROTOCOL_ERROR),
    "DATA on 0": ([], F(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA on idle": ([], F(frames.DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA of too many bytes": ([1], F(frames.DATA, 0, 1, bytes(2**20 + 1)), ErrorCode.FRAME_SIZE_ERROR),
    "padding longer than DATA": ([1], F(frames.DATA, 8, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    "padding without a byte": ([1], F(frames.DATA, 8, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "DATA after the end": (["ended 1"], F(frames.DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
    "HEADERS after the end": (["ended 1"], F(frames.HEADERS, 5, 1, b"\x83"), None),
    "HEADERS on 0": ([], F(frames.HEADERS, 4, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on an even stream": ([], F(frames.HEADERS, 4, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on a lower stream": ([5], F(frames.HEADERS, 4, 3, b"\x00\x01a\x01b"), ErrorCode.PROTOCOL_ERROR),
    "padding longer than HEADERS": ([], F(frames.HEADERS, 0xC, 1, b"\x09\x82"), ErrorCode.PROTOCOL_ERROR),
    "a padded block of nothing": ([], F(frames.HEADERS, 0xC, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
    "a block that cannot be decoded": ([], F(frames.HEADERS, 4, 1, b"\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "DATA inside a block": (
        [1],
        F(frames.HEADERS, 0, 3, b"\x82") + F(frames.DATA, 0, 1, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "PING inside a block": (
        [],
        F(frames.HEADERS, 0, 3, b"\x82") + F(frames.PING, 0, 0, bytes(8)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "another stream inside a block": (
        [],
        F(frames.HEADERS, 0, 3, b"\x82") + F(frames.CONTINUATION, 4, 5, b""),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "an unknown type inside a block": (
        [],
        F(frames.HEADERS, 0, 3, b"\x82") + F(77, 4, 5, b""),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "CONTINUATION of nothing": ([], F(frames.CONTINUATION, 4, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY on 0": ([], F(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on 0": ([], F(frames.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on idle": ([], F(frames.RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of 3 bytes": ([1], F(frames.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": ([], F(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS of 5 bytes": ([], F(frames.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "settings in an ACK": ([], F(frames.SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "PUSH_PROMISE": ([1], F(frames.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "PING on a stream": ([], F(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "PING of 7 bytes": ([], F(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": ([], F(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY of 7 bytes": ([], F(frames.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 3 bytes": ([], F(frames.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by 0": ([], frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE on idle": ([], frames.window_update(7, 1), ErrorCode.PROTOCOL_ERROR),
    "a window of 2**31": ([], frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "windows of 2**31 by SETTINGS": (
        [1],
        frames.window_update(1, 2**31 - 70_000) + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 80_000}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a frame of 16 MiB": ([], b"\xff\xff\xff\x63\0\0\0\0\0", ErrorCode.FRAME_SIZE_ERROR),
    "HEADERS of 1 MiB": ([], b"\x0f\xff\xff\x01\x04\0\0\0\1", ErrorCode.ENHANCE_YOUR_CALM),
    "the head of 33 settings": ([], b"\0\0\xc6\4\0\0\0\0\0", ErrorCode.ENHANCE_YOUR_CALM),
    # What is there to its end is no longer allowed than what is waited for.
    "33 settings": ([], frames.settings_frame(dict.fromkeys(range(7, 40), 0)), ErrorCode.ENHANCE_YOUR_CALM),
    "whole HEADERS of 64 KiB": ([], F(frames.HEADERS, 4, 1, bytes(2**16 + 1)), ErrorCode.ENHANCE_YOUR_CALM),
    "whole HEADERS of a block that goes on": (
        [],
        F(frames.HEADERS, 0, 1, bytes(2**16 + 1)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "whole GOAWAY of 64 KiB": ([], F(frames.GOAWAY, 0, 0, bytes(2**16 + 1)), ErrorCode.ENHANCE_YOUR_CALM),
    "whole PING of 1 MiB": ([], F(frames.PING, 0, 0, bytes(2**20 + 1)), ErrorCode.FRAME_SIZE_ERROR),
    "whole frame of unknown type of 1 MiB": ([], F(99, 0, 0, bytes(2**20 + 1)), ErrorCode.FRAME_SIZE_ERROR),
    "windows of 2**31 on the way": (
        [1],
        frames.window_update(1, 1) + F(frames.SETTINGS, 0, 0, struct.pack(">HLHL", 4, 2**31 - 1, 4, 65_535)),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
}


def after(state, **options):
    """Make a client whose connection is in *state*: streams whose head has come, or that have ended."""
    client = Client(greets=state is not None, **options)
    for step in state or []:
        stream = int(str(step).rsplit(" ", 1)[-1])
        client.headers(stream, ends=isinstance(step, str))
        if isinstance(step, str):
            client.connection.answer(client.listener.streams[stream], HEAD, b"", b"", TRAILERS)
    client.take()
    return client


@pytest.mark.parametrize(("state", "wrong", "code"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_errors_of_the_connection_end_it_with_their_code(state, wrong, code):
    """RFC 9113, sections 3.4 to 6.10; what was open is given up, and nothing that follows is read."""
    client = after(state)
    open_before = list(client.connection.streams)

    client.send(wrong)

    if code is None:
        code = ErrorCode.STREAM_CLOSED
        client.send(b"")
    assert client.goaway() is not None, "the connection goes on"
    assert client.goaway()[0] is code
    assert client.connection.is_over
    assert client.listener.were_reset == open_before
    client.send(frames.frame(frames.PING, 0, 0, b"12345678"))
    assert client.take() == []


STREAM_ERRORS = {
    "DATA after END_STREAM": (True, F(frames.DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
    "HEADERS after END_STREAM": (True, F(frames.HEADERS, 5, 1, b"\x00\x01a\x01b"), ErrorCode.STREAM_CLOSED),
    "trailers that end nothing": (False, F(frames.HEADERS, 4, 1, b"\x00\x01a\x01b"), ErrorCode.PROTOCOL_ERROR),
    "pseudo-headers in trailers": (False, F(frames.HEADERS, 5, 1, b"\x83"), ErrorCode.PROTOCOL_ERROR),
    "a malformed request": (None, F(frames.HEADERS, 5, 1, b"\x83"), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of 4 bytes": (False, F(frames.PRIORITY, 0, 3, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by 0": (False, frames.window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "a window of 2**31": (False, frames.window_update(1, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "more DATA than the window": (False, F(frames.DATA, 0, 1, bytes(W + 1)), ErrorCode.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize(("has_ended", "wrong", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_errors_of_a_stream_end_it_and_nothing_else(has_ended, wrong, code):
    client = Client(SMALL, echoes=True)
    if has_ended is not None:
        client.listener.echoes = False
        client.headers(1, ends=has_ended)

    client.send(wrong)

    assert list(client.resets().values()) == [code]
    client.listener.echoes = True
    client.headers(21)
    client.data(21, b"goes on", ends=True)
    assert client.answers()[21] == b"goes on"


@pytest.mark.parametrize(("length", "is_right"), [(b"4", True), (b"3", False), (b"5", False)])
def test_content_length_must_be_true(make_client, length, is_right):
    client = make_client(echoes=True)
    client.headers(1, [*REQUEST, (b"content-length", length)])
    client.data(1, b"body", ends=True)

    assert client.answers() == ({1: b"body"} if is_right else {})
    assert client.resets() == ({} if is_right else {1: ErrorCode.PROTOCOL_ERROR})
    assert client.listener.were_reset == ([] if is_right else [1])


def test_what_was_on_its_way_to_a_stream_that_we_reset_is_passed_over(make_client):
    client = make_client(SMALL)
    client.headers(1)
    client.connection.reset(client.listener.streams[1], ErrorCode.CANCEL)

    client.data(1, b"x" * 100)
    client.window_update(1, 5)
    client.frame(frames.HEADERS, 5, 1, client.block([(b"x", b"y")]))
    client.frame(frames.RST_STREAM, 0, 1, bytes(4))

    assert client.goaway() is None
    client.headers(3, ends=True)
    assert client.listener.done == {3: b""}, "the table moved with the trailers that were passed over"


def test_data_on_a_stream_that_the_client_reset_is_told(make_client):
    client = make_client()
    client.headers(1)
    client.frame(frames.RST_STREAM, 0, 1, bytes(4))
    client.data(1, b"x")

    assert client.resets() == {1: ErrorCode.STREAM_CLOSED}
    assert client.goaway() is None


def test_an_answer_before_the_body_ends_tells_the_client_to_stop(make_client):
    """RFC 9113, section 8.1: RST_STREAM with NO_ERROR after a complete answer."""
    client = make_client()
    client.headers(1)
    client.connection.answer(client.listener.streams[1], HEAD, b"", b"early", TRAILERS)

    assert client.answers() == {1: b"early"}
    assert client.resets() == {1: ErrorCode.NO_ERROR}


def test_more_streams_than_allowed_are_refused_so_that_they_may_be_repeated(make_client):
    client = make_client(SMALL)
    for stream in (1, 3, 5, 7):
        client.headers(stream)

    assert client.resets() == {7: ErrorCode.REFUSED_STREAM}
    assert list(client.connection.streams) == [1, 3, 5]


# --- attacks ------------------------------------------------------------------------------------------------


def requests_and_resets(client, number):
    client.headers(2 * number + 1)
    client.frame(frames.RST_STREAM, 0, 2 * number + 1, ErrorCode.CANCEL.to_bytes(4, "big"))


def provoked_resets(client, number):
    client.headers(2 * number + 1)
    client.window_update(2 * number + 1, 0)


def malformed_requests(client, number):
    client.frame(frames.HEADERS, 5, 2 * number + 1, b"\x83")


def data_on_streams_it_has_reset(client, number):
    requests_and_resets(client, number)
    client.data(2 * number + 1, b"x")


def refused_streams(client, number):
    client.headers(2 * number + 1)


def empty_data(client, number):
    if not number:
        client.headers(1)
    client.data(1, b"")


def padded_empty_data(client, number):
    if not number:
        client.headers(1)
    client.frame(frames.DATA, frames.PADDED, 1, b"\x10" + bytes(16))


def window_updates(client, number):
    client.window_update(0, 1)


def dribbled_continuations(client, number):
    kind = frames.CONTINUATION if number else frames.HEADERS
    client.frame(kind, 0, 1, b"")


def large_continuations(client, number):
    kind = frames.CONTINUATION if number else frames.HEADERS
    client.frame(kind, 0, 1, b"\x00\x01a\x7f\x81\x7e" + bytes(16_000))


def one_byte_windows(client, number):
    """Internal data buffering: answers that are asked for and never taken."""
    if not number:
        client.settings({frames.INITIAL_WINDOW_SIZE: 0})
    client.headers(2 * number + 1, ends=True)


def many_settings(client, number):
    """Each entry would have all streams looked at."""
    client.headers(2 * number + 1)
    if number == 15:
        client.frame(frames.SETTINGS, 0, 0, struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 70_000) * 10_000)


ATTACKS = {
    "CVE-2020-11080 large settings": (many_settings, "SETTINGS of 60000 bytes"),
    "CVE-2023-44487 rapid reset": (requests_and_resets, "too many streams are reset"),
    "CVE-2025-8671 made you reset": (provoked_resets, "too many streams are reset"),
    "malformed requests": (malformed_requests, "too many streams are reset"),
    "CVE-2019-9514 reset flood": (data_on_streams_it_has_reset, "too many streams are reset"),
    "refused streams": (refused_streams, "too many streams are reset"),
    "CVE-2019-9512 ping flood": (lambda client, _: client.frame(frames.PING, 0, 0, bytes(8)), "too_many_pings"),
    "ping acknowledgements": (lambda client, _: client.frame(frames.PING, 1, 0, bytes(8)), "too_many_pings"),
    "CVE-2019-9515 settings flood": (lambda client, _: client.settings({}), "SETTINGS"),
    "settings acknowledgements": (lambda client, _: client.frame(frames.SETTINGS, 1, 0), "SETTINGS"),
    "CVE-2019-9513 priority flood": (
        lambda client, n: client.frame(frames.PRIORITY, 0, 2 * n + 1, bytes(5)),
        "PRIORITY",
    ),
    "CVE-2019-9518 empty frames": (empty_data, "empty DATA"),
    "padded empty frames": (padded_empty_data, "empty DATA"),
    "window updates": (window_updates, "WINDOW_UPDATE"),
    "unknown frames": (lambda client, _: client.frame(200, 0, 0, b"x"), "unknown type"),
    "CVE-2024-27316 continuation flood": (dribbled_continuations, "too many CONTINUATION"),
    "CVE-2019-9516 header leak": (large_continuations, "header block too large"),
}


@pytest.mark.parametrize(("attack", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_attacks_end_soon_and_hold_little(attack, reason):
    limits = Limits(reset_burst=50, control_burst=80, max_concurrent_streams=20, max_continuations=10)
    client = Client(limits)

    for number in range(500):
        attack(client, number)
        client.take()
        if client.connection.is_over:
            break

    assert client.connection.is_over, "it would go on for ever"
    code, told = client.goaway()
    assert code is ErrorCode.ENHANCE_YOUR_CALM
    assert reason in told
    assert number < 150
    assert client.connection.streams == {}


def test_a_long_frame_of_unknown_type_is_passed_over_whole_or_in_parts(make_client):
    for cut in (0, 9, 50_000):
        client = make_client(echoes=True)
        frame = frames.frame(99, 0, 0, bytes(100_000))
        client.send(frame[:cut])
        client.send(frame[cut:])
        client.headers(1, ends=True)
        assert client.answers() == {1: b""}


def windows_of(client):
    """Give stream -> what its client has allowed since it began."""
    client.take()
    sent = dict.fromkeys(client.connection.streams, 0)
    for frame in client.got:
        if frame.kind == frames.DATA:
            sent[frame.stream] += len(frame.payload)
    return {number: stream.send_window + sent[number] for number, stream in client.connection.streams.items()}


WINDOWS = st.lists(st.sampled_from([0, 1, 65_535, 65_536, 100_000, 2**31 - 70_000, 2**31 - 1]), max_size=6)


@given(WINDOWS, st.lists(st.integers(1, 2**31 - 1), max_size=2), st.booleans())
@settings(max_examples=40)
def test_settings_in_one_frame_mean_what_they_mean_one_by_one(windows, updates, has_answer):
    together, one_by_one = Client(), Client()
    for client in (together, one_by_one):
        client.headers(1, ends=True)
        for update in updates:
            client.window_update(1, update)
        if has_answer and 1 in client.connection.streams:
            client.connection.send_data(client.listener.streams[1], b"", bytes(200_000))
        client.window_update(0, 2**20)

    together.frame(frames.SETTINGS, 0, 0, b"".join(struct.pack(">HL", 4, window) for window in windows))
    for window in windows:
        one_by_one.settings({frames.INITIAL_WINDOW_SIZE: window})

    assert together.goaway() == one_by_one.goaway()
    if not together.connection.is_over:
        together.headers(3)
        one_by_one.headers(3)
        assert windows_of(together) == windows_of(one_by_one)


@pytest.mark.parametrize("attack", [requests_and_resets, window_updates], ids=["resets", "window updates"])
def test_what_an_attack_does_in_bulk_is_allowed_in_measure(attack):
    """Clients cancel calls and open windows: in time, and as often as calls are answered, that is no attack."""
    client = Client(Limits(reset_burst=50, control_burst=80, resets_per_s=10, controls_per_s=10))
    for number in range(200):
        client.now += 0.1
        attack(client, number)
    assert client.goaway() is None

    client = Client(Limits(reset_burst=50, control_burst=80))
    client.listener.echoes = True
    for number in range(0, 1000, 2):
        client.headers(2 * number + 1, ends=True)
        attack(client, number + 1)
        client.take()
    assert client.goaway() is None


def test_answers_that_are_never_taken_are_given_up(make_client):
    """CVE-2019-9511 and 9517, slow readers: calls with a window of 0 hold their answers only for so long."""
    client = make_client(Limits(max_concurrent_streams=10, stall_s=60), echoes=True)
    client.settings({frames.INITIAL_WINDOW_SIZE: 0})
    for stream in range(1, 41, 2):
        client.headers(stream)
        client.data(stream, b"x" * 1000, ends=True)
    assert len(client.connection.streams) == 10

    client.now += 61
    client.connection.tick(client.now)

    assert client.connection.streams == {}
    assert set(client.resets().values()) == {ErrorCode.REFUSED_STREAM, ErrorCode.CANCEL}


def test_a_reader_that_is_slow_but_reads_is_served(make_client):
    client = make_client(Limits(stall_s=60), echoes=True)
    client.settings({frames.INITIAL_WINDOW_SIZE: 0})
    client.headers(1)
    client.data(1, b"x" * 10, ends=True)
    for _ in range(10):
        client.now += 40
        client.connection.tick(client.now)
        client.window_update(1, 1)
        client.take()
    assert client.answers() == {1: b"x" * 10}


# --- time -------------------------------------------------------------------------------------------------


def ticked(client, passed):
    for _ in range(20):
        client.now += passed / 20
        client.connection.tick(client.now)


def test_a_client_that_does_not_greet_is_not_waited_for(make_client):
    client = make_client(Limits(handshake_s=20), greets=False)
    client.send(frames.PREFACE[:10])
    ticked(client, 21)
    assert client.goaway()[0] is ErrorCode.SETTINGS_TIMEOUT


def test_a_header_block_that_does_not_end_is_not_waited_for(make_client):
    client = make_client(Limits(header_block_s=10))
    client.frame(frames.HEADERS, 0, 1, b"\x83")
    ticked(client, 11)
    assert client.goaway()[0] is ErrorCode.ENHANCE_YOUR_CALM


def test_a_body_that_does_not_come_is_not_waited_for(make_client):
    client = make_client(Limits(stall_s=60))
    client.headers(1)
    ticked(client, 50)
    client.data(1, b"x")
    ticked(client, 50)
    assert client.resets() == {}
    ticked(client, 20)
    assert client.resets() == {1: ErrorCode.CANCEL}
    assert client.listener.were_reset == [1]


def test_idle_connections_are_ended_and_busy_ones_are_not(make_client):
    limits = Limits(max_idle_s=30)
    idle, busy = make_client(limits), make_client(limits)
    busy.headers(1, ends=True)
    ticked(idle, 40)
    ticked(busy, 40)
    assert idle.goaway() == (ErrorCode.NO_ERROR, "")
    assert idle.connection.is_over
    assert busy.goaway() is None


def test_old_connections_finish_their_calls_and_end(make_client):
    client = make_client(Limits(max_age_s=100, stall_s=1000))
    client.headers(1)
    ticked(client, 110)
    assert client.goaway() == (ErrorCode.NO_ERROR, "")
    assert not client.connection.is_over
    client.data(1, b"late", ends=True)
    client.connection.answer(client.listener.streams[1], HEAD, b"", b"late", TRAILERS)
    assert client.answers() == {1: b"late"}
    assert client.connection.is_over


def test_old_connections_do_not_wait_longer_than_their_grace(make_client):
    client = make_client(Limits(max_age_s=100, age_grace_s=50))
    client.headers(1, ends=True)
    ticked(client, 140)
    assert not client.connection.is_over
    ticked(client, 40)
    assert client.connection.is_over
    assert client.listener.were_reset == [1]


def test_a_goodbye_takes_what_was_on_its_way(make_client):
    """RFC 9113, section 6.8: two GOAWAY frames, and a PING in between to know that the client has read the first."""
    client = make_client(echoes=True)
    client.connection.leave(client.now)
    first, ping = client.take()
    assert first.number == 2**31 - 1

    client.headers(1, ends=True)
    client.frame(frames.PING, frames.ACK, 0, ping.payload)
    client.headers(3, ends=True)

    assert client.answers() == {1: b""}
    assert client.got[-1].kind == frames.GOAWAY
    assert client.got[-1].number == 1
    assert client.connection.is_over


def test_after_the_second_goodbye_new_streams_are_left_alone(make_client):
    client = make_client()
    client.headers(1)
    client.connection.leave(client.now)
    client.frame(frames.PING, frames.ACK, 0, client.take()[-1].payload)
    client.headers(3)
    client.data(3, b"x", ends=True)
    client.data(1, b"y", ends=True)

    assert client.listener.done == {1: b"y"}
    assert client.resets() == {}


def test_a_client_that_leaves_gets_its_answers(make_client):
    client = make_client()
    client.headers(1, ends=True)
    client.frame(frames.GOAWAY, 0, 0, bytes(8))
    assert not client.connection.is_over
    client.connection.answer(client.listener.streams[1], HEAD, b"", b"bye", TRAILERS)
    assert client.answers() == {1: b"bye"}
    assert client.connection.is_over


def server_leaves(client):
    client.connection.leave(client.now)
    client.frame(frames.PING, frames.ACK, 0, client.take()[-1].payload)


def client_leaves(client):
    client.frame(frames.GOAWAY, 0, 0, bytes(8))


LAST_CALL_ENDS = {
    "cancelled": frames.rst_stream(1, ErrorCode.CANCEL),
    "broken": frames.window_update(1, 0),
    "broken by its trailers": frames.frame(frames.HEADERS, 5, 1, b"\x83"),
    "broken by its length": frames.frame(frames.DATA, 1, 1, b"x"),
}


@pytest.mark.parametrize("leave", [server_leaves, client_leaves])
@pytest.mark.parametrize("end", LAST_CALL_ENDS.values(), ids=LAST_CALL_ENDS)
def test_a_connection_that_is_left_ends_with_its_last_call_however_that_ends(make_client, leave, end):
    client = make_client()
    client.headers(1, [*REQUEST, (b"content-length", b"5")])
    leave(client)
    assert not client.connection.is_over

    # What comes in the same bytes behind it begins nothing any more.
    client.send(end + frames.frame(frames.HEADERS, 4, 3, client.block()) + frames.frame(frames.DATA, 1, 3, b"x"))

    assert client.connection.is_over
    assert client.connection.fault is None
    assert client.connection.streams == {}
    assert client.listener.were_reset == [1]
    assert list(client.listener.streams) == [1]


def test_a_connection_that_is_left_ends_with_its_last_answer_and_takes_nothing_behind(make_client):
    client = make_client(echoes=True)
    # Answers behind the first go out at once.
    client.headers(1, ends=True)
    client.take()
    client.headers(3)
    client_leaves(client)

    client.send(
        frames.frame(frames.DATA, 1, 3, b"x")
        + frames.frame(frames.HEADERS, 5, 5, client.block())
        + frames.frame(frames.HEADERS, 5, 7, client.block())
    )

    assert client.answers() == {1: b"", 3: b"x"}
    assert client.connection.is_over
    assert client.connection.streams == {}


def test_silence_is_asked_about_and_then_ended(make_client):
    limits = Limits(keepalive_time_s=100, keepalive_timeout_s=20)
    dead, alive = make_client(limits), make_client(limits)
    for client in (dead, alive):
        ticked(client, 110)
        ping = client.take()[-1]
        assert (ping.kind, ping.flags) == (frames.PING, 0)
    alive.frame(frames.PING, frames.ACK, 0, ping.payload)
    ticked(dead, 30)
    ticked(alive, 30)
    assert dead.connection.is_over
    assert not alive.connection.is_over


# --- the package h2 as a peer -------------------------------------------------------------------------------


def peer(**settings_of_peer):
    """Make an h2 client and our connection, and what carries bytes between them until nobody has any."""
    theirs = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    theirs.initiate_connection()
    if settings_of_peer:
        theirs.update_settings(settings_of_peer)
    ours = Client(SMALL, echoes=True, greets=False)
    events = []

    def exchange():
        while True:
            there = theirs.data_to_send()
            if there:
                ours.send(there)
            back = b"".join(ours.connection.take(2**30))
            if back:
                events.extend(theirs.receive_data(back))
            if not there and not back:
                return events

    exchange()
    return theirs, ours, events, exchange


@given(
    bodies=st.lists(
        st.one_of(st.binary(max_size=20), st.integers(W - 3, W + 3).map(bytes), st.just(bytes(70_000))),
        min_size=1,
        max_size=8,
    ),
    window=st.sampled_from([1, 100, 65_535]),
    padding=st.sampled_from([None, 0, 7]),
)
@settings(max_examples=40)
def test_h2_as_a_peer_gets_every_body_back(bodies, window, padding):
    """h2 checks all that we send, and keeps to our windows."""
    theirs, ours, events, exchange = peer()
    theirs.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    exchange()
    answers = {}
    for body in bodies:
        stream = theirs.get_next_available_stream_id()
        theirs.send_headers(stream, [(name.decode(), value.decode()) for name, value in REQUEST])
        left = body
        # The gRPC layer asks for more once it knows how much there is.
        exchange()
        ours.connection.grant(ours.listener.streams[stream], len(body) + 8 * len(body))
        while True:
            exchange()
            room = min(theirs.local_flow_control_window(stream), theirs.max_outbound_frame_size) - 8
            part, left = left[: max(room, 0)], left[max(room, 0) :]
            theirs.send_data(stream, part, end_stream=not left, pad_length=padding)
            if not left:
                break
        answers[stream] = b""
        ended = False
        while not ended:
            exchange()
            for event in events:
                if isinstance(event, h2.events.DataReceived):
                    answers[event.stream_id] += event.data
                    theirs.increment_flow_control_window(max(event.flow_controlled_length, 1) + 5000, None)
                    if not any(isinstance(e, h2.events.StreamEnded) and e.stream_id == stream for e in events):
                        theirs.increment_flow_control_window(5000, event.stream_id)
                ended = ended or (isinstance(event, h2.events.StreamEnded) and event.stream_id == stream)
            events.clear()
        assert answers[stream] == body
    assert ours.goaway() is None


ACTIONS = st.one_of(
    st.tuples(st.just("open"), st.booleans()),
    st.tuples(st.just("data"), st.integers(0, 5), st.binary(max_size=30), st.booleans()),
    st.tuples(st.just("reset"), st.integers(0, 5)),
    st.tuples(st.just("window"), st.integers(0, 5), st.integers(1, 1000)),
    st.tuples(st.just("ping")),
    st.tuples(st.just("settings"), st.integers(0, 100_000), st.integers(16_384, 20_000)),
    st.tuples(st.just("prioritise"), st.integers(0, 5)),
    st.tuples(st.just("raw"), st.integers(0, 12), st.integers(0, 255), st.integers(0, 12), st.binary(max_size=12)),
    st.tuples(st.just("noise"), st.binary(max_size=12)),
)


@given(st.lists(ACTIONS, max_size=40))
@settings(max_examples=80)
def test_a_hostile_client_gets_rules_and_no_crash(actions):
    """
    Whatever comes, our own end never raises, keeps its books, and speaks HTTP/2.

    The client knows the rules (h2) and breaks them now and then with frames by hand, behind which its own view of the
    connection no longer holds; then only ours is checked.
    """
    theirs, ours, _, exchange = peer()
    streams, is_fair = [], True

    for action, *rest in actions:
        try:
            match action:
                case "open":
                    stream = theirs.get_next_available_stream_id()
                    fields = [(name.decode(), value.decode()) for name, value in REQUEST]
                    theirs.send_headers(stream, fields, end_stream=rest[0])
                    streams.append(stream)
                case "data":
                    theirs.send_data(streams[rest[0]], rest[1], end_stream=rest[2])
                case "reset":
                    theirs.reset_stream(streams[rest[0]])
                case "window":
                    theirs.increment_flow_control_window(rest[1], streams[rest[0]])
                case "ping":
                    theirs.ping(b"12345678")
                case "settings":
                    theirs.update_settings({4: rest[0], 5: rest[1]})
                case "prioritise":
                    theirs.prioritize(streams[rest[0]], weight=5)
                case "raw":
                    ours.send(theirs.data_to_send() + frames.frame(*rest))
                    is_fair = False
                case "noise":
                    ours.send(theirs.data_to_send() + rest[0])
                    is_fair = False
            if is_fair:
                exchange()
            else:
                ours.send(theirs.data_to_send())
        except (IndexError, KeyError, h2.exceptions.StreamClosedError):
            # There is no such stream (any more).
            continue
        except h2.exceptions.ProtocolError:
            # h2 refuses to break the rules itself; what *we* send must never be what it complains about.
            is_own = theirs.state_machine.state is not h2.connection.ConnectionState.CLOSED
            assert is_own or not is_fair

    connection = ours.connection
    assert not is_fair or ours.goaway() is None
    for number, stream in connection.streams.items():
        assert stream.id == number
        assert stream.is_open
        assert stream.receive_window >= 0
    opened = {number for kind, number in ours.listener.events if kind == "opened"}
    over = set(ours.listener.were_reset) | set(ours.listener.done)
    assert opened - over == {n for n, s in connection.streams.items() if s.is_receiving}
    assert not connection.is_over or not connection.streams


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=80)
def test_any_bytes_are_taken_or_refused(noise, greets):
    client = Client(SMALL, greets=greets)
    client.send(noise)
    out = b"".join(client.connection.take(2**30))
    found, rest = read_frames(out)
    assert rest == b""
    assert client.connection.is_over == any(f.kind == frames.GOAWAY for f in found) or client.connection.is_over


def test_a_lost_connection_gives_everything_up(make_client):
    client = make_client()
    client.headers(1)
    client.headers(3, ends=True)

    client.connection.lost()

    assert client.listener.were_reset == [1, 3]
    assert not client.connection.has_output

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.frames import ConnectionFault, ErrorCode


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=300))
def test_a_frame_is_its_head_and_its_payload(kind, flags, stream, payload):
    written = frames.frame(kind, flags, stream, payload)

    high, low, *rest = frames.read_head(written, 0)
    assert (high << 16 | low, *rest) == (len(payload), kind, flags, stream)
    assert written[frames.HEAD_BYTES :] == payload
    assert written.startswith(frames.frame_head(len(payload), kind, flags, stream))


@given(st.dictionaries(st.integers(7, 2**16 - 1), st.integers(0, 2**32 - 1), max_size=frames.MAX_SETTINGS))
def test_settings_that_nobody_knows_may_have_any_value(settings):
    assert dict(frames.read_settings(frames.settings_frame(settings)[9:])) == settings


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        (frames.ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (frames.MAX_FRAME_SIZE, 16_383, ErrorCode.PROTOCOL_ERROR),
        (frames.MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_settings_outside_their_range_end_the_connection(name, value, code):
    """RFC 9113, section 6.5.2."""
    with pytest.raises(ConnectionFault) as raised:
        frames.read_settings(frames.settings_frame({name: value})[9:])

    assert raised.value.code is code


def test_settings_of_an_odd_length_end_the_connection():
    with pytest.raises(ConnectionFault, match="FRAME_SIZE_ERROR"):
        frames.read_settings(b"1234567")


def test_no_more_settings_are_read_than_anybody_needs():
    payload = frames.settings_frame(dict.fromkeys(range(7, 40), 0))[9:]

    assert len(frames.read_settings(payload[:-6])) == 32
    with pytest.raises(ConnectionFault, match="ENHANCE_YOUR_CALM: SETTINGS with 33 entries"):
        frames.read_settings(payload)


def test_small_frames_hold_what_they_say():
    assert frames.window_update(3, 70_000) == b"\0\0\4\x08\0\0\0\0\3" + (70_000).to_bytes(4, "big")
    assert frames.rst_stream(5, ErrorCode.CANCEL) == b"\0\0\4\x03\0\0\0\0\5\0\0\0\x08"
    assert frames.goaway(7, ErrorCode.NO_ERROR, "bye") == b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\7\0\0\0\0bye"

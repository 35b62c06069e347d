import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.callers import Caller, Callers, TraceParent, parse_traceparent

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-03", True),
        (f" 00-{TRACE_ID}-{SPAN_ID}-01 ", True),
        # A version to come may say more.
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-be-like", True),
    ],
)
def test_trace_context_is_read_as_the_standard_says(text, is_sampled):
    assert parse_traceparent(text) == TraceParent(TRACE_ID, SPAN_ID, is_sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[1:]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-0x",
    ],
)
def test_a_malformed_one_is_passed_over(text):
    assert parse_traceparent(text) is None


@given(st.text())
def test_no_text_is_too_strange(text):
    parse_traceparent(text)
    caller = Callers().of(text, text.encode("utf-8", "surrogatepass"))
    assert caller is None or caller.request_id == text


def test_an_id_that_was_sent_is_kept():
    callers = Callers(makes_ids=True)

    assert callers.of(b"req-1/a", None) == Caller("req-1/a")
    assert callers.of("req-1/a", f"00-{TRACE_ID}-{SPAN_ID}-01", "ipv4:1.2.3.4:5") == Caller(
        "req-1/a", TraceParent(TRACE_ID, SPAN_ID, is_sampled=True), "ipv4:1.2.3.4:5"
    )


@pytest.mark.parametrize("sent", ["", "a b", 'a"', "a\nb", "ä", "a" * 129, b"\xff"])
def test_one_that_cannot_stand_in_a_log_line_or_a_header_is_not(sent):
    assert Callers().of(sent, None) is None
    made = Callers(makes_ids=True).of(sent, None)
    assert made.request_id
    assert made.request_id != sent


def test_ids_are_made_only_where_wanted_and_never_twice():
    assert Callers().of(None, None) is None
    ids = {callers.of(None, None).request_id for callers in [Callers(makes_ids=True)] * 100}
    assert len(ids | {Callers(makes_ids=True).new_id()}) == 101

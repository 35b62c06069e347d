from hypothesis import given
from hypothesis import strategies as st

from slipway_server.transports import rpc


@given(st.text(max_size=1024))
def test_details_of_a_usual_length_are_told_whole(text):
    assert rpc.details(text) == text


@given(st.text(min_size=1025, max_size=3000))
def test_long_details_are_cut_as_tf_serving_cuts_them(text):
    """They travel in a header, and peers limit its size: uncut, the client would see another error."""
    assert rpc.details(text) == text[:1024] + "...TRUNCATED"

import json
import math

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway_wire import json_text
from slipway_wire.status import InvalidArgument, WireError

# Within int64 or uint64, as our values are; doubles as JSON writes them.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_the_lenient_reader_agrees_with_orjson(value):
    """It reads only what orjson refuses; where both read, they must not differ."""
    text = orjson.dumps(value)

    ours = json_text.parse_leniently(text)

    assert ours == orjson.loads(text)
    assert orjson.dumps(ours) == text  # 1 == 1.0 == True


@given(VALUES, st.sampled_from([0, 1, 4]))
def test_space_does_not_matter(value, indent):
    assert json_text.parse_leniently(json.dumps(value, indent=indent).encode()) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[NaN]", [math.nan]),
        ("[Inf, Infinity]", [math.inf, math.inf]),
        ("[-Inf, -Infinity]", [-math.inf, -math.inf]),
        ("[1] and more", [1]),
        ("[1]]", [1]),
        ('{"a": 1, "a": 2}', {"a": 1}),
        ("\ufeff[1]", [1]),
        ("[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)]),
        ("[18446744073709551616]", [1.8446744073709552e19]),
        ("[-9223372036854775809]", [-9.223372036854775808e18]),
        ("[1e308, 1E+2, 0.5e-400]", [1e308, 100.0, 0.0]),
        ('["\\u00e9\\ud83d\\ude00\\/"]', ["é😀/"]),
    ],
)
def test_what_rapidjson_takes_is_taken(text, expected):
    found = json_text.parse_leniently(text.encode())

    assert repr(found) == repr(expected)


def test_bytes_that_are_not_utf8_pass_through_a_string():
    (text,) = json_text.parse_leniently(b'["a\xff\xc3"]')

    assert json_text.to_bytes(text) == b"a\xff\xc3"


def test_nesting_has_no_limit():
    depth = 500_000

    value = json_text.parse_object(b'{"ignored":' + b"[" * depth + b"]" * depth + b',"x":1}')

    assert value["x"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The document is empty"),
        ("  ", "The document is empty. at offset: 2"),
        ("{", "Missing a name for object member. at offset: 1"),
        ("{1:2}", "Missing a name for object member. at offset: 1"),
        ('{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        ('{"a": 1 "b"}', "Missing a comma or } after an object member. at offset: 8"),
        ('{"a": [1 2]}', "Missing a comma or ] after an array element. at offset: 9"),
        ('{"a": [1,]}', "Invalid value. at offset: 9"),
        ('{"a": nul}', "Invalid value. at offset: 6"),
        ('{"a": }', "Invalid value. at offset: 6"),
        ('{"a": +1}', "Invalid value. at offset: 6"),
        ('{"a": .5}', "Invalid value. at offset: 6"),
        ('{"a": 01}', "Missing a comma or } after an object member. at offset: 7"),
        ('{"a": 1.}', "Missing fraction part in number. at offset: 8"),
        ('{"a": 1e}', "Missing exponent in number. at offset: 8"),
        ('{"a": 1e400}', "Number too big to be stored in double. at offset: 6"),
        ('{"a": ' + "9" * 400 + "}", "Number too big to be stored in double. at offset: 6"),
        ('{"a": "b', "Missing a closing quotation mark in string. at offset: 6"),
        ('{"a": "\\q"}', "Invalid escape character in string. at offset: 7"),
        ('{"a": "\\u12G4"}', "Incorrect hex digit after \\u escape in string. at offset: "),
        ('{"a": "\\ud800"}', "The surrogate pair in string is invalid. at offset: 6"),
        ('{"a": "\n"}', "Invalid encoding in string. at offset: 7"),
    ],
)
def test_what_is_no_json_is_told_in_rapidjsons_words(text, message):
    with pytest.raises(InvalidArgument) as caught:
        json_text.parse_object(text.encode())

    assert caught.value.message.startswith(f"JSON Parse error: {message}")


@pytest.mark.parametrize(("text", "shown"), [("[1]", "[\n    1\n]"), ("3.0", "3.0"), ("NaN", "NaN"), ('"a"', '"a"')])
def test_the_top_level_must_be_an_object(text, shown):
    with pytest.raises(InvalidArgument) as caught:
        json_text.parse_object(text.encode())

    assert caught.value.message == f"JSON Value: {shown} Is not object"


def test_of_equal_keys_at_the_top_the_first_counts_whoever_reads():
    assert json_text.parse_object(b'{"inputs": 1, "inputs": 2}') == {"inputs": 1}
    assert json_text.parse_object(b'{"inputs": 1, "inputs": 2} and more') == {"inputs": 1}


def test_a_long_value_is_cut_in_messages():
    shown = json_text.describe(["x" * 100] * 10_000)

    assert shown.startswith('[\n    "xxx')
    assert len(shown) < 300


def test_a_deep_value_can_be_shown():
    value = json_text.parse_leniently(b"[" * 100_000 + b"]" * 100_000)

    assert len(json_text.describe(value)) < 300


@given(st.text())
@example('quote " and \udc80 half')
def test_an_error_body_is_strict_json_with_its_message(message):
    body = json_text.encode_error(message)

    assert json.loads(body).keys() == {"error"}
    assert json_text.decode_error(body) == message.encode(errors="replace").decode()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"error": 1}', b"<html>"])
def test_other_bodies_are_no_error(body):
    assert json_text.decode_error(body) is None


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ue1.-+0 truefalsn', max_size=40).map(str.encode))
def test_any_bytes_give_an_object_or_a_wire_error(body):
    try:
        value = json_text.parse_object(body)
    except WireError:
        return
    assert isinstance(value, dict)

import re

import ml_dtypes
import numpy as np
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipway_wire import dtypes, json_tensors, json_text
from slipway_wire.status import Internal, InvalidArgument, Unimplemented

CARRIED = ["?", "u1", "i1", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"]
FLOATS = ["<f4", "<f8"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def decode(text, data_type):
    value = json_text.parse_leniently(text if isinstance(text, bytes) else text.encode())
    return json_tensors.decode(value, data_type, booleans=True)


def without_empty_tails(array):
    """JSON forgets the sizes behind an axis of size 0."""
    return 0 not in array.shape[:-1]


@pytest.mark.parametrize("dtype", CARRIED)
@given(data=st.data())
def test_a_tensor_comes_back_as_it_was(dtype, data, same):
    array = data.draw(hnp.arrays(np.dtype(dtype), SHAPES, elements=({"allow_nan": False} if "f" in dtype else None)))
    assume(without_empty_tails(array))

    text = json_tensors.encode(array)

    assert same(decode(text, dtypes.from_numpy(array.dtype)), array)
    value = json_text.parse_leniently(text)
    assert same(json_tensors.decode_elements(value, dtypes.from_numpy(array.dtype)), array)


@given(data=st.data())
def test_strings_come_back_as_they_were(data, string_arrays, same):
    array = data.draw(string_arrays)
    assume(without_empty_tails(array))

    for how in ("base64", "either", "text"):
        style = json_tensors.Style(strings=how)
        assert same(decode(json_tensors.encode(array, style), dtypes.STRING), array)
    orjson.loads(json_tensors.encode(array, json_tensors.Style(strings="either")))  # strict JSON, whatever the bytes


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_every_float_has_a_point_or_an_exponent_and_reads_back(dtype, data):
    """A client that takes 3 for an integer and 3.0 for a float must not see the type change with the value."""
    value = data.draw(hnp.arrays(np.dtype(dtype), (), elements={"allow_nan": False, "allow_infinity": False}))

    text = json_tensors.encode(value).decode()

    assert re.search(r"[.e]", text)
    assert np.array(float(text), dtype) == value


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32([3, 0.1, 555557.5]), "[3.0,0.1,555557.5]"),
        (np.float32(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (np.float32([[np.nan, np.inf], [-np.inf, 1]]), "[[NaN,Infinity],[-Infinity,1.0]]"),
        (np.float32(np.nan), "NaN"),
        (np.array([[True], [False]]), "[[true],[false]]"),
        (np.array(2**63, np.uint64), "9223372036854775808"),
        (np.zeros((0, 3), np.float32), "[]"),
        (np.zeros((2, 0), np.float32), "[[],[]]"),
        (np.array([b"a\n", "é".encode()], object), '["a\\n","é"]'),
        (np.zeros((0, 2), object), "[]"),
    ],
)
def test_tensors_are_written_as_nested_lists(array, text):
    assert json_tensors.encode(array).decode() == text


ANSWER = json_tensors.Style(digits="tf_serving")


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32([3, 9e6, 3e-5, 555557.5, 0.1, 1 / 3]), "[3.0,9e+06,3e-05,555557.5,0.1,0.333333343]"),
        (np.float64([3, 9e6, 3e-5, 0.1, 1 / 3]), "[3.0,9e+06,3e-05,0.1,0.33333333333333331]"),
        (np.float16([[0.1], [3]]), "[[0.0999756],[3.0]]"),
        (np.float32([0.1, 3]).astype(ml_dtypes.bfloat16), "[0.100098,3.0]"),
        (np.array([[[np.nan, 1], [np.inf, -np.inf]]], ml_dtypes.bfloat16), "[[[NaN,1.0],[Infinity,-Infinity]]]"),
        (np.float32(9e6), "9e+06"),
        (np.full((2, 30), 0.1, np.float32), str([[0.1] * 30] * 2).replace(" ", "")),
        (np.int8([1, -1]), "[1,-1]"),
    ],
)
def test_floats_of_an_answer_have_tf_servings_digits(array, text):
    assert json_tensors.encode(array, ANSWER).decode() == text


NON_FINITE = np.float32([[1, np.nan], [np.inf, -np.inf]])


def test_what_is_not_finite_can_be_null_or_an_error():
    assert json_tensors.encode(NON_FINITE, json_tensors.Style(non_finite="null")) == b"[[1.0,null],[null,null]]"
    with pytest.raises(Internal) as caught:
        json_tensors.encode(NON_FINITE, json_tensors.Style(non_finite="error"))

    assert "has NaN at [0, 1]" in caught.value.message
    assert json_tensors.encode(np.float32([1]), json_tensors.Style(non_finite="error")) == b"[1.0]"


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 3), (1, 7, 3), (7, 0)])
def test_large_arrays_are_written_in_pieces(shape, monkeypatch):
    array = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    whole = json_tensors.encode(array, ANSWER)
    monkeypatch.setattr(json_tensors, "PIECE", 4)

    assert json_tensors.encode(array, ANSWER) == whole


@pytest.mark.parametrize("name", ["half", "bfloat16"])
@pytest.mark.parametrize("text", ["[1.5, 2, NaN, -Infinity]", "[1e9, 65504, 0.1, -0.0]"])
def test_half_and_bfloat16_are_read_as_floats(name, text, same):
    """TF Serving cannot; its users have asked for it since 2020 (tensorflow/serving#1639)."""
    data_type = dtypes.from_name(name)
    values = json_text.parse_leniently(text.encode())
    with np.errstate(over="ignore"):
        expected = np.array(values, np.float64).astype(data_type.numpy)

    assert same(decode(text, data_type), expected)
    assert same(json_tensors.decode_elements(values, data_type), expected)


def test_bytes_go_as_base64_with_padding():
    assert json_tensors.encode(np.array([b"\xff"], object), json_tensors.Style(strings="base64")) == b'[{"b64":"/w=="}]'


def test_text_that_is_not_utf8_goes_out_raw():
    assert json_tensors.encode(np.array([b'\xff"'], object)) == b'["\xff\\""]'


@pytest.mark.parametrize("dtype", CARRIED)
@given(data=st.data())
def test_rows_are_the_elements_of_the_whole(dtype, data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    array = data.draw(hnp.arrays(np.dtype(dtype), shape))

    assert b"[" + b",".join(json_tensors.encode_rows(array)) + b"]" == json_tensors.encode(array)


STYLES = st.builds(
    json_tensors.Style,
    st.sampled_from(["text", "base64", "either"]),
    st.sampled_from(["fewest", "tf_serving"]),
    st.sampled_from(["tokens", "null", "error"]),
)
FLOAT_VALUES = st.floats(allow_nan=False, allow_infinity=False, width=16) | st.sampled_from(
    [0.1, -0.0, 1 / 3, 123456.7, 9e6, 3e-5, 1e-40, 0.999999999, np.nan, np.inf, -np.inf]
)


@given(
    data=st.data(),
    style=STYLES,
    piece=st.sampled_from([json_tensors.PIECE, 7]),
    narrow=st.sampled_from([json_tensors._NARROW, 2]),
)
def test_each_row_is_written_as_it_is_alone(data, style, piece, narrow):
    """Whole arrays go other ways than small ones, those of wide rows other ways than narrow ones, and pieces of large ones others still."""
    dtype = np.dtype(data.draw(st.sampled_from([*CARRIED, "<f2", "<f4", "<f8", ml_dtypes.bfloat16, object])))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4) | st.just((9, 3)))
    if dtype.kind == "O":
        array = data.draw(hnp.arrays(object, shape, elements=st.binary(max_size=3) | st.just('é"%s'.encode())))
    elif dtype.kind in "fV":
        with np.errstate(over="ignore"):
            array = data.draw(hnp.arrays(np.float64, shape, elements=FLOAT_VALUES)).astype(dtype)
    else:
        array = data.draw(hnp.arrays(dtype, shape))
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_tensors, "PIECE", piece)
        patch.setattr(json_tensors, "_NARROW", narrow)
        try:
            # Of one dimension, numpy's rows would be no arrays.
            rows = [array[i : i + 1].reshape(shape[1:]) for i in range(len(array))]
            expected = [json_tensors.encode(row, style) for row in rows]
        except Internal:
            with pytest.raises(Internal):
                json_tensors.encode_rows(array, style)
        else:
            assert json_tensors.encode_rows(array, style) == expected
            assert json_tensors.encode(array, style) == b"[" + b",".join(expected) + b"]"


@pytest.mark.parametrize("name", ["uint16", "complex64"])
def test_types_json_has_nothing_for_are_refused_both_ways(name):
    data_type = dtypes.from_name(name)

    with pytest.raises(InvalidArgument) as writing:
        json_tensors.encode(np.zeros(1, data_type.numpy))
    with pytest.raises(Unimplemented) as reading:
        decode("[1.0]", data_type)

    assert writing.value.message == f"Failed to write JSON value for tensor type: {name}"
    assert reading.value.message == f"Conversion of JSON Value: 1.0 to type: {name}"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("float", "[1, 2.5, NaN, -Inf]", [1.0, 2.5, np.nan, -np.inf]),
        ("float", "[1e39, 1e-60, 16777217]", [np.inf, 0.0, 16777216.0]),
        ("float", "[18446744073709551615, 36893488147419103232]", [2.0**64, 2.0**65]),
        ("double", "3", 3.0),
        ("int32", "[2147483647, -2147483648]", [2**31 - 1, -(2**31)]),
        ("int8", "[300, -1]", [44, -1]),
        ("uint8", "[300, -1]", [44, 255]),
        ("int64", "[-9223372036854775808, 9223372036854775807]", [-(2**63), 2**63 - 1]),
        ("uint64", "[18446744073709551615, 0]", [2**64 - 1, 0]),
        ("uint64", "18446744073709551615", 2**64 - 1),
        ("bool", "[true, false]", [True, False]),
        ("string", '["a", {"b64": "/w"}, {"b64": "_w=="}]', None),
        ("string", '["a", {"b64": " / w = = "}]', [b"a", b"\xff"]),
        ("string", '["true"]', [b"true"]),
        ("float", "[[], []]", [[], []]),
        ("int32", "[]", []),
        ("bool", "[]", []),
        ("string", "[]", []),
    ],
)
def test_values_are_taken_as_declared(name, text, expected):
    if expected is None:
        with pytest.raises(InvalidArgument, match="Unable to base64 decode"):
            decode(text, dtypes.from_name(name))
        return
    array = decode(text, dtypes.from_name(name))

    assert array.dtype == dtypes.from_name(name).numpy
    np.testing.assert_array_equal(array, np.array(expected, array.dtype))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        *[("float", value, kind) for value, kind in [('"1"', "String"), ("true", "True"), ("null", "Null")]],
        *[("int32", value, "Number") for value in ("1.0", "2147483648", "-2147483649", "1e3", "NaN")],
        *[("int8", value, "Number") for value in ("1.5", "2147483648")],
        *[("int64", value, "Number") for value in ("9223372036854775808", "1.0")],
        *[("uint32", value, "Number") for value in ("-1", "4294967296")],
        *[("uint64", value, "Number") for value in ("-1", "36893488147419103232")],
        *[("int64", value, kind) for value, kind in [("true", "True"), ("false", "False"), ('"1"', "String")]],
        *[("bool", value, "Number") for value in ("0", "1", "1.0")],
        *[("string", value, kind) for value, kind in [("1", "Number"), ("null", "Null"), ("true", "True")]],
        ("float", '{"a": 1}', "Object"),
        ("float", '{"b64": "AA=="}', "Object"),
    ],
)
def test_values_of_another_kind_are_refused_wherever_they_stand(name, value, kind):
    good = {"bool": "true", "string": '"a"', "float": "1.5"}.get(name, "1")
    for text in (value, f"[{value}]", f"[{good}, {value}]", f"[[{good}], [{value}]]"):
        with pytest.raises(InvalidArgument) as caught:
            decode(text, dtypes.from_name(name))

        shown = json_text.describe(json_text.parse_leniently(value.encode()))
        assert caught.value.message == f"JSON Value: {shown} Type: {kind} is not of expected type: {name}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1, 2], [3]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ("[1, [2]]", "Encountered list at unexpected level: 1 expected < 1"),
        ("[[1], 2]", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ("[[], [1]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 0"),
        ("[[1], []]", "Encountered list at unexpected size: 0 at level: 1 expected size: 1"),
        ("[" * 65 + "]" * 65, "a tensor may have up to 64 dimensions, got lists nested 65 deep"),
        ("[" * 5000 + "]" * 5000, "a tensor may have up to 64 dimensions, got lists nested 5000 deep"),
    ],
)
def test_uneven_lists_are_refused_in_tf_servings_words(text, message):
    with pytest.raises(InvalidArgument) as caught:
        decode(text, dtypes.FLOAT)

    assert caught.value.message == message


@pytest.mark.parametrize("value", [{}, {"b64": 1}, {"b64": "AA==", "more": 1}, {"B64": "AA=="}])
def test_an_object_that_is_no_base64_is_refused(value):
    assert not json_tensors.is_base64(value)
    with pytest.raises(InvalidArgument, match=r"not formatted correctly for base64 data$"):
        json_tensors.decode_base64(value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64", "x"]), inner, max_size=2),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "name", ["float", "double", "int8", "int32", "int64", "uint64", "bool", "string", "half", "uint16"]
)
@given(value=JSON_VALUES)
def test_the_fast_way_and_the_careful_way_agree(name, value, same):
    """Numpy reads whole lists; wherever it dares to, looking at every element must give the same."""
    data_type = dtypes.from_name(name)
    fast = json_tensors.decode_numbers(value, data_type, booleans=True)
    try:
        careful = json_tensors.decode_elements(value, data_type)
    except (InvalidArgument, Unimplemented):
        assert fast is None
    else:
        assert fast is None or same(fast, careful)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([[1, 2]], np.array([[1, 2]])),
        ([1, 2.5], np.array([1, 2.5])),
        (2.5, np.array(2.5)),
        ([True], np.array([True])),
        (["a", {"b64": "/w=="}], np.array([b"a", b"\xff"], object)),
        ([0, 2**64 - 1], np.array([0, 2**64 - 1], np.uint64)),
        ([2**64 - 1, -1], np.array([2.0**64, -1.0])),
        ([], np.array([], np.int64)),
    ],
)
def test_an_answers_types_are_told_by_its_values(value, expected, same):
    assert same(json_tensors.decode_freely(value), expected)


@pytest.mark.parametrize("value", [None, [None], [[1], 2], ["a", 1], [{"x": 1}], [1, "a"]])
def test_an_answer_that_is_no_tensor_is_refused(value):
    with pytest.raises(InvalidArgument):
        json_tensors.decode_freely(value)


@given(shape=hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
def test_the_length_of_a_structure_is_known_before_it_is_written(shape):
    assert json_tensors.structure_bytes(shape) == len(json_tensors.structure(shape))


BASE64_VALUES = [
    *(
        b"YQ==",
        b"YQ",
        b"YQ=",
        b" YQ = = ",
        b"YQ==YQ==",
        b"YQ==\\n",
        b"Y\\tQ==",
        b"!",
        b"YQ==!",
        b"",
        b"=",
        b"====",
        b"AB==",
    ),
    *(b"=YQ=", b"Y", b"-_8=", "é".encode(), b"\xff", b"YWI=", b"Y W I"),
]


@pytest.mark.parametrize(
    "text",
    [
        *[b'{"b64":"%b"}' % value for value in BASE64_VALUES],
        *(b'{"b64":1}', b'{"b64":null}', b'{"b64":["YQ=="]}', b'{"b64":{}}', b'{"B64":"YQ=="}', b"{}"),
        *(
            b'{"b64":"YQ==","b64":"Yg=="}',
            b'{"b64":"YQ==","x":1}',
            b'"text"',
            b'"\xff"',
            b"1",
            b"null",
            b"true",
        ),
    ],
)
def test_a_string_is_read_or_refused_as_an_element_is(text):
    value = json_text.parse_leniently(text)
    try:
        expected = json_tensors.decode_elements([value], dtypes.STRING)[0]
    except InvalidArgument:
        with pytest.raises(InvalidArgument):
            json_tensors.decode_string(value)
    else:
        assert json_tensors.decode_string(value) == expected

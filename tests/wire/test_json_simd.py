import contextlib
import json

import numpy as np
import pytest
import simdjson
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipway_wire import dtypes, json_predict, json_simd, json_text
from slipway_wire.json_predict import ParsedRequest
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.status import WireError


def signature(**inputs):
    specs = {name: TensorSpec(name, dtypes.from_name(kind), None, f"{name}:0") for name, kind in sorted(inputs.items())}
    return Signature("s", PREDICT, specs, {})


def fast(body, wanted):
    """What simdjson reads, or None where it leaves the request to the others."""
    read = json_simd.parse(body)
    return None if read is None else read.inputs({name: spec.dtype for name, spec in wanted.inputs.items()})


def careful(body, wanted):
    """What is read by way of Python's values, or the error."""
    document = json_text.parse_object(body)
    name = json_predict.signature_name(document)
    return ParsedRequest(name, "instances" in document, body, document).inputs(wanted)


ONE = signature(x="float")
TYPES = [
    "float",
    "double",
    "half",
    "bfloat16",
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
    "uint32",
    "uint64",
    "uint16",
]

# Numbers at every border that a type has, and what only looks like a number.
EDGES = [
    "0", "-0", "-0.0", "1.0", "1e2", "1E-400", "0.1", "3.4028236e38", "1e39", "5e-324", "127", "128", "-129", "256", "32768",
    "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "1e400", "16777217", "65504", "65520", "1" * 25,
]  # fmt: skip
ODD = [
    "NaN",
    "-Infinity",
    "true",
    "null",
    '"a"',
    '"1"',
    "[]",
    "[1]",
    "{}",
    '{"b64":"AA=="}',
    "01",
    "1.",
    ".5",
    "+1",
    "",
]
WORDS = ["NaN", "-NaN", "Infinity", "-Infinity", "Inf", "-Inf"]
ELEMENT = (
    st.sampled_from([*EDGES, *WORDS])
    | st.integers(-(2**70), 2**70).map(str)
    | st.floats(allow_nan=False).map(json.dumps)
)
SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r\n  "])


@st.composite
def tensor_text(draw, elements=ELEMENT):
    """Nested lists that are regular, mostly: now and then an element is dropped, doubled or something else."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    spaces = [draw(SPACE) for _ in range(4)]

    def write(level):
        if level == len(shape):
            return draw(elements)
        items = [write(level + 1) for _ in range(shape[level])]
        if draw(st.integers(0, 30)) == 0:
            items.insert(draw(st.integers(0, len(items))), draw(st.sampled_from(ODD) | ELEMENT))
        if items and draw(st.integers(0, 40)) == 0:
            items.pop()
        return spaces[0] + "[" + spaces[1] + f"{spaces[2]},{spaces[3]}".join(items) + spaces[1] + "]" + spaces[2]

    return write(0)


@st.composite
def bodies(draw):
    """Bodies in every form the API knows, with the mistakes that clients make."""
    names = draw(st.sampled_from([["x"], ["a", "b"], ["x", "x"], ["a", "a1"], ["b64"], ["é"], ["Inf"]]))
    form = draw(st.integers(0, 3))
    if form == 0:
        value, key = draw(tensor_text()), draw(st.sampled_from(["instances", "inputs"]))
    elif form == 1:
        rows = draw(st.integers(0, 4))
        texts = {name: draw(tensor_text()) for name in names}
        ordered = [draw(st.permutations(names)) if draw(st.integers(0, 5)) == 0 else names for _ in range(rows)]
        row_texts = ["{" + ",".join(f'"{name}":{texts[name]}' for name in order) + "}" for order in ordered]
        value, key = "[" + ",".join(row_texts) + "]", "instances"
    else:
        value = "{" + ",".join(f'"{name}":{draw(tensor_text())}' for name in names) + "}"
        key = "inputs"
    members = [f'"{key}":{value}']
    if draw(st.booleans()):
        name = draw(st.sampled_from(['"s"', '"aNaN"', '"a\\u0062"', '"é"', "1", '"e1"']))
        members.insert(draw(st.integers(0, 1)), f'"signature_name" : {name}')
    if draw(st.integers(0, 12)) == 0:
        members.append(draw(st.sampled_from([members[0], '"other":[1,"x"]', '"instances":[2]', '"inputs":1'])))
    space, end = draw(SPACE), draw(st.sampled_from(["", "", "", "", " ", "\n", "x", "}", "\x00"]))
    text = (space + "{" + space + f"{space},{space}".join(members) + space + "}" + end).encode()
    if draw(st.integers(0, 20)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=2)) + text[at + draw(st.integers(0, 2)) :]
    return text


SIGNATURES = st.sampled_from([signature(x=kind) for kind in [*TYPES, "bool", "string"]]) | st.sampled_from(
    [signature(a="float", b="int64"), signature(a="uint64", b="half"), signature(a="double", a1="int8")]
)


@given(body=bodies(), wanted=SIGNATURES)
@example(body=b'{"instances":[1,[],2]}', wanted=ONE)
@example(body=b'{"instances":[1[,2]]}', wanted=ONE)
@example(body=b'{"instances":[[1],2]}', wanted=ONE)
@example(body=b'{"instances":[[1],[]]}', wanted=ONE)
@example(body=b'{"instances":[[],[1]]}', wanted=ONE)
@example(body=b'{"instances":[[1,2],[3,4,5],[6]]}', wanted=ONE)
@example(body=b'{"instances":[1,2],"instances":[3]}', wanted=ONE)
@example(body=b'{"inputs":{"x":[1],"x":[2]}}', wanted=ONE)
@example(body=b'{"instances":[1]}{"instances":[2]}', wanted=ONE)
@example(body=b"\xef\xbb\xbf" + b'{"instances":[1]}', wanted=ONE)
@example(body=b'{"instances":[[],[]]}', wanted=ONE)
@example(body=b'{"instances":' + b"[" * 70 + b"1" + b"]" * 70 + b"}", wanted=ONE)
def test_what_simdjson_reads_is_what_the_careful_way_reads(body, wanted, same):
    """The fast way may decline anything, but never accept what the other refuses or sees differently."""
    found = fast(body, wanted)
    if found is None:
        return

    expected = careful(body, wanted)
    assert list(found) == list(expected)
    assert all(same(found[name], expected[name]) for name in expected)
    assert json_simd.parse(body).signature_name == json_predict.parse_request(body).signature_name


@given(body=bodies(), wanted=SIGNATURES, piece=st.integers(1, 12))
@example(body=b'{"instances":[1[,2]]}', wanted=ONE, piece=1)
@example(body=b'{"instances":[1,2,]}', wanted=ONE, piece=1)
@example(body=b'{"instances":[,1,2]}', wanted=ONE, piece=1)
@example(body=b'{"instances":[ ]}', wanted=ONE, piece=1)
@example(body=b'{"instances":[1, ]}', wanted=ONE, piece=1)
@example(body=b'{"instances":[[1],[2],]}', wanted=ONE, piece=1)
@example(body=b'{"instances":[[1][2]]}', wanted=ONE, piece=1)
@example(body=b'{"instances":[[1],[2]],"inputs":[[3]]}', wanted=ONE, piece=1)
@example(body=b'{"signature_name":"a","instances":[[1],[2]],"signature_name":"b"}', wanted=ONE, piece=1)
@example(body=b'{"instances":[[1,2],[3,4]], "signature_name": "s"}', wanted=ONE, piece=1)
def test_read_in_pieces_it_is_the_same(body, wanted, piece, same):
    before = json_simd._PIECE_BYTES
    json_simd._PIECE_BYTES = piece
    try:
        read = None
        with contextlib.suppress(ValueError, TypeError, RuntimeError, UnicodeDecodeError):
            read = json_simd._read_in_pieces(simdjson.Parser(), body)
        found = None if read is None else read.inputs({name: spec.dtype for name, spec in wanted.inputs.items()})
    finally:
        json_simd._PIECE_BYTES = before
    if found is None:
        return

    expected = careful(body, wanted)
    assert all(same(found[name], expected[name]) for name in expected)
    assert read.signature_name == json_predict.parse_request(body).signature_name


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "uint16"])
@pytest.mark.parametrize("row_format", [True, False])
@settings(max_examples=15)
@given(data=st.data())
def test_ordinary_requests_are_read_by_simdjson(kind, row_format, data, same):
    """Otherwise the comparison above would show nothing."""
    dtype = dtypes.from_name(kind).numpy
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    if dtype.kind in "fV":
        array = data.draw(hnp.arrays(np.float32, shape, elements={"min_value": -6e4, "max_value": 6e4})).astype(dtype)
    else:
        array = data.draw(hnp.arrays(dtype, shape))
    body = json_predict.encode_request({"x": array}, row_format=row_format, signature_name="s")

    assert same(fast(body, signature(x=kind))["x"], array)


@given(texts=st.lists(st.sampled_from(WORDS) | st.floats(width=32, allow_nan=False).map(json.dumps), min_size=1))
def test_nan_and_infinities_are_read_by_simdjson(texts, same):
    """Missing values are NaN to many clients; a body of some megabytes must not take seconds for one of them."""
    body = f'{{"instances":[{",".join(texts)}]}}'.encode()

    assert same(fast(body, ONE)["x"], careful(body, ONE)["x"])


def test_what_stands_for_nan_is_in_no_request(same):
    number = json_simd._NUMBER_FOR_WORD[b"NaN"][0].strip()
    body = b'{"instances":[%b,NaN]}' % number

    assert fast(body, ONE) is None
    assert json_predict.parse_request(body).inputs(ONE)["x"].tolist()[0] == 0.0


def test_rows_of_several_inputs_are_read_by_simdjson(same):
    inputs = {
        "a": np.arange(60, dtype=np.float32).reshape(3, 20) / 7,
        "b": np.arange(3),
        "c": np.ones((3, 2, 2), np.int64),
    }
    wanted = signature(a="float", b="int64", c="int64")

    for row_format in (True, False):
        found = fast(json_predict.encode_request(inputs, row_format=row_format), wanted)
        assert all(same(found[name], inputs[name]) for name in inputs)


def test_a_body_of_several_megabytes_is_read_in_pieces(same, monkeypatch):
    array = np.random.default_rng(7).random((40, 40, 50, 3), np.float32)
    body = json_predict.encode_request({"x": array})
    assert len(body) > 2 * json_simd._PIECE_BYTES
    monkeypatch.setattr(json_simd, "_read_whole", None)

    assert same(fast(body, ONE)["x"], array)


def test_parsers_are_used_again_but_not_kept_without_end():
    bodies = [b'{"instances":[[1,2],[3]]}', b'{"instances":[1,2]}', b"[", b'{"instances":["a"]}'] * 20
    for body in bodies:
        json_simd.parse(body)

    assert 1 <= len(json_simd._parsers) <= json_simd._KEPT_PARSERS
    assert fast(b'{"instances":[1,2]}', ONE)["x"].tolist() == [1.0, 2.0]


@given(body=bodies(), wanted=SIGNATURES)
def test_a_request_is_read_or_refused_alike_whatever_its_size(body, wanted, same):
    """Small bodies do not go by way of simdjson: growing by a space must not change what they mean."""
    outcomes = []
    for least in (0, 10**9):
        before, json_simd.MIN_BYTES = json_simd.MIN_BYTES, least
        try:
            outcomes.append(json_predict.parse_request(body).inputs(wanted))
        except WireError as error:
            outcomes.append((error.code, error.message))
        finally:
            json_simd.MIN_BYTES = before
    small, large = outcomes
    if isinstance(small, tuple):
        assert large == small
    else:
        assert all(same(large[name], small[name]) for name in small)

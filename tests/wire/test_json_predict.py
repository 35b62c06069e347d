import contextlib
import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipway_wire import dtypes, json_predict, json_tensors
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.status import InvalidArgument, Unimplemented, WireError


def signature(**inputs):
    specs = {name: TensorSpec(name, dtypes.from_name(kind), None, f"{name}:0") for name, kind in sorted(inputs.items())}
    return Signature("s", PREDICT, specs, {})


def read(body, wanted):
    return json_predict.parse_request(body if isinstance(body, bytes) else body.encode()).inputs(wanted)


ONE = signature(x="float")
TWO = signature(a="float", b="int64")


# --- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "wanted", "expected"),
    [
        ('{"instances": [1.0, 2]}', ONE, {"x": np.float32([1, 2])}),
        ('{"instances": [[1.0], [2.0]]}', ONE, {"x": np.float32([[1], [2]])}),
        ('{"instances": [{"x": [1.0]}, {"x": [2.0]}]}', ONE, {"x": np.float32([[1], [2]])}),
        ('{"inputs": [[1.0], [2.0]]}', ONE, {"x": np.float32([[1], [2]])}),
        ('{"inputs": {"x": 3.0}}', ONE, {"x": np.float32(3)}),
        ('{"inputs": 3.0}', ONE, {"x": np.float32(3)}),
        ('{"instances": [NaN, -Infinity]}', ONE, {"x": np.float32([np.nan, -np.inf])}),
        ('{"instances": [1.0], "true": true, "other": [false]}', ONE, {"x": np.float32([1])}),
        ('{"instances": [1.0]} and more', ONE, {"x": np.float32([1])}),
        (
            '{"instances": [{"a": 1, "b": [1, 2]}, {"b": [3, 4], "a": 2.5}]}',
            TWO,
            {"a": np.float32([1, 2.5]), "b": np.int64([[1, 2], [3, 4]])},
        ),
        ('{"inputs": {"b": [1, 2], "a": [[1]], "c": "extra"}}', TWO, {"a": np.float32([[1]]), "b": np.int64([1, 2])}),
        ('{"instances": [true, false]}', signature(x="bool"), {"x": np.array([True, False])}),
        ('{"instances": [[]]}', ONE, {"x": np.zeros((1, 0), np.float32)}),
        ('{"instances": ["a", {"b64": "/w=="}]}', signature(x="string"), {"x": np.array([b"a", b"\xff"], object)}),
        ('{"instances": [{"b64": "/w=="}, "a"]}', signature(x="string"), {"x": np.array([b"\xff", b"a"], object)}),
        ('{"inputs": {"b64": "/w=="}}', signature(x="string"), {"x": np.array(b"\xff", object)}),
        (b'{"inputs": "\xff"}', signature(x="string"), {"x": np.array(b"\xff", object)}),
    ],
)
def test_a_request_gives_the_tensors_it_says(body, wanted, expected, same):
    found = read(body, wanted)

    assert list(found) == list(expected)
    assert all(same(found[name], np.asarray(expected[name])) for name in expected), found


DOCUMENT_FAULTS = [
    ("", "JSON Parse error: The document is empty"),
    ("[]", "JSON Value: [] Is not object"),
    ("{}", "Missing 'inputs' or 'instances' key"),
    (
        '{"instances": [1], "inputs": 1}',
        "~ Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
    ),
    ('{"instances": 1}', "~ Expecting 'instances' to be an list/array"),
    ('{"instances": {"x": 1}}', "~ Expecting 'instances' to be an list/array"),
    ('{"instances": []}', "~ No values in 'instances' array"),
    ('{"signature_name": 1}', "~ not formatted correctly. 'signature_name' key must be a string value."),
    ('{"signature_name": null}', "~ not formatted correctly. 'signature_name' key must be a string value."),
]
ROW_FAULTS = [
    (ONE, '{"instances": [[1, 2], [1]]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1"),
    (ONE, '{"instances": [[1, 2], [[1, 2]]]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [2] but got: [1,2]"),
    (ONE, '{"instances": [[[1], [1, 2]]]}', "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    (ONE, '{"instances": [1.0, "a"]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String is not of expected type: float"),
    (ONE, '{"instances": [1.0, true]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: true Type: True is not of expected type: float"),
    (ONE, '{"instances": [1.0, null]}', "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: null Type: Null is not of expected type: float"),
    (ONE, '{"instances": [{"y": 1}]}', "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: y"),
    (ONE, '{"instances": [{"x": 1}, {"x": "a"}]}', "Failed to process element: 1 key: x of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String is not of expected type: float"),
    (TWO, '{"instances": [{"a": 1}]}', 'Failed to process element: 0 of \'instances\' list. JSON object: {\n    "a": 1\n} keys must be equal to: a,b'),
    (ONE, '{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
    (ONE, '{"instances": [1, {"x": 2}]}', "Expecting value/list but got object at item 1 of input list"),
    (TWO, '{"instances": [1, 2]}', "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"),
    (signature(x="uint16"), '{"instances": [1.0]}', "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1.0 to type: uint16"),
    (signature(x="string"), '{"instances": [{"b64": "!"}]}', "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode"),
]  # fmt: skip
COLUMN_FAULTS = [
    (TWO, '{"inputs": [1]}', "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"),
    (TWO, '{"inputs": {"a": 1}}', "Missing named input: b in 'inputs' object."),
    (ONE, '{"inputs": {"x": [[1], [1, 2]]}}', "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    (ONE, '{"inputs": "a"}', 'JSON Value: "a" Type: String is not of expected type: float'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "body", "message"), [*[(ONE, *fault) for fault in DOCUMENT_FAULTS], *ROW_FAULTS, *COLUMN_FAULTS]
)
def test_a_fault_is_told_in_tf_servings_words(wanted, body, message):
    """`~` stands for the whole document, shown."""
    if message.startswith("~"):
        message = f"JSON Value: {json.dumps(json.loads(body), indent=4)}{message[1:]}"

    with pytest.raises(InvalidArgument) as caught:
        read(body, wanted)

    assert caught.value.message == message


def test_in_columnar_format_an_input_json_cannot_carry_is_unimplemented():
    with pytest.raises(Unimplemented, match=r"^Conversion of JSON Value: 1.0 to type: uint16$"):
        read('{"inputs": [1.0]}', signature(x="uint16"))


@pytest.mark.parametrize(("name", "shown"), [("", "DEFAULT"), ("s", "s")])
def test_a_signature_without_inputs_cannot_be_called(name, shown):
    body = json.dumps({"signature_name": name, "instances": [1]})

    with pytest.raises(InvalidArgument, match=f"^Failed to get input map for signature: {shown}$"):
        read(body, signature())


def test_what_needs_no_signature_is_checked_before_one_is_looked_up():
    """A bad body for an unknown model is a bad body."""
    parsed = json_predict.parse_request(b'{"signature_name": "s", "instances": 1}')

    assert (parsed.signature_name, parsed.row_format) == ("s", True)
    assert json_predict.parse_request(b'{"inputs": 1}').row_format is False
    for body in (b"", b"[", b'{"signature_name": 1}'):
        with pytest.raises(InvalidArgument):
            json_predict.parse_request(body)


def test_the_shape_is_not_compared_with_the_signature():
    """TF Serving's own suite sends [2] to an input declared [-1, 1]: the graph decides."""
    wanted = Signature("s", PREDICT, {"x": TensorSpec("x", dtypes.FLOAT, (None, 1), "x:0")}, {})

    assert read('{"instances": [2.0, 3.0]}', wanted)["x"].shape == (2,)


NUMBERS = ["?", "u1", "<i4", "<i8", "<u8", "<f4", "<f8"]
ROW_SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)


@st.composite
def row_inputs(draw):
    rows = draw(st.integers(1, 4))
    inputs = {}
    for name in draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True)):
        shape = (rows, *draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3)))
        dtype = draw(st.sampled_from([*NUMBERS, "O"]))
        elements = st.binary(max_size=5) if dtype == "O" else None
        inputs[name] = draw(hnp.arrays(np.dtype(dtype), shape, elements=elements))
    # A lone input named b64 with text in it would be read as bytes.
    assume("b64" not in inputs)
    return inputs


def signature_of(inputs):
    specs = {name: TensorSpec(name, dtypes.from_numpy(a.dtype), None, "") for name, a in sorted(inputs.items())}
    return Signature("s", PREDICT, specs, {})


def equal(left, right):
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return left.tolist() == right.tolist() or np.array_equal(left, right, equal_nan=True)


@given(inputs=row_inputs(), row_format=st.booleans(), name=st.sampled_from(["", "s"]))
def test_a_request_we_write_is_read_as_it_was_meant(inputs, row_format, name):
    body = json_predict.encode_request(inputs, row_format=row_format, signature_name=name)

    parsed = json_predict.parse_request(body)
    found = parsed.inputs(signature_of(inputs))

    assert (parsed.signature_name, parsed.row_format) == (name, row_format)
    assert found.keys() == inputs.keys()
    assert all(equal(found[key], inputs[key]) for key in inputs)


def test_a_request_has_no_spaces_and_the_fewest_digits():
    body = json_predict.encode_request({"x": np.float32([[0.1, 3]])}, signature_name="s")

    assert body == b'{"signature_name":"s","instances":[[0.1,3.0]]}'


@pytest.mark.parametrize(
    "inputs", [{}, {"x": np.float32(1)}, {"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.zeros(2), "b": np.float32(1)}]
)
def test_inputs_that_have_no_rows_in_common_are_not_sent_in_row_format(inputs):
    with pytest.raises(InvalidArgument):
        json_predict.encode_request(inputs)


# --- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "rows", "columns"),
    [
        ({"y": np.float32([[3], [0.5]])}, '{"predictions":[[3.0],[0.5]]}', '{"outputs":[[3.0],[0.5]]}'),
        (
            {"a": np.arange(2), "b": np.float32([[1], [np.nan]])},
            '{"predictions":[{"a":0,"b":[1.0]},{"a":1,"b":[NaN]}]}',
            '{"outputs":{"a":[0,1],"b":[[1.0],[NaN]]}}',
        ),
        ({"y": np.zeros((0, 3), np.float32)}, '{"predictions":[]}', '{"outputs":[]}'),
        (
            {"y_bytes": np.array([b"\xff"], object)},
            '{"predictions":[{"b64":"/w=="}]}',
            '{"outputs":[{"b64":"/w=="}]}',
        ),
        ({"y": np.array([b"a"], object)}, '{"predictions":["a"]}', '{"outputs":["a"]}'),
        ({"y_bytes": np.float32([1])}, '{"predictions":[1.0]}', '{"outputs":[1.0]}'),
    ],
)
def test_an_answer_has_the_format_of_its_request(outputs, rows, columns):
    assert json_predict.encode_response(outputs, row_format=True).decode() == rows
    assert json_predict.encode_response(outputs, row_format=False).decode() == columns


def test_a_scalar_is_a_bare_number_in_columnar_format_only():
    outputs = {"y": np.float32(2)}

    assert json_predict.encode_response(outputs, row_format=False) == b'{"outputs":2.0}'
    with pytest.raises(InvalidArgument, match=r"^Tensor name: y has no shape information"):
        json_predict.encode_response(outputs, row_format=True)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.zeros(1, np.uint16)}, "Failed to write JSON value for tensor type: uint16"),
    ],
)
def test_outputs_that_cannot_be_written_are_told_in_tf_servings_words(outputs, message):
    with pytest.raises(InvalidArgument) as caught:
        json_predict.encode_response(outputs, row_format=True)

    assert caught.value.message == message


@given(outputs=row_inputs(), row_format=st.booleans())
def test_an_answer_we_write_is_read_as_it_was_meant(outputs, row_format):
    found = json_predict.decode_response(
        json_predict.encode_response({f"{name}_bytes": a for name, a in outputs.items()}, row_format=row_format)
    )

    if len(outputs) == 1:
        found = {f"{next(iter(outputs))}_bytes": found}
    for name, array in outputs.items():
        back = found[f"{name}_bytes"]
        assert back.shape == array.shape
        assert equal(back.astype(array.dtype), array)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"error": "no"}', b'{"predictions": [{"a": 1}, {"b": 1}]}', b'{"outputs": null}']
)
def test_what_is_no_answer_is_refused(body):
    with pytest.raises(InvalidArgument):
        json_predict.decode_response(body)


# --- hostile bytes ---------------------------------------------------------------------------------

SIGNATURES = [
    ONE,
    TWO,
    signature(x="string"),
    signature(x="int8"),
    signature(x="bool"),
    signature(x="half"),
    signature(x="uint16"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "x", "b64"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    document=st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), JSON, max_size=2),
    wanted=st.sampled_from(SIGNATURES),
)
def test_any_document_gives_all_inputs_or_a_wire_error(document, wanted):
    try:
        found = read(json.dumps(document), wanted)
    except WireError:
        return
    assert found.keys() == wanted.inputs.keys()
    assert all(found[name].dtype == spec.dtype.numpy for name, spec in wanted.inputs.items())


@given(data=st.data(), inputs=row_inputs())
def test_a_damaged_body_gives_inputs_or_a_wire_error(data, inputs):
    body = bytearray(json_predict.encode_request(inputs))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    with contextlib.suppress(WireError):
        read(bytes(body), signature_of(inputs))


@pytest.mark.parametrize(("size", "depth"), [(100, 6), (70_000, 5)])
def test_a_short_body_that_begins_like_a_huge_one_takes_no_more_memory_than_it_has(size, depth):
    """Lists of 100 in six levels are 10**12 numbers, if all are like the first: 1,215 bytes say so."""
    first = "[" + ",".join(["0"] * size) + "]"
    for _ in range(depth - 1):
        first = "[" + first + ",0" * (size - 1) + "]"
    body = b'{"instances":%b}' % first.encode()

    tracemalloc.start()
    parsed = json_predict.parse_request(body)
    found = json_predict.form_of(parsed)
    with pytest.raises(InvalidArgument, match="found at incorrect level"):
        parsed.inputs(ONE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found is None
    assert peak < 20 * 1024 * 1024


# --- several requests ------------------------------------------------------------------------------

GOOD_NUMBERS = [
    *(
        b"1",
        b"0",
        b"-1",
        b"2.5",
        b"0.1",
        b"-0",
        b"-0.0",
        b"1e5",
        b"1E-3",
        b"1e-50",
        b"4e-46",
        b"1e39",
        b"-1e308",
        b" 7 ",
    ),
    # On the edges: of an exact double, of float32 and its infinity, and of int64 and uint64.
    *(b"9007199254740993", b"16777217", b"3.4028235677973366e38", b"3.4028235677973362e38", b"9223372036854775808"),
    *(
        b"-9223372036854775808",
        b"18446744073709551615",
        b"0.1000000000000000055511151231257827",
        b"16777217.0000000001",
    ),
]
ODD_NUMBERS = [
    *(
        b"18446744073709551616",
        b"-9223372036854775809",
        b"1e400",
        b"01",
        b"+1",
        b"1.",
        b".5",
        b"-",
        b"1 2",
        b"",
        b"1,2",
    ),
    *(
        b"true",
        b"false",
        b"null",
        b"NaN",
        b"-Infinity",
        b'"1"',
        b'"a"',
        b"[]",
        b"[1]",
        b"{}",
        b'{"x":1}',
        b"1][2",
        b"e",
    ),
]
GOOD_STRINGS = [b'"a"', b'""', b'"\\u00e9"', '"é"'.encode(), b'"\xff"', b'"true"', b'{"b64":"/w=="}', b'{"b64":"/w"}']
ODD_STRINGS = [
    *(
        b'{"b64":" /w= = "}',
        b'{"b64":"/w==","x":1}',
        b'{"b64":"YQ==","b64":"Yg=="}',
        b'{"b64":"!"}',
        b'{"b64":1}',
        b"{}",
    ),
    *(b'{"x":"a"}', b"1", b"true", b"null", b"[]", b'["a"]', b'{"b64":"YQ==YQ=="}', '{"b64":"é"}'.encode(), b"NaN"),
]
TEMPLATES = [
    *([b'{"instances":%b}', b'{"inputs":%b}'] * 6),
    *(
        b' { "inputs" :\n%b } ',
        b'{"instances":%b} and more',
        b'{"instances":%b} 5',
        b'{"instances":%b}}',
        b'{"instances":%b',
    ),
    *(b'{"signature_name":"s","instances":%b}', b'{"instances":%b,"inputs":1}', b'{"instances":%b,"other":true}'),
    *(b'{"instances":%b,"instances":[1]}', b'{"inst3ances":%b}', b'{"instances" 1:%b}', b'{"instances":1%b}'),
    *(b'\xef\xbb\xbf{"instances":%b}', b'{"inputs":{"x":%b}}', b'{"instances":[{"x":%b}]}', b'{"instances":{"x":%b}}'),
    *(b'{"instances":%b,}', b'{"instances":%b]}', b'{"instances":5%b,"inputs":%b}', b'{"\\u0069nstances":%b}'),
]
WANTED = [ONE, ONE, signature(x="string"), signature(x="double"), TWO]


@st.composite
def nearly_right(draw, shape):
    """A body whose tensor has *shape*, or would have it but for a part of it."""
    good, odd = (GOOD_NUMBERS, ODD_NUMBERS) if draw(st.integers(0, 3)) else (GOOD_STRINGS, ODD_STRINGS)
    size = int(np.prod(shape))
    tokens = draw(st.lists(st.sampled_from(good), min_size=size, max_size=size))
    if size and not draw(st.integers(0, 3)):
        tokens[draw(st.integers(0, size - 1))] = draw(st.sampled_from(odd))
    body = draw(st.sampled_from(TEMPLATES)).replace(b"%b", json_tensors._nest(tokens, shape))
    if not draw(st.integers(0, 7)):
        at = draw(st.integers(0, len(body) - 1))
        body = body[:at] + draw(st.sampled_from([b"", b" ", b",", b"[", b"]", b"1", b"e", b"."])) + body[at + 1 :]
    return body


def plainly(body, wanted):
    """Read *body* as if it had come alone; None if it is refused."""
    try:
        parsed = json_predict.parse_request(body)
        return parsed.row_format, parsed.inputs(wanted)
    except WireError:
        return None


def formed(body):
    """Return form and values as a server looks for them."""
    found = json_predict.find_form(body)
    if found is not None:
        return found
    with contextlib.suppress(WireError):
        return json_predict.form_of(json_predict.parse_request(body))
    return None


@given(data=st.data(), wanted=st.sampled_from(WANTED))
def test_requests_of_one_form_are_read_as_each_by_itself(data, wanted, same):
    """Never another value than alone, and never one where alone it is refused."""
    shape = data.draw(
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3) | st.sampled_from([(2,), (1, 2)])
    )
    bodies = data.draw(st.lists(nearly_right(shape), min_size=1, max_size=4))
    alike = {}
    for body in bodies:
        alone = plainly(body, wanted)
        if (found := formed(body)) is None:
            continue
        form, values = found
        alike.setdefault(form, []).append((values, alone))

    for form, members in alike.items():
        fitting = [alone[1] for _, alone in members if alone is not None and form.fits(alone[1])]
        if not fitting:
            continue
        like = fitting[0]
        if any(alone is None for _, alone in members):
            with pytest.raises((WireError, TypeError)):
                form.joined([values for values, _ in members], like)
            continue
        joined = form.joined([values for values, _ in members], like)
        assert joined.keys() == like.keys() == {"x"}
        assert same(joined["x"], np.concatenate([alone[1]["x"] for _, alone in members]))
        assert joined["x"].flags.c_contiguous
        assert all(len(alone[1]["x"]) == form.rows for _, alone in members)


@given(data=st.data())
def test_numbers_that_are_found_are_those_of_a_request(data, same):
    """They are found before anything else was looked at, so nothing may be wrong with the rest."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
    key = data.draw(st.sampled_from([b"instances", b"inputs"]))
    known = b'{"%b":%b}' % (key, json_tensors.structure(shape, b"1"))
    known_form, _ = json_predict.form_of(json_predict.parse_request(known))
    body = data.draw(nearly_right(shape))

    found = json_predict.find_form(body)

    if found is None:
        return
    form, values = found
    parsed = json_predict.parse_request(body)
    assert (parsed.signature_name, parsed.row_format) == ("", form.row_format)
    inputs = parsed.inputs(ONE)
    assert form.fits(inputs)
    assert same(form.joined([values], inputs)["x"], inputs["x"])
    assert form.rows == len(inputs["x"])
    if form is not known_form:
        assert (form.shape, form.row_format) != (shape, key == b"instances")


def test_what_is_common_has_a_form(same):
    """Else all else here would be shown by refusing."""
    bodies = [
        b'{"instances":[[1,2],[3,4]]}',
        b'{"instances": [[ 5.5,-6],[7e1, 8]] }',
        b'{"instances":[[1e39,2],[3,4]]}',
    ]
    form, first = json_predict.form_of(json_predict.parse_request(bodies[0]))
    found = [json_predict.find_form(body) for body in bodies[1:]]

    assert [one[0] for one in found] == [form, form]
    joined = form.joined([first, *(one[1] for one in found)], {"x": first})["x"]
    assert same(joined, np.float32([[1, 2], [3, 4], [5.5, -6], [70, 8], [np.inf, 2], [3, 4]]))

    texts = [b'{"instances":["a",{"b64":"/w=="}]}', b'{"inputs":[{"b64":"YQ"},"b"]}']
    (form, first), (other, second) = (json_predict.form_of(json_predict.parse_request(text)) for text in texts)
    assert form is other
    assert form.joined([first, second], {"x": None})["x"].tolist() == [b"a", b"\xff", b"a", b"b"]


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"instances":[]}', b'{"instances":[[]]}', b'{"instances":[[],[]]}', b'{"instances":1}', b'{"inputs":1}'),
        *(b'{"instances":[[1],[2,3]]}', b'{"instances":[1,[2]]}', b'{"instances":[true,1]}', b'{"instances":[null]}'),
        *(
            b'{"instances":[{"x":1}]}',
            b'{"instances":[{"x":"a"}]}',
            b'{"inputs":{"x":[1]}}',
            b'{"inputs":{"b64":"YQ=="}}',
        ),
        *(b"{}", b'{"instances":[1],"inputs":[1]}', b'{"signature_name":"s","instances":[1]}', b'{"instances":[NaN]}'),
    ],
)
def test_what_is_not_numbers_or_strings_alone_has_no_form(body):
    assert formed(body) is None


def test_forms_of_numbers_take_bounded_memory():
    for rows in range(1, 600):
        json_predict.form_of(json_predict.parse_request(b'{"inputs":[%b]}' % b",".join([b"1"] * rows)))

    assert len(json_predict._numbers_forms) <= 256
    assert formed(b'{"inputs":[%b]}' % b",".join([b"1"] * 5000)) is None


# --- several answers -------------------------------------------------------------------------------

FLOAT_VALUES = st.floats(allow_nan=False, allow_infinity=False, width=16) | st.sampled_from(
    [0.1, -0.0, 1 / 3, 123456.7, 9e6, 3e-5, 1e-40, 0.999999999, 1e300]
)
NOT_FINITE = FLOAT_VALUES | st.sampled_from([np.nan, np.inf, -np.inf])
TYPES = ["?", "u1", "<i2", "<i4", "<i8", "<u8", "<f2", "<f4", "<f4", "<f8", ml_dtypes.bfloat16, object]


@st.composite
def outputs_of(draw, rows):
    outputs = {}
    # JSON has nothing for uint16.
    types = st.lists(st.sampled_from(TYPES), min_size=1, max_size=3) | st.sampled_from([["<u2"], ["<f4", "<u2"]])
    names = st.sampled_from([["y", "z_bytes", 'é"%b'], ["z_bytes", "y", ""]])
    elements = draw(st.sampled_from([FLOAT_VALUES, NOT_FINITE]))
    for name, of in zip(draw(names), draw(types), strict=False):
        dtype = np.dtype(of)
        shape = (rows, *draw(st.lists(st.integers(0, 3), max_size=3)))
        if dtype.kind == "O":
            array = draw(hnp.arrays(object, shape, elements=st.binary(max_size=3) | st.just('é"%s'.encode())))
        elif dtype.kind in "fV":
            with np.errstate(over="ignore"):
                array = draw(hnp.arrays(np.float64, shape, elements=elements)).astype(dtype)
        else:
            array = draw(hnp.arrays(dtype, shape))
        outputs[name] = np.asfortranarray(array) if draw(st.booleans()) else array
    return outputs


@given(data=st.data(), row_format=st.booleans(), non_finite=st.sampled_from(["tokens", "null", "error"]))
def test_many_answers_are_each_what_it_is_alone(data, row_format, non_finite):
    """Byte for byte; and there is an error only where one of them has it."""
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4) | st.sampled_from([[30, 1], [24, 25]]))
    outputs = data.draw(outputs_of(sum(sizes)))
    how = {"row_format": row_format, "non_finite": non_finite}
    stops = np.cumsum(sizes).tolist()
    try:
        expected = [
            json_predict.encode_response({name: array[stop - size : stop] for name, array in outputs.items()}, **how)
            for size, stop in zip(sizes, stops, strict=True)
        ]
    except WireError:
        with pytest.raises(WireError):
            json_predict.encode_responses(outputs, sizes, **how)
    else:
        assert json_predict.encode_responses(outputs, sizes, **how) == expected


@pytest.mark.parametrize("row_format", [False, True])
def test_many_answers_that_are_large_are_written_by_themselves(row_format, monkeypatch):
    monkeypatch.setattr(json_tensors, "PIECE", 5)
    small, large = {"y": np.ones((5, 1), np.float32)}, {"x": np.ones(3), "y": np.ones((3, 2), np.float32)}

    assert json_predict.encode_responses(large, [1, 2], row_format=row_format) is None
    assert len(json_predict.encode_responses(small, [2, 3], row_format=row_format)) == 2


@pytest.mark.parametrize("row_format", [False, True])
def test_no_outputs_are_no_answer_however_many_wait_for_it(row_format):
    with pytest.raises(InvalidArgument, match=r"^Cannot convert empty tensor map to JSON$"):
        json_predict.encode_responses({}, [1, 2], row_format=row_format)

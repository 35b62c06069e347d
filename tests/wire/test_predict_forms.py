"""Whatever is remembered of a request, the next one is read as if nothing were; and many as one are read as each by itself."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, predict, protobuf
from slipway_wire.model_spec import ModelSpec
from slipway_wire.predict_forms import Forms
from slipway_wire.status import InvalidArgument, WireError

NAMES = st.text(min_size=1, max_size=8)
INPUTS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([7, 8], np.int64),
    "mask": np.array([[True], [False]]),
    "text": np.array([[b"text"]], object),
}
NUMBERS = ["?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16", "bfloat16"]
ODD_BOOL = np.frombuffer(b"\x02\x80\x00\x01", bool)


def plainly(body):
    """Read *body* with protobuf alone."""
    return predict.request_from_proto(messages.PredictRequest.FromString(body))


def remembering(*bodies):
    forms = Forms()
    for body in bodies:
        request = plainly(body)
        forms.remember(body, request.spec, dict(request.inputs), request.output_filter)
    return forms


def values(data, dtype, shape):
    """Draw an array of any bytes."""
    size = math.prod(shape) * dtype.itemsize
    return np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)


def text(data, size, shape):
    array = np.empty(shape, object)
    array[...] = data.draw(st.binary(min_size=size, max_size=size))
    return array


def check(forms, body, same):
    """What *forms* reads of *body* is what stands there; return whether it reads anything."""
    form = forms.find(body)
    if form is None:
        return False
    spec, arrays, output_filter = form.spec, form.arrays(body), form.output_filter
    expected = plainly(body)
    assert (spec, output_filter) == (expected.spec, expected.output_filter)
    assert list(arrays) == list(expected.inputs) == sorted(arrays)
    assert all(same(arrays[name], expected.inputs[name]) for name in arrays)
    if form.rows:
        joined = form.joined([body, body], {})
        assert all(same(joined[name], np.concatenate([expected.inputs[name]] * 2)) for name in arrays)
    return True


@given(data=st.data())
def test_a_request_of_a_known_form_is_read_as_protobuf_reads_it(data, wire_arrays, same):
    inputs = data.draw(st.dictionaries(NAMES, wire_arrays, min_size=1, max_size=3))
    others = {
        name: array if array.dtype == object else values(data, array.dtype, array.shape)
        for name, array in inputs.items()
    }
    more = {"version": 3, "signature_name": "s", "output_filter": data.draw(st.lists(NAMES, max_size=2))}
    forms = remembering(predict.encode_request("m", inputs, **more))

    is_plain = all(array.size == 1 or (array.size and array.dtype != object) for array in inputs.values())

    assert check(forms, predict.encode_request("m", {name: others[name] for name in inputs}, **more), same) == is_plain


@given(data=st.data())
def test_bytes_that_were_changed_are_read_as_they_stand_now(data, same):
    body = bytearray(predict.encode_request("model", INPUTS, label="stable", output_filter=["y"]))
    forms = remembering(bytes(body))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    # Not one byte that means something can be another without the form being another: what is read is what protobuf reads,
    # and nothing is read that protobuf would refuse.
    check(forms, bytes(body), same)


def test_a_form_is_of_one_model_version_and_shape(same):
    one = np.ones((1, 4), np.float32)
    bodies = [
        predict.encode_request("a", {"x": one}),
        predict.encode_request("b", {"x": one}),
        predict.encode_request("a", {"x": one}, version=1),
        predict.encode_request("a", {"x": one.reshape(4, 1)}),
        predict.encode_request("a", {"y": one}),
        predict.encode_request("a", {"x": one.astype(np.int32)}),
    ]
    forms = remembering(bodies[0])

    assert [check(forms, body, same) for body in bodies] == [True, False, False, False, False, False]
    assert all(check(remembering(*bodies[:4]), body, same) for body in bodies[:4])


@pytest.mark.parametrize(
    "message",
    [
        messages.PredictRequest(model_spec={"name": "m"}, inputs={"x": {"dtype": 1, "float_val": [1.0]}}),
        messages.PredictRequest(model_spec={"name": "m"}, inputs={"x": {"dtype": 7, "tensor_content": b""}}),
        # Which protobuf passes over: the zero is none that was sent.
        messages.PredictRequest(
            model_spec={"name": "m"},
            inputs={"x": {"dtype": 1, "tensor_shape": {"dim": [{"size": 1}]}, "string_val": [bytes(4)]}},
        ),
        messages.PredictRequest(model_spec={"name": "m"}, inputs={"x": {"dtype": 7, "string_val": [b"a", b"b"]}}),
        messages.PredictRequest(
            model_spec={"name": "m"},
            inputs={"x": {"dtype": 7, "tensor_shape": {"dim": [{"size": 1}]}, "tensor_content": b"\x01a"}},
        ),
        messages.PredictRequest(
            model_spec={"name": "m"},
            inputs={"x": {"dtype": 7, "tensor_shape": {"dim": [{"size": 2}]}, "string_val": [b"a"]}},
        ),
        messages.PredictRequest(model_spec={"name": "m"}),
        messages.PredictRequest(
            model_spec={"name": "m"}, inputs={"x": {"dtype": 1, "tensor_content": b"abcd", "version_number": 1}}
        ),
        messages.PredictRequest(model_spec={"name": "m" * 2000}, inputs={"x": {"dtype": 1, "tensor_content": b"abcd"}}),
    ],
    ids=[
        *(
            "typed field",
            "no strings",
            "strings for a number",
            "several strings",
            "strings with lengths",
            "repeated string",
        ),
        *("no inputs", "another field", "long"),
    ],
)
def test_what_is_not_written_in_the_usual_way_has_no_form(message):
    body = message.SerializeToString()

    assert remembering(body).find(body) is None


def test_fields_that_come_twice_have_no_form():
    """Protobuf merges them, and the last value of a map counts."""
    body = predict.encode_request("m", {"x": np.ones(2, np.float32)})
    twice = body + predict.encode_request("m", {"x": np.zeros(2, np.float32)})

    assert remembering(twice).find(twice) is None


def test_a_request_of_very_many_fields_is_not_read_to_its_end_to_find_its_form(monkeypatch):
    """They would take a step of Python each, and 75 times the memory of the message."""
    read, read_varint = [], protobuf.read_varint
    monkeypatch.setattr(protobuf, "read_varint", lambda data, at: read.append(at) or read_varint(data, at))
    words = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"), output_filter=[""] * 10_000)
    many = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    many.inputs["x"].dtype = 7
    many.inputs["x"].string_val.extend([b""] * 10_000)

    for request in (words, many):
        body = request.SerializeToString()
        assert len(predict.decode_request(body).inputs) == len(request.inputs)
        assert predict.find_form(body) is None
    assert len(read) < 10_000


def test_malformed_inputs_are_refused_each_time():
    body = messages.PredictRequest(
        model_spec={"name": "m"}, inputs={"x": {"dtype": 1, "tensor_content": b"abc"}}
    ).SerializeToString()

    for _ in range(3):
        request = predict.decode_request(body)
        with pytest.raises(InvalidArgument, match="tensor_content has 3 bytes"):
            request.inputs["x"]


def test_an_entry_without_a_name_is_no_trouble():
    """Protobuf takes a key that is left out as the empty one."""
    tensor = messages.TensorProto(dtype=1, tensor_shape={"dim": [{"size": 1}]}, tensor_content=b"abcd")
    entry = protobuf.bytes_field(2, tensor.SerializeToString())
    body = protobuf.bytes_field(1, b"\x0a\x01m") + protobuf.bytes_field(2, entry)

    for _ in range(2):
        assert list(predict.decode_request(body).inputs) == [""]


def test_a_field_of_another_type_is_another_field(same):
    """To protobuf a number in the place of tensor_content is unknown, and the tensor has no values."""
    head = protobuf.varint_field(1, 4) + protobuf.bytes_field(2, protobuf.bytes_field(2, protobuf.varint_field(1, 1)))
    bodies = [
        protobuf.bytes_field(1, b"\x0a\x01m")
        + protobuf.bytes_field(
            2, protobuf.bytes_field(1, b"x") + protobuf.bytes_field(2, head + bytes([4 << 3, value]))
        )
        for value in (0, 7)
    ]
    forms = remembering(*bodies)

    assert [check(forms, body, same) for body in bodies] == [False, False]
    assert [plainly(body).inputs["x"].tolist() for body in bodies] == [[0], [0]]


@pytest.mark.parametrize(
    ("dtype", "shape"), [(1, (0,)), (1, (2, 0)), (1, (0, 3)), (1, ()), (7, ()), (7, (1,)), (7, (1, 1)), (7, (0,))]
)
def test_values_that_are_there_but_empty_are_read_as_if_they_were_not(dtype, shape, same):
    """Protobuf itself leaves an empty `tensor_content` out; others may write it."""
    dims = b"".join(protobuf.bytes_field(2, protobuf.varint_field(1, size)) for size in shape)
    tensor = protobuf.varint_field(1, dtype) + protobuf.bytes_field(2, dims) + protobuf.bytes_field(4, b"")
    entry = protobuf.bytes_field(1, b"x") + protobuf.bytes_field(2, tensor)
    body = protobuf.bytes_field(1, b"\x0a\x01m") + protobuf.bytes_field(2, entry)

    # A form that is found is compared; a tensor with elements but without values has none.
    assert check(remembering(body), body, same) == (dtype == 1 and 0 in shape)


def test_few_bytes_that_ask_for_large_arrays_get_none():
    """The model is looked for first, and inputs that it does not have are never made."""
    filled = {"dtype": 1, "tensor_shape": {"dim": [{"size": 2**20}]}, "float_val": [1.0, 2.0]}
    body = messages.PredictRequest(
        model_spec={"name": "m"}, inputs={f"x{number}": filled for number in range(100)}
    ).SerializeToString()

    for _ in range(3):
        assert predict.decode_request(body).inputs._arrays == {}


def test_what_never_has_a_form_is_soon_not_looked_at():
    forms = Forms()
    body = predict.encode_request("m", {"x": np.array([b"text"], object)})

    looks = 0
    while forms.is_worth_a_look(body):
        forms.remember(body, ModelSpec("m"), {}, ())
        looks += 1

    assert 0 < looks < 100


def test_forms_take_bounded_memory(same):
    forms = Forms()
    bodies = [predict.encode_request("m", {"x": np.zeros(size, np.uint8)}) for size in range(1, 2000)]
    for body in bodies:
        request = plainly(body)
        forms.remember(body, request.spec, dict(request.inputs), request.output_filter)

    assert 0 < sum(check(forms, body, same) for body in bodies) < 300


def test_arrays_of_a_known_form_begin_where_their_type_may():
    """TensorFlow takes them as they are only if they are aligned."""
    values = {"a": np.ones(3, np.uint8), "b": np.ones(2, np.float64), "long_name": np.ones(1, np.int32)}
    body = predict.encode_request("m", values)

    arrays = remembering(body).find(body).arrays(body)

    assert all(array.flags.aligned for array in arrays.values())


def test_no_bytes_make_it_raise():
    forms = remembering(predict.encode_request("m", INPUTS))
    for body in (b"", b"\x0a", b"\xff" * 40, b"\x12\x05\x0a\x01x\x12\x00"):
        assert forms.find(body) is None
        try:
            request = predict.decode_request(body)
        except WireError:
            continue
        forms.remember(body, request.spec, {}, ())


# --- several of one form -----------------------------------------------------------------------------


@given(data=st.data())
def test_many_are_read_as_each_by_itself(data, same):
    """Bit for bit; every byte of a bool but 0 is true."""
    rows = data.draw(st.integers(0, 3))
    drawn = {}
    for name in data.draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        inner = data.draw(st.lists(st.integers(0, 3), max_size=2))
        kind = data.draw(st.sampled_from([*NUMBERS, "text"]))
        if kind == "text":
            drawn[name] = None, (1,) * data.draw(st.integers(0 if rows == 0 else 1, 3)), data.draw(st.integers(0, 5))
        else:
            drawn[name] = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind), (rows, *inner), 0
    bodies = [
        predict.encode_request(
            "m",
            {
                name: text(data, size, shape) if dtype is None else values(data, dtype, shape)
                for name, (dtype, shape, size) in drawn.items()
            },
        )
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    # The bools of the first are nothing but bools, and it has a form.
    first = predict.encode_request(
        "m",
        {
            name: text(data, size, shape) if dtype is None else np.ones(shape, dtype)
            for name, (dtype, shape, size) in drawn.items()
        },
    )
    forms = remembering(first)
    form = forms.find(first)

    assert (form is not None) == all(math.prod(shape) for _, shape, _ in drawn.values())
    if form is None:
        return
    assert all(forms.find(body) is form for body in bodies)
    sizes = {shape[:1] for _, shape, _ in drawn.values()}
    assert form.rows == (sizes.pop()[0] if len(sizes) == 1 and sizes != {()} else 0)
    expected = [plainly(body).inputs for body in bodies]
    assert form.fits(expected[0])
    if not form.rows:
        return
    joined = form.joined(bodies, dict(expected[0]))
    assert joined.keys() == drawn.keys()
    for name, array in joined.items():
        assert same(array, np.concatenate([inputs[name] for inputs in expected]))
        assert array.dtype == object or array.flags.aligned
        assert array.flags.c_contiguous


@given(data=st.data())
def test_many_that_were_changed_are_read_as_they_stand_now(data, same):
    inputs = {name: array[:1] for name, array in INPUTS.items()}
    plain = predict.encode_request("model", inputs, version=1)
    forms = remembering(plain)
    form = forms.find(plain)
    bodies = [plain]
    for _ in range(3):
        body = bytearray(plain)
        for _ in range(data.draw(st.integers(1, 3))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        if forms.find(bytes(body)) is form:
            bodies.append(bytes(body))

    joined = form.joined(bodies, inputs)

    for name, array in joined.items():
        assert same(array, np.concatenate([plainly(body).inputs[name] for body in bodies]))


def test_every_byte_of_a_bool_but_zero_is_true():
    """A model that calculates with a byte of 2 would find that true is twice as much."""
    plain = predict.encode_request("m", {"x": np.array([True, False, True, False])})
    odd = predict.encode_request("m", {"x": ODD_BOOL})
    form = remembering(plain).find(odd)

    for array in (plainly(odd).inputs["x"], form.arrays(odd)["x"], form.joined([odd], {})["x"]):
        assert array.view(np.uint8).tolist() == [1, 1, 0, 1]


def test_scalars_and_inputs_of_different_sizes_share_no_rows():
    """What has no rows in common cannot be joined."""
    shapes = [({"x": ()}, 0), ({"x": (2,), "y": ()}, 0), ({"x": (2,), "y": (3,)}, 0), ({"x": (2, 1), "y": (2,)}, 2)]
    for inputs, rows in shapes:
        body = predict.encode_request("m", {name: np.ones(shape, np.float32) for name, shape in inputs.items()})

        assert remembering(body).find(body).rows == rows


def test_a_form_fits_its_own_inputs_only():
    body = predict.encode_request("m", {"x": np.ones(2, np.float32)})
    form = remembering(body).find(body)

    assert form.fits({"x": np.ones(2, np.float32)})
    assert not form.fits({"x": np.ones(2, np.float32), "by default": np.ones(2, np.float32)})
    assert not form.fits({})

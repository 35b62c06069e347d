"""Whatever is remembered of a request, the next one is read as if nothing were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, predict, protobuf
from slipway_wire.model_spec import ModelSpec
from slipway_wire.predict_forms import Forms
from slipway_wire.status import InvalidArgument, WireError

NAMES = st.text(min_size=1, max_size=8)
INPUTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7, 8], np.int64)}


def plainly(body):
    """Read *body* with protobuf alone."""
    return predict.request_from_proto(messages.PredictRequest.FromString(body))


def remembering(*bodies):
    forms = Forms()
    for body in bodies:
        request = plainly(body)
        forms.remember(body, request.spec, dict(request.inputs), request.output_filter)
    return forms


def check(forms, body, same):
    """What *forms* reads of *body* is what stands there; return whether it reads anything."""
    form = forms.find(body)
    if form is None:
        return False
    spec, arrays, output_filter = form.spec, form.arrays(body), form.output_filter
    expected = plainly(body)
    assert (spec, output_filter) == (expected.spec, expected.output_filter)
    assert arrays.keys() == expected.inputs.keys()
    assert all(same(arrays[name], expected.inputs[name]) for name in arrays)
    return True


@given(data=st.data())
def test_a_request_of_a_known_form_is_read_as_protobuf_reads_it(data, wire_arrays, same):
    inputs = data.draw(st.dictionaries(NAMES, wire_arrays, min_size=1, max_size=3))
    others = {
        name: array
        if array.dtype == object
        else np.frombuffer(data.draw(st.binary(min_size=array.nbytes, max_size=array.nbytes)), np.uint8)
        .view(array.dtype if array.dtype != bool else np.uint8)
        .astype(array.dtype)
        .reshape(array.shape)
        for name, array in inputs.items()
        if array.size or array.dtype == object
    } | {name: array for name, array in inputs.items() if not array.size}
    more = {"version": 3, "signature_name": "s", "output_filter": data.draw(st.lists(NAMES, max_size=2))}
    forms = remembering(predict.encode_request("m", inputs, **more))

    is_plain = all(array.size and array.dtype != object for array in inputs.values())

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
        messages.PredictRequest(model_spec={"name": "m"}),
        messages.PredictRequest(
            model_spec={"name": "m"}, inputs={"x": {"dtype": 1, "tensor_content": b"abcd", "version_number": 1}}
        ),
        messages.PredictRequest(model_spec={"name": "m" * 2000}, inputs={"x": {"dtype": 1, "tensor_content": b"abcd"}}),
    ],
    ids=["typed field", "no strings", "strings for a number", "no inputs", "another field", "long"],
)
def test_what_is_not_written_in_the_usual_way_has_no_form(message):
    body = message.SerializeToString()

    assert remembering(body).find(body) is None


def test_fields_that_come_twice_have_no_form():
    """Protobuf merges them, and the last value of a map counts."""
    body = predict.encode_request("m", {"x": np.ones(2, np.float32)})
    twice = body + predict.encode_request("m", {"x": np.zeros(2, np.float32)})

    assert remembering(twice).find(twice) is None


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

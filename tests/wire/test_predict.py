import contextlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, predict
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument, WireError

NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable())


@pytest.fixture
def model():
    return ModelSpec("m", version=3, signature_name="serving_default")


@given(data=st.data())
def test_a_request_comes_back_as_it_was(data, wire_arrays, same):
    inputs = data.draw(st.dictionaries(NAMES, wire_arrays, max_size=3))
    output_filter = tuple(data.draw(st.lists(NAMES, max_size=3)))
    version = data.draw(st.none() | st.integers(0, 2**63 - 1))

    request = predict.decode_request(
        predict.encode_request("m", inputs, version=version, signature_name="s", output_filter=output_filter)
    )

    assert request.spec == ModelSpec("m", version=version, signature_name="s")
    assert request.output_filter == output_filter
    assert request.inputs.keys() == inputs.keys()
    assert all(same(request.inputs[name], inputs[name]) for name in inputs)


@given(data=st.data())
def test_a_response_comes_back_as_it_was(data, wire_arrays, same):
    outputs = data.draw(st.dictionaries(NAMES, wire_arrays, max_size=3))
    spec = ModelSpec("m", version=data.draw(st.integers(0, 2**63 - 1)), signature_name="s")

    for as_content in (False, True):
        served, back = predict.decode_response(predict.encode_response(spec, outputs, as_content=as_content))

        assert served == spec
        assert back.keys() == outputs.keys()
        assert all(same(back[name], outputs[name]) for name in outputs)


@given(data=st.data())
def test_our_response_is_protobufs_byte_for_byte(data, wire_arrays):
    """One output: the order of a map's entries is protobuf's secret."""
    ours = predict.encode_response(ModelSpec("m", 1, None, "s"), {"y": data.draw(wire_arrays)})

    assert ours == messages.PredictResponse.FromString(ours).SerializeToString()


def test_the_same_request_has_the_same_bytes():
    inputs = {"b": np.ones(3, np.float32), "a": np.zeros(2, np.int64)}

    assert predict.encode_request("m", inputs) == predict.encode_request("m", dict(inputs))


def test_inputs_come_in_the_order_of_their_names_each_time():
    """Protobuf's maps have another order in each process, and a request whose form is known is read without them."""
    inputs = {name: np.ones(1, np.float32) for name in "hgfedcba"}

    for _ in range(2):
        request = predict.decode_request(predict.encode_request("in order", inputs))
        assert list(dict(request.inputs)) == sorted(inputs)
    outputs = predict.encode_response(ModelSpec("m", 1), inputs)
    assert list(predict.decode_response(outputs)[1]) == sorted(inputs)


def test_a_label_is_asked_for_instead_of_a_version():
    assert predict.decode_request(predict.encode_request("m", {}, label="stable")).spec == ModelSpec(
        "m", label="stable"
    )


def test_answers_carry_typed_values_unless_content_is_asked_for(model):
    outputs = {"y": np.array([1.5], np.float32)}

    typed = messages.PredictResponse.FromString(predict.encode_response(model, outputs)).outputs["y"]
    content = messages.PredictResponse.FromString(predict.encode_response(model, outputs, as_content=True)).outputs["y"]

    assert (list(typed.float_val), typed.tensor_content) == ([1.5], b"")
    assert (list(content.float_val), content.tensor_content) == ([], outputs["y"].tobytes())


def test_content_may_be_for_large_outputs_only(model):
    outputs = {"small": np.ones(3, np.float32), "large": np.ones(4, np.float32), "text": np.array([b"a" * 20], object)}

    found = messages.PredictResponse.FromString(predict.encode_response(model, outputs, content_min_bytes=16)).outputs

    assert (list(found["small"].float_val), found["small"].tensor_content) == ([1.0] * 3, b"")
    assert (list(found["large"].float_val), found["large"].tensor_content) == ([], outputs["large"].tobytes())
    assert list(found["text"].string_val) == [b"a" * 20]


def test_a_malformed_input_is_named():
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_content = b"123"

    decoded = predict.decode_request(request.SerializeToString())

    assert list(decoded.inputs) == ["x"]
    with pytest.raises(InvalidArgument, match=r"^tensor parsing error: x: tensor_content has 3 bytes"):
        decoded.inputs["x"]


def test_looking_for_an_input_that_is_not_there_adds_none():
    """Protobuf's own maps do."""
    inputs = predict.decode_request(predict.encode_request("m", {"x": [1.0]})).inputs

    assert inputs.get("y") is None
    assert "y" not in inputs
    assert dict(inputs).keys() == {"x"}


def test_a_request_without_a_model_is_refused():
    with pytest.raises(InvalidArgument, match="Missing ModelSpec"):
        predict.decode_request(b"")


@pytest.mark.parametrize("decode", [predict.decode_request, predict.decode_response])
@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_wire_error(decode, data):
    with contextlib.suppress(WireError):
        read_all(decode(data))


def read_all(decoded):
    for array in dict(decoded.inputs if isinstance(decoded, predict.PredictRequest) else decoded[1]).values():
        assert array.ndim >= 0


@given(data=st.data())
def test_damaged_messages_give_a_message_or_a_wire_error(data, wire_arrays):
    inputs = {"x": data.draw(wire_arrays)}
    serialized = bytearray(predict.encode_request("m", inputs, version=1, output_filter=["y"]))
    for _ in range(data.draw(st.integers(1, 4))):
        serialized[data.draw(st.integers(0, len(serialized) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        read_all(predict.decode_request(bytes(serialized[: data.draw(st.integers(0, len(serialized)))])))


# --- several answers ---------------------------------------------------------------------------------

PLAIN = [np.dtype(name) for name in ("?", "<f4", "<f8", "<c8", "<c16")]
# Their typed fields hold varints; as bytes they are as plain as the others.
OTHERS = [np.dtype(name) for name in ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", ml_dtypes.bfloat16)]
NEVER_PLAIN = [np.dtype(name) for name in (">f4", ">i8", object)]


def any_bytes(data, dtype, shape):
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    if dtype.kind == "O":
        array = np.empty(shape, object)
        array[...] = rng.bytes(3)
    elif dtype.kind == "b":
        array = rng.random(shape) < 0.5
    else:
        array = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    return np.asfortranarray(array) if data.draw(st.booleans()) else array


@given(data=st.data())
def test_many_answers_are_each_what_it_is_alone(data):
    """Byte for byte; and those are told that are not simply the bytes of the array behind a head."""
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    # One in eight of 4096 bytes and more in some requests, and less in others.
    inner = data.draw(st.lists(st.integers(0, 3), max_size=2) | st.sampled_from([[], [], [256], [2, 300]]))
    types = data.draw(
        st.lists(st.sampled_from(PLAIN), min_size=1, max_size=3)
        | st.lists(st.sampled_from([*PLAIN, *OTHERS]), min_size=1, max_size=2)
        | st.lists(st.sampled_from([*OTHERS, *NEVER_PLAIN]), max_size=2)
    )
    outputs = {f"y{i}": any_bytes(data, dtype, (sum(sizes), *inner)) for i, dtype in enumerate(types)}
    as_content = data.draw(st.booleans())
    # As large as one of them is, or one byte more than that.
    edges = {size * array[:1].nbytes + more for array in outputs.values() for size in sizes for more in (0, 1)}
    least = data.draw(st.sampled_from([*sorted(edges), np.inf]))
    spec = ModelSpec("m", 1, None, "s")

    found = predict.encode_responses(spec, outputs, sizes, as_content=as_content, content_min_bytes=least)

    stops = np.cumsum(sizes).tolist()
    parts = [
        {name: array[stop - size : stop] for name, array in outputs.items()}
        for size, stop in zip(sizes, stops, strict=True)
    ]
    is_plain = all(
        array.nbytes <= 4096
        and (array.dtype in PLAIN or (array.dtype in OTHERS and (as_content or array.nbytes >= least)))
        for part in parts
        for array in part.values()
    )
    if not is_plain:
        assert found is None
        return
    assert found == [
        predict.encode_response(spec, part, as_content=as_content, content_min_bytes=least) for part in parts
    ]


def test_a_form_is_found_once_its_request_was_read():
    first, second = (predict.encode_request("found", {"x": np.full(3, value, np.float32)}) for value in (1, 2))

    assert predict.find_form(first) is None
    predict.decode_request(first)
    form = predict.find_form(second)
    assert form is not None
    assert form is predict.find_form(first)
    assert form.spec == ModelSpec("found")
    assert form.joined([first, second], {})["x"].tolist() == [1, 1, 1, 2, 2, 2]

import contextlib
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway_wire import dtypes, messages, tensors
from slipway_wire.status import InvalidArgument, WireError


@pytest.mark.parametrize("as_content", [False, True])
@given(data=st.data())
def test_an_array_comes_back_as_it_was(as_content, data, wire_arrays, same):
    array = data.draw(wire_arrays)

    proto = tensors.to_proto(array, as_content=as_content)

    assert same(tensors.from_proto(proto), array)
    assert same(tensors.from_bytes(proto.SerializeToString()), array)


@given(data=st.data())
def test_our_bytes_are_protobufs(data, wire_arrays):
    """The bytes are put together by hand; protobuf must write the same message the same way."""
    array = data.draw(wire_arrays)
    for as_content in (False, True):
        head, values, length = tensors.chunks(array, as_content=as_content)
        ours = b"".join([head, *values])

        assert len(ours) == length
        assert ours == messages.TensorProto.FromString(ours).SerializeToString()


def test_values_stand_in_the_typed_field_unless_content_is_asked_for():
    array = np.array([[1.5, 2.5]], np.float32)

    typed = tensors.to_proto(array, as_content=False)
    content = tensors.to_proto(array, as_content=True)

    assert (list(typed.float_val), typed.tensor_content) == ([1.5, 2.5], b"")
    assert (list(content.float_val), content.tensor_content) == ([], array.tobytes())


def test_tensor_content_is_not_copied_more_than_once():
    """A large request would otherwise cost its size again."""
    proto = tensors.to_proto(np.zeros(1_000_000, np.float32), as_content=True)

    tracemalloc.start()
    array = tensors.from_proto(proto)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert not array.flags.owndata
    assert peak < 4_100_000  # protobuf hands out one copy of its bytes


def test_every_byte_of_a_bool_but_zero_is_true():
    """Otherwise one such byte would go on to arithmetic, and out again as half a varint that spoils the answer."""
    proto = messages.TensorProto(dtype=10, tensor_shape={"dim": [{"size": 4}]}, tensor_content=b"\x00\x01\x02\x80")

    array = tensors.from_proto(proto)

    assert array.view(np.uint8).tolist() == [0, 1, 1, 1]
    assert list(tensors.to_proto(array, as_content=False).bool_val) == [False, True, True, True]


def test_arrays_that_are_not_contiguous_or_little_endian_are_sent_by_value():
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]

    back = tensors.from_proto(tensors.to_proto(array, as_content=True))

    assert back.tolist() == array.tolist()
    assert back.dtype == np.float32


def test_text_goes_out_as_utf8():
    assert tensors.from_proto(tensors.to_proto(["a", "é"], as_content=False)).tolist() == [b"a", "é".encode()]


def test_objects_that_are_no_strings_are_refused():
    with pytest.raises(InvalidArgument, match="takes bytes or str, got int"):
        tensors.to_proto(np.array([b"a", 1], object), as_content=False)


@pytest.mark.parametrize(
    ("fields", "shape", "expected"),
    [
        ({"dtype": 1, "float_val": [1.0, 2.0]}, [4], [1.0, 2.0, 2.0, 2.0]),
        ({"dtype": 1}, [2, 2], [[0.0, 0.0], [0.0, 0.0]]),
        ({"dtype": 1, "float_val": [1.0, 2.0, 3.0]}, [2], [1.0, 2.0]),
        ({"dtype": 1, "float_val": [7.0]}, [], 7.0),
        ({"dtype": 7, "string_val": [b"a"]}, [3], [b"a", b"a", b"a"]),
        ({"dtype": 7}, [2], [b"", b""]),
        ({"dtype": 10, "bool_val": [True]}, [2], [True, True]),
        ({"dtype": 19, "half_val": [0x3E00]}, [2], [1.5, 1.5]),
        ({"dtype": 14, "half_val": [0x3FC0]}, [2], [1.5, 1.5]),
        ({"dtype": 8, "scomplex_val": [1.0, 2.0]}, [2], [1 + 2j, 1 + 2j]),
        ({"dtype": 4, "int_val": [-1]}, [1], [255]),
    ],
)
def test_missing_values_repeat_the_last_none_means_zeros_and_surplus_is_dropped(fields, shape, expected):
    proto = messages.TensorProto(**fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.SetInParent()

    assert tensors.from_proto(proto).tolist() == expected


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"dtype": 0}, [1], "type invalid"),
        ({"dtype": 20}, [1], "type resource"),
        ({"dtype": 1000}, [1], "unknown data type number 1000"),
        ({"dtype": 1}, [-1], "must not be negative"),
        ({"dtype": 1, "tensor_content": b"\0" * 7}, [2], "has 7 bytes, but shape .2. of float takes 8"),
        ({"dtype": 1}, [1] * 65, "up to 64 dimensions, got 65"),
        ({"dtype": 1}, [0, 2**62, 2**62], "too many elements"),
        ({"dtype": 7, "tensor_content": b"\x01"}, [1], "does not hold 1 strings"),
        ({"dtype": 7, "tensor_content": b"\xff" * 9}, [1], "does not hold 1 strings"),
        ({"dtype": 7, "tensor_content": b"\0"}, [2**40], "does not hold"),
    ],
)
def test_what_cannot_be_an_array_is_refused(fields, shape, message):
    proto = messages.TensorProto(**fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)

    with pytest.raises(InvalidArgument, match=message):
        tensors.from_proto(proto)


def test_unknown_rank_is_refused():
    with pytest.raises(InvalidArgument, match="unknown rank"):
        tensors.from_proto(messages.TensorProto(dtype=1, tensor_shape=messages.TensorShapeProto(unknown_rank=True)))


def test_strings_may_come_in_tensor_content_as_cpp_writes_them():
    proto = messages.TensorProto(dtype=7, tensor_content=b"\x01\x00\x02abc")
    proto.tensor_shape.dim.add(size=3)

    assert tensors.from_proto(proto).tolist() == [b"a", b"", b"bc"]


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.integers(0, 3))
@example([2**24], 1)
@example([2**20], 2)
def test_a_few_bytes_cannot_take_all_memory(sizes, given_values):
    """A stated shape is checked against the data before anything is allocated; a single value is held once."""
    proto = messages.TensorProto(dtype=dtypes.FLOAT.number, float_val=[1.0] * given_values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    several = given_values > 1
    limit = tensors.MAX_FILLED_FROM_SEVERAL_BYTES if several else tensors.MAX_FILLED_BYTES
    is_too_large = 4 * math.prod(sizes) > limit and math.prod(sizes) > given_values

    tracemalloc.start()
    try:
        array = tensors.from_proto(proto)
    except InvalidArgument:
        array = None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert array is None or not is_too_large
    assert array is None or array.shape == tuple(sizes)
    assert peak <= (limit if several else 0) + 1_000_000


@given(st.binary(max_size=200))
def test_any_bytes_give_an_array_or_a_wire_error(data):
    try:
        array = tensors.from_bytes(data)
    except WireError:
        return
    assert isinstance(array, np.ndarray)


@given(data=st.data())
def test_damaged_tensors_give_an_array_or_a_wire_error(data, wire_arrays):
    serialized = bytearray(
        tensors.to_proto(data.draw(wire_arrays), as_content=data.draw(st.booleans())).SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        serialized[data.draw(st.integers(0, len(serialized) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        tensors.from_bytes(bytes(serialized))

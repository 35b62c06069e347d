import numpy as np
import pytest
from google.protobuf.internal import encoder
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipway_wire import messages, protobuf

INTEGERS = {"<i4": "int_val", "<i8": "int64_val", "<u4": "uint32_val", "<u8": "uint64_val"}


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_protobufs(value):
    assert protobuf.varint(value) == encoder._VarintBytes(value)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_varint_is_read_as_it_was_written(value, before, behind):
    written = protobuf.varint(value)

    assert protobuf.read_varint(before + written + behind, len(before)) == (value, len(before) + len(written))


@pytest.mark.parametrize(("data", "error"), [(b"", IndexError), (b"\x80", IndexError), (b"\x80" * 11, ValueError)])
def test_what_is_no_varint_is_not_read(data, error):
    with pytest.raises(error):
        protobuf.read_varint(data, 0)


@pytest.mark.parametrize(("dtype", "field"), INTEGERS.items())
@given(data=st.data())
def test_a_packed_list_of_integers_is_protobufs(dtype, field, data):
    values = data.draw(hnp.arrays(np.dtype(dtype), st.integers(1, 20)))

    ours = protobuf.bytes_field(
        messages.TensorProto.DESCRIPTOR.fields_by_name[field].number, protobuf.packed_varints(values)
    )

    assert ours == messages.TensorProto(**{field: values.tolist()}).SerializeToString()


def test_an_empty_list_has_no_bytes():
    assert protobuf.packed_varints(np.empty(0, np.int64)) == b""


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**63 - 1, -1, -(2**63)])
def test_a_scalar_field_is_left_out_when_zero_and_ten_bytes_when_negative(value):
    ours = protobuf.varint_field(1, value)

    assert ours == messages.TensorShapeProto.Dim(size=value).SerializeToString()

import numpy as np
import pytest

from slipway_wire import dtypes, messages
from slipway_wire.status import InvalidArgument

HELD = [row for row in map(dtypes.from_number, messages.DataType.values()) if row.numpy is not None]


@pytest.mark.parametrize("name", messages.DataType.keys())
def test_every_type_tensorflow_knows_has_a_row(name):
    row = dtypes.from_number(messages.DataType.Value(name))

    assert row.enum_name == name
    assert dtypes.from_name(name) == dtypes.from_name(row.name) == row


@pytest.mark.parametrize("row", HELD, ids=lambda row: row.name)
def test_a_type_that_arrays_hold_is_found_by_its_dtype_and_has_a_field(row):
    assert dtypes.from_numpy(row.numpy) is row
    assert row.field in messages.TensorProto.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [("float32", dtypes.FLOAT), ("float64", dtypes.DOUBLE), ("float16", dtypes.HALF), ("bytes", dtypes.STRING)],
)
def test_numpys_names_are_understood(name, expected):
    assert dtypes.from_name(name) is expected


def test_byte_order_and_kinds_of_text_do_not_matter():
    assert dtypes.from_numpy(np.dtype(">i8")) is dtypes.INT64
    assert {dtypes.from_numpy(np.array(value).dtype) for value in ("a", b"a", object())} == {dtypes.STRING}


def test_what_tensorflow_has_no_type_for_is_refused():
    with pytest.raises(InvalidArgument, match="datetime64"):
        dtypes.from_numpy(np.dtype("datetime64[s]"))
    with pytest.raises(InvalidArgument, match=r"unknown data type 'real32'; known are .*float"):
        dtypes.from_name("real32")
    with pytest.raises(InvalidArgument, match="unknown data type number 77"):
        dtypes.from_number(77)

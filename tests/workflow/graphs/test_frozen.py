import numpy as np
import pytest

from slipway.errors import SourceError
from slipway.graphs.frozen import to_constant
from slipway_wire import dtypes, tensors


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", 1, np.float32(1)),
        ("float32", 0.5, np.float32(0.5)),
        ("half", 0.5, np.float16(0.5)),
        ("bool", False, np.bool_(False)),
        ("int64", 3, np.int64(3)),
        ("int32", [[1, 2]], np.array([[1, 2]], np.int32)),
        ("string", "eval", np.array(b"eval", object)),
    ],
)
def test_a_value_takes_the_dtype_of_its_input(dtype, value, expected):
    found = tensors.from_proto(to_constant("g", "x", dtypes.from_name(dtype), value))

    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("int32", 0.5, "g: freeze_inputs: x is int32, which 0.5 is not."),
        ("bool", 1, "x is bool, which 1 is not"),
        ("float32", "one", "x is float, which 'one' is not"),
        ("float32", True, "x is float, which True is not"),
        ("int8", 300, "300 does not fit into int8"),
        ("resource", 1, "x is resource, which 1 is not"),
        ("float32", [[1.0], [1.0, 2.0]], "is no tensor: its rows differ in length"),
    ],
)
def test_what_is_none_of_its_type_is_refused(dtype, value, expected):
    with pytest.raises(SourceError) as caught:
        to_constant("g", "x", dtypes.from_name(dtype), value)

    assert expected in str(caught.value)

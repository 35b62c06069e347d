"""Strategies that several test files of the wire package share."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def _bfloat16_arrays(draw):
    return draw(hnp.arrays(np.float32, SHAPES)).astype(ml_dtypes.bfloat16)


@st.composite
def _string_arrays(draw):
    return draw(hnp.arrays(object, SHAPES, elements=st.binary(max_size=12)))


@pytest.fixture(scope="session")
def numeric_arrays():
    """Arrays of every numeric type a TensorProto can carry, bool included."""
    held = ["?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16"]
    return st.one_of(*[hnp.arrays(np.dtype(name), SHAPES) for name in held], _bfloat16_arrays())


@pytest.fixture(scope="session")
def string_arrays():
    """Object arrays of bytes."""
    return _string_arrays()


@pytest.fixture(scope="session")
def wire_arrays(numeric_arrays, string_arrays):
    """Arrays of every type a TensorProto can carry."""
    return numeric_arrays | string_arrays


@pytest.fixture(scope="session")
def same():
    """Whether two arrays have the same type, shape and elements, NaN being like NaN."""

    def compare(left, right):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        if left.dtype == object:
            return left.tolist() == right.tolist()
        return left.tobytes() == right.tobytes()

    return compare


@pytest.fixture(scope="session")
def testdata():
    """The directory of models and configuration files."""
    return Path(__file__).parents[1] / "testdata"

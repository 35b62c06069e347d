import math
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway_wire import json_floats

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Numbers as people and models write them: few digits, halves of integers, powers of two.
PLAIN = st.builds(lambda digits, exponent: float(f"{digits}e{exponent}"), st.integers(0, 10**9), st.integers(-14, 9))
DYADIC = st.builds(math.ldexp, st.integers(0, 2**24), st.integers(-60, 10))


def reference(value, dtype):
    """TF Serving's rule as it is said."""
    text = f"{value:.6g}"
    if dtype(text) != value:
        text = f"{value:.17g}" if dtype is np.float64 else f"{value:.9g}"
    return text if "." in text or "e" in text else text + ".0"


def as_float32(values):
    return np.clip(np.array(values), -3.4e38, 3.4e38).astype(np.float32)


@given(st.lists(FLOAT32 | PLAIN | DYADIC | PLAIN.map(lambda x: -x), max_size=80))
@example([9000000.0, 0.00003, 555557.5, 0.1, 3.0, -0.0, 999999.5, 9999995.0, 1e-45, 3.4028235e38] * 4)
@example([1234567.5, 12345678.0, 16777216.0, 999999.94, 0.0001, 0.000099999995] * 5)
def test_float32_has_the_digits_of_tf_serving(values):
    array = as_float32(values)

    tokens = [token.decode() for token in json_floats.tokens(array)]

    assert tokens == [reference(value, np.float32) for value in array.tolist()]


def test_all_ways_of_float32_to_a_text_agree_on_many_bit_patterns():
    bits = np.random.default_rng(7).integers(0, 2**32, 20_000, dtype=np.uint64).astype(np.uint32)
    array = bits.view(np.float32)[np.isfinite(bits.view(np.float32))]

    tokens = json_floats.tokens(array)

    assert tokens == [reference(value, np.float32).encode() for value in array.tolist()]
    assert tokens == [json_floats.text(value, is_double=False) for value in array.tolist()]
    assert [struct.pack("<f", float(token)) for token in tokens] == [
        array[i : i + 1].tobytes() for i in range(len(array))
    ]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | PLAIN | DYADIC, max_size=60))
@example([0.1, 0.1 + 0.2, 1e300, 5e-324, 123456.0, 1234567.0, 0.00001, 1e22, 3.0] * 4)
def test_doubles_have_the_digits_of_tf_serving(values):
    array = np.array(values, np.float64)

    tokens = [token.decode() for token in json_floats.tokens(array)]

    assert tokens == [reference(value, np.float64) for value in array.tolist()]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_half_and_bfloat16_reads_back_and_has_a_point_or_an_exponent(dtype):
    """Six digits are enough for all 65536 of them."""
    array = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):
        array = array[np.isfinite(array)]

    tokens = json_floats.tokens(array)

    assert np.array([float(token) for token in tokens]).astype(dtype).tobytes() == array.tobytes()
    assert all(b"." in token or b"e" in token for token in tokens)
    assert tokens[:3] == json_floats.tokens(array[:3])


@given(st.lists(FLOAT32 | PLAIN, min_size=30, max_size=30), st.dictionaries(st.integers(0, 29), st.just(b"NaN")))
def test_whole_lists_are_written_as_their_elements(values, words):
    array = as_float32(values)
    expected = [words.get(index, token) for index, token in enumerate(json_floats.tokens(array))]

    nested = json_floats.nested(array.reshape(2, 3, 5), sorted(words.items()))

    assert nested.translate(None, b"[]") == b",".join(expected)
    assert nested.startswith(b"[[[")
    assert json_floats.tokens(array, sorted(words.items())) == expected


def test_the_array_is_not_written_to():
    array = np.array([1e-9, 0.5] * 20)
    array.flags.writeable = False

    assert json_floats.tokens(array) == [b"1e-09", b"0.5"] * 20

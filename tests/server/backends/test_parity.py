import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.backends import parity
from slipway_wire import dtypes
from slipway_wire.signatures import Signature, TensorSpec

X = TensorSpec("x", dtypes.FLOAT, (None,), "x:0")
DOUBLED = Signature("double", "tensorflow/serving/predict", {"x": X}, {"y": X})
NEXT_TO_X = 0.1


def told(ask, *described):
    return parity.answers(ask, described or (DOUBLED,))


def twice(_signature, inputs):
    return [2 * inputs["x"]]


def test_the_same_is_asked_each_time():
    assert parity.check(told(twice), told(twice), np.array_equal) == 1
    assert [len(answer["y"]) for answer in told(twice).values()] == [1, 3]


def test_initialisers_are_not_asked():
    init = Signature("__saved_model_init_op", "", {}, {"__saved_model_init_op": X})

    with pytest.raises(parity.AnotherAnswerError, match="no signature takes a request"):
        parity.check(told(twice, init), told(twice, init), np.array_equal)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (lambda _signature, inputs: [2 * inputs["x"] + 1], "output y of double is another than before"),
        (lambda *_: None, "double answers where it refused before, or the other way round"),
    ],
)
def test_what_differs_is_named(other, why):
    with pytest.raises(parity.AnotherAnswerError, match=why):
        parity.check(told(twice), told(other), np.array_equal)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.floats(-0.9, 0.9))
def test_floats_may_be_off_by_a_share_of_the_largest(values, share):
    before = np.array(values, np.float32)
    off = before + np.float32(NEXT_TO_X * share * np.abs(before).max())

    assert parity.within(of_largest=NEXT_TO_X, atol=1e-30)(before, off)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.float32([1, 2]), np.float32([1, 2.3])),
        (np.float32([1, np.nan]), np.float32([1, 2])),
        (np.float32([1, np.inf]), np.float32([1, 2])),
        (np.float32([1]), np.float64([1])),
        (np.float32([1]), np.float32([[1]])),
        (np.int64([1000]), np.int64([1001])),
        (np.array([b"a"], object), np.array([b"b"], object)),
    ],
)
def test_what_is_another_answer(before, after):
    assert not parity.within(of_largest=NEXT_TO_X)(before, after)
    assert parity.within(of_largest=NEXT_TO_X)(before, before)

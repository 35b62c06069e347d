import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slipway.parity import accuracy, compare, difference

FLOATS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3), elements=st.floats(width=32))


def compared(expected, found, atol=1e-5, rtol=1e-4):
    return compare("a→b", "serving_default", "y", np.asarray(expected), np.asarray(found), atol=atol, rtol=rtol)


@given(FLOATS)
def test_anything_equals_itself(array):
    """NaN and infinities too: a model may give them, and giving them again is no difference."""
    parity = compared(array, array.copy(), atol=0, rtol=0)

    assert parity.ok
    assert (parity.max_abs, parity.max_rel) == (0, 0)


@given(FLOATS, st.data())
def test_the_verdict_is_that_of_numpy(array, data):
    other = data.draw(hnp.arrays(np.float32, array.shape, elements=st.floats(width=32)))

    with np.errstate(all="ignore"):
        expected = np.allclose(other.astype(float), array.astype(float), atol=1e-5, rtol=1e-4, equal_nan=True)

    assert compared(array, other).ok == expected


def test_distances_are_the_largest_ones():
    parity = compared([[1.0, 2.0], [0.0, 4.0]], [[1.0, 2.5], [0.0, 4.0]])

    assert (parity.rows, parity.max_abs, parity.max_rel, parity.ok) == (2, 0.5, 0.25, False)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([1.0], [np.nan]),
        ([1.0], [1.0, 1.0]),
        ([b"a"], [1.0]),
        (np.array([b"a"], object), np.array([b"b"], object)),
    ],
)
def test_what_cannot_be_measured_is_infinitely_far_away(expected, found):
    parity = compared(expected, found)

    assert not parity.ok
    assert parity.max_abs == np.inf


def test_integers_and_strings_must_be_equal():
    assert compared(np.array([7]), np.array([7])).ok
    assert not compared(np.array([7]), np.array([8]), atol=10).ok
    assert not compared(np.array([2**62]), np.array([2**62 + 1])).ok
    assert compared(np.array([b"a"], object), np.array([b"a"], object)).ok


def test_agreement_on_the_largest_score_is_counted_by_row():
    parity = compared([[0.1, 0.9], [0.4, 0.6]], [[0.2, 0.8], [0.7, 0.3]])

    assert parity.argmax_agreement == 0.5
    assert compared([1.0], [1.0]).argmax_agreement is None


@pytest.mark.parametrize(("expected", "found", "told"), [
    (np.zeros((3, 2)), np.zeros((2, 2)), "shape [2, 2] where [3, 2] is right"),
    (np.zeros(1), np.array([b"a"], object), "object where float64 is right"),
    (np.array([b"a", b"b"], object), np.array([b"a", b"\xff"], object), "b'\\xff' where 'b' is right, at [1]; 1 of 2 values"),
    (np.array([[0.0, np.nan]]), np.array([[np.inf, np.nan]]), "inf where 0 is right, at [0, 0]; 1 of 2 values"),
    (np.array([1.5, 2.0]), np.array([1.0, np.nan]), "nan where 2 is right, at [1]; 1 of 2 values"),
    (np.array(b"one", object), np.array(b"two", object), "'two' where 'one' is right, at []; 1 of 1 values"),
])  # fmt: skip
def test_what_has_no_distance_is_told_in_words(expected, found, told):
    assert np.isinf(compared(expected, found).max_abs)
    assert difference(expected, found) == told


def test_accuracy_takes_labels_or_scores():
    labels = np.array([1, 0, 2])

    assert accuracy(np.array([1, 0, 0]), labels) == pytest.approx(2 / 3)
    assert accuracy(np.eye(3)[[1, 0, 2]], labels) == 1

import numpy as np
import pytest

from slipway.error_rate import ErrorRate, are_right, chosen, chosen_class
from slipway.errors import SettingsError
from slipway_wire.inference import Classification

NAMES = ("zero", "one", "two")


def strings(*values):
    return np.array([value.encode() for value in values], object)


def test_a_rate_is_told_with_its_interval():
    """Wilson's interval for 104 of 1,000, as published tables have it."""
    assert str(ErrorRate(104, 1000)) == "10.4 % (104 of 1,000; 95 % interval 8.7–12.4 %)"


@pytest.mark.parametrize(("wrong", "tested"), [(0, 10), (10, 10), (1, 1)])
def test_the_interval_holds_the_rate_and_stays_a_share(wrong, tested):
    low, high = ErrorRate(wrong, tested).interval()

    assert 0 <= low <= wrong / tested <= high <= 1
    assert low < high


def test_what_was_chosen_is_a_label_the_largest_score_or_the_first_name():
    assert chosen(np.int64([2, 0])).tolist() == [2, 0]
    assert chosen(np.float32([[0, 1, 3], [5, 1, 1]])).tolist() == [2, 0]
    assert chosen(np.array([[b"a", b"b"], [b"c", b"a"]], object)).tolist() == [b"a", b"c"]
    with pytest.raises(SettingsError, match=r"found shape \[1, 2, 3\]"):
        chosen(np.zeros((1, 2, 3)))


def test_a_class_is_named_unless_the_model_names_none():
    scores = np.float32([[0.1, 0.9], [0.8, 0.2]])
    named = np.array([[b"a", b"b"], [b"a", b"b"]], object)

    assert chosen_class(Classification(named, scores)).tolist() == [b"b", b"a"]
    assert chosen_class(Classification(None, scores)).tolist() == [1, 0]
    assert chosen_class(Classification(np.full((2, 2), b"", object), scores)).tolist() == [1, 0]
    assert chosen_class(Classification(named, None)).tolist() == [b"a", b"a"]


def test_names_and_numbers_are_compared_through_the_classes():
    assert are_right(strings("one", "two", "zero"), np.int64([1, 1, 7]), NAMES).tolist() == [True, False, False]
    assert are_right(np.int64([1, -1]), strings("one", "two"), NAMES).tolist() == [True, False]
    assert are_right(np.int64([1, 1]), np.int64([1, 2]), None).tolist() == [True, False]
    assert are_right(strings("b", "a"), strings("b", "b"), None).tolist() == [True, False]
    with pytest.raises(SettingsError, match="answers names of classes and the labels are numbers"):
        are_right(strings("a"), np.int64([1]), None)

"""How often a model is wrong on rows whose labels are known: what it chose, counted, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from slipway.errors import SettingsError
from slipway_wire.inference import Classification

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Wrong answers among the tested ones; at least one was tested."""

    wrong: int
    tested: int

    @property
    def rate(self) -> float:
        """Share of wrong answers, 0..1."""
        return self.wrong / self.tested

    def interval(self) -> tuple[float, float]:
        """Give the 95 % interval of the rate. Source: Wilson, J. Am. Stat. Assoc. 22 (1927), by scipy."""
        found = stats.binomtest(self.wrong, self.tested).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """Tell it in one phrase, e.g. `10.4 % (104 of 1,000; 95 % interval 8.7–12.4 %)`."""
        low, high = self.interval()
        return f"{100 * self.rate:.1f} % ({self.wrong:,} of {self.tested:,}; 95 % interval {100 * low:.1f}–{100 * high:.1f} %)"


def chosen(values: Array) -> Array:
    """
    Say what each row's answer chose.

    Args:
        values: Labels or their names [rows]; scores [rows, classes], of which the largest wins; names [rows, k], best
            first.

    Returns:
        Numbers, or names as objects (bytes); [rows].

    Raises:
        SettingsError: If *values* are none of these.
    """
    if values.ndim == 2 and values.shape[1]:
        first: Array = values[:, 0] if values.dtype == object else values.argmax(axis=1)
        return first
    if values.ndim != 1:
        raise SettingsError(f"expected labels [N] or scores [N, classes] to compare, found shape {list(values.shape)}")
    return values


def chosen_class(answer: Classification) -> Array:
    """Say which class has each row's largest score: its name, or its number where the model names none; [rows]."""
    if answer.scores is None:
        assert answer.classes is not None  # a Classification has one of the two
        return chosen(answer.classes)
    best: Array = answer.scores.argmax(axis=1)
    if answer.classes is None or not any(answer.classes.flat):
        return best
    named: Array = answer.classes[np.arange(len(best)), best]
    return named


def are_right(found: Array, labels: Array, names: Sequence[str] | None) -> npt.NDArray[np.bool_]:
    """
    Compare what was chosen with what is true.

    Args:
        found: As `chosen` gives it.
        labels: Numbers, or names as objects (bytes); [rows].
        names: What each number stands for; None: unknown, or numbers stand for themselves.

    Raises:
        SettingsError: If one side has names and the other numbers, and nobody knows which is which.
    """
    if (found.dtype == object) == (labels.dtype == object):
        right: npt.NDArray[np.bool_] = found == labels
        return right
    if names is None:
        told, known = ("names", "numbers") if found.dtype == object else ("numbers", "names")
        raise SettingsError(
            f"the model answers {told} of classes and the labels are {known}; the contract has no `classes` to tell which is which"
        )
    numbers, other = (labels, found) if found.dtype == object else (found, labels)
    named = [names[number].encode() if 0 <= number < len(names) else None for number in numbers.tolist()]
    return np.array([name == given for name, given in zip(named, other.tolist(), strict=True)], bool)

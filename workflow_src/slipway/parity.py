"""How far two ways to the same answer lie apart; pure, on numpy arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.records import Parity
from slipway_wire.tolerances import Tolerance

Array = npt.NDArray[Any]


def compare(
    path: str,
    signature: str,
    output: str,
    expected: Array,
    found: Array,
    *,
    atol: float,
    rtol: float,
    why_not: str = "",
) -> Parity:
    """
    Compare the answers of two ends, value by value.

    Args:
        path: The two ends, e.g. checkpoint→SavedModel.
        signature: Signature that was called.
        output: Output tensor that is compared.
        expected: Answers of the first end, shape [rows, …], or any for what has no rows.
        found: Answers of the second end.
        atol: Absolute tolerance.
        rtol: Relative tolerance: |found - expected| <= atol + rtol * |expected|, as `numpy.allclose` has it.
        why_not: Why values cannot be compared (`slipway.comparable`): shape, kind and finiteness decide then.

    Returns:
        The distances. Floats may differ within the tolerance, anything else must be equal; NaN equals NaN.
        Other shapes or kinds of values are infinitely far away.
    """
    max_abs, max_rel, ok = _distance(expected, found, atol, rtol)
    if why_not:
        ok = Tolerance(any_value=True).difference(expected, found) is None
    return Parity(
        path=path,
        signature=signature,
        output=output,
        rows=len(expected) if expected.ndim else 1,
        max_abs=max_abs,
        max_rel=max_rel,
        argmax_agreement=_argmax_agreement(expected, found),
        atol=atol,
        rtol=rtol,
        why_not=why_not,
        ok=ok,
    )


def _distance(expected: Array, found: Array, atol: float, rtol: float) -> tuple[float, float, bool]:
    numeric = "biuf"
    if expected.shape != found.shape or (expected.dtype.kind in numeric) != (found.dtype.kind in numeric):
        return np.inf, np.inf, False
    if expected.dtype.kind not in numeric:
        equal = bool(np.array_equal(expected, found))
        return (0.0, 0.0, True) if equal else (np.inf, np.inf, False)
    if expected.size == 0:
        return 0.0, 0.0, True
    left, right = expected.astype(np.float64), found.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(right - left))
    apart = np.where(np.isnan(apart), np.inf, apart)  # NaN on one side only
    size = np.abs(left)
    relative = np.divide(apart, size, out=np.where(apart > 0, np.inf, 0.0), where=(size > 0) & np.isfinite(size))
    if expected.dtype.kind == "f" and found.dtype.kind == "f":
        ok = bool(np.all(same | (apart <= atol + rtol * np.where(np.isfinite(size), size, 0.0))))
    else:
        # In their own dtype: float64 cannot tell large integers apart.
        ok = bool(np.array_equal(expected, found))
    return float(apart.max()), float(relative.max()), ok


def difference(expected: Array, found: Array) -> str:
    """Say in words what `compare` has no number for: another shape, another kind of values, a string, a NaN."""
    if expected.shape != found.shape:
        return f"shape {list(found.shape)} where {list(expected.shape)} is right"
    if (expected.dtype.kind in "biuf") != (found.dtype.kind in "biuf"):
        return f"{found.dtype} where {expected.dtype} is right"
    with np.errstate(invalid="ignore"):
        apart = np.asarray(expected != found, bool)
    if expected.dtype.kind == "f" and found.dtype.kind == "f":
        apart &= ~(np.isnan(expected) & np.isnan(found)) & (np.isfinite(expected) != np.isfinite(found))
    places = np.argwhere(apart)
    if not len(places):
        return "other values"
    place = tuple(int(index) for index in places[0])
    told, right = (_shown(array[place]) for array in (found, expected))
    return f"{told} where {right} is right, at {list(place)}; {len(places)} of {expected.size} values"


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return repr(value.decode())
        except UnicodeDecodeError:
            return repr(value)
    return repr(value) if isinstance(value, str) else f"{value:g}"


def _argmax_agreement(expected: Array, found: Array) -> float | None:
    scores = expected.ndim == 2 and expected.shape[1] > 1 and expected.dtype.kind == "f"
    if not scores or expected.shape != found.shape or len(expected) == 0:
        return None
    return float((expected.argmax(axis=-1) == found.argmax(axis=-1)).mean())


def accuracy(answers: Array, labels: Array) -> float:
    """
    Give the share of rows (0..1) whose answer is the label.

    Args:
        answers: Labels [rows], or scores [rows, classes], of which the largest wins.
        labels: What is true, [rows].
    """
    chosen = answers.argmax(axis=-1) if answers.ndim == 2 else answers
    return float((chosen == labels).mean())

"""Whether a version answers as before when it is run otherwise, asked with requests made up from its signatures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from slipway_server.servables import synthesis
from slipway_server.servables.loader import Tensors
from slipway_wire.signatures import Signature

Ask = Callable[[Signature, Tensors], Sequence[Any] | None]
"""Runs a signature on inputs; gives its outputs in their order, or None where the model refuses."""

Answers = Mapping[tuple[str, int], Mapping[str, Any] | None]
"""Signature and rows -> output alias -> array; None: refused."""

IsSame = Callable[[Any, Any], bool]

_ROWS = (1, 3)


class AnotherAnswerError(Exception):
    """What is not as before."""


def served(described: Sequence[Signature]) -> Iterator[Signature]:
    """Leave out what no request can name a tensor of: initialisers, and sparse or composite tensors."""
    for signature in described:
        specs = [*signature.inputs.values(), *signature.outputs.values()]
        if signature.outputs and not signature.name.startswith("__") and all(spec.graph_name for spec in specs):
            yield signature


def answers(ask: Ask, described: Sequence[Signature]) -> Answers:
    """Ask each signature that a request can be made up for; the same requests each time."""
    given: dict[tuple[str, int], Mapping[str, Any] | None] = {}
    for signature in served(described):
        for rows in _ROWS:
            if (inputs := synthesis.inputs(signature, rows=rows, seed=rows)) is not None:
                outputs = ask(signature, inputs)
                told = None if outputs is None else dict(zip(signature.outputs, outputs, strict=True))
                given[signature.name, rows] = told
    return given


def check(before: Answers, after: Answers, is_same: IsSame) -> int:
    """
    Compare answers to the same requests.

    Returns:
        How many signatures answered.

    Raises:
        AnotherAnswerError: One is not the same; or there is nothing to compare.
    """
    checked = set()
    for (name, rows), expected in before.items():
        found = after[name, rows]
        if (expected is None) != (found is None):
            raise AnotherAnswerError(f"{name} answers where it refused before, or the other way round")
        if expected is None or found is None:
            continue
        checked.add(name)
        for alias, value in expected.items():
            if not is_same(value, found[alias]):
                raise AnotherAnswerError(f"output {alias} of {name} is another than before")
    if not checked:
        raise AnotherAnswerError("no signature takes a request that can be made up to compare the answers")
    return len(checked)


def within(*, rtol: float = 0.0, atol: float = 0.0, of_largest: float = 0.0) -> IsSame:
    """
    Make an `IsSame`; dtypes and shapes must be equal, and whatever is no float.

    Args:
        rtol: Of each float.
        atol: Of each float.
        of_largest: How much of the largest magnitude in the output each float may be off.
    """

    def is_same(before: Any, after: Any) -> bool:
        before, after = np.asarray(before), np.asarray(after)
        if before.dtype != after.dtype or before.shape != after.shape:
            return False
        # numpy's own kinds, and ml_dtypes' bfloat16, which is void to it.
        if before.dtype.kind not in "fcV":
            return bool(np.array_equal(before, after))
        if before.dtype.kind != "c":
            before, after = before.astype(np.float64), after.astype(np.float64)
        finite = np.abs(before[np.isfinite(before)])
        largest = float(finite.max()) if finite.size else 0.0
        return bool(np.allclose(after, before, rtol=rtol, atol=atol + of_largest * largest, equal_nan=True))

    return is_same

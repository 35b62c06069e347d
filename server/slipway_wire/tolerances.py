"""
How near answers must come to what is expected, output by output; and the file that tells a load generator.

The file is JSON: `{"default": {…}, "signatures": {"serving_default": {"y": {"atol": 1e-05, "rtol": 0.0001}}}}`, where
an object may say `"any_value": true` instead of numbers.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from slipway_wire.status import InvalidArgument

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """
    How near one output must come.

    Attributes:
        atol: Absolute: |found - expected| <= atol + rtol * |expected|, as `numpy.allclose` has it.
        rtol: Relative.
        any_value: Nobody knows the values (they are drawn by chance, or depend on other rows): shape and kind must be as
            expected and floats finite, no more.
    """

    atol: float = 1e-5
    rtol: float = 1e-4
    any_value: bool = False

    def difference(self, expected: Array, found: Array) -> str | None:
        """
        Say in one line how *found* departs from *expected*; None if it does not.

        Floats may differ within the tolerance, NaN equals NaN, everything else must be equal.
        """
        if found.shape != expected.shape:
            return f"expected shape {list(expected.shape)}, got {list(found.shape)}"
        if self.any_value:
            return _other_form(expected, found)
        if expected.dtype.kind == found.dtype.kind == "f":
            equal = np.isclose(found, expected, atol=self.atol, rtol=self.rtol, equal_nan=True)
        else:
            equal = np.asarray(found == expected)
        if equal.all():
            return None
        at = tuple(int(index) for index in np.argwhere(~equal)[0])
        return f"{list(at)}: expected {expected[at]}, got {found[at]}"


_KINDS = {"f": "number", "i": "number", "u": "number", "b": "bool"}


def _other_form(expected: Array, found: Array) -> str | None:
    wanted, got = (_KINDS.get(array.dtype.kind, "string") for array in (expected, found))
    if wanted != got:
        return f"expected {wanted}s, got {got}s"
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        return f"expected finite values, got {found[~np.isfinite(found)].flat[0]}"
    return None


@dataclass(frozen=True, slots=True)
class Tolerances:
    """
    How near every output of every signature must come.

    Attributes:
        default: For what `signatures` does not name.
        signatures: Signature (its key, never empty) -> output -> tolerance.
    """

    default: Tolerance = Tolerance()
    signatures: Mapping[str, Mapping[str, Tolerance]] = field(default_factory=dict)

    def of(self, signature: str, output: str) -> Tolerance:
        """Give that of *output* of *signature*."""
        return self.signatures.get(signature, {}).get(output, self.default)

    def to_json(self) -> bytes:
        """Write the file; equal tolerances, equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Read the file at *path*.

        Raises:
            OSError: If it cannot be opened.
            InvalidArgument: If it is no such file.
        """
        try:
            found = json.loads(path.read_bytes())
            signatures = {
                key: {output: Tolerance(**one) for output, one in outputs.items()}
                for key, outputs in found["signatures"].items()
            }
            return cls(Tolerance(**found["default"]), signatures)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidArgument(f"{path}: not a file of tolerances: {error!r}") from error

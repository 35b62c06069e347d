"""Which warm-up records fit into a budget of bytes, and in which form: a pure decision."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["values", "filled"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    A record that would be good to have.

    Attributes:
        signature: Which signature it calls.
        rows: With how many rows.
        values_bytes: What it weighs with all its values.
        filled_bytes: What it weighs if one value fills its tensors; None: no server would take that.
    """

    signature: str
    rows: int
    values_bytes: int
    filled_bytes: int | None

    @property
    def least_bytes(self) -> int:
        """What it weighs in its smallest form."""
        return self.values_bytes if self.filled_bytes is None else min(self.values_bytes, self.filled_bytes)

    def bytes_as(self, form: Form | None) -> int:
        """Say what it weighs in *form*; nothing if it is left out."""
        if form is None:
            return 0
        return self.values_bytes if form == "values" else self.least_bytes


def choose(wanted: Sequence[Wanted], max_bytes: int) -> list[Form | None]:
    """
    Choose a form for each record, so that all together weigh at most *max_bytes*.

    Real values are kept as long as there is room for them: the record that saves most is filled first. If filled
    records are too much, the heaviest is left out first; the last one of a signature stays while others can go, for
    our server makes the other batch sizes from any one of them.

    Returns:
        A form for each of *wanted*; None: left out.
    """
    forms: list[Form | None] = ["values"] * len(wanted)
    total = sum(one.values_bytes for one in wanted)
    for at in sorted(range(len(wanted)), key=lambda at: wanted[at].least_bytes - wanted[at].values_bytes):
        saved = wanted[at].values_bytes - wanted[at].least_bytes
        if total <= max_bytes or saved <= 0:
            break
        forms[at] = "filled"
        total -= saved
    left = Counter(one.signature for one in wanted)
    kept = list(range(len(wanted)))
    while kept and total > max_bytes:
        at = max(kept, key=lambda at: (left[wanted[at].signature] > 1, wanted[at].bytes_as(forms[at]), wanted[at].rows))
        total -= wanted[at].bytes_as(forms[at])
        forms[at] = None
        left[wanted[at].signature] -= 1
        kept.remove(at)
    # What was left out may have made room for the values of others.
    for at in sorted(kept, key=lambda at: wanted[at].values_bytes):
        grown = wanted[at].values_bytes - wanted[at].bytes_as(forms[at])
        if forms[at] == "filled" and total + grown <= max_bytes:
            forms[at] = "values"
            total += grown
    return forms

"""One difference between two contracts, and how values are told and weighed: what every rule of the gate uses."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["breaking", "compatible", "documentation"]
# Worst first, as they are told.
KINDS: tuple[Kind, ...] = ("breaking", "compatible", "documentation")


@dataclass(frozen=True, slots=True)
class Change:
    """
    One difference between two contracts.

    Attributes:
        kind: What it does to callers: breaking, compatible, or nothing (documentation).
        path: Where it is, as in the file.
        what: What happened there.
        old: The old value, as people write it; empty where there was none.
        new: The new value; empty where there is none.
        why: Why it is of this kind; empty where *what* says it.
    """

    kind: Kind
    path: str
    what: str
    old: str = ""
    new: str = ""
    why: str = ""

    def line(self) -> str:
        """Say it in one line."""
        values = f": {self.old or 'none'} → {self.new or 'none'}" if self.old or self.new else ""
        return f"{self.kind}: {self.path}: {self.what}{values}{f'; {self.why}' if self.why else ''}"


def differing(kind: Kind, path: str, what: str, old: Any, new: Any, why: str = "") -> Iterator[Change]:
    """Tell a change of *kind* where *old* and *new* are not the same."""
    if old != new:
        yield Change(kind, path, what, said(old), said(new), why)


def text(path: str, old: str, new: str) -> Iterator[Change]:
    """Tell a change of words that people read."""
    yield from differing("documentation", path, "text changed", old, new)


def number(
    path: str,
    old: float | None,
    new: float | None,
    what: str,
    *,
    worse_if: Literal["less", "more"],
    none_is: Literal["least", "most"] = "least",
    why: str = "",
) -> Iterator[Change]:
    """Judge a promise in numbers; without one it counts as the least or the most. *why* is told where it breaks."""
    if old == new:
        return
    missing = float("-inf") if none_is == "least" else float("inf")
    was, is_ = missing if old is None else old, missing if new is None else new
    worse = is_ < was if worse_if == "less" else is_ > was
    yield Change("breaking" if worse else "compatible", path, what, said(old), said(new), why if worse else "")


def default(path: str, old: Any, new: Any) -> Iterator[Change]:
    """Judge what stands for a value that a caller does not send."""
    if old == new:
        return
    why = "callers may now leave it out"
    if old is not None:
        why = "who sends none is refused" if new is None else "who sends none gets another answer"
    what = "value where a caller sends none"
    yield Change("compatible" if old is None else "breaking", path, what, said(old), said(new), why)


def taken(path: str, old: tuple[float, float] | None, new: tuple[float, float] | None) -> Iterator[Change]:
    """Judge a range of what callers may send."""
    narrower = not is_inside(old, new)
    why = "values that were taken are out of it" if narrower else ""
    yield from differing("breaking" if narrower else "compatible", path, "range of what is taken", old, new, why)


def is_inside(inner: tuple[float, float] | None, outer: tuple[float, float] | None) -> bool:
    """Say whether every value of *inner* is one of *outer*; None is every value."""
    if outer is None:
        return True
    return inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]


def said(value: Any) -> str:
    """Write a value as a contract's file has it, in one line."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list() | tuple():
            return f"[{', '.join(said(one) for one in value)}]"
        case dict():
            return f"{{{', '.join(f'{key}: {said(one)}' for key, one in value.items())}}}"
    return str(value)

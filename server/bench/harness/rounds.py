"""Cells measured in rounds, ratios within a round, and what is aimed at."""

import itertools
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.processes import NoAnswer

Found = Mapping[str, float]
"""Of a number's rounds: median, min, max."""


@dataclass
class Cell:
    """
    What is measured once a round.

    Attributes:
        name: What it is.
        measure: Gives numbers by name.
        rounds: Those of each round.
        may_be_lost: Whether the run goes on without it when its server does not answer: another's, and not ours.
        lost: Why it is left out; "" where it is not.
    """

    name: str
    measure: Callable[[], dict[str, float]]
    rounds: list[dict[str, float]] = field(default_factory=list)
    may_be_lost: bool = False
    lost: str = ""

    def median(self, key: str) -> float:
        """Give the median of a number."""
        return statistics.median(one[key] for one in self.rounds)

    def told(self) -> dict[str, object]:
        """Give all rounds, and the spread of every number."""
        return {"rounds": self.rounds, **{key: spread([one[key] for one in self.rounds]) for key in self.rounds[0]}}


def run_rounds(cells: Sequence[Cell], rounds: int, told: Callable[[str], None]) -> None:
    """Measure every cell once a round, in an order that changes; one that is lost is measured no more."""
    order = random.Random(0)  # noqa: S311  # a shuffle, no secret
    for number in range(rounds):
        for cell in order.sample(cells, len(cells)):
            if cell.lost:
                continue
            try:
                cell.rounds.append(cell.measure())
            except NoAnswer as error:
                if not cell.may_be_lost:
                    raise
                cell.lost = f"in round {number + 1} of {rounds}, {error}"
            told(f"round {number + 1}/{rounds}: {cell.name}: {cell.lost or cell.rounds[-1]}")


def by_round(measure: Callable[[int], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """
    Let *measure* know which time it is called, from 0: a seed of the round's own, the same for all that is in it.

    With one seed for all, every round would repeat the same arrivals, and medians of rounds tell of those alone.
    """
    numbers = itertools.count()
    return lambda: measure(next(numbers))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(cells: Mapping[str, Cell], above: str, below: str, key: str) -> dict[str, float]:
    """Give the spread of `above / below`, each taken within its round."""
    pairs = zip(cells[above].rounds, cells[below].rounds, strict=True)
    return spread([one[key] / other[key] for one, other in pairs])


@dataclass(frozen=True)
class Target:
    """
    A ratio or a number that is aimed at.

    Attributes:
        name: What it is.
        found: Its spread.
        wanted: The aim; None: it is told, no more.
        is_at_least: Whether more is better.
    """

    name: str
    found: Found
    wanted: float | None = None
    is_at_least: bool = True

    @property
    def is_met(self) -> bool | None:
        """Say whether the median meets it; None if nothing is aimed at."""
        if self.wanted is None:
            return None
        median = self.found["median"]
        return median >= self.wanted if self.is_at_least else median <= self.wanted

    def told(self) -> dict[str, object]:
        """Give it as a record."""
        return {
            "name": self.name,
            "found": dict(self.found),
            "wanted": self.wanted,
            "is_at_least": self.is_at_least,
            "is_met": self.is_met,
        }

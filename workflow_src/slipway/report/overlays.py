"""What lies over a chart's lines: limits of the y axis that nothing passes, and places of the x axis where something happened. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from slipway.report import svg
from slipway.report.svg import Scale

# A limit further away than this, in multiples of what was measured, would press the lines to the bottom of a linear
# axis: it is told, not drawn.
_REACH = 1.6
# Height of a line of text.
LABEL_GAP = 14
# Labels stand on their line, not in it.
_ABOVE = 4


@dataclass(frozen=True, slots=True)
class Limit:
    """A value of the y axis that nothing can pass, such as what the measuring tool itself can do at most."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the x axis where something happened; the note is said when it is pointed at."""

    x: float
    label: str
    note: str = ""


def is_near(limit: Limit, values: Sequence[float]) -> bool:
    """Say whether a linear axis that reaches *limit* still shows how *values* differ."""
    return limit.value <= _REACH * max(values, default=0.0)


def drawn(limits: Sequence[Limit], up: Scale, left: float, right: float) -> list[Markup]:
    """Draw *limits* as lines, each with its label on it; no label covers another."""
    lines, labels = [], []
    lowest = math.inf
    for limit in sorted(limits, key=lambda one: (one.value, one.label)):
        height = up(limit.value)
        lowest = min(height - _ABOVE, lowest - LABEL_GAP)
        lines.append(svg.horizontal(left, right, height, "limit"))
        labels.append(svg.text(right, lowest, limit.label, "t halo", "end"))
    # What is written stands on all lines, also on those of the limits above it.
    return [*lines, *labels]


def told(limits: Sequence[Limit], top: float, right: float) -> list[Markup]:
    """Say at the top of the drawing what lies above it."""
    return [
        svg.text(right, top + LABEL_GAP * place + _ABOVE, f"▲ {limit.label}", "t", "end")
        for place, limit in enumerate(sorted(limits, key=lambda one: (-one.value, one.label)))
    ]


def happened(mark: Mark, across: Scale, top: float, bottom: float) -> Markup:
    """Draw *mark* as a vertical line with its label above."""
    at = across(mark.x)
    line = svg.path([(at, top), (at, bottom)], "happened")
    title = svg.element("title", mark.note) if mark.note else Markup()
    return svg.element("g", title + line + svg.text(at, top - _ABOVE, mark.label, "v b", "middle"))

"""SVG as text: escaped elements, scales and their ticks. Pure; knows nothing of what is drawn."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from slipway.report import numbers

Anchor = Literal["start", "middle", "end"]
# What a text of this size needs, in units of the drawing per character; measured on DejaVu Sans, a wide font.
CHARACTER_WIDTH = 8.0


def coordinate(value: float) -> str:
    """Write a coordinate with one decimal at most: a tenth of a pixel is finer than anybody sees."""
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def element(name: str, content: str = "", **attributes: str | float | None) -> Markup:
    """
    Write one element.

    Args:
        name: Tag.
        content: Inner markup if Markup, else text that gets escaped.
        attributes: Values; None is left out. A trailing underscore (class_) is dropped, others become hyphens.
    """
    written = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _attribute(value))
        for key, value in attributes.items()
        if value is not None
    )
    if not content:
        return Markup("<{}{}/>").format(name, written)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, content)


def _attribute(value: str | float) -> str:
    return value if isinstance(value, str) else coordinate(value)


def text(x: float, y: float, content: str, class_: str, anchor: Anchor = "start") -> Markup:
    """Write a line of text; the style of its class decides size and colour."""
    return element("text", content, class_=class_, x=x, y=y, text_anchor=None if anchor == "start" else anchor)


def path(points: Sequence[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """Join *points* by straight lines."""
    joined = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    return element("path", class_=class_, d=f"M{joined}{'Z' if closed else ''}")


def horizontal(x0: float, x1: float, y: float, class_: str) -> Markup:
    """Draw a horizontal line."""
    return element("path", class_=class_, d=f"M{coordinate(x0)} {coordinate(y)}H{coordinate(x1)}")


def vertical(x: float, y0: float, y1: float, class_: str) -> Markup:
    """Draw a vertical line."""
    return element("path", class_=class_, d=f"M{coordinate(x)} {coordinate(y0)}V{coordinate(y1)}")


@dataclass(frozen=True, slots=True)
class Scale:
    """
    From a value to a place.

    Attributes:
        low: Value at *start*; positive where *log*.
        high: Value at *end*, greater than *low*.
        start: Coordinate of *low*.
        end: Coordinate of *high*.
        log: Equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place *value*; what lies outside of the scale is put at its edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Choose round values inside the scale, *most* of them at most (and at least one)."""
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)


def linear_scale(values: Sequence[float], start: float, end: float, *, headroom: float = 0.06) -> Scale:
    """Scale from 0 to a little more than the greatest of *values*."""
    greatest = max(values, default=0.0)
    return Scale(0.0, greatest * (1 + headroom) if greatest > 0 else 1.0, start, end)


def log_scale(values: Sequence[float], start: float, end: float, *, margin: float = 1.15) -> Scale:
    """Scale by ratios around the positive ones of *values*."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / margin, max(positive) * margin
    if high / low < 2:  # a flat line in the middle, not noise blown up to full height
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(2), middle * math.sqrt(2)
    return Scale(low, high, start, end, log=True)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    exponent = math.floor(math.log10((high - low) / most))
    for step in (m * 10.0**e for e in (exponent, exponent + 1) for m in (1, 2, 2.5, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [float(f"{index * step:.12g}") for index in range(first, last + 1)]
    raise AssertionError("twice ten times the smallest step is always coarse enough")


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**e for e in exponents for m in mantissas]
        ticks = [float(f"{t:.12g}") for t in ticks if low * 0.9999 <= t <= high * 1.0001]
        if len(ticks) <= most:
            return ticks
    every = math.ceil(len(ticks) / most)
    return ticks[::every]


def tick_labels(ticks: Sequence[float], show: Callable[[float], str] = numbers.number) -> list[str]:
    """Label *ticks*."""
    return [show(tick) for tick in ticks]


def escaped(value: str) -> Markup:
    """Escape text for use inside markup."""
    return escape(value)

"""The results of a run as a drawing: throughput and CPU of every cell, as SVG that is readable on light and on dark pages."""

import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

from harness.rounds import Found

_WIDTH, _ROW, _GROUP = 1000, 22, 34
_NAMES, _PANEL, _GAP, _MARGIN = 330, 250, 90, 16
_TOP, _BOTTOM = 58, 40
# Ours are drawn strong, what they are held against pale.
_OURS = ("grpc, slipway", "rest", "slipway, ")

_STYLE = """
svg { --page: #ffffff; --ink: #1f2328; --pale: #59636e; --line: #d1d9e0; --ours: #0550ae; --other: #9a6700; }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --ink: #f0f6fc; --pale: #9198a1; --line: #3d444d; --ours: #79c0ff; --other: #d29922; }
}
rect { fill: var(--page); }
text { fill: var(--ink); font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }
.title { font-weight: 600; }
.pale { fill: var(--pale); font-size: 11px; paint-order: stroke; stroke: var(--page); stroke-width: 3px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
line { stroke: var(--line); stroke-width: 1; }
.ours { fill: var(--ours); stroke: var(--ours); }
.other { fill: var(--page); stroke: var(--other); stroke-width: 2; }
line.ours, line.other { stroke-width: 2; }
"""


class _Axis(NamedTuple):
    """A logarithmic axis, of whole powers of ten."""

    left: float
    low: int
    high: int

    def at(self, value: float) -> float:
        return self.left + _PANEL * (math.log10(value) - self.low) / (self.high - self.low)

    def ticks(self) -> Iterator[float]:
        return (10.0**power for power in range(self.low, self.high + 1))


def svg(results: Mapping[str, Any]) -> str:
    """
    Draw the `tables` of *results*, which `overhead.json` holds: a row a cell, a dot for the median, a line from least to most.

    Both axes are logarithmic, for what is compared lies far apart. The same results give the same bytes.
    """
    tables: Mapping[str, Mapping[str, Mapping[str, Found]]] = results["tables"]
    height = _TOP + sum(_GROUP + _ROW * len(of_table) for of_table in tables.values()) + _BOTTOM
    cells = [cell for of_table in tables.values() for cell in of_table.values()]
    rates = _axis(_NAMES, [cell["per_s"] for cell in cells])
    costs = _axis(_NAMES + _PANEL + _GAP, [cell["cpu_us"] for cell in cells])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">',
            f"<title>{escape(_alternative(tables))}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect width="{_WIDTH}" height="{height}"/>',
            *_scale(rates, "requests/s, more is better", height),
            *_scale(costs, "server CPU, µs a request, less is better", height),
            *_rows(tables, rates, costs),
            f'<text class="pale" x="{_MARGIN}" y="{height - 10}">{escape(_foot(results))}</text>',
            "</svg>",
            "",
        ]
    )


def _axis(left: float, found: list[Found]) -> _Axis:
    low = math.floor(math.log10(min(one["min"] for one in found)))
    return _Axis(left, low, max(math.ceil(math.log10(max(one["max"] for one in found))), low + 1))


def _scale(axis: _Axis, title: str, height: float) -> Iterator[str]:
    yield f'<text class="title" x="{axis.left}" y="24">{escape(title)}</text>'
    for tick in axis.ticks():
        x = f"{axis.at(tick):.1f}"
        yield f'<line x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{height - _BOTTOM}"/>'
        yield f'<text class="pale middle" x="{x}" y="{_TOP - 14}">{tick:,.0f}</text>'


def _rows(tables: Mapping[str, Mapping[str, Mapping[str, Found]]], *axes: _Axis) -> Iterator[str]:
    y = float(_TOP)
    for title, cells in tables.items():
        y += _GROUP
        yield f'<text class="title" x="{_MARGIN}" y="{y - 10:.0f}">{escape(title)}</text>'
        for name, cell in cells.items():
            kind = "ours" if name.startswith(_OURS) else "other"
            yield f'<text class="end" x="{_NAMES - 14}" y="{y + 9:.0f}">{escape(name)}</text>'
            for axis, key in zip(axes, ("per_s", "cpu_us"), strict=True):
                yield from _mark(axis, cell[key], y + 5, kind)
            y += _ROW


def _mark(axis: _Axis, found: Found, y: float, kind: str) -> Iterator[str]:
    least, median, most = (axis.at(found[key]) for key in ("min", "median", "max"))
    yield f'<line class="{kind}" x1="{least:.1f}" y1="{y:.0f}" x2="{most:.1f}" y2="{y:.0f}"/>'
    yield f'<circle class="{kind}" cx="{median:.1f}" cy="{y:.0f}" r="4.5"/>'
    value = found["median"]
    told = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    yield f'<text class="pale" x="{max(most, median + 5) + 6:.1f}" y="{y + 4:.0f}">{told}</text>'


def _alternative(tables: Mapping[str, Mapping[str, Mapping[str, Found]]]) -> str:
    said = []
    for title, cells in tables.items():
        rates = ", ".join(f"{name} {cell['per_s']['median']:,.0f}" for name, cell in cells.items())
        said.append(f"{title}: {rates}")
    return f"Requests per second. {'. '.join(said)}"


def _foot(results: Mapping[str, Any]) -> str:
    where = results["environment"]
    return (
        f"{results['rounds']} rounds of {results['seconds']:g} s, {where['cpus']} CPUs ({where['machine']}); dots are medians, "
        "lines go from the smallest to the largest; filled: this server"
    )

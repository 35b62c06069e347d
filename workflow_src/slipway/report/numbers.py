"""
How numbers look on the page: three significant digits, a unit, `–` for what was not measured.

Every number that a reader sees goes through here, so that the same value reads the same everywhere.
"""

import math
from collections.abc import Callable

from slipway.statistics import Estimate

NOT_MEASURED = "–"
_MINUS = "−"
_THIN_SPACE = "\u202f"  # narrow and non-breaking
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 3) -> str:
    """
    Show *value* with *digits* significant digits: 0.00123, 4.56, 789, 9 870, 12.3k, 4.56M.

    A value that is not 0 never reads as 0; infinity reads ∞, None and NaN read –.
    """
    if value is None or math.isnan(value):
        return NOT_MEASURED
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    rounded = _round(abs(value), digits)
    sign = _MINUS if value < 0 else ""
    if rounded >= 1e15 or 0 < rounded < 1e-4:
        return sign + _scientific(rounded, digits)
    if rounded < 1e4:
        return sign + _plain(rounded, digits)
    scale, prefix = next((s, p) for s, p in _PREFIXES if rounded >= s)
    return f"{sign}{_plain(rounded / scale, digits)}{prefix}"


def _round(value: float, digits: int) -> float:
    if value == 0:
        return 0.0
    return float(f"{value:.{digits - 1}e}")


def _plain(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(value) + 1e-12)
    text = f"{value:.{max(0, digits - 1 - exponent)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return integer(int(text)) if text.isdigit() else text


def _scientific(value: float, digits: int) -> str:
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{integer(int(power))}"


def integer(value: int | None) -> str:
    """Show a count in full, in groups of three: 1 234 567."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,}".replace(",", _THIN_SPACE).replace("-", _MINUS)


def duration(seconds: float | None) -> str:
    """Show a duration given in seconds with the unit that suits it: 85 µs, 3.21 ms, 4.5 s, 2 min 5 s."""
    if seconds is None or not math.isfinite(seconds):
        return number(seconds)
    size = abs(seconds)
    if size >= 119.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{integer(minutes)} min" + (f" {rest} s" if rest else "")
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if _round(size, 3) >= scale:
            return f"{number(seconds / scale)} {unit}"
    return f"{number(seconds * 1e6)} µs" if size else "0 s"


def microseconds(value: float | None) -> str:
    """Show a duration given in microseconds."""
    return duration(None if value is None else value / 1e6)


def size(value: float | None) -> str:
    """Show a number of bytes: 195 B, 3.18 kB, 212 MB (decimal, as disks and networks count)."""
    if value is None or not math.isfinite(value):
        return number(value)
    rounded = _round(abs(value), 3)
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if rounded >= scale:
            return f"{number(value / scale)} {unit}"
    return f"{number(value)} B"


def percent(share: float | None, digits: int = 3) -> str:
    """Show a share of one: 0.9312 reads 93.1%. What is not everything never reads 100%."""
    if share is None or math.isnan(share):
        return NOT_MEASURED
    text = number(share * 100, digits)
    if share < 1 and text == "100":
        text = number(math.floor(share * 1e6) / 1e4, 6) if share < 1 - 1e-6 else ">99.9999"
    return f"{text}%"


def ratio(value: float | None) -> str:
    """Show a ratio with its zeros, so that those in a column or an interval agree: 1.80, 12.3."""
    if value is None or not 0.01 <= value < 999:
        return number(value)
    exponent = math.floor(math.log10(_round(value, 3)) + 1e-12)
    return f"{value:.{max(0, 2 - exponent)}f}"


def change(ratio_: float) -> str:
    """Write a ratio as a change: 1.034 is +3.4 %."""
    written = f"{(ratio_ - 1) * 100:+.1f}".replace("-", _MINUS)
    return "0.0 %" if written[1:] == "0.0" else f"{written} %"


def times(value: float | None) -> str:
    """Show a ratio as a factor: 1.80×."""
    return NOT_MEASURED if value is None else f"{ratio(value)}×"


def times_tick(value: float) -> str:
    """Show a factor at a tick of an axis, where it is round: 2×."""
    return f"{number(value)}×"


def interval(estimate: Estimate | None, show: Callable[[float], str] = number) -> str:
    """Show the interval alone: [1.74, 1.91], or why there is none."""
    if estimate is None:
        return ""
    if estimate.low is None or estimate.high is None:
        return f"[no interval from {estimate.n} repetition{'s' if estimate.n != 1 else ''}]"
    return f"[{show(estimate.low)}, {show(estimate.high)}]"


def with_interval(estimate: Estimate | None, show: Callable[[float], str] = number) -> str:
    """Show an estimate and its interval: 1.82× [1.74×, 1.91×]; without one, the value alone."""
    if estimate is None:
        return NOT_MEASURED
    if estimate.low is None:
        return show(estimate.value)
    return f"{show(estimate.value)} {interval(estimate, show)}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Show a count with its noun: 1 repetition, 60 repetitions."""
    return f"{integer(count)} {noun if count == 1 else plural or noun + 's'}"


def moment(created: str) -> str:
    """Show an RFC 3339 time in UTC as people write it."""
    return created.replace("T", " ").replace("Z", " UTC")


def short_digest(digest: str) -> str:
    """Shorten a digest to what people compare by eye; the page gives the full one beside it."""
    algorithm, _, hexadecimal = digest.partition(":")
    return f"{algorithm}:{hexadecimal[:12]}…" if len(hexadecimal) > 12 else digest

"""badge.svg: the verdict of a report as the small picture that a README shows."""

from markupsafe import Markup

from slipway.records import Result
from slipway.report import numbers
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, measurements
from slipway.report.svg import element
from slipway.report.verdict import WORDS, State, judge, worst

BADGE_FILE = "badge.svg"
LABEL = "slipway"
# White on each has a contrast of 4.5 : 1 or more (WCAG AA), on light pages and dark ones.
COLOURS: dict[State, str] = {
    "proven": "#1a7f37",
    "unproven": "#6e5a00",
    "unisolated": "#9a4a00",
    "invalid": "#9a4a00",
    "faulty": "#b3261e",
    "wrong": "#b3261e",
}
_LABEL_COLOUR = "#3d444d"
_HEIGHT, _PAD, _SIZE = 20, 6, 11
# A character of the widest of the fonts asked for, at this size; the text is told to fit.
_CHARACTER = 6.6


def badge_message(result: Result) -> str:
    """Say the verdict and, of a single measurement, the best rate of each protocol: `Proven · REST 10.3k/s, gRPC 8.98k/s`."""
    measured = measurements(result)
    word = WORDS[badge_state(result)]
    if len(measured) != 1:
        return word
    peaks = {protocol: measured[0].peak(protocol) for protocol in PROTOCOLS}
    rates = [
        f"{PROTOCOL_NAMES[protocol]} {numbers.number(peak.predictions_per_s.value)}/s"
        for protocol, peak in peaks.items()
        if peak and peak.predictions_per_s
    ]
    return f"{word} · {', '.join(rates)}" if rates else word


def badge_state(result: Result) -> State:
    """Give the worst verdict of all that was measured."""
    return worst([judge(measurement) for measurement in measurements(result)])


def badge_svg(result: Result) -> str:
    """Draw the badge; a picture of text, so it says the same in `aria-label` and a title."""
    message, colour = badge_message(result), COLOURS[badge_state(result)]
    left, right = (len(words) * _CHARACTER + 2 * _PAD for words in (LABEL, message))
    told = f"{LABEL}: {message}"
    content = Markup().join(
        (
            element("title", told),
            element("rect", width=left, height=_HEIGHT, fill=_LABEL_COLOUR),
            element("rect", x=left, width=right, height=_HEIGHT, fill=colour),
            _words(LABEL, 0, left),
            _words(message, left, right),
        )
    )
    drawn = element(
        "svg",
        content,
        xmlns="http://www.w3.org/2000/svg",
        width=left + right,
        height=_HEIGHT,
        viewBox=f"0 0 {left + right:.1f} {_HEIGHT}",
        role="img",
        aria_label=told,
        font_family="Verdana, DejaVu Sans, sans-serif",
        font_size=_SIZE,
        fill="#fff",
    )
    return f"{drawn}\n"


def _words(words: str, start: float, width: float) -> Markup:
    return element("text", words, x=start + _PAD, y=14, textLength=width - 2 * _PAD, lengthAdjust="spacingAndGlyphs")

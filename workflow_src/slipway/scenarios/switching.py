"""
Versions that change while requests arrive: which of them may answer a request, and how long nobody did. Pure.

Requests that name no version go to the newest one that is there. While that changes, the one before and the one after
may answer; before it begins only the first, once it has ended only the second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slipway_wire.samples import Samples

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Step:
    """
    One change of what a server serves.

    Attributes:
        key: Short name of its duration.
        name: What took so long.
        at: When it begins, as a share of the window.
        act: Makes it and waits until it holds, or raises ServerError.
        newest: The version that requests without one go to afterwards; None: that is not known.
    """

    key: str
    name: str
    at: float
    act: Callable[[], None]
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """
    A step as it was made.

    Attributes:
        begin_us: When it was ordered, µs after the load's origin.
        end_us: When it held.
        answers: The place among the right answers (`Samples.fits`) of the version that answers afterwards.
    """

    begin_us: float
    end_us: float
    answers: int = 0


def permitted(samples: Samples, changes: Sequence[Change], first: int = 0) -> npt.NDArray[np.uint8]:
    """
    Say which answers each request may get.

    Args:
        samples: Of the whole load.
        changes: In their order.
        first: The place of the answers of the version that requests go to before the first change.

    Returns:
        Bits as in `Samples.fits`, uint8 [requests].
    """
    sent, done = samples.planned_us + samples.slip_us, samples.done_us
    found = np.zeros(len(sent), np.uint8)
    begins = [-np.inf, *(change.begin_us for change in changes)]
    ends = [*(change.end_us for change in changes), np.inf]
    for begin, end, place in zip(begins, ends, [first, *(change.answers for change in changes)], strict=True):
        # Under way at any time between the order that it comes and the moment at which the next one has come.
        found |= np.where((done >= begin) & (sent <= end), 1 << place, 0).astype(np.uint8)
    return found


def wrong_versions(samples: Samples, changes: Sequence[Change], first: int = 0) -> Flags:
    """Say of each request whether its answer is right, but that of a version that should not have answered; bool [requests]."""
    assert samples.fits is not None  # whoever asks has ordered alternatives
    found: Flags = (samples.fits != 0) & (samples.fits & permitted(samples, changes, first) == 0) & ~samples.failed
    return found


def while_changing(samples: Samples, changes: Sequence[Change]) -> Flags:
    """Say of each request whether it was due while a change was under way; bool [requests]."""
    found = np.zeros(len(samples.planned_us), bool)
    for change in changes:
        found |= (samples.planned_us >= change.begin_us) & (samples.planned_us <= change.end_us)
    return found


def longest_silence_us(samples: Samples, changes: Sequence[Change]) -> tuple[float | None, float | None]:
    """
    Find how long at most no answer arrived in the window.

    Returns:
        Microseconds between two answers: while a change was under way, and otherwise; None where there are no two.
    """
    done = np.sort(samples.done_us[~samples.failed])
    done = done[(done >= samples.begin_us) & (done <= samples.end_us)]
    begins, silences = done[:-1], np.diff(done)
    changing = np.zeros(len(silences), bool)
    for change in changes:
        changing |= (begins <= change.end_us) & (begins + silences >= change.begin_us)
    longest = [float(silences[chosen].max()) if chosen.any() else None for chosen in (changing, ~changing)]
    return longest[0], longest[1]

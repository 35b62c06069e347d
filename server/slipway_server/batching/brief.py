"""Which runs are so short that the thread that takes requests in may make them itself."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

BRIEF_S = 0.002
"""A run that takes no longer may be made between two looks for requests: who asks for anything else waits that long for it."""

# A run that took longer than was expected held up all that came in meanwhile. For so many times as long no such run is expected
# to be brief: of all time, each kind of run takes at most a hundredth by surprise.
_DISTRUST = 100.0

# The largest run there was is told of by smaller ones, the less the longer ago it was: it may have been held up by something else.
_FADING = 0.98

# Callers choose shapes, so callers could make any number of them.
_MOST_KEYS = 1024


@dataclass(slots=True)
class _Seen:
    size: float = 0.0
    """The largest there was, lately."""
    took_s: float = 0.0
    """The last of that size."""
    is_trusted: bool = False
    """Whether a run was brief, and none since has taken longer than was expected."""
    trusted_from: float = 0.0


class Brief:
    """
    Tells from the runs there were how long the next will take.

    What has not run yet, and what has lately taken longer than was expected, is not expected to be brief until another thread has run
    it, and was. Owns no clock and no lock.
    """

    def __init__(self) -> None:
        """Begin with no run."""
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()

    def note(self, key: Hashable, size: int, took_s: float, now: float) -> None:
        """
        Take note of a run.

        Args:
            key: Equal for runs that do the same.
            size: How much it had to do, in any unit, >= 1.
            took_s: From its beginning to its end, s.
            now: Its end, monotonic, s.
        """
        was_expected = self.expects(key, size)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen()
            if len(self._seen) > _MOST_KEYS:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        if size >= seen.size:
            seen.size, seen.took_s = size, took_s
        else:
            seen.size, seen.took_s = seen.size * _FADING, seen.took_s * _FADING
        if took_s <= BRIEF_S:
            seen.is_trusted = seen.is_trusted or now >= seen.trusted_from
        elif was_expected:
            seen.is_trusted, seen.trusted_from = False, now + _DISTRUST * took_s

    def expects(self, key: Hashable, size: int) -> bool:
        """Say whether a run of *size* will be brief: whether it is, if it takes its share of what the largest there was took."""
        seen = self._seen.get(key)
        return seen is not None and seen.is_trusted and seen.took_s * size <= BRIEF_S * seen.size

"""Are the answers right? Every answer is kept apart by its bytes while the load runs and judged when it is over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from slipway_wire.tolerances import Tolerance

Array = npt.NDArray[Any]

# Up to this size an answer costs less to look up than a microsecond; of larger ones the first of each load and every
# n-th are looked at.
_CHEAP_BYTES = 4096
# A server whose answers never repeat may not fill the memory: so much is for the load under way, as much again for
# answers that were found good before.
_MAX_KEPT_BYTES = 64 * 2**20
# Characters of what a decoder says, for the one line that the fault is told in.
_MOST_TOLD = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many answers' values were compared with what is expected, how many differ, and how the first of those does."""

    checked: int
    wrong: int
    first_wrong: str | None


class Answers:
    """
    What came back for each payload.

    Args:
        expected: By payload: output name -> array; None where nobody knows the answer.
        decode: Reads an answer to a payload (its number, the bytes) into output name -> array.
        tolerance: How near an output must come to what is expected for a payload (its number, the output's name).
        alternatives: Like *expected*: answers that are right, too, as those of another version of the model. Which of them
            came can then be followed.
    """

    def __init__(
        self,
        expected: Sequence[Mapping[str, Array] | None],
        decode: Callable[[int, bytes], Mapping[str, Array]],
        tolerance: Callable[[int, str], Tolerance],
        alternatives: Sequence[Sequence[Mapping[str, Array] | None]] = (),
    ) -> None:
        self._expected = expected
        self._alternatives = alternatives
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._decode = decode
        self._tolerance = tolerance
        # An answer of which no value is known has been looked at, and yet proves nothing.
        self._proves = [
            any(not tolerance(number, name).any_value for name in outputs or ())
            for number, outputs in enumerate(expected)
        ]
        self._seen: list[dict[bytes, int]] = [{} for _ in expected]
        self._lengths: list[set[int]] = [set() for _ in expected]
        self._good: list[set[bytes]] = [set() for _ in expected]
        self._kept_bytes = self._good_bytes = 0
        # By payload: payloads are sent in turn, and a common count would hit the same ones every time.
        self._passed = [0] * len(expected)

    def see(self, payload: int, answer: bytes) -> None:
        """Take down that *answer* came for *payload*; costs about 0.2 µs, whatever its content."""
        size = len(answer)
        if size > _CHEAP_BYTES and size in self._lengths[payload]:
            self._passed[payload] += 1
            if self._passed[payload] % -(-size // _CHEAP_BYTES):
                return
        seen = self._seen[payload]
        count = seen.get(answer)
        if count is None:
            if self._kept_bytes > _MAX_KEPT_BYTES:
                return
            self._kept_bytes += size
            self._lengths[payload].add(size)
            count = 0
        seen[answer] = count + 1

    @property
    def follows(self) -> bool:
        """Whether there are several right answers, to be told apart."""
        return bool(self._alternatives)

    def follow(self, payload: int, answer: bytes) -> int:
        """Take an answer down as `see` does, and give it a number for `fits`; -1 if it was not looked at."""
        self.see(payload, answer)
        if answer not in self._seen[payload]:
            return -1
        return self._numbers.setdefault((payload, answer), len(self._numbers))

    def fits(self) -> list[int]:
        """Say of every number that `follow` gave since the last call which right answers it is: see `Samples.fits`."""
        found = [self._fit(payload, answer) for payload, answer in self._numbers]
        self._numbers.clear()
        return found

    def _fit(self, payload: int, answer: bytes) -> int:
        right = [expected[payload] for expected in (self._expected, *self._alternatives)]
        try:
            found = self._decode(payload, answer)
        except Exception:  # `judge` tells
            return 0
        return sum(1 << place for place, one in enumerate(right) if one is not None and self._is(payload, one, found))

    def _is(self, payload: int, expected: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
        return difference(expected, found, lambda name: self._tolerance(payload, name)) is None

    def judge(self) -> Verdict:
        """Compare everything seen since the last call with what is expected."""
        checked = wrong = 0
        first_wrong = None
        for payload, seen in enumerate(self._seen):
            for answer, count in seen.items():
                if self._expected[payload] is None:
                    continue
                fault = self._fault(payload, answer)
                checked += count if self._proves[payload] or fault else 0
                if fault is not None:
                    wrong += count
                    first_wrong = first_wrong or f"payload {payload}: {fault}"
            seen.clear()
            self._lengths[payload].clear()
        self._kept_bytes = 0
        return Verdict(checked, wrong, first_wrong)

    def _fault(self, payload: int, answer: bytes) -> str | None:
        if answer in self._good[payload]:
            return None
        expected = self._expected[payload]
        assert expected is not None  # looked at by the caller
        try:
            found = self._decode(payload, answer)
        except Exception as error:  # whatever a decoder says of bytes that are no answer
            # An error quotes what came, with its own lines.
            return f"cannot be read: {' '.join(str(error).split())[:_MOST_TOLD]}"
        fault = difference(expected, found, lambda name: self._tolerance(payload, name))
        others = [one for alternative in self._alternatives if (one := alternative[payload]) is not None]
        if fault is not None and any(self._is(payload, one, found) for one in others):
            fault = None
        if fault is None and self._good_bytes <= _MAX_KEPT_BYTES:
            self._good[payload].add(answer)
            self._good_bytes += len(answer)
        return fault


def difference(
    expected: Mapping[str, Array], found: Mapping[str, Array], tolerance: Callable[[str], Tolerance]
) -> str | None:
    """
    Say in one line how *found* departs from *expected*; None if it does not.

    Args:
        expected: Output name -> array.
        found: The same, as it came.
        tolerance: How near an output must come, by its name.
    """
    if expected.keys() != found.keys():
        return f"expected outputs {', '.join(sorted(expected))}, got {', '.join(sorted(found)) or 'none'}"
    for name, wanted in expected.items():
        if fault := tolerance(name).difference(wanted, found[name]):
            return f"{name}{fault}" if fault.startswith("[") else f"{name}: {fault}"
    return None

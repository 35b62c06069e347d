"""Recording requests: four appends while the load runs, everything else afterwards. Locust's own percentiles are not used."""

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slipway_wire.samples import Samples


class Recorder:
    """
    Raw times of every request, in nanoseconds of CLOCK_MONOTONIC.

    Args:
        follows: Whether each answer is taken down by its number, too.
        numbered: Whether each request is taken down with the number of its payload.
    """

    def __init__(self, *, follows: bool = False, numbered: bool = False) -> None:
        self._answers = array("i") if follows else None
        self._payloads = array("i") if numbered else None
        self._planned = array("q")
        self._sent = array("q")
        self._done = array("q")
        self._failed = array("b")
        self.errors: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._done)

    def answered(self, planned_ns: int, sent_ns: int, done_ns: int, answer: int = -1, payload: int = -1) -> None:
        """
        Take down a request whose answer arrived in full.

        Args:
            planned_ns: When it was due.
            sent_ns: When it was sent.
            done_ns: When the answer was there.
            answer: Its number (`Answers.follow`); -1: it has none.
            payload: What was sent.
        """
        self._planned.append(planned_ns)
        self._sent.append(sent_ns)
        self._done.append(done_ns)
        self._failed.append(0)
        if self._answers is not None:
            self._answers.append(answer)
        if self._payloads is not None:
            self._payloads.append(payload)

    def failed(self, planned_ns: int, sent_ns: int, done_ns: int, kind: str) -> None:
        """Take down a request that ended otherwise; *kind* is what errors are counted by."""
        self.answered(planned_ns, sent_ns, done_ns)
        self._failed[-1] = 1
        self.errors[kind] += 1

    def samples(self, origin_ns: int, begin_ns: int, end_ns: int, first: int = 0, fits: Sequence[int] = ()) -> Samples:
        """
        Give what was recorded, in the order in which requests were due.

        Args:
            origin_ns: When the load began; nothing counts as earlier.
            begin_ns: Begin of the measured window.
            end_ns: Its end.
            first: Leave out so many requests, the first that were recorded.
            fits: What answers are, by their numbers; see `Samples.fits`.
        """
        # A connection that was refused before the load began is a failure of its first moment.
        planned, sent, done = (
            np.maximum(np.array(times[first:], np.int64), origin_ns)
            for times in (self._planned, self._sent, self._done)
        )
        order = np.argsort(planned, kind="stable")
        return Samples(
            origin_ns=origin_ns,
            begin_us=(begin_ns - origin_ns) // 1000,
            end_us=(end_ns - origin_ns) // 1000,
            planned_us=((planned - origin_ns) // 1000)[order],
            slip_us=((sent - planned) // 1000)[order],
            service_us=((done - sent) // 1000)[order],
            failed=np.array(self._failed[first:], bool)[order],
            fits=None if self._answers is None else self._fits(fits)[first:][order],
            payload=None if self._payloads is None else np.array(self._payloads[first:], np.int32)[order],
        )

    def _fits(self, fits: Sequence[int]) -> npt.NDArray[np.uint8]:
        # The last entry is that of -1.
        return np.array([*fits, 0], np.uint8)[np.array(self._answers, np.int64)]

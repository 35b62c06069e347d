"""The load generator's sample file: one row per request, from which every statistic can be derived again."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """
    All requests of one load, in the order in which they were due.

    Attributes:
        origin_ns: CLOCK_MONOTONIC when the load began, its warm-up included; the zero of `planned_us`.
        begin_us: Where the measured window begins, µs after the origin.
        end_us: Where it ends.
        planned_us: When each request was due, int64 [requests]. In a closed loop: when it was sent.
        slip_us: How much later it was sent.
        service_us: From sending to the last byte of the answer; for a request that failed, to its failure.
        failed: Whether it got no good answer, bool [requests].
        fits: Which of several right answers it got, uint8 [requests]: bit 0 for its payload's own, the next ones for the
            alternatives in their order; 0 where the answer was not looked at. None where there is one right answer.
        payload: The number of the payload that each answered request sent, int32 [requests]; -1 for one that failed. None
            where nobody asked for it.
    """

    origin_ns: int
    begin_us: int
    end_us: int
    planned_us: Column
    slip_us: Column
    service_us: Column
    failed: npt.NDArray[np.bool_]
    fits: npt.NDArray[np.uint8] | None = None
    payload: npt.NDArray[np.int32] | None = None

    @property
    def done_us(self) -> Column:
        """When each answer was complete, µs after the origin."""
        return self.planned_us + self.slip_us + self.service_us


def write(path: Path, samples: Samples) -> None:
    """Write *samples* as compressed .npz: some 5 bytes per request."""
    columns = {"fits": samples.fits, "payload": samples.payload}
    optional: dict[str, Any] = {name: column for name, column in columns.items() if column is not None}
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            # The first number counts formats; there is one so far.
            header=np.array([1, samples.origin_ns, samples.begin_us, samples.end_us], np.int64),
            # 32 bits of microseconds last for more than an hour.
            planned_us=samples.planned_us.astype(np.uint32),
            slip_us=samples.slip_us.astype(np.uint32),
            service_us=samples.service_us.astype(np.uint32),
            failed=np.packbits(samples.failed),
            **optional,
        )


def read(path: Path) -> Samples:
    """
    Read the sample file at *path*.

    Raises:
        ValueError: If it is damaged or something else; the message names the file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            _, origin_ns, begin_us, end_us = arrays["header"].tolist()
            planned_us = arrays["planned_us"].astype(np.int64)
            return Samples(
                origin_ns=origin_ns,
                begin_us=begin_us,
                end_us=end_us,
                planned_us=planned_us,
                slip_us=arrays["slip_us"].astype(np.int64),
                service_us=arrays["service_us"].astype(np.int64),
                failed=np.unpackbits(arrays["failed"], count=len(planned_us)).astype(bool),
                fits=arrays.get("fits"),
                payload=arrays.get("payload"),
            )
    except (KeyError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a sample file: {error}") from error


def merged(parts: Sequence[Samples]) -> Samples:
    """
    Put together what several workers recorded of one load.

    Raises:
        ValueError: If their windows differ: they did not take part in the same load.
    """
    first = parts[0]
    if any((p.origin_ns, p.begin_us, p.end_us) != (first.origin_ns, first.begin_us, first.end_us) for p in parts):
        raise ValueError("samples of different windows are not one load")
    planned_us = np.concatenate([part.planned_us for part in parts])
    order = np.argsort(planned_us, kind="stable")
    fits = [part.fits for part in parts if part.fits is not None]
    sent = [part.payload for part in parts if part.payload is not None]
    return Samples(
        origin_ns=first.origin_ns,
        begin_us=first.begin_us,
        end_us=first.end_us,
        planned_us=planned_us[order],
        slip_us=np.concatenate([part.slip_us for part in parts])[order],
        service_us=np.concatenate([part.service_us for part in parts])[order],
        failed=np.concatenate([part.failed for part in parts])[order],
        fits=np.concatenate(fits)[order] if len(fits) == len(parts) else None,
        payload=np.concatenate(sent)[order] if len(sent) == len(parts) else None,
    )

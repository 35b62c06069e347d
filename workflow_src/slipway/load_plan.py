"""Which windows a benchmark measures, in which order, and at which rate. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slipway.errors import InvalidMeasurement
from slipway.records import Load, Protocol, Repetition

PROTOCOLS: tuple[Protocol, ...] = ("rest", "grpc")
NAMES: dict[Protocol, str] = {"rest": "REST", "grpc": "gRPC"}


@dataclass(frozen=True, slots=True)
class Planned:
    """One cell: what the load is, and how its files and errors call it."""

    protocol: Protocol
    load: Load

    @property
    def id(self) -> str:
        """Such as rest-closed-16."""
        return f"{self.protocol}-{self.load.kind}-{self.load.concurrency or _told(self.load.rate or 0)}"

    def __str__(self) -> str:
        """Such as `REST, 16 users`."""
        name = NAMES[self.protocol]
        users = self.load.concurrency
        if users is None:
            return f"{name}, {_told(self.load.rate or 0)} requests/s offered"
        return f"{name}, {users} users" if users > 1 else f"{name}, 1 user"


def _told(rate: float) -> str:
    """Write a rate; those of a slow server differ by less than one."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def closed_cells(concurrency: Sequence[int], protocols: Sequence[Protocol] = PROTOCOLS) -> list[Planned]:
    """List the cells of the sweep over *concurrency*."""
    return [
        Planned(protocol, Load(kind="closed", concurrency=users)) for users in concurrency for protocol in protocols
    ]


def open_cells(rate: float, protocols: Sequence[Protocol] = PROTOCOLS) -> list[Planned]:
    """List the cells with *rate* requests per second offered."""
    return [Planned(protocol, Load(kind="open", rate=rate)) for protocol in protocols]


def place(planned: Planned) -> tuple[str, float, int]:
    """Give the place of a cell in the record: closed loop first, then by concurrency or rate, REST before gRPC."""
    return planned.load.kind, planned.load.concurrency or planned.load.rate or 0, PROTOCOLS.index(planned.protocol)


def interleaved(cells: Sequence[Planned], seed: int, index: int) -> list[Planned]:
    """Put *cells* in the random order of repetition *index*: neither protocol always comes first, or after the other."""
    shuffled = list(cells)
    random.Random(f"{seed}/order/{index}").shuffle(shuffled)  # noqa: S311 - the same order tomorrow is the point
    return shuffled


def offered_rate(
    cells: Mapping[Planned, Sequence[Repetition]], share: float, setting: str = "benchmark.window_s"
) -> float:
    """
    Choose the rate of the open loop: *share* of the slower protocol's peak, so that both can keep up.

    The peak is the best median throughput over concurrency; only valid repetitions count, unless there are none.

    Args:
        cells: What was measured, by cell of the closed loop.
        share: Of the peak, 0..1.
        setting: What the length of windows is called, for the error.

    Raises:
        InvalidMeasurement: If a protocol never answered within a window: there is nothing to take a share of.
    """
    peaks: dict[Protocol, float] = {}
    for planned, measured in cells.items():
        counted = [r for r in measured if not r.invalid] or measured
        median = float(np.median([r.throughput_rps for r in counted]))
        peaks[planned.protocol] = max(peaks.get(planned.protocol, 0.0), median)
    slower = min(peaks, key=peaks.__getitem__)
    if not peaks[slower]:
        raise InvalidMeasurement(
            f"{NAMES[slower]} answered nothing within a window, whatever the concurrency: the model takes longer. "
            f"Set {setting} to several times what one request takes."
        )
    return share * peaks[slower]

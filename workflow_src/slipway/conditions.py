"""
What the machine did while a load ran, half a second at a time: who used its CPUs, and what slowed it down.

One process watches another from outside: nothing here touches the server or the generator.
"""

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from slipway import cgroups, cpu, gpu
from slipway.cgroups import Limits
from slipway.gpu import GpuReading, Gpus
from slipway.records import GpuUse

SLOT_S = 0.5
# With fewer, an ordinary clock and a peak are not to be told apart.
_LEAST_CLOCKS = 4
# A governor lowers the clock of a CPU that has little to do, and should; a busy one ought to get what there is.
_BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What was used up to one moment.

    Attributes:
        time_ns: CLOCK_MONOTONIC.
        server_ns: CPU time of the server; None if it cannot be read.
        busy_s: CPU time of everything on the CPUs that server and generator have.
        stolen_s: Of that, what a hypervisor gave to other machines.
        generator_ns: CPU time of the load generator; None if it was not read.
    """

    time_ns: int
    server_ns: int | None
    busy_s: float
    stolen_s: float = 0.0
    generator_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """
    What may have disturbed one window. None: it cannot be told here.

    Attributes:
        foreign_slots: Cores that neither server nor generator used, in each slot; () without slots.
        stolen_share: Of the CPUs' time, 0..1.
        clock_share: See `clock_share`.
        throttled_s: How long a quota had the server or the generator wait, the longer of both.
        oom_kills: Processes of theirs that were ended because memory ran out.
        gpu: What the GPUs did; None: none did anything.
    """

    foreign_slots: tuple[float, ...] = ()
    stolen_share: float | None = None
    clock_share: float | None = None
    throttled_s: float | None = None
    oom_kills: int | None = None
    gpu: GpuUse | None = None


class Watch:
    """Reads now and then, from the begin of a window to its end."""

    def __init__(
        self,
        server: Sequence[int],
        generator: Sequence[int],
        *,
        cpus: Sequence[int] | None,
        count: int,
        server_cpus: Sequence[int],
        limited: Sequence[int],
        gpus: Gpus | None,
        with_children: bool = False,
    ) -> None:
        """
        Prepare.

        Args:
            server: The server's processes.
            generator: The generator's, likewise.
            cpus: Where both run; None: on all of the host.
            count: How many CPUs these are.
            server_cpus: Where the server runs.
            limited: Processes whose quota should not have them wait.
            gpus: The machine's.
            with_children: Whether the generator has another program make the load.
        """
        self._server = cpu.CpuMeter(server)
        self._generator = cpu.CpuMeter(generator, with_children=with_children)
        self._cpus, self._count, self._server_cpus, self._limited, self._gpus = cpus, count, server_cpus, limited, gpus
        self._readings: list[Reading] = []
        self._clocks: list[float | None] = []
        self._limits: list[list[Limits]] = []
        self._gpu: list[GpuReading | None] = []

    def read(self) -> Reading:
        """Read everything that may change from slot to slot."""
        times = cpu.times(self._cpus)
        reading = Reading(
            time.monotonic_ns(), self._server.read_ns(), times.busy_s, times.stolen_s, self._generator.read_ns()
        )
        self._readings.append(reading)
        self._clocks.append(cpu.clock_mhz(self._server_cpus))
        self._gpu.append(self._gpus.read(reading.time_ns / 1e9) if self._gpus else None)
        return reading

    def read_limits(self) -> None:
        """Read the counters of control groups; at the begin and at the end."""
        self._limits.append([cgroups.limits(pid) for pid in self._limited])

    def conditions(self) -> Conditions:
        """Sum up what was read, at least twice."""
        throttled, kills = limits_between(self._limits[0], self._limits[-1])
        known = [reading for reading in self._gpu if reading is not None]
        first, last = self._readings[0], self._readings[-1]
        seconds = (last.time_ns - first.time_ns) / 1e9 * self._count
        return Conditions(
            foreign_slots=foreign_slots(self._readings),
            stolen_share=(last.stolen_s - first.stolen_s) / seconds if seconds else None,
            clock_share=clock_share(self._readings, self._clocks, len(self._server_cpus)),
            throttled_s=throttled,
            oom_kills=kills,
            gpu=gpu.use(known) if len(known) == len(self._gpu) else None,
        )


def foreign_slots(readings: Sequence[Reading]) -> tuple[float, ...]:
    """Give the cores that something else used between each two readings; () where one is unknown."""
    found = []
    for begin, end in itertools.pairwise(readings):
        used = [begin.server_ns, end.server_ns, begin.generator_ns, end.generator_ns]
        if any(value is None for value in used):
            return ()
        server, generator = (
            (end.server_ns or 0) - (begin.server_ns or 0),
            (end.generator_ns or 0) - (begin.generator_ns or 0),
        )
        seconds = (end.time_ns - begin.time_ns) / 1e9
        # A last slot may be too short for a clock of 10 ms.
        if seconds > SLOT_S / 2:
            found.append(max(0.0, (end.busy_s - begin.busy_s - (server + generator) / 1e9) / seconds))
    return tuple(found)


def clock_share(readings: Sequence[Reading], clocks: Sequence[float | None], cpus: int) -> float | None:
    """
    Give the median clock of CPUs that were busy with the server, as a share of the second highest; None with fewer than four.

    A clock is read at a moment: neither one that was low nor one in which a boost was at its peak says anything of a window.
    """
    busy = []
    for begin, end, clock in zip(readings, readings[1:], clocks[1:], strict=False):
        if clock is None or begin.server_ns is None or end.server_ns is None:
            continue
        if end.server_ns - begin.server_ns >= _BUSY * cpus * (end.time_ns - begin.time_ns):
            busy.append(clock)
    return statistics.median(busy) / sorted(busy)[-2] if len(busy) >= _LEAST_CLOCKS else None


def limits_between(before: Sequence[Limits], after: Sequence[Limits]) -> tuple[float | None, int | None]:
    """Give how long the process that waited longest was throttled, and how many were ended; None where nothing counts it."""
    waited = [
        end.throttled_s - begin.throttled_s
        for begin, end in zip(before, after, strict=True)
        if begin.throttled_s is not None and end.throttled_s is not None
    ]
    killed = [
        end.oom_kills - begin.oom_kills
        for begin, end in zip(before, after, strict=True)
        if begin.oom_kills is not None and end.oom_kills is not None
    ]
    return max(waited, default=None), max(killed, default=None)

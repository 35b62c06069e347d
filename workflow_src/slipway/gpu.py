"""What the machine's NVIDIA GPUs did, told by their driver (NVML); the package `nvidia-ml-py` is optional, and so is a GPU."""

import contextlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from slipway.records import GpuUse

# What lowers clocks without being a fault, or says that nothing does: idleness, clocks that somebody set, a display's clocks.
_HARMLESS = 0x1 | 0x2 | 0x100
# nvml.h, nvmlClocksEventReasons.
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "too hot (driver)",
    0x40: "too hot (hardware)",
    0x80: "power brake",
}
_UNCORRECTED, _VOLATILE = 1, 0
# A desktop draws a frame now and then.
_LEAST_UTILISATION = 0.05


@dataclass(frozen=True, slots=True)
class GpuReading:
    """
    All GPUs of the machine at one moment.

    Attributes:
        time_s: CLOCK_MONOTONIC.
        devices: How many there are.
        utilisation: Share of the last moments in which a kernel ran, 0..1, mean over the GPUs.
        memory_bytes: In use, all together.
        power_w: Drawn now, all together; None: they do not say.
        energy_j: Drawn since the driver was loaded, all together; None likewise.
        reasons: Why clocks are lowered, as bits.
        ecc_errors: Uncorrected errors of memory since the driver was loaded; None: there is no counter.
        computes: Whether a process computes on one of them; a desktop's do not, and those of other containers may not be seen.
    """

    time_s: float
    devices: int
    utilisation: float
    memory_bytes: int
    power_w: float | None
    energy_j: float | None
    reasons: int
    ecc_errors: int | None
    computes: bool = False


class Gpus:
    """The GPUs of this machine."""

    def __init__(self, library: Any) -> None:
        """
        Ask *library* (the module `pynvml`, initialised) for its devices.

        Raises:
            Exception: Whatever the library raises where there is no driver.
        """
        self._library = library
        self._handles = [library.nvmlDeviceGetHandleByIndex(n) for n in range(library.nvmlDeviceGetCount())]

    @classmethod
    def find(cls) -> Self | None:
        """Find the GPUs; None where there is none, no driver, or no `nvidia-ml-py`."""
        try:
            library: Any = importlib.import_module("pynvml")
            library.nvmlInit()
            found = cls(library)
        except Exception:  # NVML's errors are classes that exist only once it is there
            return None
        return found if found._handles else None

    def read(self, time_s: float) -> GpuReading | None:
        """Read all of them at *time_s*; None if one has gone."""
        lib = self._library
        try:
            used = [lib.nvmlDeviceGetUtilizationRates(handle).gpu / 100 for handle in self._handles]
            memory = [int(lib.nvmlDeviceGetMemoryInfo(handle).used) for handle in self._handles]
        except lib.NVMLError:
            return None
        reasons, computes = 0, False
        for handle in self._handles:
            with contextlib.suppress(lib.NVMLError):
                reasons |= lib.nvmlDeviceGetCurrentClocksEventReasons(handle)
            with contextlib.suppress(lib.NVMLError):
                computes = bool(lib.nvmlDeviceGetComputeRunningProcesses(handle)) or computes
        power, energy = self._sum("nvmlDeviceGetPowerUsage"), self._sum("nvmlDeviceGetTotalEnergyConsumption")
        errors = self._sum("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _VOLATILE)
        return GpuReading(
            time_s=time_s,
            devices=len(self._handles),
            utilisation=sum(used) / len(used),
            memory_bytes=sum(memory),
            power_w=None if power is None else power / 1e3,
            energy_j=None if energy is None else energy / 1e3,
            reasons=reasons,
            ecc_errors=errors,
            computes=computes,
        )

    def _sum(self, name: str, *arguments: int) -> int | None:
        """Add up what every GPU tells; None if one of them does not know."""
        try:
            return sum(int(getattr(self._library, name)(handle, *arguments)) for handle in self._handles)
        except self._library.NVMLError:
            return None


def use(readings: Sequence[GpuReading]) -> GpuUse | None:
    """
    Sum up the readings of one window.

    Args:
        readings: In order, the first at its begin and the last at its end.

    Returns:
        None with fewer than two readings, and where GPUs did nothing, or hardly anything and no process computed on
        them: then they are not what was measured.
    """
    during = readings[1:]
    if not during:
        return None
    utilisation = sum(reading.utilisation for reading in during) / len(during)
    if not utilisation or (utilisation <= _LEAST_UTILISATION and not any(reading.computes for reading in readings)):
        return None
    first, last = readings[0], readings[-1]
    bits = 0
    for reading in readings:
        bits |= reading.reasons & ~_HARMLESS
    powers = [reading.power_w for reading in during if reading.power_w is not None]
    power_w = sum(powers) / len(powers) if len(powers) == len(during) else None
    if first.energy_j is not None and last.energy_j is not None and last.time_s > first.time_s:
        # The counter misses nothing between two readings.
        power_w = (last.energy_j - first.energy_j) / (last.time_s - first.time_s)
    counted = first.ecc_errors is not None and last.ecc_errors is not None
    return GpuUse(
        devices=first.devices,
        utilisation=utilisation,
        memory_bytes=max(reading.memory_bytes for reading in readings),
        power_w=power_w,
        slowed=[name for bit, name in REASONS.items() if bits & bit]
        + ([f"unknown ({bits:#x})"] if bits & ~sum(REASONS) else []),
        ecc_errors=(last.ecc_errors or 0) - (first.ecc_errors or 0) if counted else None,
    )

"""The arithmetic on what NVML tells, with a library of this test's own in its place; no GPU is needed, and none is proven."""

from types import SimpleNamespace

import pytest

from slipway import gpu
from slipway.gpu import GpuReading, Gpus
from slipway.records import GpuUse


class Missing(Exception):
    pass


class Library:
    """NVML of two GPUs, the second of which does not know all that the first does."""

    NVMLError = Missing

    def __init__(self, **tells):
        self.tells = tells

    def nvmlDeviceGetCount(self):  # noqa: N802  # NVML's names
        return 2

    def nvmlDeviceGetHandleByIndex(self, number):  # noqa: N802
        return number

    def __getattr__(self, name):
        if name not in self.tells:

            def missing(*_):
                raise Missing

            return missing
        return lambda handle, *_: self.tells[name][handle]


KNOWN = {
    "nvmlDeviceGetUtilizationRates": [SimpleNamespace(gpu=100), SimpleNamespace(gpu=50)],
    "nvmlDeviceGetMemoryInfo": [SimpleNamespace(used=3_000), SimpleNamespace(used=1_000)],
    "nvmlDeviceGetCurrentClocksEventReasons": [0x4, 0x40],
    "nvmlDeviceGetPowerUsage": [300_000, 200_000],
    "nvmlDeviceGetTotalEnergyConsumption": [5_000, 7_000],
    "nvmlDeviceGetTotalEccErrors": [1, 2],
    "nvmlDeviceGetComputeRunningProcesses": [[SimpleNamespace(pid=1)], []],
}


def test_all_gpus_are_read_together_in_watts_and_joules():
    assert Gpus(Library(**KNOWN)).read(7.0) == GpuReading(7.0, 2, 0.75, 4_000, 500.0, 12.0, 0x44, 3, computes=True)


def test_what_one_of_them_does_not_tell_is_not_known():
    told = {name: KNOWN[name] for name in ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo")}

    assert Gpus(Library(**told)).read(7.0) == GpuReading(7.0, 2, 0.75, 4_000, None, None, 0, None)
    assert Gpus(Library()).read(7.0) is None


def reading(time_s, **changes):
    known = {"devices": 1, "utilisation": 0.5, "memory_bytes": 10, "power_w": 100.0, "energy_j": None}
    return GpuReading(**({"time_s": time_s, "reasons": 0x1, "ecc_errors": 0} | known | changes))


def test_a_window_is_the_mean_of_its_readings_and_the_most_memory():
    found = gpu.use(
        [reading(0, utilisation=0.0, memory_bytes=5), reading(1, power_w=300.0), reading(2, memory_bytes=20)]
    )

    assert found == GpuUse(devices=1, utilisation=0.5, memory_bytes=20, power_w=200.0, slowed=[], ecc_errors=0)


def test_the_counter_of_energy_is_better_than_single_readings_of_power():
    assert gpu.use([reading(0, energy_j=1000.0), reading(4, energy_j=1600.0)]).power_w == pytest.approx(150)


def test_what_lowers_clocks_is_named_but_for_idleness_and_clocks_that_were_set():
    assert gpu.use([reading(0, reasons=0x3), reading(1, reasons=0x24)]).slowed == ["power cap", "too hot (driver)"]
    assert gpu.use([reading(0), reading(1, reasons=0x1000)]).slowed == ["unknown (0x1000)"]


def test_errors_are_those_of_the_window():
    assert gpu.use([reading(0, ecc_errors=5), reading(1, ecc_errors=7)]).ecc_errors == 2
    assert gpu.use([reading(0, ecc_errors=None), reading(1)]).ecc_errors is None


def test_gpus_that_did_nothing_are_not_what_was_measured():
    assert gpu.use([reading(0), reading(1, utilisation=0.0)]) is None
    assert gpu.use([reading(0)]) is None


def test_gpus_that_drew_a_desktop_are_not_what_was_measured():
    """A frame now and then; a small model's server does as little, but it computes."""
    frames = [reading(0), reading(1, utilisation=0.09), reading(2, utilisation=0.0), reading(3, utilisation=0.0)]

    assert gpu.use(frames) is None
    assert gpu.use([*frames[:-1], reading(3, utilisation=0.0, computes=True)]).utilisation == pytest.approx(0.03)
    assert gpu.use([reading(0), reading(1, utilisation=0.06)]).utilisation == 0.06

"""What a million predictions take: CPU time, machine time, bytes; and money, if somebody said what computing costs."""

import statistics
from collections.abc import Callable

from slipway.prices import Prices, by_core, by_machine
from slipway.records import GpuUse
from slipway.report import numbers
from slipway.report.blocks import Section, Table, TableCell, heads, row
from slipway.report.content import PROTOCOLS, CellSummary, Loads, cpu_per_prediction, known
from slipway.report.sections.figures import identifier
from slipway.report.sections.overview import bytes_per_request

_MILLION = 1e6


def cost(measurement: Loads, prices: Prices | None) -> Section | None:
    """Write what a million predictions take over each protocol; None without a valid closed loop."""
    peaks = [peak for protocol in PROTOCOLS if (peak := measurement.peak(protocol)) and peak.predictions_per_s]
    if not peaks:
        return None
    table = Table(
        "Cost of a million predictions",
        heads("A million predictions", *(f"{peak.name}, {peak.cell.load.concurrency} in flight" for peak in peaks)),
        tuple(_line(name, peaks, tell) for name, tell in (*_TAKEN, *_of_gpus(peaks), *_priced(prices))),
    )
    return Section(
        id=identifier(measurement, "cost"),
        title="Cost of a million predictions",
        short="Cost",
        lead=_lead(measurement, prices),
        blocks=(table,),
    )


def _lead(measurement: Loads, prices: Prices | None) -> str:
    told = "Each protocol at its best load, from medians over repetitions. A machine that is not always busy costs more per prediction."
    if prices is None:
        told += " No price is told: none is configured (report.prices)."
    if why := measurement.record.not_measured.get("GPU"):
        told += f" Without GPU time: {why}."
    if any(r.gpu and r.gpu.power_w for cell in measurement.cells for r in cell.repetitions):
        return (
            f"{told} Energy is that of all GPUs of the machine, as their driver counts it; CPUs and memory take more."
        )
    return f"{told} Energy was not measured."


def _line(name: str, peaks: list[CellSummary], tell: Callable[[CellSummary], str]) -> tuple[TableCell, ...]:
    return row(name, *map(tell, peaks))


def _cpu(peak: CellSummary) -> str:
    used = cpu_per_prediction(peak)
    return numbers.NOT_MEASURED if used is None else f"{numbers.number(used / 1e6 * _MILLION)} s"


def _machine(peak: CellSummary) -> str:
    assert peak.predictions_per_s
    return f"{numbers.number(_MILLION / peak.predictions_per_s.value)} s"


def _traffic(peak: CellSummary) -> str:
    both = bytes_per_request(peak)
    if both is None or not peak.throughput_rps or not peak.predictions_per_s:
        return numbers.NOT_MEASURED
    return numbers.size(both.value * peak.throughput_rps.value / peak.predictions_per_s.value * _MILLION)


_TAKEN: tuple[tuple[str, Callable[[CellSummary], str]], ...] = (
    ("server CPU time", _cpu),
    ("time of the whole server", _machine),
    ("bytes on the wire, both ways", _traffic),
)


def _of_gpus(peaks: list[CellSummary]) -> list[tuple[str, Callable[[CellSummary], str]]]:
    """Give the lines about GPUs; none where none was used."""
    if not any(r.gpu for peak in peaks for r in peak.repetitions):
        return []
    return [
        ("GPU time", _gpu_time),
        ("energy of the GPUs", _energy),
        ("GPUs busy", lambda peak: numbers.percent(_of_gpu(peak, lambda gpu: gpu.utilisation))),
        ("memory of the GPUs", lambda peak: numbers.size(_of_gpu(peak, lambda gpu: gpu.memory_bytes))),
        ("power of the GPUs", lambda peak: _with_unit(_of_gpu(peak, lambda gpu: gpu.power_w), "W")),
    ]


def _of_gpu(peak: CellSummary, read: Callable[[GpuUse], float | None]) -> float | None:
    """Give the median over the repetitions that count; None unless all of them tell."""
    told = known(None if r.gpu is None else read(r.gpu) for r in peak.repetitions)
    return statistics.median(told) if told else None


def _gpu_time(peak: CellSummary) -> str:
    assert peak.predictions_per_s
    busy = _of_gpu(peak, lambda gpu: gpu.utilisation * gpu.devices)
    return _with_unit(None if busy is None else busy * _MILLION / peak.predictions_per_s.value, "s")


def _energy(peak: CellSummary) -> str:
    assert peak.predictions_per_s
    power = _of_gpu(peak, lambda gpu: gpu.power_w)
    return _with_unit(None if power is None else power * _MILLION / peak.predictions_per_s.value, "J")


def _with_unit(value: float | None, unit: str) -> str:
    return numbers.NOT_MEASURED if value is None else f"{numbers.number(value)} {unit}"


def _priced(prices: Prices | None) -> list[tuple[str, Callable[[CellSummary], str]]]:
    if prices is None:
        return []
    given: list[tuple[str, Callable[[CellSummary], str]]] = []
    if prices.core_hour:
        name = f"at {numbers.number(prices.core_hour)} {prices.currency} per core and hour, by CPU time"
        given.append((name, lambda peak: _money(prices, _by_core(prices, peak))))
    if prices.machine_hour:
        name = f"at {numbers.number(prices.machine_hour)} {prices.currency} per machine and hour, always busy"
        given.append((name, lambda peak: _money(prices, _by_machine(prices, peak))))
    return given


def _by_core(prices: Prices, peak: CellSummary) -> float | None:
    used = cpu_per_prediction(peak)
    return None if used is None else by_core(prices, used)


def _by_machine(prices: Prices, peak: CellSummary) -> float | None:
    assert peak.predictions_per_s
    return by_machine(prices, peak.predictions_per_s.value)


def _money(prices: Prices, value: float | None) -> str:
    return numbers.NOT_MEASURED if value is None else f"{numbers.number(value)} {prices.currency}"

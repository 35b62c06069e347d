"""
The loads of a benchmark by name: which of them are wanted, in which order, and what each of them runs.

Standard are `saturation` (closed loop over numbers of users) and `open_loop` (the same rates for both protocols); the others are
described under `benchmark.scenarios` and leave a ScenarioRecord each.
"""

from collections.abc import Callable
from typing import Any

from slipway.load_plan import closed_cells, offered_rate, open_cells
from slipway.scenarios import ab, clients, overload, pairs, reload, row_mix, slo, soak, streams
from slipway.scenarios.bench import Bench
from slipway.scenarios.plan import common_rows, length
from slipway.scenarios.taking import Taking

__all__ = ["RUNNERS", "common_rows", "length", "measure"]

# Kind -> what measures it: settings, what takes it down.
RUNNERS: dict[str, Callable[[Any, Taking], None]] = {
    "single_stream": streams.single_stream,
    "multi_stream": streams.multi_stream,
    "offline": streams.offline,
    "payload": streams.payload,
    "serialization": streams.serialization,
    "clients": clients.clients,
    "server_slo": slo.server_slo,
    "mixed": pairs.mixed,
    "row_mix": row_mix.row_mix,
    "overload": overload.overload,
    "soak": soak.soak,
    "hot_reload": reload.hot_reload,
    "ab_versions": ab.ab_versions,
}


def measure(bench: Bench) -> None:
    """
    Measure everything that the settings ask for on the running server.

    Raises:
        ContractViolation: An answer was wrong.
        InvalidMeasurement: A request failed that may not, or the generator did. What is in *bench* stays.
        ServerError: The server died.
    """
    settings, windows = bench.windows.settings, bench.windows
    if settings.wants("saturation"):
        windows.sweep(bench.server, closed_cells(settings.concurrency, windows.protocols), bench.told)
    if settings.wants("open_loop"):
        cells = [cell for rate in _open_rates(bench) for cell in open_cells(rate, windows.protocols)]
        windows.sweep(bench.server, cells, bench.told)
    for name, scenario in settings.scenarios.items():
        if settings.wants(name):
            with Taking.of(bench, name, scenario) as taking:
                RUNNERS[scenario.kind](scenario, taking)


def _open_rates(bench: Bench) -> list[float]:
    """Choose the rates of the open loop, requests per second."""
    settings, windows = bench.windows.settings, bench.windows
    if settings.open_loop_rate is not None:
        return [settings.open_loop_rate]
    if windows.cells:
        peak = offered_rate(windows.cells, 1.0)
    else:
        peak = min(bench.peak(protocol) for protocol in windows.protocols)
    return [share * peak for share in settings.open_loop_shares]

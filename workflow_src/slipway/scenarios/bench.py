"""What scenarios have at hand: a server under windows of load, payloads of any number of rows, and what is known so far."""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol as Interface

import numpy as np

from slipway import calibration, payloads
from slipway.errors import InvalidMeasurement
from slipway.load_generator import LoadGenerator
from slipway.load_plan import NAMES, Planned
from slipway.measuring import Loaded
from slipway.progress import Steps
from slipway.records import Load, Payload, Protocol, Repetition, ScenarioRecord
from slipway.scenarios.switching import Step
from slipway.scenarios.versions import Versions
from slipway.windows import CALIBRATION_S, Windows
from slipway_wire import payloads as wire_payloads


class Reload(Interface):
    """Changes of what the server serves, one after the other; the last one leaves it as it was, if there is a way back."""

    @property
    def told(self) -> str:
        """Say what is changed."""

    @property
    def steps(self) -> Sequence[Step]:
        """List the changes."""

    @property
    def switches(self) -> tuple[int, ...]:
        """List the versions that requests without a version go to meanwhile, the first one first; (): that is not known."""

    @property
    def keeps_answers(self) -> bool:
        """Whether all requests name a version, which answers all the while."""


@dataclass
class Bench:
    """
    A running server and what scenarios need to load it.

    Attributes:
        windows: Measures windows; its protocols are those that the server speaks.
        server: The server.
        told: Hears of progress.
        make_payloads: Rows -> requests with so many rows each.
        start_generator: Runs one more load generator for a block, on the generators' CPUs.
        log: Of the null server, when one is needed again.
        max_batch_size: The most rows that a request may have; None: not known.
        reload: A change of versions; None: this server has none to offer.
        no_reload: Why not.
        versions: What the server has of the model; None: nobody here knows.
        no_versions: Why not.
        records: Scenarios measured so far.
        payloads: What was sent apart from the windows' own payloads, by rows.
    """

    windows: Windows
    server: Loaded
    told: Steps
    make_payloads: Callable[[int], Sequence[wire_payloads.Payload]]
    start_generator: Callable[[], contextlib.AbstractContextManager[LoadGenerator]]
    log: Path
    max_batch_size: int | None = None
    reload: Reload | None = None
    no_reload: str = "nothing here can change what the server serves"
    versions: Versions | None = None
    no_versions: str = "which versions the server has is not known"
    records: list[ScenarioRecord] = field(default_factory=list)
    payloads: dict[int, Payload] = field(default_factory=dict)
    _peaks: dict[Protocol, float] = field(default_factory=dict)
    _singles: dict[Protocol, float] = field(default_factory=dict)
    _ceilings: dict[tuple[Protocol, int], float] = field(default_factory=dict)

    def now(self) -> float:
        """Read the clock that slopes are taken over, seconds."""
        return time.monotonic()

    def file(self, rows: int) -> Path | None:
        """Give the payload file for requests of *rows* rows; None: the generator's own."""
        if rows == self.windows.settings.rows:
            return None
        path = self.windows.directory / f"payloads-{rows}.tfrecord"
        if rows not in self.payloads:
            sent = self.make_payloads(rows)
            path.write_bytes(wire_payloads.encode(sent))
            self.payloads[rows] = payloads.record(sent)
        return path

    def unchecked_file(self, rows: int) -> Path:
        """Give a payload file like `file`'s whose answers nobody knows."""
        path = self.windows.directory / f"payloads-{rows}-unchecked.tfrecord"
        if not path.exists():
            path.write_bytes(wire_payloads.encode(replace(p, expected=None) for p in self.make_payloads(rows)))
        return path

    def ceiling(self, protocol: Protocol, rows: int) -> float | None:
        """Find what the generator can do at most with requests of *rows* rows, requests per second; None: not calibrated."""
        known = self.windows.ceilings.get(protocol)
        path = self.file(rows)
        if path is None or known is None:
            return known.throughput_rps if known else None
        if (protocol, rows) not in self._ceilings:
            self.told.note(f"  {rows} rows over {NAMES[protocol]} on a server that does nothing")
            windows = self.windows
            generators, cpus = windows.machine.generator_processes, windows.machine.server_cpus
            with calibration.null_server(path, self.log, cpus, windows.tls, generators=generators) as server:
                found = calibration.measure(
                    self.windows.generator,
                    server,
                    protocol,
                    self.windows.directory / "calibration.npz",
                    users=known.concurrency,
                    window_s=min(self.windows.settings.window_s, CALIBRATION_S) / 2,
                    payloads=path,
                )
            self._ceilings[protocol, rows] = found.throughput_rps
        return self._ceilings[protocol, rows]

    def peak(self, protocol: Protocol) -> float:
        """
        Give the highest rate of a closed loop, requests per second: of `saturation`, or of one window if that was not measured.

        Raises:
            InvalidMeasurement: Nothing was answered within a window.
        """
        if protocol not in self._peaks:
            medians = [_median(r.throughput_rps for r in counted) for counted in self._counted(protocol, None)]
            if not medians:
                medians = [self._probe(protocol, max(self.windows.settings.concurrency)).throughput_rps]
            if not max(medians):
                raise InvalidMeasurement(
                    f"{NAMES[protocol]} answered nothing within a window: the model takes longer. Set window_s to several "
                    "times what one request takes."
                )
            self._peaks[protocol] = max(medians)
        return self._peaks[protocol]

    def single_p50_us(self, protocol: Protocol) -> float:
        """Give the median latency with one request in flight, microseconds: of `saturation`, or of one window."""
        if protocol not in self._singles:
            measured = [r for counted in self._counted(protocol, 1) for r in counted] or [self._probe(protocol, 1)]
            self._singles[protocol] = _median(r.latency.p50_us or r.latency.mean_us for r in measured)
        return self._singles[protocol]

    def _counted(self, protocol: Protocol, users: int | None) -> list[list[Repetition]]:
        """List the closed-loop repetitions, by cell; those that count, unless none does."""
        return [
            [r for r in measured if not r.invalid] or measured
            for planned, measured in self.windows.cells.items()
            if planned.protocol == protocol and planned.load.kind == "closed"
            if users in (None, planned.load.concurrency)
        ]

    def _probe(self, protocol: Protocol, users: int) -> Repetition:
        """Measure one window of a closed loop, of which no record is kept."""
        settings = self.windows.settings
        planned = Planned(protocol, Load(kind="closed", concurrency=users))
        self.told.note(f"  {planned}: to know what there is to take a share of")
        wanted = self.windows.ordered(
            self.server, protocol, "probe", users=users, warmup_s=settings.warmup_s, window_s=settings.window_s
        )
        window = self.windows.load(self.server, wanted)
        Path(wanted.samples).unlink()
        self.windows.stop_at_faults(planned, window, "before the scenario")
        return self.windows.repetition(window, planned, rows=settings.rows, index=0)


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))

"""
Windows of load, one after the other: calibrated, repeated in a random order, measured again where they broke a rule.

Whose server it is does not matter here: the line's benchmark and `slipway bench` both measure with this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from slipway import calibration, repetitions, statistics
from slipway.load_generator import LoadGenerator
from slipway.load_plan import Planned, interleaved
from slipway.measuring import Loaded, Machine, order, stop_at_faults
from slipway.progress import Steps
from slipway.records import Ceiling, Distribution, Load, Protocol, Repetition
from slipway.repetitions import Window
from slipway.settings import BenchmarkSettings
from slipway_wire import samples
from slipway_wire.loads import LoadOrder

# To connect, to write the samples, to read the metrics: seconds that a window takes beyond its load.
OVERHEAD_S = 0.15
# A window of calibration; one of half its length follows with a single request in flight.
CALIBRATION_S = 1.5
# A host where so many windows have to be measured again is not fit for it; more would only take longer.
_MOST_RERUNS = 0.2
_LEAST_RERUNS = 4


@dataclass
class Windows:
    """
    What is measured window by window, so far.

    Attributes:
        model: Name of the model.
        subject: What errors call what is measured.
        generator: Loads; it has read the payload file.
        machine: Its CPUs.
        directory: Gets a sample file per window.
        settings: How.
        protocols: Which.
        tls: Those of them that are spoken over TLS; the generator's ceiling is found over TLS, too.
        cells: What was measured.
        ceilings: What the generator can do at most.
        declared: Setting -> value that the server should run with, as it would tell it itself.
        reruns: Windows that were measured again.
        order: Windows measured.
    """

    model: str
    subject: str
    generator: LoadGenerator
    machine: Machine
    directory: Path
    settings: BenchmarkSettings
    protocols: Sequence[Protocol]
    tls: Sequence[Protocol] = ()
    cells: dict[Planned, list[Repetition]] = field(default_factory=dict)
    ceilings: dict[Protocol, Ceiling] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    reruns: int = 0
    order: int = 0

    @property
    def window_s(self) -> float:
        """What one window takes in all, seconds."""
        return self.settings.warmup_s + self.settings.window_s + OVERHEAD_S

    def calibrate(self, payloads: Path, log: Path, told: Steps) -> None:
        """Find what the generator can do at most, with these payloads and as many connections as the busiest cell has."""
        generators, cpus = self.machine.generator_processes, self.machine.server_cpus
        with calibration.null_server(payloads, log, cpus, self.tls, generators=generators) as server:
            for protocol in self.protocols:
                told.begin(f"{protocol} on a server that does nothing")
                self.ceilings[protocol] = calibration.measure(
                    self.generator,
                    server,
                    protocol,
                    self.directory / "calibration.npz",
                    users=max(self.settings.concurrency),
                    window_s=min(self.settings.window_s, CALIBRATION_S),
                )
                told.end(1.5 * CALIBRATION_S)

    def discard(self, server: Loaded) -> None:
        """Let each protocol's path through the server run hot, with as many connections as it will get."""
        for protocol in self.protocols:
            users = max(self.settings.concurrency)
            wanted = self.ordered(
                server, protocol, "discarded", users=users, warmup_s=0.0, window_s=max(self.settings.warmup_s, 0.2)
            )
            window = self.load(server, wanted)
            Path(wanted.samples).unlink()
            planned = Planned(protocol, Load(kind="closed", concurrency=users))
            self.stop_at_faults(planned, window, "before the first window")

    def sweep(self, server: Loaded, cells: Sequence[Planned], told: Steps) -> None:
        """Measure *cells*, each as often as the settings say, in a random order."""
        # Each sweep has its own, so that a noisy closed loop leaves some for the open one.
        most = self.reruns + max(_LEAST_RERUNS, round(len(cells) * self.settings.repetitions * _MOST_RERUNS))
        for index in range(self.settings.repetitions):
            for planned in interleaved(cells, self.settings.seed, index):
                self._repeat(server, planned, index, told, may_rerun=self.reruns < most)

    def _repeat(self, server: Loaded, planned: Planned, index: int, told: Steps, *, may_rerun: bool) -> None:
        """Measure one window; once more if it broke a rule that another try may keep."""
        told.begin(f"{planned}, repetition {index + 1} of {self.settings.repetitions}")
        repetition = self._measure(server, planned, index)
        if repetition.invalid and may_rerun:
            self.reruns += 1
            told.note(f"  measured again: {'; '.join(repetition.invalid)}")
            # What had not settled may need more time.
            repetition = self._measure(server, planned, index, 2 if repetitions.UNSTEADY in repetition.invalid else 1)
        if repetition.invalid:
            told.note(f"  does not count: {'; '.join(repetition.invalid)}")
        told.end(self.window_s)

    def _measure(self, server: Loaded, planned: Planned, index: int, times: int = 1) -> Repetition:
        measured = self.cells.setdefault(planned, [])
        wanted = self.ordered(
            server,
            planned.protocol,
            f"{planned.id}/{index}",
            users=planned.load.concurrency or max(self.settings.concurrency),
            warmup_s=self.settings.warmup_s,
            window_s=times * self.settings.window_s,
        )
        # The same seed for both protocols: they meet the same arrivals.
        wanted = replace(wanted, rate=planned.load.rate, seed=f"{self.settings.seed}/arrivals/{index}")
        window = self.load(server, wanted)
        repetition = self.repetition(window, planned, rows=self.settings.rows, index=index)
        # A second try takes the place of the first.
        measured[index:] = [repetition]
        # Of several offered rates one may be too much: it does not count, and the others do.
        may_fail = planned.load.kind == "open" and self.settings.open_loop_rates > 1
        self.stop_at_faults(planned, window, f"repetition {index + 1}", may_fail=may_fail)
        return repetition

    def distribution(self, planned: Planned) -> Distribution | None:
        """Put together the latencies of all requests of the repetitions that count, from their sample files."""
        found = []
        for repetition in self.cells[planned]:
            path = self._sample_file(planned, repetition.index)
            if not repetition.invalid and path.exists():
                counted, _ = repetitions.after_warmup(samples.read(path), planned.load)
                found.append(repetitions.latencies_us(counted, planned.load))
        drawn = statistics.distribution(np.sort(np.concatenate(found))) if found else []
        if not drawn:
            return None
        return Distribution(
            samples=sum(map(len, found)), quantiles=[q for q, _ in drawn], latency_us=[value for _, value in drawn]
        )

    def _sample_file(self, planned: Planned, index: int) -> Path:
        return self.directory / f"{planned.id}/{index}.npz"

    def repetition(self, window: Window, planned: Planned, *, rows: int, index: int) -> Repetition:
        """Make the record of *window*, the next one in the run."""
        ceiling = self.ceilings.get(planned.protocol)
        found_rps = ceiling.throughput_rps if ceiling else None
        made = repetitions.repetition(
            window,
            planned.load,
            rows=rows,
            index=index,
            order=self.order,
            ceiling_rps=self.ceiling_of(window, planned.protocol, found_rps),
            declared=self.declared,
        )
        self.order += 1
        return made

    def ceiling_of(self, window: Window, protocol: Protocol, found_rps: float | None) -> float | None:
        """Give what the generator's processes that made *window* can do of the *found_rps* of all: a few users are the load of a few."""
        ceiling = self.ceilings.get(protocol)
        if found_rps is None or ceiling is None:
            return found_rps
        return found_rps * min(1.0, window.outcome.generators / ceiling.processes)

    def ordered(
        self, server: Loaded, protocol: Protocol, name: str, *, users: int, warmup_s: float, window_s: float
    ) -> LoadOrder:
        """Order a closed loop; its samples go to the file *name* in the directory."""
        path = self.directory / f"{name}.npz"
        return order(server, protocol, path, users=users, warmup_s=warmup_s, window_s=window_s)

    def load(self, server: Loaded, wanted: LoadOrder) -> Window:
        """Run one load."""
        return self.machine.load(self.generator, server, self.model, wanted)

    def stop_at_faults(self, planned: Planned, window: Window, when: str, *, may_fail: bool = False) -> None:
        """End the measurement at a wrong answer or a failed request; at a wrong answer alone where requests *may_fail*."""
        stop_at_faults(window.outcome, f"{self.subject}, {planned}, {when}", may_fail=may_fail)

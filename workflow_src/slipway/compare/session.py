"""Two servers side by side, loaded in turns, until every metric is decided."""

import contextlib
import datetime as dt
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from slipway import comparable, cpu, measuring, payloads, provenance, repetitions, server_metrics
from slipway.compare import metrics, verdict
from slipway.compare.gate import CONFIRMING, LOOKS
from slipway.compare.records import ComparedCell, Comparison, Subject, WindowPair
from slipway.compare.subjects import Side
from slipway.errors import ContractViolation, InvalidMeasurement, ServerError
from slipway.load_generator import LoadGenerator, load_generator
from slipway.load_plan import Planned, offered_rate
from slipway.measuring import Machine
from slipway.procs import Stopped
from slipway.progress import Steps, steps
from slipway.records import Load, Protocol, Repetition
from slipway.repetitions import Window
from slipway.servers import RunningServer
from slipway_wire.loads import LoadOrder
from slipway_wire.payloads import encode as encode_payloads

Which = Literal["base", "head"]
SIDES: tuple[Which, Which] = ("base", "head")
# To connect, to write the samples, to read the metrics: seconds that a window takes beyond its load.
_OVERHEAD_S = 0.15
# A server starts; its paths are run hot for at least so long.
_START_S = 5.0
_LEAST_DISCARD_S = 0.2
# Load in front of a window: no more than this, and no more than that share of the window.
_MOST_WARMUP_S = 0.4
_WARMUP_SHARE = 0.4


def warmup_s(window_s: float) -> float:
    """Give the seconds of load that do not count in front of a window of *window_s*: enough to connect all users."""
    return min(_MOST_WARMUP_S, _WARMUP_SHARE * window_s)


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How to compare.

    Attributes:
        protocols: Which are measured.
        closed: Whether the closed loop is measured; without it only latency is compared.
        users: Closed loop: connections with one request in flight each.
        open_share: Open loop: offered rate as a share of base's peak in its slower protocol; None: no open loop.
        window_s: Length of a window.
        warmup_s: Load in front of each window that does not count.
        looks: Numbers of pairs at which to decide.
        seed: Of orders and arrivals.
    """

    protocols: tuple[Protocol, ...] = ("rest", "grpc")
    closed: bool = True
    users: int = 16
    open_share: float | None = 0.5
    window_s: float = 2.0
    warmup_s: float = _MOST_WARMUP_S
    looks: tuple[int, ...] = LOOKS
    seed: int = 1

    @property
    def most_pairs(self) -> int:
        """Pairs of a cell after which it is left as it is: all looks, a confirmation, and as many again for void ones."""
        return self.looks[-1] + CONFIRMING + self.looks[0]


@dataclass(slots=True)
class _Running:
    """One side while it runs."""

    side: Side
    server: RunningServer
    generator: LoadGenerator


@dataclass
class Session:
    """A comparison on its way."""

    base: Side
    head: Side
    plan: Plan
    machine: Machine
    directory: Path
    title: str
    command: str
    rate: float | None = None
    cells: dict[Planned, list[WindowPair]] = field(default_factory=dict)
    cut_short: str = ""
    is_wrong: bool = False
    _windows: int = 0

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self.environment = provenance.environment()
        self.records: dict[Which, Subject] = {"base": self.base.record, "head": self.head.record}

    def run(self) -> Comparison:
        """
        Measure until everything is decided.

        Returns:
            What was found; also if it was cut short, by a signal, a fault of a server or a wrong answer, and then it
            says so.
        """
        try:
            self._run()
        except Stopped as stopped:
            self.cut_short = f"stopped by {stopped.signal.name}"
        except (InvalidMeasurement, ServerError) as error:
            self.cut_short = str(error)
        except ContractViolation as error:
            self.cut_short, self.is_wrong = str(error), True
        return self.comparison()

    def _run(self) -> None:
        protocols, plan = self.plan.protocols, self.plan
        cells = len(protocols) * (plan.closed + (plan.open_share is not None))
        pairs = cells * (plan.looks[0] + 2)
        count = len(SIDES) + (plan.open_share is not None) + pairs
        with (
            contextlib.ExitStack() as stack,
            steps(count, len(SIDES) * _START_S + self._choosing_s() + pairs * 2 * self._window_s()) as told,
        ):
            sides = {which: self._started(which, stack, told) for which in SIDES}
            closed = [Planned(p, Load(kind="closed", concurrency=plan.users)) for p in protocols]
            self._choose_rate(sides["base"], closed, told)
            opened = [Planned(p, Load(kind="open", rate=self.rate)) for p in protocols] if self.rate else []
            self.cells = {planned: [] for planned in (*(closed if plan.closed else ()), *opened)}
            while wanted := self._wanted():
                for planned in self._shuffled(wanted):
                    self._pair(sides, planned, told)
            for which, running in sides.items():
                resident = cpu.resident_bytes(running.server.pids())
                self.records[which] = self.records[which].model_copy(update={"resident_bytes": resident})

    def _started(self, which: Which, stack: contextlib.ExitStack, told: Steps) -> _Running:
        """Start one side, say in its record what it runs on, and run it hot."""
        told.begin(f"{which} starts")
        running = self._start(which, stack)
        server = running.server
        self.records[which] = self.records[which].model_copy(
            update={
                "engine": server.engine,
                "ready_s": server.ready_s,
                "thread_plan": server_metrics.thread_plan(
                    server_metrics.scrape(server.host, server.rest_port),
                    running.side.record.model,
                    running.side.record.version,
                ),
            }
        )
        if running.side.is_image and not server.engine.isolated:
            tried = ", ".join(f"{name}: {why}" for name, why in server.engine.rejected.items())
            raise ServerError(
                f"{which} is an image, which only a container engine can run; there is none here "
                f"({tried or 'launch.engine is process'}). Name the project directory or the revision that it was made of."
            )
        self._discard(which, running)
        told.end(_START_S)
        return running

    def _start(self, which: Which, stack: contextlib.ExitStack) -> _Running:
        side: Side = getattr(self, which)
        file = self.directory / f"{which}.payloads.tfrecord"
        file.write_bytes(encode_payloads(side.sent))
        tolerances = comparable.under_load(side.contract, side.golden.rows, side.sent[0].rows)
        generator = stack.enter_context(load_generator(file, tolerances, log=self.directory / f"{which}.generator.log"))
        self.machine.take_in(generator)
        server = stack.enter_context(self.machine.server(side.spec, self.directory / f"{which}.server.log"))
        return _Running(side, server, generator)

    # --- windows ------------------------------------------------------------------------------------

    def _discard(self, which: Which, running: _Running) -> None:
        """Let each protocol's path through the server run hot, with as many connections as it will get."""
        for protocol in self.plan.protocols:
            planned = Planned(protocol, Load(kind="closed", concurrency=self.plan.users))
            order = self._order(running, planned, "discarded")
            order = replace(order, warmup_s=0.0, window_s=max(self.plan.warmup_s, _LEAST_DISCARD_S))
            self._load(which, running, planned, order, "before the first window")

    def _choose_rate(self, running: _Running, closed: Sequence[Planned], told: Steps) -> None:
        """Fix one rate for both servers, from what base can do."""
        if self.plan.open_share is None:
            return
        told.begin("what base can take at most")
        found = {
            planned: [self._measure("base", running, planned, "rate", "to choose the rate", index=0)]
            for planned in closed
        }
        self.rate = round(offered_rate(found, self.plan.open_share), 1)
        told.end(self._choosing_s())

    def _choosing_s(self) -> float:
        return 0.0 if self.plan.open_share is None else len(self.plan.protocols) * self._window_s()

    def _wanted(self) -> list[Planned]:
        """List the cells that still have an open metric."""
        wanted = []
        for planned, pairs in self.cells.items():
            found = metrics.results([_cell(planned, pairs)], self.plan.looks)
            # Where the host is not quiet, no more pairs than a first look needs are spent on times on the wall.
            is_open = any(r.state == "open" and (r.gates or len(pairs) < self.plan.looks[0]) for r in found)
            if is_open and len(pairs) < self.plan.most_pairs:
                wanted.append(planned)
        return wanted

    def _shuffled(self, cells: Sequence[Planned]) -> list[Planned]:
        index = max((len(pairs) for pairs in self.cells.values()), default=0)
        return random.Random(f"{self.plan.seed}/order/{index}").sample(list(cells), len(cells))  # noqa: S311 - repeatable

    def _pair(self, sides: dict[Which, _Running], planned: Planned, told: Steps) -> None:
        pairs = self.cells[planned]
        index = len(pairs)
        first = random.Random(f"{self.plan.seed}/first/{planned.id}/{index}").choice(SIDES)  # noqa: S311 - repeatable
        told.begin(f"{planned}, pair {index + 1}, {first} first")
        measured: dict[Which, Repetition] = {}
        for which in (first, *(other for other in SIDES if other != first)):
            name = f"{planned.id}/{index}-{which}"
            measured[which] = self._measure(which, sides[which], planned, name, f"pair {index + 1}", index=index)
        pairs.append(WindowPair(index=index, first=first, base=measured["base"], head=measured["head"]))
        if broken := _broken(measured):
            told.note(f"  {broken}")
        told.end(2 * self._window_s())

    def _measure(
        self, which: Which, running: _Running, planned: Planned, name: str, when: str, *, index: int
    ) -> Repetition:
        # The same seed for both sides: they meet the same arrivals.
        order = replace(
            self._order(running, planned, name), rate=planned.load.rate, seed=f"{self.plan.seed}/arrivals/{index}"
        )
        window = self._load(which, running, planned, order, when)
        self._windows += 1
        rows = running.side.sent[0].rows
        return repetitions.repetition(window, planned.load, rows=rows, index=index, order=self._windows)

    def _order(self, running: _Running, planned: Planned, name: str) -> LoadOrder:
        return measuring.order(
            running.server,
            planned.protocol,
            self.directory / f"{name}.npz",
            users=self.plan.users,
            warmup_s=self.plan.warmup_s,
            window_s=self.plan.window_s,
        )

    def _load(self, which: Which, running: _Running, planned: Planned, order: LoadOrder, when: str) -> Window:
        window = self.machine.load(running.generator, running.server, running.side.spec.model, order)
        measuring.stop_at_faults(window.outcome, f"{which} ({running.side.record.label}), {planned}, {when}")
        Path(order.samples).unlink()
        return window

    def _window_s(self) -> float:
        return self.plan.warmup_s + self.plan.window_s + _OVERHEAD_S

    # --- the record ---------------------------------------------------------------------------------

    def comparison(self) -> Comparison:
        """Give what there is so far."""
        cells = [_cell(planned, pairs) for planned, pairs in self.cells.items()]
        found = metrics.results(cells, self.plan.looks)
        fixed = verdict.fixed_results(self.records["base"], self.records["head"], cells)
        judged, reasons = verdict.judge(found, fixed, self.cut_short, is_wrong=self.is_wrong)
        return Comparison(
            title=self.title,
            started=self.started,
            duration_s=time.monotonic() - self.began,
            command=self.command,
            base=self.records["base"],
            head=self.records["head"],
            seed=self.plan.seed,
            window_s=self.plan.window_s,
            offered_rate=self.rate,
            payload=payloads.record(self.head.sent),
            placement=self.machine.placement(),
            environment=self.environment,
            cells=cells,
            metrics=found,
            fixed=fixed,
            verdict=judged,
            reasons=reasons,
            cut_short=self.cut_short,
            not_measured=self._not_measured(),
        )

    def _not_measured(self) -> dict[str, str]:
        missing = {"networks": "all traffic is on this host's loopback: no round-trip time, no loss, no TLS"}
        sent = self.head.sent[0]
        if why := comparable.why_not_under_load(
            self.head.contract, sent.spec.signature_key, self.head.golden.rows, sent.rows
        ):
            missing["answers"] = f"their form was checked, their values cannot be compared: {why}"
        if self.plan.open_share is None:
            missing["latency"] = "no open loop was asked for, and latency under a closed loop is not compared"
        if not self.plan.closed:
            missing["server CPU and throughput"] = "no closed loop was asked for"
        if left_out := [p for p in ("rest", "grpc") if p not in self.plan.protocols]:
            missing[" and ".join(left_out)] = "not asked for"
        if not self.machine.pinned:
            missing["placement"] = "servers and load generators may share CPUs: they could not be kept apart"
        return missing


def _broken(measured: Mapping[Which, Repetition]) -> str:
    """Say in few words which rules a pair of windows broke: `base: disturbed; head: left late`; "" if none."""
    words = {which: ", ".join(repetitions.SHORT.get(rule, rule) for rule in measured[which].invalid) for which in SIDES}
    if words["base"] == words["head"]:
        return f"both: {words['base']}" if words["base"] else ""
    return "; ".join(f"{which}: {found}" for which, found in words.items() if found)


def _cell(planned: Planned, pairs: Sequence[WindowPair]) -> ComparedCell:
    return ComparedCell(id=planned.id, protocol=planned.protocol, load=planned.load, pairs=list(pairs))

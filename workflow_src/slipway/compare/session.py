"""Two servers side by side, loaded in turns, until every metric is decided."""

import contextlib
import datetime as dt
import random
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from slipway import calibration, comparable, cpu, files, measuring, payloads, provenance, repetitions, server_metrics
from slipway.compare import metrics, verdict
from slipway.compare.plan import MOST_OPEN_WINDOW_S, RAREST, Plan, enough_s
from slipway.compare.records import ComparedCell, Comparison, Subject, WindowPair
from slipway.compare.subjects import Side
from slipway.errors import ContractViolation, InvalidMeasurement, ServerError, SlipwayError, one_line
from slipway.load_generator import LoadGenerator, load_generator
from slipway.load_plan import NAMES, Planned, offered_rate
from slipway.measuring import Machine
from slipway.procs import Stopped
from slipway.progress import Steps, steps
from slipway.records import Ceiling, Load, Protocol, Repetition
from slipway.repetitions import Window
from slipway.servers import RunningServer
from slipway.statistics import samples_needed
from slipway_wire.loads import LoadOrder
from slipway_wire.payloads import encode as encode_payloads

Which = Literal["base", "head"]
SIDES: tuple[Which, Which] = ("base", "head")
# To connect, to write the samples, to read the metrics: seconds that a window takes beyond its load.
_OVERHEAD_S = 0.15
# A server starts; its paths are run hot for at least so long.
_START_S = 5.0
_LEAST_DISCARD_S = 0.2
# A window of calibration; one of half its length follows with a single request in flight. What both take beyond that.
_CALIBRATION_S = 1.0
_CALIBRATION_OVERHEAD_S = 0.8


@dataclass(slots=True)
class _Running:
    """One side while it runs."""

    side: Side
    server: RunningServer
    generator: LoadGenerator
    payloads: Path


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
    ceilings: dict[Protocol, Ceiling] = field(default_factory=dict)
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
            What was found; also if it was cut short, by a signal, a fault of a server, a wrong answer or a bug of ours, and
            then it says so. A bug's traceback goes to standard error.
        """
        try:
            with files.readable_disk_faults(self.directory):
                self._run()
        except Stopped as stopped:
            self.cut_short = f"stopped by {stopped.signal.name}"
        except (InvalidMeasurement, ServerError) as error:
            self.cut_short = str(error)
        except ContractViolation as error:
            self.cut_short, self.is_wrong = str(error), True
        except SlipwayError:
            raise
        except Exception as error:  # what was measured until then is not lost by a bug
            traceback.print_exc()
            self.cut_short = f"a fault of Slipway itself, whose traceback is in the log: {one_line(error)}"
        return self.comparison()

    def _run(self) -> None:
        protocols, plan = self.plan.protocols, self.plan
        kinds = plan.closed + (plan.open_share is not None)
        pairs = len(protocols) * kinds * (plan.looks[0] + 2)
        count = len(SIDES) + len(plan.calibrated) + (plan.open_share is not None) + pairs
        seconds = len(SIDES) * _START_S + len(plan.calibrated) * self._calibrating_s() + self._choosing_s()
        with (
            contextlib.ExitStack() as stack,
            # How long windows of the open loop are, nobody knows before there is a rate.
            steps(count, seconds + pairs * 2 * self._window_s(plan.window_s)) as told,
        ):
            sides = {which: self._started(which, stack, told) for which in SIDES}
            self._calibrate(sides["base"], told)
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
        log, processes = self.directory / f"{which}.generator.log", self.machine.generator_processes
        generator = stack.enter_context(load_generator(file, tolerances, log=log, processes=processes))
        self.machine.take_in(generator)
        server = stack.enter_context(self.machine.server(side.spec, self.directory / f"{which}.server.log"))
        return _Running(side, server, generator, file)

    # --- windows ------------------------------------------------------------------------------------

    def _calibrate(self, running: _Running, told: Steps) -> None:
        """Find what a load generator can do at most; both are alike, and the servers wait meanwhile."""
        if not self.plan.calibrated:
            return
        log = self.directory / "null_server.log"
        generators, cpus = self.machine.generator_processes, self.machine.server_cpus
        with calibration.null_server(running.payloads, log, cpus, generators=generators) as null_server:
            for protocol in self.plan.calibrated:
                told.begin(f"{NAMES[protocol]} on a server that does nothing")
                self.ceilings[protocol] = calibration.measure(
                    running.generator,
                    null_server,
                    protocol,
                    self.directory / "calibration.npz",
                    users=self.plan.users,
                    window_s=self._calibration_s(),
                )
                told.end(self._calibrating_s())

    def _calibration_s(self) -> float:
        return min(self.plan.window_s, _CALIBRATION_S)

    def _calibrating_s(self) -> float:
        return 1.5 * self._calibration_s() + _CALIBRATION_OVERHEAD_S

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
        rate = offered_rate(found, self.plan.open_share, "--window")
        self.rate = round(rate, 1) or rate
        told.end(self._choosing_s())
        length_s, enough = self.plan.length_s(Load(kind="open", rate=self.rate)), enough_s(RAREST, self.rate)
        needs = f"at {self.rate:g} requests/s windows must be {enough:g} s long for the {samples_needed(RAREST)} that p99 needs"
        if length_s > self.plan.window_s:
            pairs = len(self.plan.protocols) * (self.plan.looks[0] + 2)
            told.take_longer(pairs * 2 * (length_s - self.plan.window_s))
            told.note(f"  {needs}: those of the open loop are {length_s:g} s, not {self.plan.window_s:g} s")
        elif length_s < enough:
            told.note(f"  {needs}: it will not be judged (--open-window; by itself {MOST_OPEN_WINDOW_S:g} s at most)")

    def _choosing_s(self) -> float:
        return 0.0 if self.plan.open_share is None else len(self.plan.protocols) * self._window_s(self.plan.window_s)

    def _wanted(self) -> list[Planned]:
        """List the cells that still have an open metric."""
        wanted = []
        most_void = metrics.MOST_VOID * self.plan.looks[0]
        for planned, pairs in self.cells.items():
            found = metrics.results([_cell(planned, pairs)], self.plan.looks)
            # Where the host is not quiet, no more pairs than a first look needs are spent on times on the wall; and where windows
            # had to be made longer none at all, once that look cannot decide any more.
            is_long = self.plan.length_s(planned.load) > self.plan.window_s
            is_open = any(
                r.state == "open"
                and (r.gates or (len(pairs) < self.plan.looks[0] and not (is_long and r.void > most_void)))
                for r in found
            )
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
        told.end(2 * self._window_s(self.plan.length_s(planned.load)))

    def _measure(
        self, which: Which, running: _Running, planned: Planned, name: str, when: str, *, index: int
    ) -> Repetition:
        # The same seed for both sides: they meet the same arrivals.
        order = replace(
            self._order(running, planned, name), rate=planned.load.rate, seed=f"{self.plan.seed}/arrivals/{index}"
        )
        window = self._load(which, running, planned, order, when)
        self._windows += 1
        ceiling = self.ceilings.get(planned.protocol)
        return repetitions.repetition(
            window,
            planned.load,
            rows=running.side.sent[0].rows,
            index=index,
            order=self._windows,
            ceiling_rps=ceiling.throughput_rps if ceiling else None,
        )

    def _order(self, running: _Running, planned: Planned, name: str) -> LoadOrder:
        return measuring.order(
            running.server,
            planned.protocol,
            self.directory / f"{name}.npz",
            users=self.plan.users,
            warmup_s=self.plan.warmup_s,
            window_s=self.plan.length_s(planned.load),
        )

    def _load(self, which: Which, running: _Running, planned: Planned, order: LoadOrder, when: str) -> Window:
        window = self.machine.load(running.generator, running.server, running.side.spec.model, order)
        measuring.stop_at_faults(window.outcome, f"{which} ({running.side.record.label}), {planned}, {when}")
        Path(order.samples).unlink()
        return window

    def _window_s(self, length_s: float) -> float:
        return self.plan.warmup_s + length_s + _OVERHEAD_S

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
            open_window_s=self.plan.length_s(Load(kind="open", rate=self.rate)) if self.rate else None,
            offered_rate=self.rate,
            payload=payloads.record(self.head.sent),
            placement=self.machine.placement(),
            environment=self.environment,
            ceilings=list(self.ceilings.values()),
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
        elif not self.plan.calibrates:
            missing["the load generator's ceiling"] = "not asked for: throughput near it counts as any other"
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

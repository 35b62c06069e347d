"""
Measure REST and gRPC under load. One command owns one server, and the machine: it waits for other benchmarks.

First fresh servers are started with and without warm-up records. Then one server gets windows of closed-loop
load, protocol by concurrency, interleaved in a seeded random order and repeated; then open-loop load at one
offered rate for both protocols. Every window that stands keeps its raw samples, every answer is compared with the
checkpoint's own, and a window that breaks a validity rule is measured again, once.
"""

import contextlib
import datetime as dt
import os
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from slipway import calibration, comparable, cpu, files, first_requests, golden, payloads, provenance, repetitions
from slipway.arguments import section
from slipway.contract import read_contract
from slipway.errors import ContractViolation, InvalidMeasurement
from slipway.load_generator import LoadGenerator, load_generator
from slipway.load_plan import PROTOCOLS, Planned, closed_cells, interleaved, offered_rate, open_cells, place
from slipway.locks import waiting_lock
from slipway.measuring import Machine, order, stop_at_faults
from slipway.progress import Steps, steps
from slipway.records import (
    BenchmarkRecord,
    Ceiling,
    Cell,
    ColdStart,
    EngineRecord,
    ImageRecord,
    Load,
    Protocol,
    Repetition,
    ServableRecord,
)
from slipway.repetitions import Window
from slipway.servers import RunningServer, ServerSpec
from slipway.settings import BenchmarkSettings, LaunchSettings, ServerSettings
from slipway_wire.loads import LoadOrder
from slipway_wire.payloads import Payload
from slipway_wire.payloads import encode as encode_payloads
from slipway_wire.tolerances import Tolerances

PAYLOADS_FILE = "payloads.tfrecord"
FIRST_REQUESTS = 20
COLD_FLAG = "--enable_model_warmup=false"
# To connect, to write the samples, to read the metrics: seconds that a window takes beyond its load.
_OVERHEAD_S = 0.15
_COLD_START_S = 6.0
# A window of calibration; one of half its length follows with a single request in flight.
_CALIBRATION_S = 1.5
# A host where so many windows have to be measured again is not fit for it; more would only take longer.
_MOST_RERUNS = 0.2
_LEAST_RERUNS = 4


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--version", required=True, type=int, help="the version that is measured")
    parser.add_argument("--settings", required=True, help="section `benchmark` of the settings, as JSON")
    parser.add_argument("--launch-settings", required=True, help="section `launch` of the settings, as JSON")
    parser.add_argument("--server-settings", required=True, help="section `server` of the settings, as JSON")
    parser.add_argument("--image-layout", required=True, type=Path, help="OCI layout of the image")
    parser.add_argument("--image-record", required=True, type=Path, help="record of the image")
    parser.add_argument("--servable-root", required=True, type=Path, help="base path with the version's SavedModel")
    parser.add_argument("--servable-record", required=True, type=Path, help="record of the version's servable")
    parser.add_argument("--contract", required=True, type=Path, help="the model's contract")
    parser.add_argument("--golden", required=True, type=Path, help="golden data of the version")
    parser.add_argument("--threads", required=True, type=int, help="CPUs that may be used")
    parser.add_argument("--out", required=True, type=Path, help="record to write")
    parser.add_argument("--samples", required=True, type=Path, help="directory for raw samples")


def run(arguments: Namespace) -> None:
    """Measure, and write the record and the samples; if the measurement fails, `<out>.failed.json` instead."""
    settings = section(BenchmarkSettings, arguments.settings, "benchmark")
    image = ImageRecord.read(arguments.image_record)
    contract = read_contract(arguments.contract)
    answered = golden.read(arguments.golden)
    sent = payloads.from_golden(
        answered,
        contract,
        model=arguments.model,
        version=arguments.version,
        signature=settings.signature,
        rows=settings.rows,
    )
    payloads.check_parity(sent, arguments.servable_root / str(arguments.version))
    subject = Subject(
        version=arguments.version,
        spec=ServerSpec(
            model=arguments.model,
            image_layout=arguments.image_layout,
            image=image,
            servable_root=arguments.servable_root,
            settings=section(LaunchSettings, arguments.launch_settings, "launch"),
        ),
        image=image,
        servable=ServableRecord.read(arguments.servable_record),
        server=section(ServerSettings, arguments.server_settings, "server"),
        sent=sent,
        tolerances=comparable.under_load(contract, answered.rows, settings.rows),
        why_not_compared=comparable.why_not_under_load(
            contract, sent[0].spec.signature_key, answered.rows, settings.rows
        ),
        log=arguments.out.with_suffix(".server.log"),
    )
    failed = arguments.out.with_suffix(".failed.json")
    failed.unlink(missing_ok=True)
    files.remove_partials(arguments.samples.parent)
    with waiting_lock(lock_path(), say_waiting), files.new_directory(arguments.samples) as directory:
        record = measure(subject, settings, available_cpus(arguments.threads), directory, failed)
    record.write(arguments.out)


def lock_path() -> Path:
    """Name the lock that benchmarks of one user on one host share, whatever directory they work in."""
    shared = Path("/run/lock")
    directory = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return directory / f"slipway-benchmark-{os.getuid()}.lock"


def say_waiting(holder: str) -> None:
    """Tell that another benchmark has the machine."""
    sys.stderr.write(f"Another benchmark (process {holder}) is measuring on this machine; waiting for it to end.\n")


def available_cpus(threads: int) -> list[int]:
    """List the CPUs this process may use, at most *threads* of them."""
    return sorted(os.sched_getaffinity(0))[: max(threads, 1)]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, and with what."""

    version: int
    spec: ServerSpec
    image: ImageRecord
    servable: ServableRecord
    server: ServerSettings
    sent: Sequence[Payload]
    tolerances: Tolerances
    why_not_compared: str
    log: Path


def measure(
    subject: Subject, settings: BenchmarkSettings, cpus: Sequence[int], directory: Path, failed: Path
) -> BenchmarkRecord:
    """
    Measure *subject*.

    Args:
        subject: What.
        settings: How.
        cpus: CPUs to divide between server and load generator.
        directory: Gets the payload file and the samples.
        failed: Gets what was measured until then if the measurement fails.

    Raises:
        ContractViolation: If an answer under load is wrong.
        InvalidMeasurement: If a request fails, or the generator does.
        ServerError: If the server dies.
    """
    payload_file = directory / PAYLOADS_FILE
    payload_file.write_bytes(encode_payloads(subject.sent))
    # Beside the server's, not in /tmp: a `kill -9` leaves nothing that nobody finds.
    log = subject.log.with_name(subject.log.name.replace(".server.", ".generator."))
    with load_generator(payload_file, subject.tolerances, log=log) as generator:
        session = _Session(subject, settings, generator, directory, list(cpus))
        try:
            session.run()
        except (ContractViolation, InvalidMeasurement) as error:
            session.record().write(failed)
            raise type(error)(f"{error}\nWhat was measured until then: {failed}") from error
        return session.record()


@dataclass
class _Session:
    """One benchmark on its way: what there is so far, and what it takes to go on."""

    subject: Subject
    settings: BenchmarkSettings
    generator: LoadGenerator
    directory: Path
    cpus: list[int]
    cells: dict[Planned, list[Repetition]] = field(default_factory=dict)
    cold_starts: list[ColdStart] = field(default_factory=list)
    resident_bytes: int | None = None
    ceilings: dict[Protocol, Ceiling] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self.environment = provenance.environment()
        self.engine: EngineRecord | None = None
        spec = self.subject.spec
        self.questions, self.unasked = first_requests.questions(
            spec.servable_root / str(self.subject.version), spec.model, self.subject.version
        )
        self.machine = Machine(self.cpus)
        self.machine.take_in(self.generator)
        self.order = 0
        windows = (len(closed_cells(self.settings.concurrency)) + len(PROTOCOLS)) * self.settings.repetitions
        self.reruns = 0
        self.window_s = self.settings.warmup_s + self.settings.window_s + _OVERHEAD_S
        self.count = windows + 2 * self.settings.cold_starts + len(PROTOCOLS)
        self.total_s = windows * self.window_s + 2 * self.settings.cold_starts * _COLD_START_S
        self.total_s += len(PROTOCOLS) * 1.5 * _CALIBRATION_S

    def run(self) -> None:
        """Measure everything."""
        with steps(self.count, self.total_s) as told:
            self._calibrate(told)
            self._start_cold(told)
            with self._server(()) as server:
                self.engine = server.engine
                self._discard(server)
                self._sweep(server, closed_cells(self.settings.concurrency), told)
                rate = offered_rate(self.cells, self.settings.open_loop_share)
                self._sweep(server, open_cells(rate), told)
                self.resident_bytes = cpu.resident_bytes(server.pids())

    def _calibrate(self, told: Steps) -> None:
        """Find what the generator can do at most, with these payloads and as many connections as the busiest cell has."""
        log = self.subject.log.with_name(self.subject.log.name.replace(".server.", ".null_server."))
        with calibration.null_server(self.directory / PAYLOADS_FILE, log, self.machine.server_cpus) as server:
            for protocol in PROTOCOLS:
                told.begin(f"{protocol} on a server that does nothing")
                ceiling = calibration.measure(
                    self.generator,
                    server,
                    protocol,
                    self.directory / "calibration.npz",
                    users=max(self.settings.concurrency),
                    window_s=min(self.settings.window_s, _CALIBRATION_S),
                )
                self.ceilings[protocol] = ceiling
                told.end(1.5 * _CALIBRATION_S)

    # --- servers ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _server(self, flags: tuple[str, ...]) -> Iterator[RunningServer]:
        spec = replace(self.subject.spec, flags=(*self.subject.spec.flags, *flags))
        with self.machine.server(spec, self.subject.log) as server:
            yield server

    def _start_cold(self, told: Steps) -> None:
        for index in range(self.settings.cold_starts):
            protocol = PROTOCOLS[index % len(PROTOCOLS)]
            for warmed in (True, False):
                told.begin(f"a fresh server {'with' if warmed else 'without'} warm-up records")
                with self._server(() if warmed else (COLD_FLAG,)) as server:
                    name = f"{protocol}-{'warm' if warmed else 'cold'}-{index}"
                    order = self._order(server, protocol, name, users=1, warmup_s=0.0, window_s=60.0)
                    window = self._load(server, replace(order, requests=FIRST_REQUESTS))
                    planned = Planned(protocol, Load(kind="closed", concurrency=1))
                    self._stop_at_faults(planned, window, f"after a start {'with' if warmed else 'without'} warm-up")
                    took = window.samples.service_us[np.argsort(window.samples.planned_us)]
                    by_batch = first_requests.measure(server, protocol, self.questions)
                    self.cold_starts.append(
                        ColdStart(
                            warmed=warmed,
                            protocol=protocol,
                            ready_s=server.ready_s,
                            first_requests_us=took.astype(float).tolist(),
                            by_batch=by_batch,
                        )
                    )
                told.end(_COLD_START_S)

    def _discard(self, server: RunningServer) -> None:
        """Let each protocol's path through the server run hot, with as many connections as it will get."""
        for protocol in PROTOCOLS:
            users = max(self.settings.concurrency)
            order = self._order(
                server, protocol, "discarded", users=users, warmup_s=0.0, window_s=max(self.settings.warmup_s, 0.2)
            )
            window = self._load(server, order)
            Path(order.samples).unlink()
            planned = Planned(protocol, Load(kind="closed", concurrency=users))
            self._stop_at_faults(planned, window, "before the first window")

    # --- windows ------------------------------------------------------------------------------------

    def _sweep(self, server: RunningServer, cells: Sequence[Planned], told: Steps) -> None:
        # Each sweep has its own, so that a noisy closed loop leaves some for the open one.
        most = self.reruns + max(_LEAST_RERUNS, round(len(cells) * self.settings.repetitions * _MOST_RERUNS))
        for index in range(self.settings.repetitions):
            for planned in interleaved(cells, self.settings.seed, index):
                self._repeat(server, planned, index, told, may_rerun=self.reruns < most)

    def _repeat(self, server: RunningServer, planned: Planned, index: int, told: Steps, *, may_rerun: bool) -> None:
        """Measure one window; once more if it broke a rule that another try may keep."""
        told.begin(f"{planned}, repetition {index + 1} of {self.settings.repetitions}")
        repetition = self._measure(server, planned, index)
        if repetition.invalid and may_rerun:
            self.reruns += 1
            told.note(f"  measured again: {'; '.join(repetition.invalid)}")
            repetition = self._measure(server, planned, index)
        if repetition.invalid:
            told.note(f"  does not count: {'; '.join(repetition.invalid)}")
        told.end(self.window_s)

    def _measure(self, server: RunningServer, planned: Planned, index: int) -> Repetition:
        measured = self.cells.setdefault(planned, [])
        order = self._order(
            server,
            planned.protocol,
            f"{planned.id}/{index}",
            users=planned.load.concurrency or max(self.settings.concurrency),
            warmup_s=self.settings.warmup_s,
            window_s=self.settings.window_s,
        )
        # The same seed for both protocols: they meet the same arrivals.
        order = replace(order, rate=planned.load.rate, seed=f"{self.settings.seed}/arrivals/{index}")
        window = self._load(server, order)
        repetition = repetitions.repetition(
            window,
            planned.load,
            rows=self.settings.rows,
            index=index,
            order=self.order,
            ceiling_rps=self.ceilings[planned.protocol].throughput_rps,
        )
        self.order += 1
        # A second try takes the place of the first.
        measured[index:] = [repetition]
        self._stop_at_faults(planned, window, f"repetition {index + 1}")
        return repetition

    def _order(
        self, server: RunningServer, protocol: Protocol, name: str, *, users: int, warmup_s: float, window_s: float
    ) -> LoadOrder:
        path = self.directory / f"{name}.npz"
        return order(server, protocol, path, users=users, warmup_s=warmup_s, window_s=window_s)

    def _load(self, server: RunningServer, order: LoadOrder) -> Window:
        return self.machine.load(self.generator, server, self.subject.spec.model, order)

    def _stop_at_faults(self, planned: Planned, window: Window, when: str) -> None:
        subject = f"{self.subject.spec.model} version {self.subject.version}, {planned}, {when}"
        stop_at_faults(window.outcome, subject)

    # --- the record ---------------------------------------------------------------------------------

    def record(self) -> BenchmarkRecord:
        """Give what there is so far."""
        subject, payload = self.subject, payloads.record(self.subject.sent)
        batching = subject.server.batching
        return BenchmarkRecord(
            model=subject.spec.model,
            version=subject.version,
            servable_digest=subject.servable.tree.digest,
            image_id=subject.image.image_id,
            engine=self.engine or EngineRecord(name="unknown", version="", isolated=False, network=""),
            seed=self.settings.seed,
            started=self.started,
            duration_s=time.monotonic() - self.began,
            placement=self.machine.placement(),
            server_flags=list(subject.server.flags),
            batching=batching.model_dump() if batching else None,
            payloads=[payload],
            cells=[
                Cell(id=p.id, protocol=p.protocol, payload=payload.id, load=p.load, repetitions=measured)
                for p, measured in sorted(self.cells.items(), key=lambda item: place(item[0]))
            ],
            cold_starts=self.cold_starts,
            ceilings=[self.ceilings[p] for p in PROTOCOLS if p in self.ceilings],
            reruns=self.reruns,
            resident_bytes=self.resident_bytes,
            locust=provenance.tool_versions("locust", "gevent", "hpack"),
            not_measured=self._not_measured(),
            environment=self.environment,
        )

    def _not_measured(self) -> dict[str, str]:
        measured = [repetition for cell in self.cells.values() for repetition in cell]
        missing = {
            "networks": "all traffic is on this host's loopback: no round-trip time, no loss, no TLS",
        }
        if not self.settings.cold_starts:
            missing["cold starts"] = "benchmark.cold_starts is 0"
        elif self.unasked:
            missing["first requests"] = (
                f"{self.unasked} of the warm-up records are no requests here: larger than "
                f"{first_requests.MAX_MESSAGE_BYTES} bytes, or JSON cannot say them"
            )
        if why := self.subject.why_not_compared:
            missing["answers"] = f"their form was checked, their values cannot be compared: {why}"
        if not self.machine.pinned:
            missing["placement"] = "server and load generator may share CPUs: they could not be kept apart"
        if any(r.server_cpu_us_per_request is None for r in measured):
            missing["server CPU"] = "the CPU time of the server's processes cannot be read here"
        if any(r.bytes_sent_per_request is None for r in measured):
            missing["bytes on the wire"] = "the kernel's TCP_INFO does not count bytes here"
        if any(not r.batch_sizes for r in measured):
            missing["batch sizes"] = "the server's metrics have no slipway_batches_total"
        if any(not r.stages_us for r in measured):
            missing["stages"] = "the server's metrics have no slipway_stage_seconds"
        return missing

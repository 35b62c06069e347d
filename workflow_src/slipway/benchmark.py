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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from slipway import comparable, cpu, files, first_requests, golden, payloads, provenance, scenarios, server_metrics
from slipway.arguments import by_version, section
from slipway.contract import Contract, read_contract
from slipway.errors import ContractViolation, InvalidMeasurement, ServerError
from slipway.golden import Golden
from slipway.load_generator import LoadGenerator, load_generator
from slipway.load_plan import PROTOCOLS, Planned, place
from slipway.locks import waiting_lock
from slipway.measuring import Machine
from slipway.oci import serving_config
from slipway.oci.layout import read_layer_files
from slipway.procs import Stopped
from slipway.progress import Steps, steps
from slipway.records import (
    BenchmarkRecord,
    Cell,
    ColdStart,
    EngineRecord,
    ImageRecord,
    Load,
    ServableRecord,
)
from slipway.scenario_settings import STANDARD
from slipway.scenarios.bench import Bench
from slipway.scenarios.reload import VersionsReload
from slipway.scenarios.versions import GoldenVersions, Versions
from slipway.servers import RunningServer, ServerSpec
from slipway.settings import BenchmarkSettings, LaunchSettings, ServerSettings
from slipway.windows import CALIBRATION_S, Windows
from slipway_wire import messages, text_config
from slipway_wire.payloads import Payload
from slipway_wire.payloads import encode as encode_payloads
from slipway_wire.tolerances import Tolerances

PAYLOADS_FILE = "payloads.tfrecord"
FIRST_REQUESTS = 20
COLD_FLAG = "--enable_model_warmup=false"
_COLD_START_S = 6.0


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
    parser.add_argument(
        "--version-golden",
        nargs="*",
        default=[],
        metavar="V=FILE",
        help="golden data of other versions: for ab_versions",
    )
    parser.add_argument("--threads", required=True, type=int, help="CPUs that may be used")
    parser.add_argument("--out", required=True, type=Path, help="record to write")
    parser.add_argument("--samples", required=True, type=Path, help="directory for raw samples")


def run(arguments: Namespace) -> None:
    """Measure, and write the record and the samples; if the measurement fails, `<out>.failed.json` instead."""
    settings = section(BenchmarkSettings, arguments.settings, "benchmark")
    image = ImageRecord.read(arguments.image_record)
    contract = read_contract(arguments.contract)
    answered = golden.read(arguments.golden)

    def make(rows: int) -> Sequence[Payload]:
        version, signature = arguments.version, settings.signature
        return payloads.from_golden(
            answered, contract, model=arguments.model, version=version, signature=signature, rows=rows
        )

    sent = make(settings.rows)
    payloads.check_parity(sent, arguments.servable_root / str(arguments.version))
    # Of requests with several numbers of rows, none has the golden rows together as they were answered.
    together = scenarios.common_rows(settings) or 0
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
        tolerances=comparable.under_load(contract, answered.rows, together),
        why_not_compared=comparable.why_not_under_load(contract, sent[0].spec.signature_key, answered.rows, together),
        log=arguments.out.with_suffix(".server.log"),
        make=make,
        contract=contract,
        goldens=by_version(arguments.version_golden),
        golden=answered,
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
    make: Callable[[int], Sequence[Payload]]
    contract: Contract
    golden: Golden
    goldens: Mapping[int, Path] = field(default_factory=dict)


# With one of these the section `server.batching` is not what the server batches by.
_BATCHING_FLAGS = frozenset(
    ("enable_batching", "batching_parameters_file", "enable_per_model_batching_parameters", "platform_config_file")
)


def declared_settings(server: ServerSettings) -> dict[str, str]:
    """Give the settings that a server with the section `server` runs with, as `slipway_setting_info` tells them."""
    if server.batching is None:
        told = {"batching": "off"}
    else:
        told = {"batching": "on"} | {
            f"batching.{name}": ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in server.batching.model_dump().items()
        }
    flags = {}
    for flag in server.flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        flags[name] = value if equals else "true"
    if not _BATCHING_FLAGS.isdisjoint(flags):
        told = {}
    if server.backend == "stablehlo":
        told["prefer_stablehlo"] = "true"
    if "prefer_stablehlo" in flags:
        flags["prefer_stablehlo"] = str(flags["prefer_stablehlo"].lower() in {"true", "1"}).lower()
    return told | flags


def reload_of(subject: Subject, server: RunningServer) -> tuple[VersionsReload | None, str]:
    """Find a change of versions that *server* can make under load; else say why there is none."""
    spec = subject.spec
    served = tuple(spec.versions())
    if len(served) < 2:
        return None, f"the image serves no other version of {spec.model} than {subject.version}"
    if spec.image is None or spec.image_layout is None or not any(one.name == "config" for one in spec.image.layers):
        return None, "the image has no configuration of the server that could be changed"
    config = read_layer_files(spec.image_layout, spec.image, "config", serving_config.DIRECTORY)
    if not server.engine.isolated:
        config = serving_config.moved(config, spec.model, "", str(spec.servable_root.absolute()))
    return VersionsReload(
        host=server.host,
        rest_port=server.rest_port,
        grpc_port=server.grpc_port,
        model=spec.model,
        served=served,
        config=text_config.parse(messages.ModelServerConfig, config[serving_config.MODELS_CONFIG]),
    ), ""


def versions_of(subject: Subject, settings: BenchmarkSettings, server: RunningServer) -> Versions:
    """Say which versions *server* has, and how each of them is asked and judged."""
    spec = subject.spec
    others = {version: golden.read(path) for version, path in subject.goldens.items() if version != subject.version}
    known = GoldenVersions(
        grpc=f"{server.host}:{server.grpc_port}",
        model=spec.model,
        contract=subject.contract,
        asked=subject.version,
        goldens=others | {subject.version: subject.golden},
        labels=spec.labels(),
        signature=settings.signature,
    )
    return Versions(
        asked=subject.version,
        served=tuple(spec.versions()),
        labels=known.labels,
        make=known.make,
        against=known.against,
        tolerances=subject.tolerances,
    )


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
        failed: Gets what was measured until then if the measurement fails or is stopped.

    Raises:
        ContractViolation: If an answer under load is wrong.
        InvalidMeasurement: If a request fails, or the generator does.
        ServerError: If the server dies.
    """
    payload_file = directory / PAYLOADS_FILE
    machine = Machine(cpus, settings.generator_processes)
    payload_file.write_bytes(encode_payloads(subject.sent))
    # Beside the server's, not in /tmp: a `kill -9` leaves nothing that nobody finds.
    log = subject.log.with_name(subject.log.name.replace(".server.", ".generator."))

    @contextlib.contextmanager
    def start_generator() -> Iterator[LoadGenerator]:
        processes = machine.generator_processes
        with load_generator(payload_file, subject.tolerances, log=log, processes=processes) as generator:
            machine.take_in(generator)
            yield generator

    with start_generator() as generator:
        session = _Session(subject, settings, generator, directory, machine, start_generator)
        try:
            session.run()
        except (ContractViolation, InvalidMeasurement, ServerError) as error:
            session.record(str(error)).write(failed)
            raise type(error)(f"{error}\nWhat was measured until then: {failed}") from error
        except Stopped as stopped:
            session.record(f"stopped by {stopped.signal.name}").write(failed)
            raise
        return session.record()


@dataclass
class _Session:
    """One benchmark on its way: what there is so far, and what it takes to go on."""

    subject: Subject
    settings: BenchmarkSettings
    generator: LoadGenerator
    directory: Path
    machine: Machine
    start_generator: Callable[[], contextlib.AbstractContextManager[LoadGenerator]]
    cold_starts: list[ColdStart] = field(default_factory=list)
    resident_bytes: int | None = None
    thread_plan: str = ""
    bench: Bench | None = None

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self.environment = provenance.environment()
        self.engine: EngineRecord | None = None
        spec = self.subject.spec
        self.questions, self.unasked = first_requests.questions(
            spec.servable_root / str(self.subject.version), spec.model, self.subject.version
        )
        self.windows = Windows(
            model=spec.model,
            subject=f"{spec.model} version {self.subject.version}",
            generator=self.generator,
            machine=self.machine,
            directory=self.directory,
            settings=self.settings,
            protocols=PROTOCOLS,
            declared=declared_settings(self.subject.server),
        )
        self.starts = self.settings.cold_starts if self.settings.wants("cold_start") else 0

    def run(self) -> None:
        """Measure everything."""
        windows, seconds = scenarios.length(self.settings, PROTOCOLS)
        count = windows + 2 * self.starts + len(PROTOCOLS)
        total_s = seconds + 2 * self.starts * _COLD_START_S + len(PROTOCOLS) * 1.5 * CALIBRATION_S
        with steps(count, total_s) as told:
            self.windows.calibrate(self.directory / PAYLOADS_FILE, self._null_log(), told)
            self._start_cold(told)
            if windows:
                with self._server(()) as server:
                    self.engine = server.engine
                    read = server_metrics.scrape(server.host, server.rest_port)
                    self.thread_plan = server_metrics.thread_plan(read, self.subject.spec.model, self.subject.version)
                    self.windows.discard(server)
                    self.bench = self._make_bench(server, told)
                    scenarios.measure(self.bench)
                    self.resident_bytes = cpu.resident_bytes(server.pids())

    def _null_log(self) -> Path:
        return self.subject.log.with_name(self.subject.log.name.replace(".server.", ".null_server."))

    def _make_bench(self, server: RunningServer, told: Steps) -> Bench:
        subject, batching = self.subject, self.subject.server.batching
        change, no_reload = reload_of(subject, server)
        return Bench(
            windows=self.windows,
            server=server,
            told=told,
            make_payloads=subject.make,
            start_generator=self.start_generator,
            log=self._null_log(),
            max_batch_size=batching.max_batch_size if batching else None,
            reload=change,
            no_reload=no_reload,
            versions=versions_of(subject, self.settings, server),
        )

    # --- servers ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _server(self, flags: tuple[str, ...]) -> Iterator[RunningServer]:
        spec = replace(self.subject.spec, flags=(*self.subject.spec.flags, *flags))
        with self.machine.server(spec, self.subject.log) as server:
            yield server

    def _start_cold(self, told: Steps) -> None:
        for index in range(self.starts):
            protocol = PROTOCOLS[index % len(PROTOCOLS)]
            for warmed in (True, False):
                told.begin(f"a fresh server {'with' if warmed else 'without'} warm-up records")
                with self._server(() if warmed else (COLD_FLAG,)) as server:
                    name = f"{protocol}-{'warm' if warmed else 'cold'}-{index}"
                    order = self.windows.ordered(server, protocol, name, users=1, warmup_s=0.0, window_s=60.0)
                    window = self.windows.load(server, replace(order, requests=FIRST_REQUESTS))
                    planned = Planned(protocol, Load(kind="closed", concurrency=1))
                    when = f"after a start {'with' if warmed else 'without'} warm-up"
                    self.windows.stop_at_faults(planned, window, when)
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

    # --- the record ---------------------------------------------------------------------------------

    def record(self, cut_short: str = "") -> BenchmarkRecord:
        """Give what there is so far, and why there is no more."""
        subject, payload = self.subject, payloads.record(self.subject.sent)
        windows, bench = self.windows, self.bench
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
            thread_plan=self.thread_plan,
            payloads=[payload, *(bench.payloads.values() if bench else ())],
            window_s=self.settings.window_s,
            warmup_s=self.settings.warmup_s,
            cells=[
                Cell(
                    id=p.id,
                    protocol=p.protocol,
                    payload=payload.id,
                    load=p.load,
                    repetitions=measured,
                    distribution=windows.distribution(p),
                )
                for p, measured in sorted(windows.cells.items(), key=lambda item: place(item[0]))
                if measured  # the one under way may have none yet
            ],
            cold_starts=self.cold_starts,
            scenarios=bench.records if bench else [],
            ceilings=[windows.ceilings[p] for p in PROTOCOLS if p in windows.ceilings],
            reruns=windows.reruns,
            resident_bytes=self.resident_bytes,
            locust=provenance.tool_versions("locust", "gevent", "hpack"),
            cut_short=cut_short,
            not_measured=self._not_measured() | self._left(cut_short),
            environment=self.environment,
        )

    def _left(self, cut_short: str) -> dict[str, str]:
        """Say what is missing of a measurement that was cut short."""
        if not cut_short:
            return {}
        windows, _ = scenarios.length(self.settings, PROTOCOLS)
        done = max(self.windows.order - self.windows.reruns, 0)
        starts = f"{len(self.cold_starts)} of {2 * self.starts} starts"
        return {"the rest": f"cut short: {done} of {windows} windows and {starts} were measured"}

    def _not_measured(self) -> dict[str, str]:
        measured = [repetition for cell in self.windows.cells.values() for repetition in cell]
        missing = {
            "networks": "all traffic is on this host's loopback: no round-trip time, no loss, no TLS",
        }
        left_out = [name for name in STANDARD if not self.settings.wants(name)]
        missing |= {name.replace("_", " "): "benchmark.only does not name it" for name in left_out}
        if not self.starts:
            missing["cold starts"] = missing.pop("cold start", "benchmark.cold_starts is 0")
        elif self.unasked:
            missing["first requests"] = (
                f"{self.unasked} of the warm-up records are no requests here: larger than "
                f"{first_requests.MAX_MESSAGE_BYTES} bytes, or JSON cannot say them"
            )
        if why := self.subject.why_not_compared:
            missing["answers"] = f"their form was checked, their values cannot be compared: {why}"
        if self.environment.gpus and not self.machine.sees_gpus:
            missing["GPU"] = "nobody here can ask its driver: pip install nvidia-ml-py (slipway[nvml])"
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

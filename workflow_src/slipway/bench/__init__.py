"""
Measure any server with TensorFlow Serving's interface under load: nothing is needed but its address and the model's name.

The load generator is calibrated on a server that does nothing, then REST and gRPC get the same loads as in the report:
more and more users, one steady rate, and scenarios on wish. Every answer is held against what is expected: the payload
file's answers, or what the server itself answered before the load. What only the server's own host could tell, such as its
CPU time, is said to be missing. Exit code 0: measured; 1: a scenario shows a fault of the server; 2: nothing was measured,
or too much of it does not count; 3: an answer is wrong.
"""

import contextlib
import datetime as dt
import shlex
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from slipway import files, payloads, provenance, scenarios
from slipway import security as protecting
from slipway.arguments import section
from slipway.bench import page, requests, spoken, target
from slipway.bench.requests import Asking
from slipway.bench.target import METHODS, TargetServer
from slipway.benchmark import PAYLOADS_FILE, available_cpus, lock_path, say_waiting
from slipway.errors import ContractViolation, InvalidMeasurement, ServerError, SettingsError, SlipwayError
from slipway.load_generator import LoadGenerator, load_generator
from slipway.load_plan import place
from slipway.locks import waiting_lock
from slipway.measuring import Machine
from slipway.procs import Stopped
from slipway.progress import steps
from slipway.records import (
    BenchmarkRecord,
    Cell,
    EngineRecord,
    Protocol,
    SignatureRecord,
    TargetRecord,
    TargetResult,
    TensorRecord,
)
from slipway.report.content import loads
from slipway.scenario_settings import KINDS
from slipway.scenarios.bench import Bench
from slipway.scenarios.reload import CommandReload
from slipway.scenarios.versions import Pin, Versions
from slipway.security import OPEN
from slipway.servers import version_states
from slipway.settings import BenchmarkSettings
from slipway.windows import CALIBRATION_S, Windows
from slipway_wire.model_spec import DEFAULT_SIGNATURE, ModelSpec
from slipway_wire.payloads import Payload
from slipway_wire.payloads import encode as encode_payloads
from slipway_wire.signatures import Signature
from slipway_wire.tolerances import Tolerance, Tolerances

_FAULT, _INVALID = 1, 2
_LOADS = ("saturation", "open_loop")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--target",
        required=True,
        nargs="+",
        metavar="HOST:PORT",
        help="the server; what it speaks is found out. Or http://, https://, grpc:// or grpcs://HOST:PORT",
    )
    parser.add_argument("--rest-target", metavar="HOST:PORT", help="where REST is, if --target is gRPC's port alone")
    parser.add_argument("--model", required=True, metavar="NAME", help="name of the model")
    parser.add_argument("--signature", default=DEFAULT_SIGNATURE, metavar="S", help="what to call (%(default)s)")
    parser.add_argument(
        "--method", choices=list(METHODS.values()), help="how; else as the signature says. predict goes with any"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, metavar="N", help="ask this version; else the server chooses")
    which.add_argument("--label", metavar="LABEL", help="ask the version with this label, such as canary")
    parser.add_argument("--tls", action="store_true", help="TLS at addresses without a scheme")
    protecting.add_arguments(parser)
    parser.add_argument(
        "--payload",
        metavar="FILE.npz|contract",
        help="rows to send: arrays by input or feature name (or a golden.npz, whose answers count), or drawn within "
        "--contract's ranges; default: drawn at random to fit the signature",
    )
    parser.add_argument("--contract", type=Path, metavar="FILE", help="a contract whose ranges rows are drawn from")
    parser.add_argument("--atol", type=float, default=1e-5, help="absolute tolerance of answers (default 1e-5)")
    parser.add_argument("--rtol", type=float, default=1e-4, help="relative tolerance of answers (default 1e-4)")
    parser.add_argument(
        "--scenario",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"measure these alone: {', '.join((*_LOADS, *KINDS))}, or names from --configfile",
    )
    parser.add_argument("--configfile", type=Path, metavar="FILE", help="take the section `benchmark` of this config")
    parser.add_argument("--rows", type=int, metavar="N", help="rows in each request")
    parser.add_argument("--concurrency", type=int, nargs="+", metavar="N", help="closed loop: users at once")
    parser.add_argument("--rate", type=float, metavar="R", help="open loop: requests/s; else half of the slower peak")
    parser.add_argument("--window", type=float, metavar="S", help="length of a window, seconds")
    parser.add_argument("--repetitions", type=int, metavar="N", help="windows per load")
    parser.add_argument("--set", nargs="+", default=[], metavar="SCENARIO.KEY=VALUE", help="settings of scenarios")
    parser.add_argument(
        "--server-pid", type=int, metavar="PID", help="the server's process here: its CPU and memory count"
    )
    parser.add_argument("--reload-command", metavar="COMMAND", help="hot_reload: what changes the versions served")
    parser.add_argument("--threads", type=int, default=1_000_000, metavar="N", help="CPUs that may be used here")
    parser.add_argument(
        "--generator-processes", type=int, metavar="N", help="of the load generator; else one for each CPU that it has"
    )
    parser.add_argument("--title", default="", help="title of the page")
    parser.add_argument(
        "--out", type=Path, default=Path("results/bench"), metavar="DIR", help="gets result.json and the page"
    )


def run(arguments: Namespace) -> int:
    """Measure, write result and page whatever happens, print the numbers."""
    settings = settings_of(arguments)
    security = protecting.of_arguments(arguments, tls=arguments.tls)
    places = spoken.find(arguments.target, arguments.rest_target, security)
    server = TargetServer(places, arguments.server_pid, security)
    if (unused := protecting.named(arguments)) and not server.protection():
        raise SettingsError(
            f"{unused[0]}: nothing is encrypted; say --tls, or name the target as https:// or grpcs://."
        )
    named = "" if arguments.signature == DEFAULT_SIGNATURE else arguments.signature
    spec = ModelSpec(arguments.model, arguments.version, arguments.label, named)
    called = target.find_signature(server, spec, arguments.method)
    source = requests.source_of(arguments.payload, arguments.contract, called.signature, settings.seed)
    tolerance = Tolerance(arguments.atol, arguments.rtol)
    asking = Asking(server, spec, called.signature, called.method, source, tolerance)
    told = f"{source.told}; answers are held against {'the file' if source.outputs else 'those given before the load'}"
    if source.outputs is None and not asking.is_repeatable():
        asking = replace(asking, tolerance=Tolerance(arguments.atol, arguments.rtol, any_value=True))
        told = f"{source.told}; the same request is not answered the same, so only the form of answers is checked"
    sent = asking.payloads(settings.rows)
    if len(places) > 1:
        known = {called.signature.name: called.signature}
        payloads.check_same_values(sent, known, f"{arguments.model} at {arguments.target[0]}")
    run_ = _Run(arguments, settings, server, asking, sent, told, called.version)
    with waiting_lock(lock_path(), say_waiting), files.new_directory(arguments.out) as directory:
        fault = run_.measure(directory)
        result = run_.result()
        page.write(result, directory)
    sys.stdout.write(page.text_table(result))
    sys.stdout.write(f"\n{arguments.out / 'index.html'}\n")
    if fault is not None:
        raise fault
    if any(scenario.faults for scenario in result.benchmark.scenarios):
        return _FAULT
    if why := page.why_invalid(loads(result.benchmark)):
        sys.stderr.write(f"slipway bench: the measurement is invalid: {why}\n")
        return _INVALID
    return 0


def settings_of(arguments: Namespace) -> BenchmarkSettings:
    """
    Put the settings together: the config file's, then the command line's.

    Raises:
        SettingsError: With one line per fault.
    """
    given: dict[str, Any] = {}
    if arguments.configfile:
        given = _benchmark_section(arguments.configfile)
        given.pop("versions", None)
    plain = {
        "rows": arguments.rows,
        "concurrency": arguments.concurrency,
        "open_loop_rate": arguments.rate,
        "window_s": arguments.window,
        "repetitions": arguments.repetitions,
        "generator_processes": arguments.generator_processes,
    }
    given |= {key: value for key, value in plain.items() if value is not None}
    described = dict(given.get("scenarios") or {})
    for name in arguments.scenario:
        if name in KINDS:
            described.setdefault(name, {})
    for word in arguments.set:
        _set(described, word)
    given["scenarios"] = described
    if arguments.scenario:
        given["only"] = arguments.scenario
    text = files.canonical_json(given).decode()
    settings = section(BenchmarkSettings, text, "benchmark")
    if "cold_start" in settings.only:
        raise SettingsError("--scenario: cold_start needs a server that is started here; `slipway benchmark` does that")
    return settings


def _benchmark_section(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"--configfile: {path}: cannot be read: {str(error).splitlines()[0]}") from error
    found = document.get("benchmark") if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise SettingsError(f"--configfile: {path}: expected a section `benchmark:` with settings, found none")
    return dict(found)


def _set(described: dict[str, Any], word: str) -> None:
    where, equals, text = word.partition("=")
    name, dot, key = where.partition(".")
    if not (equals and dot and name in described):
        there = ", ".join(described) or "none; name them with --scenario"
        raise SettingsError(f"--set: expected SCENARIO.KEY=VALUE with one of the scenarios ({there}), got {word!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set: {word!r}: {str(error).splitlines()[0]}") from error
    described[name] = {**(described[name] or {}), key: value}


class _Run:
    """One measurement of a target."""

    def __init__(
        self,
        arguments: Namespace,
        settings: BenchmarkSettings,
        server: TargetServer,
        asking: Asking,
        sent: Sequence[Payload],
        told: str,
        version: int | None,
    ) -> None:
        self.arguments, self.settings, self.server = arguments, settings, server
        self.asking, self.sent, self.told = asking, sent, told
        self.protocols: list[Protocol] = list(server.places)
        self.machine = Machine(available_cpus(arguments.threads), settings.generator_processes)
        self.windows: Windows | None = None
        self.bench: Bench | None = None
        self.cut_short = ""
        self.began = time.monotonic()
        self.started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self.environment = provenance.environment()
        self.version = version
        rest, protection = server.addresses().get("rest"), server.protection()
        self.versions = version_states(*rest, arguments.model, protection.get("rest", OPEN)) if rest else None
        self.tls = {p: spoken.negotiated(server.places[p], protection[p]) for p in protection}

    def measure(self, directory: Path) -> SlipwayError | Stopped | None:
        """Measure all that is wanted; give what ended it before its time, if something did."""
        try:
            self._measure(directory)
        except Stopped as stopped:
            self.cut_short = f"stopped by {stopped.signal.name}"
            return stopped
        except KeyboardInterrupt:
            self.cut_short = "stopped by SIGINT"
            return InvalidMeasurement("stopped; what was measured until then is in the report")
        except (ContractViolation, InvalidMeasurement, ServerError) as error:
            told = f"{error}{self.server.last_words()}"
            self.cut_short = told
            return type(error)(f"{told}\n  What was measured until then: {self.arguments.out / 'index.html'}")
        return None

    def _measure(self, directory: Path) -> None:
        payload_file = directory / PAYLOADS_FILE
        payload_file.write_bytes(encode_payloads(self.sent))
        logs = directory / "logs"
        logs.mkdir()
        tolerances = Tolerances(self.asking.tolerance)

        @contextlib.contextmanager
        def start_generator() -> Iterator[LoadGenerator]:
            log, processes = logs / "generator.log", self.machine.generator_processes
            with load_generator(payload_file, tolerances, log=log, processes=processes) as generator:
                self.machine.take_in(generator)
                yield generator

        count, seconds = scenarios.length(self.settings, self.protocols)
        calibrating_s = len(self.protocols) * 1.5 * CALIBRATION_S
        with start_generator() as generator, steps(count + len(self.protocols), seconds + calibrating_s) as told:
            self.windows = Windows(
                model=self.arguments.model,
                subject=f"{self.arguments.model} at {' and '.join(map(str, self.server.places.values()))}",
                generator=generator,
                machine=self.machine,
                directory=directory / "samples",
                settings=self.settings,
                protocols=self.protocols,
                tls=list(self.tls),
            )
            self.windows.directory.mkdir()
            self.windows.calibrate(payload_file, logs / "null_server.log", told)
            self.windows.discard(self.server)
            command, rest = self.arguments.reload_command, self.server.addresses().get("rest")
            is_pinned, security = self.arguments.version is not None, self.server.protection().get("rest", OPEN)
            self.bench = Bench(
                windows=self.windows,
                server=self.server,
                told=told,
                make_payloads=self.asking.payloads,
                start_generator=start_generator,
                log=logs / "null_server.log",
                reload=CommandReload(command, rest, self.arguments.model, is_pinned, security) if command else None,
                versions=self._versions_beside(tolerances),
                no_reload="what changes the versions of this server is not known: name it with --reload-command",
            )
            scenarios.measure(self.bench)

    def _versions_beside(self, tolerances: Tolerances) -> Versions:
        """Say which versions the server has, as far as it tells; the file's answers are those of the one that is asked."""
        asked = self._version() or None
        asking = self.asking
        has_answers = asking.source.outputs is not None

        def make(pin: Pin, rows: int) -> Sequence[Payload]:
            if isinstance(pin, str):
                return asking.by_label(pin).payloads(rows)
            return asking.of_version(pin, keep_answers=pin == asked).payloads(rows)

        return Versions(
            asked=asked,
            served=tuple(sorted(v for v, state in (self.versions or {}).items() if state == "AVAILABLE")),
            labels={},
            make=make,
            against=lambda pin: "the file's" if has_answers and pin == asked else "its own answers before the load",
            tolerances=tolerances,
        )

    # --- the record ---------------------------------------------------------------------------------

    def result(self) -> TargetResult:
        """Give what there is so far."""
        record = self._record()
        ended = dt.datetime.fromisoformat(self.started) + dt.timedelta(seconds=record.duration_s)
        digest = files.sha256_bytes(files.canonical_json(record.model_dump(mode="json")))
        title = self.arguments.title or f"{self.arguments.model} at {next(iter(self.server.places.values()))}"
        return TargetResult(
            run_id=f"{ended:%Y%m%dT%H%M%SZ}-{digest[7:15]}",
            created=f"{ended:%Y-%m-%dT%H:%M:%SZ}",
            title=title,
            command=shlex.join(["slipway", *sys.argv[1:]]),
            environment=self.environment,
            benchmark=record,
        )

    def _record(self) -> BenchmarkRecord:
        payload, windows, bench = payloads.record(self.sent), self.windows, self.bench
        cells = windows.cells if windows else {}
        return BenchmarkRecord(
            model=self.arguments.model,
            version=self._version(),
            servable_digest=None,
            image_id=None,
            engine=EngineRecord(name="unknown", version="", isolated=False, network=""),
            target=TargetRecord(
                addresses={p: f"{host}:{port}" for p, (host, port) in self.server.addresses().items()},
                versions=self.versions,
                signature=_signature_record(self.asking.signature),
                method=self.asking.method,
                label=self.arguments.label or "",
                tls=self.tls,
                payload=self.told,
            ),
            seed=self.settings.seed,
            started=self.started,
            duration_s=time.monotonic() - self.began,
            placement=self.machine.placement(),
            server_flags=[],
            batching=None,
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
                    distribution=windows.distribution(p) if windows else None,
                )
                for p, measured in sorted(cells.items(), key=lambda item: place(item[0]))
                if measured  # the one under way may have none yet
            ],
            cold_starts=[],
            scenarios=bench.records if bench else [],
            cut_short=self.cut_short,
            ceilings=list(windows.ceilings.values()) if windows else [],
            reruns=windows.reruns if windows else 0,
            locust=provenance.tool_versions("locust", "gevent", "hpack"),
            not_measured=self._not_measured(),
            environment=self.environment,
        )

    def _version(self) -> int:
        if self.version is not None:
            return self.version
        if self.arguments.version is not None:
            return int(self.arguments.version)
        # The server does not say which one it chose: as a rule the newest; of a label nothing is known.
        available = [v for v, state in (self.versions or {}).items() if state == "AVAILABLE"]
        return 0 if self.arguments.label else max(available, default=0)

    def _not_measured(self) -> dict[str, str]:
        missing = {
            "batching": "the server does not say how it batches",
            "cold starts": "the server was running already",
            "image and model": "what the server is made of is not known here",
            **{name.replace("_", " "): "not asked for" for name in _LOADS if not self.settings.wants(name)},
        }
        if self.arguments.server_pid is None:
            missing["server CPU and memory"] = (
                "the server's process is not known; on this host name it with --server-pid"
            )
        missing |= {
            targets: "the target does not speak it, or was not asked to"
            for targets in ("rest", "grpc")
            if targets not in self.protocols
        }
        return missing


def _signature_record(signature: Signature) -> SignatureRecord:
    def tensors(specs: Any) -> list[TensorRecord]:
        return [
            TensorRecord(name=name, dtype=spec.dtype.name, shape=list(spec.shape or ())) for name, spec in specs.items()
        ]

    return SignatureRecord(
        name=signature.name,
        method=METHODS[signature.method],
        inputs=tensors(signature.inputs),
        outputs=tensors(signature.outputs),
    )

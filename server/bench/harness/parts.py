"""The parts of `overhead.py`: what is put next to what, cell by cell."""

import argparse
import importlib.util
import json
import os
import platform
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness import loads, models, peers
from harness.loads import Request
from harness.models import CNN, HALF, LARGE, RECOMMENDER, RESNET, Question
from harness.processes import WAIT_S, Servers, Started
from harness.rounds import Cell, Target, ratio, run_rounds, spread
from slipway_wire import paths, payloads

IN_FLIGHT = 64
# Against the best other server at its best settings, in requests/s, and against what the model does in one process.
OF_PEERS = {(HALF, "grpc"): 10, (HALF, "rest"): 10, (CNN, "grpc"): 6, (CNN, "rest"): 5}
OF_PEERS |= {(RECOMMENDER, "grpc"): 10, (RECOMMENDER, "rest"): 20}
OF_LIMIT = {"grpc": 0.45, "rest": 0.35}
LIMIT_ROWS = 32
# ResNet50, an image a request, our graph frozen: throughput against the best other server, p99 at half of that server's.
OF_PEERS_COMPUTE_BOUND = 1.2
COMPUTE_BOUND_IN_FLIGHT = 8
# With some six answers a second, those cut off at the end of a shorter window would matter.
COMPUTE_BOUND_S = 15.0
P99_MS = 3.0
PLANS = ("one_batch", "batch_per_core")


class Bench:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self._arguments = arguments
        cpus = sorted(os.sched_getaffinity(0))
        self._client_cpus, self._all_cpus = cpus[1:] or cpus, cpus
        self.servers = Servers(directory, cpus[:1])
        self._targets: list[Target] = []
        self.results: dict[str, Any] = {
            "environment": {
                "cpus": len(cpus),
                "machine": _processor(),
                "python": platform.python_version(),
                "kernel": platform.release(),
                "load_1m_at_start": os.getloadavg()[0],
            },
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "in_flight": IN_FLIGHT,
            "tables": {},
            "tuning": {},
            "skipped": {},
            "targets": [],
        }

    def small(self) -> None:
        """half_plus_two, the CNN and the recommender, a row at a time."""
        for model in self._arguments.models:
            cells = dict(self._small_cells(model, self.servers.export(model)))
            self._measure(model, cells)
            for name in cells:
                if name.startswith("grpc"):
                    found = ratio(cells, name, "echo grpc", "per_s")
                    self._aim(Target(f"{model}: {name} : grpc.aio echo, throughput", found, 0.8))
            if model == HALF:
                # One CPU is the server's, so requests/s are requests/s per core.
                rest = spread([one["per_s"] for one in cells["rest"].rounds])
                self._aim(Target(f"{model}: REST requests/s on one core", rest, 30_000))

    def _small_cells(self, model: str, base_path: Path) -> Iterator[tuple[str, Cell]]:
        flags = ["--tensorflow_intra_op_parallelism=1", *(["--enable_batching"] if self._arguments.batching else [])]
        asked = models.questions(model)
        for transport in ("slipway", "grpcio"):
            server = self.servers.slipway(
                f"{model}-{transport}", {model: base_path}, [*flags, f"--grpc_transport={transport}"], is_pinned=True
            )
            for which, question in asked.items():
                suffix = "" if len(asked) == 1 else f", {which}"
                request = self._request(model, which, question)
                name = f"grpc, {transport}{suffix}"
                yield name, self._cell(name, "grpc", server, request)
                if transport == "slipway":
                    yield f"rest{suffix}", self._cell(f"rest{suffix}", "rest", server, request)
                    if which == "Predict":
                        answers, echoed = self._answers(server, model, question), request
        for protocol, answer in answers.items():
            name = f"echo {protocol}"
            yield name, self._cell(name, protocol, self.servers.echo(protocol, answer), echoed)
        call = self.servers.caller(base_path, model, "Predict", 1, self._arguments.seconds, is_pinned=True)
        yield "in process", Cell("in process", call)

    def _request(self, model: str, which: str, question: Question) -> Request:
        return loads.request_of(f"{model}-{which}", question.payload(model), self.servers.directory)

    def _cell(self, name: str, protocol: str, server: Started, request: Request) -> Cell:
        seconds, cpus = self._arguments.seconds, self._client_cpus
        return Cell(name, partial(loads.drive, protocol, server, request, seconds, cpus, IN_FLIGHT))

    def _answers(self, server: Started, model: str, question: Question) -> dict[str, bytes]:
        """Ask once over either protocol; half_plus_two's answer is known, and both protocols must agree."""
        payload = question.payload(model)
        answers = {
            "grpc": loads.grpc_answer(server, payload.grpc_method, payload.grpc_message),
            "rest": loads.rest_answer(server, payload.rest_path, payload.rest_body),
        }
        outputs = payloads.decode_grpc_answer(payload, answers["grpc"])
        over_rest = payloads.decode_rest_answer(replace(payload, expected=outputs), answers["rest"])
        if model == HALF and not np.array_equal(outputs["y"], models.images(HALF) / 2 + 2):
            raise SystemExit(f"the server's answer is wrong: {outputs}")
        for name, array in over_rest.items():
            if not np.allclose(array, outputs[name], rtol=1e-5):
                raise SystemExit(f"the server's answers differ: {outputs} over gRPC, {over_rest} over REST")
        return answers

    def latency(self) -> None:
        """Send requests of the small models at half of the rate that the server reaches, as they come by chance."""
        cells = {}
        for model in self._arguments.models:
            base_path = self.servers.export(model)
            server = self.servers.slipway(
                f"{model}-paced",
                {model: base_path},
                ["--tensorflow_intra_op_parallelism=1", "--enable_batching"],
                is_pinned=True,
            )
            question = models.questions(model)["Predict"]
            self._answers(server, model, question)
            request = self._request(model, "Predict", question)
            for protocol in ("grpc", "rest"):
                name = f"{model}, {protocol}"
                cells[name] = Cell(name, partial(self._at_half_of_peak, protocol, server, request))
        run_rounds(list(cells.values()), self._arguments.rounds, say)
        self.servers.close()
        self.results["latency"] = {name: cell.told() for name, cell in cells.items()}
        for name, cell in cells.items():
            found = spread([one["p99_ms"] for one in cell.rounds])
            self._aim(Target(f"{name}: p99 at half of its own peak, ms", found, P99_MS, is_at_least=False))

    def _at_half_of_peak(self, protocol: str, server: Started, request: Request) -> dict[str, float]:
        seconds, cpus = self._arguments.seconds, self._client_cpus
        peak = loads.drive(protocol, server, request, seconds, cpus, IN_FLIGHT)["per_s"]
        return {"peak_per_s": peak, **loads.at_rate(protocol, server, request, peak / 2, seconds, cpus)}

    def plans(self) -> None:
        """Serve the small models with either thread plan, all CPUs for the server and the load together."""
        cpus = self._all_cpus
        for model in self._arguments.models:
            base_path = self.servers.export(model)
            request = self._request(model, "Predict", models.questions(model)["Predict"])
            cells = {}
            for plan in PLANS:
                flags = [f"--thread_plan={plan}", "--enable_batching"]
                server = self.servers.slipway(f"{model}-{plan}", {model: base_path}, flags, is_pinned=False)
                for count in (1, IN_FLIGHT):
                    drive = partial(loads.drive, "grpc", server, request, self._arguments.seconds, cpus, count)
                    cells[f"{plan}, {count} in flight"] = Cell(f"{plan}, {count} in flight", drive)
                    drive()  # else the first round would pay for the first run of each batch size
            self._measure(f"{model}, thread plans, gRPC", cells)
            for count in (1, IN_FLIGHT):
                one, other = (f"{plan}, {count} in flight" for plan in PLANS)
                for key, what in (("per_s", "throughput"), ("cpu_us", "CPU a request")):
                    self._aim(Target(f"{model}: {other} : one_batch, {what}", ratio(cells, other, one, key)))

    def compute_bound(self) -> None:
        """ResNet50, batch 8, over gRPC and in process, on all CPUs; with variables, and with constants instead."""
        if importlib.util.find_spec("keras") is None:
            self.results["skipped"][RESNET] = "Keras is not installed"
            return
        base_path = self.servers.export(RESNET)
        cells: dict[str, Cell] = {}
        pairs = []
        for what, is_frozen in (("", False), (", frozen", True)):
            flags = ["--freeze_variables"] if is_frozen else []
            server = self.servers.slipway(f"{RESNET}{what}", {RESNET: base_path}, flags, is_pinned=False)
            question = models.questions(RESNET, self._alias(server, RESNET))["Predict"]
            request = self._request(RESNET, "Predict", question)
            loads.grpc_answer(server, request.grpc_path, question.payload(RESNET).grpc_message)
            for callers in (1, 2):
                remote, local = f"grpc, {callers} in flight{what}", f"in process, {callers} callers{what}"
                pairs.append((remote, local))
                # Numbers, not times: with a few calls a second, one that is cut off or runs alone at the end would show.
                count = 4 if self._arguments.quick else 20
                drive = partial(loads.drive, "grpc", server, request, 0, self._all_cpus, callers, count * callers)
                cells[remote] = Cell(remote, drive)
                call = self.servers.caller(
                    base_path, RESNET, "Predict", callers, 0, is_pinned=False, count=count, is_frozen=is_frozen
                )
                cells[local] = Cell(local, call)
        self._measure(RESNET, cells)
        for remote, local in pairs:
            self._aim(
                Target(f"{RESNET}, batch 8: {remote} : {local}, throughput", ratio(cells, remote, local, "per_s"), 0.95)
            )
            # Time lost to other work on the machine is in the throughput, not in this.
            self._aim(
                Target(f"{RESNET}, batch 8: {local} : {remote}, CPU a call", ratio(cells, local, remote, "cpu_us"))
            )

    def large(self) -> None:
        """224x224x3, batch 32: REST against gRPC, one at a time; on a model that computes nothing, and on ResNet50."""
        names = [LARGE] if importlib.util.find_spec("keras") is None else [LARGE, RESNET]
        server = self.servers.slipway("large", {name: self.servers.export(name) for name in names}, (), is_pinned=False)
        cells = {}
        for name in names:
            repeats = 3 if self._arguments.quick or name == RESNET else 9
            measure = partial(loads.latencies, server, name, self._alias(server, name), repeats)
            what = "none: the largest value of each image" if name == LARGE else name
            cells[what] = Cell(f"rest and grpc in turn, {name}", measure)
        run_rounds(list(cells.values()), self._arguments.rounds, say)
        self.servers.close()
        self.results["large"] = {what: {"rounds": cell.rounds} for what, cell in cells.items()}
        if RESNET in cells:
            found = spread([one["ratio"] for one in cells[RESNET].rounds])
            name = "224x224x3 float32, batch 32, ResNet50: REST : gRPC, p50"
            self._aim(Target(name, found, 2.0, is_at_least=False))

    def beside(self) -> None:
        """Run the small models on other servers, next to ours."""
        others = [peers.PEERS[name](self._arguments.peer_environments) for name in self._arguments.peers]
        for model in self._arguments.models:
            self._beside(model, others)

    def _beside(self, model: str, others: Sequence[peers.Peer]) -> None:
        base_path = self.servers.export(model)
        flags = ("--tensorflow_intra_op_parallelism=1", "--enable_batching")
        server = self.servers.slipway(f"{model}-beside", {model: base_path}, flags, is_pinned=False)
        question = models.questions(model)["Predict"]
        payload = question.payload(model)
        truth = payloads.decode_grpc_answer(payload, self._answers(server, model, question)["grpc"])
        case = peers.Case(model, base_path, question, payload, truth, intra_threads=1)
        cells = {
            f"slipway, {protocol}": self._shared(f"slipway, {protocol}", protocol, server, request)
            for request in [self._request(model, "Predict", question)]
            for protocol in ("grpc", "rest")
        }
        for peer in others:
            for protocol, settings in self._tuned(peer, case).items():
                started = peer.start(self.servers, case, settings)
                name = f"{peer.name}, {protocol}"
                request = peer.request(self.servers, case, started)
                cells[name] = self._shared(name, protocol, started, request)
        callers = len(self._all_cpus)
        limit = f"in process, {LIMIT_ROWS} rows a call, {callers} callers"
        measure = self.servers.caller(
            base_path, model, "Predict", callers, self._arguments.seconds, is_pinned=False, rows=LIMIT_ROWS
        )
        cells[limit] = Cell(limit, measure)
        self._measure(f"{model}, beside other servers", cells)
        for protocol in ("grpc", "rest"):
            ours = f"slipway, {protocol}"
            rivals = [name for name in cells if name.endswith(f", {protocol}") and name != ours]
            if rivals:
                rival = max(rivals, key=lambda name: spread([one["per_s"] for one in cells[name].rounds])["median"])
                found = ratio(cells, ours, rival, "per_s")
                self._aim(Target(f"{model}: {ours} : {rival}, throughput", found, OF_PEERS[model, protocol]))
                # Time lost to other work on the machine is in the throughput, not in this.
                self._aim(Target(f"{model}: {rival} : {ours}, CPU a request", ratio(cells, rival, ours, "cpu_us")))
            if model == CNN:
                found = ratio(cells, ours, limit, "per_s")
                self._aim(Target(f"{model}: {ours} : in process, rows/s", found, OF_LIMIT[protocol]))

    def beside_compute_bound(self) -> None:
        """Run ResNet50 on other servers, next to ours: an image a request."""
        if importlib.util.find_spec("keras") is None:
            self.results["skipped"][f"{RESNET}, beside other servers"] = "Keras is not installed"
            return
        others = [peers.PEERS[name](self._arguments.peer_environments) for name in self._arguments.peers]
        base_path = self.servers.export(RESNET)
        at_once, frozen = "slipway, as it is", "slipway, frozen"
        started = {
            name: self.servers.slipway(name, {RESNET: base_path}, flags, is_pinned=False)
            for name, flags in (
                (at_once, ["--enable_batching"]),
                (frozen, ["--enable_batching", "--freeze_variables"]),
            )
        }
        alias = self._alias(started[frozen], RESNET)
        question = Question("serving_default", {alias: models.images(RESNET)[:1]})
        payload = question.payload(RESNET)
        truth = payloads.decode_grpc_answer(payload, self._answers(started[at_once], RESNET, question)["grpc"])
        self._answers(started[frozen], RESNET, question)
        case = peers.Case(RESNET, base_path, question, payload, truth, intra_threads=0)
        own = self._request(RESNET, "Predict", question)
        asked = {f"{name}, {p}": (p, server, own) for name, server in started.items() for p in ("grpc", "rest")}
        for peer in others:
            for protocol, settings in self._tuned(peer, case, COMPUTE_BOUND_S / 2, COMPUTE_BOUND_IN_FLIGHT).items():
                server = peer.start(self.servers, case, settings)
                asked[f"{peer.name}, {protocol}"] = protocol, server, peer.request(self.servers, case, server)
        seconds, cpus = 1.0 if self._arguments.quick else COMPUTE_BOUND_S, self._all_cpus
        cells = {
            name: Cell(name, partial(loads.drive, *which, seconds, cpus, COMPUTE_BOUND_IN_FLIGHT))
            for name, which in asked.items()
        }
        run_rounds(list(cells.values()), self._arguments.rounds, say)
        best = {
            protocol: max(
                (name for name in cells if name.endswith(f", {protocol}") and not name.startswith("slipway")),
                key=lambda name: spread([one["per_s"] for one in cells[name].rounds])["median"],
                default=None,
            )
            for protocol in ("grpc", "rest")
        }
        paced = {}
        for name, (protocol, server, request) in asked.items():
            if (rival := best[protocol]) is not None and name in {f"{frozen}, {protocol}", rival}:
                half = spread([one["per_s"] for one in cells[rival].rounds])["median"] / 2
                title = f"{name}, {half:.1f}/s"
                paced[name] = Cell(title, partial(loads.calls_at_rate, protocol, server, request, half, 2 * seconds))
        run_rounds(list(paced.values()), self._arguments.rounds, say)
        self.servers.close()
        self.results["tables"][f"{RESNET}, beside other servers"] = {name: cell.told() for name, cell in cells.items()}
        self.results.setdefault("latency", {}).update({cell.name: cell.told() for cell in paced.values()})
        for protocol, rival in best.items():
            if rival is None:
                continue
            ours = f"{frozen}, {protocol}"
            self._aim(
                Target(
                    f"{RESNET}: {ours} : {rival}, throughput",
                    ratio(cells, ours, rival, "per_s"),
                    OF_PEERS_COMPUTE_BOUND,
                )
            )
            self._aim(Target(f"{RESNET}: {rival} : {ours}, CPU a request", ratio(cells, rival, ours, "cpu_us")))
            found = ratio(paced, ours, rival, "p99_ms")
            self._aim(
                Target(f"{RESNET}: {ours} : {rival}, p99 at half of the latter's peak", found, 1.0, is_at_least=False)
            )

    def _shared(
        self,
        name: str,
        protocol: str,
        server: Started,
        request: Request,
        seconds: float | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> Cell:
        """Server and generator share all CPUs."""
        seconds, cpus = seconds or self._arguments.seconds, self._all_cpus
        return Cell(name, partial(loads.drive, protocol, server, request, seconds, cpus, in_flight))

    def _tuned(
        self, peer: peers.Peer, case: peers.Case, seconds: float | None = None, in_flight: int = IN_FLIGHT
    ) -> dict[str, peers.Settings]:
        """Try *peer*'s settings, and give the best for each protocol that it speaks."""
        tried: dict[str, dict[str, float]] = {protocol: {} for protocol in peer.protocols}
        labels = {peers.label(settings): settings for settings in peer.settings[: 1 if self._arguments.quick else None]}
        for label, settings in labels.items():
            started = peer.start(self.servers, case, settings)
            request = peer.request(self.servers, case, started)
            for protocol, found in tried.items():
                cell = self._shared("", protocol, started, request, seconds, in_flight)
                # The first window is the warm-up.
                cell.measure()
                found[label] = cell.measure()["per_s"]
                say(f"{peer.name}, {case.model} over {protocol}, {label}: {found[label]:.0f}/s")
            self.servers.end(started.process)
        for protocol, found in tried.items():
            self.results["tuning"][f"{peer.name}, {case.model}, {protocol}"] = found
        return {protocol: labels[peers.best(found)] for protocol, found in tried.items()}

    def _alias(self, server: Started, model: str) -> str:
        """Ask the server what the model's input is called."""
        url = f"http://127.0.0.1:{server.rest_port}{paths.rest_path(model, 'metadata')}"
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:  # http, to ourselves
            signatures = json.load(answer)["metadata"]["signature_def"]["signature_def"]
        (alias,) = signatures["serving_default"]["inputs"]
        return str(alias)

    def _measure(self, title: str, cells: Mapping[str, Cell]) -> None:
        """Measure *cells*, and end the servers behind them."""
        run_rounds(list(cells.values()), self._arguments.rounds, say)
        self.servers.close()
        self.results["tables"][title] = {name: cell.told() for name, cell in cells.items()}

    def _aim(self, target: Target) -> None:
        self.results["targets"].append(target.told())


def say(line: str) -> None:
    """Say how far it is, on stderr."""
    sys.stderr.write(f"{line}\n")


def _processor() -> str:
    """Name the CPU as the kernel does."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

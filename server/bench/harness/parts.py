"""The parts of `overhead.py`: what is put next to what, cell by cell."""

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness import loads, models
from harness.beside import Beside
from harness.loads import Request
from harness.models import HALF, LARGE, RESNET
from harness.processes import Started
from harness.rounds import Cell, Target, by_round, ratio, run_rounds, spread
from harness.run import IN_FLIGHT, say

P99_MS = 3.0
PLANS = ("one_batch", "batch_per_core")


class Bench(Beside):
    """Our server on its own, next to echoes, and next to the call in its own process."""

    def small(self) -> None:
        """half_plus_two, the CNNs and the recommender, a row at a time."""
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
                    name = f"rest in messages{suffix}"
                    yield name, self._cell(name, "rest", server, self._message(model, which, question))
                    if which == "Predict":
                        answers, echoed = self._answers(server, model, question), request
        for protocol, answer in answers.items():
            name = f"echo {protocol}"
            yield name, self._cell(name, protocol, self.servers.echo(protocol, answer), echoed)
        call = self.servers.caller(base_path, model, "Predict", 1, self._arguments.seconds, is_pinned=True)
        yield "in process", Cell("in process", call)

    def _cell(self, name: str, protocol: str, server: Started, request: Request) -> Cell:
        seconds, cpus = self._arguments.seconds, self._client_cpus
        return Cell(name, partial(loads.drive, protocol, server, request, seconds, cpus, IN_FLIGHT))

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
                cells[name] = Cell(name, by_round(partial(self._at_half_of_peak, protocol, server, request)))
        run_rounds(list(cells.values()), self._arguments.rounds, say)
        self.servers.close()
        self.results["latency"] = {name: cell.told() for name, cell in cells.items()}
        for name, cell in cells.items():
            found = spread([one["p99_ms"] for one in cell.rounds])
            self._aim(Target(f"{name}: p99 at half of its own peak, ms", found, P99_MS, is_at_least=False))

    def _at_half_of_peak(self, protocol: str, server: Started, request: Request, seed: int) -> dict[str, float]:
        seconds, cpus = self._arguments.seconds, self._client_cpus
        peak = loads.drive(protocol, server, request, seconds, cpus, IN_FLIGHT)["per_s"]
        return {"peak_per_s": peak, **loads.at_rate(protocol, server, request, peak / 2, seconds, cpus, seed)}

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

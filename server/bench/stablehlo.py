"""
The same model served as a SavedModel by TensorFlow and as StableHLO by JAX's runtime: answers, start, memory, speed, bytes.

    python server/bench/stablehlo.py [--quick] [--rounds=5] [--seconds=2] [--starts=3] [--models=half_plus_two,…] [--output=DIRECTORY]

Needs `wrk` and `h2load` (Debian: apt-get install wrk nghttp2-client), TensorFlow, JAX, and for ResNet50 Keras. half_plus_two and
a CNN of the digits' size: both servers on one CPU, the load generator on the others, 64 requests of one row in flight, batches of 1
to 32 rows. ResNet50: 8 rows, one request at a time over gRPC, nothing pinned. Both servers are there at once, and are loaded in turn,
round by round, in an order that changes; a ratio is taken within its round. Starts are measured in turn, too, with nothing else of
ours on the machine: from the start of the process until it is ready, with all programs compiled.

Writes `stablehlo.json` and `stablehlo.md`, and prints the latter. Ratios within one run are what counts: times move with the machine.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from harness import loads, models
from harness.models import CNN, HALF, RESNET
from harness.processes import Servers, Started
from harness.rounds import Cell, ratio, run_rounds
from harness.table import shown

from slipway.oci import wheels
from slipway_wire import paths, payloads, stablehlo

IN_FLIGHT = 64
SMALL_SIZES = (1, 2, 4, 8, 16, 32)
KINDS = {"saved_model": (), "stablehlo": ("--prefer_stablehlo",)}
_LOWER = """
import sys
from pathlib import Path
from slipway import stablehlo
export, raw, sizes = Path(sys.argv[1]), Path(sys.argv[2]), [int(size) for size in sys.argv[3].split(",")]
stablehlo.lower(export, {"serving_default": sizes}, {"serving_default": True}, raw)
"""
_CONVERT = """
import sys
from pathlib import Path
from slipway import stablehlo
stablehlo.convert(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def lowered(base_path: Path, sizes: Sequence[int], scratch: Path) -> dict[str, float]:
    """Write the StableHLO of version 1 below *base_path* beside its SavedModel; give seconds and bytes."""
    version = base_path / "1"
    raw, made = scratch / f"{base_path.name}-raw", version / stablehlo.DIRECTORY
    raw.mkdir()
    saved_model_bytes = _bytes(version)
    made.mkdir()
    began = time.monotonic()
    for script, words in (
        (_LOWER, [str(version), str(raw), ",".join(map(str, sizes))]),
        (_CONVERT, [str(raw), str(made)]),
    ):
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run([sys.executable, "-c", script, *words], env=quiet, check=True)
    return {
        "export_s": time.monotonic() - began,
        "saved_model_bytes": saved_model_bytes,
        "stablehlo_bytes": _bytes(made),
        "program_bytes": max(path.stat().st_size for path in made.glob("*.vhlo")),
    }


def package_bytes() -> dict[str, dict[str, float]]:
    """Say what the packages of either image weigh, unpacked, as `image.slim: safe` has them; as far as they are installed here."""
    found = {}
    for kind, lock in (("saved_model", wheels.LOCK), ("stablehlo", wheels.STABLEHLO_LOCK)):
        total, missing = 0, 0
        for requirement in wheels.read_lock(lock.read_text(encoding="utf-8")):
            try:
                files = importlib.metadata.files(requirement.name) or []
            except importlib.metadata.PackageNotFoundError:
                missing += 1
                continue
            kept = [file for file in files if not wheels.is_left_out(str(file)) and not str(file).endswith(".pyc")]
            total += sum(path.stat().st_size for file in kept if (path := Path(str(file.locate()))).is_file())
        found[kind] = {"bytes": total, "packages_not_installed": missing}
    return found


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


class Bench:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self._arguments = arguments
        cpus = sorted(os.sched_getaffinity(0))
        self._all_cpus, self._client_cpus = cpus, cpus[1:] or cpus
        self.servers = Servers(directory, cpus[:1])
        self.results: dict[str, Any] = {
            "cpus": len(cpus),
            "load_1m_at_start": os.getloadavg()[0],
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "packages": package_bytes(),
            "models": {},
        }

    def measure(self, model: str) -> None:
        """Measure one model, and keep what was found."""
        base_path = self.servers.export(model)
        is_small = model != RESNET
        sizes = SMALL_SIZES if is_small else (models.INPUT_SHAPES[RESNET][0],)
        found: dict[str, Any] = lowered(base_path, sizes, self.servers.directory)
        batching = self.servers.directory / "batching"
        batching.write_text(
            f"max_batch_size {{ value: {SMALL_SIZES[-1]} }} "
            + " ".join(f"allowed_batch_sizes: {size}" for size in SMALL_SIZES)
        )
        flags = [f"--batching_parameters_file={batching}", "--enable_batching"] if is_small else []

        def start(kind: str) -> Started:
            name = f"{model}-{kind}"
            # The same thread plan for both: one thread for a pinned server's ops, every CPU for a large model.
            plan = ["--tensorflow_intra_op_parallelism=1"] if is_small else []
            return self.servers.slipway(name, {model: base_path}, [*flags, *plan, *KINDS[kind]], is_pinned=is_small)

        starts = {kind: Cell(kind, partial(self._start, partial(start, kind))) for kind in KINDS}
        run_rounds(list(starts.values()), self._arguments.starts, _say)
        running = {kind: start(kind) for kind in KINDS}
        alias, parity = self._parity(model, base_path, running)
        cells = {
            f"{protocol}, {kind}": self._cell(model, alias, protocol, running[kind], kind)
            for protocol in (("grpc", "rest") if is_small else ("grpc",))
            for kind in KINDS
        }
        run_rounds(list(cells.values()), self._arguments.rounds, _say)
        found |= {
            "parity": parity,
            "starts": {kind: cell.told() for kind, cell in starts.items()},
            "cells": {name: cell.told() for name, cell in cells.items()},
            "rss_after_load_mb": {kind: _rss_mb(server) for kind, server in running.items()},
            "ratios": {
                **{
                    f"start, {key}": ratio(starts, "stablehlo", "saved_model", key)
                    for key in ("ready_s", "cpu_s", "rss_mb")
                },
                **{
                    f"{protocol}, {key}": ratio(cells, f"{protocol}, stablehlo", f"{protocol}, saved_model", key)
                    for protocol in sorted({name.split(",")[0] for name in cells})
                    for key in ("per_s", "cpu_us")
                },
            },
        }
        for server in running.values():
            self.servers.end(server.process)
        self.results["models"][model] = found

    def _start(self, start: Callable[[], Started]) -> dict[str, float]:
        began = time.monotonic()
        server = start()
        took = time.monotonic() - began
        times = psutil.Process(server.process.pid).cpu_times()
        found = {"ready_s": took, "cpu_s": times.user + times.system, "rss_mb": _rss_mb(server)}
        self.servers.end(server.process)
        return found

    def _cell(self, model: str, alias: str, protocol: str, server: Started, kind: str) -> Cell:
        payload = models.questions(model, alias)["Predict"].payload(model)
        request = loads.request_of(f"{model}-{protocol}-{kind}", payload, self.servers.directory)
        cpus, in_flight, count = self._client_cpus, IN_FLIGHT, 0
        if model == RESNET:
            cpus, in_flight, count = self._all_cpus, 1, max(2, round(self._arguments.seconds * 2))
        seconds = self._arguments.seconds
        measure = partial(loads.drive, protocol, server, request, seconds, cpus, in_flight, count)
        return Cell(f"{protocol}, {kind}", measure)

    def _parity(self, model: str, base_path: Path, running: Mapping[str, Started]) -> tuple[str, dict[str, float]]:
        """Give the only input's alias, and how far the answers of both servers lie apart."""
        manifest = stablehlo.decode((base_path / "1" / stablehlo.MANIFEST_FILE).read_bytes())
        (alias,) = manifest.signatures["serving_default"].signature.inputs
        payload = models.questions(model, alias)["Predict"].payload(model)
        left, right = (
            payloads.decode_grpc_answer(
                payload, loads.grpc_answer(running[kind], paths.GRPC_PREDICT, payload.grpc_message)
            )
            for kind in KINDS
        )
        for name, array in left.items():
            if not np.allclose(array, right[name], rtol=1e-3, atol=1e-5):
                raise SystemExit(f"{model}: {name} differs: {array} as a SavedModel, {right[name]} as StableHLO")
        apart = max(float(np.abs(array - right[name]).max()) for name, array in left.items())
        return alias, {"max_abs": apart, "largest": max(float(np.abs(array).max()) for array in left.values())}


def _rss_mb(server: Started) -> float:
    return float(psutil.Process(server.process.pid).memory_info().rss / 1e6)


def markdown(results: Mapping[str, Any]) -> str:
    """Tell what was found."""
    packages = results["packages"]
    lines = [
        (
            f"{results['cpus']} CPUs, a load of {results['load_1m_at_start']:.1f} at the start, {results['rounds']} rounds of "
            f"{results['seconds']:g} s; medians (smallest to largest)."
        ),
        "",
        "Packages of an image, unpacked: "
        + ", ".join(f"{kind} {packages[kind]['bytes'] / 1e6:,.0f} MB" for kind in KINDS)
        + ".",
    ]
    for model, found in results["models"].items():
        lines += [
            "",
            f"### {model}",
            "",
            "| | SavedModel | StableHLO | ratio |",
            "|---|--:|--:|--:|",
            (
                f"| files, MB | {found['saved_model_bytes'] / 1e6:.2f} | {found['stablehlo_bytes'] / 1e6:.2f} | "
                f"{found['stablehlo_bytes'] / found['saved_model_bytes']:.2f} |"
            ),
        ]
        for what, key in (("start, s", "ready_s"), ("start, CPU s", "cpu_s"), ("resident when ready, MB", "rss_mb")):
            one, other = (shown(found["starts"][kind][key]) for kind in KINDS)
            lines.append(f"| {what} | {one} | {other} | {shown(found['ratios'][f'start, {key}'])} |")
        after = found["rss_after_load_mb"]
        lines.append(
            f"| resident after the load, MB | {after['saved_model']:,.0f} | {after['stablehlo']:,.0f} | "
            f"{after['stablehlo'] / after['saved_model']:.2f} |"
        )
        for protocol in sorted({name.split(",")[0] for name in found["cells"]}):
            for what, key in (("requests/s", "per_s"), ("CPU µs/request", "cpu_us")):
                one, other = (shown(found["cells"][f"{protocol}, {kind}"][key]) for kind in KINDS)
                lines.append(
                    f"| {protocol}, {what} | {one} | {other} | {shown(found['ratios'][f'{protocol}, {key}'])} |"
                )
        parity = found["parity"]
        lines += ["", f"Answers differ by {parity['max_abs']:.2g} at most; the largest is {parity['largest']:.3g}."]
    return "\n".join([*lines, ""])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--models", type=lambda text: text.split(","), default=[HALF, CNN, RESNET])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.starts = 1, 1.0, 1
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments, arguments.output or Path(scratch))
        bench.servers.directory.mkdir(parents=True, exist_ok=True)
        try:
            for model in arguments.models:
                bench.measure(model)
        finally:
            bench.servers.close()
        written = json.dumps(bench.results, indent=2, sort_keys=True)
        (bench.servers.directory / "stablehlo.json").write_text(f"{written}\n")
        told = markdown(bench.results)
        (bench.servers.directory / "stablehlo.md").write_text(told)
        print(told)  # noqa: T201


if __name__ == "__main__":
    main()

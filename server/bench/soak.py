"""
Does the server stay right, and its memory flat, under mixed load for a long time?

    python server/bench/soak.py [--minutes=10] [--clients=64] [--output=FILE]

Starts a server with batching, and clients of which half speak REST and half gRPC, each on a connection of its own, with requests of
1 to 64 rows. Every answer is compared with y = x / 2 + 2, exactly. Resident memory is read each second; its slope is the least-squares
line through what was read after the first fifth, in which caches fill and the allocator finds its size.

Prints a line and writes the same as JSON. Exit code 1: an answer was wrong or an error, the server did not end well, or memory
grew by 1 MB/min or more (in runs of 5 minutes and longer).
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from slipway_wire import messages, paths, predict

WAIT_S = 240.0
MODEL = "half_plus_two"
MAX_ROWS = 64
SLOPE_MB_PER_MIN = 1.0
# A shorter run ends before caches and the allocator have settled: its slope is told, but decides nothing.
MEANS_SOMETHING_FROM_MIN = 5.0


def write_model(directory: Path) -> None:
    """Write `y = x / 2 + 2` as a SavedModel, without TensorFlow."""
    directory.mkdir(parents=True)
    meta = messages.MetaGraphDef()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.versions.producer = 2000
    nodes: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("Placeholder", "x", ()),
        ("Const", "half", ()),
        ("Const", "two", ()),
        ("Mul", "halved", ("x", "half")),
        ("Add", "y", ("halved", "two")),
    )
    for op, name, inputs in nodes:
        node = meta.graph_def.node.add(op=op, name=name, input=inputs)
        node.attr["T" if inputs else "dtype"].type = 1
        if op == "Placeholder":
            node.attr["shape"].shape.unknown_rank = True
        elif op == "Const":
            node.attr["value"].tensor.CopyFrom(
                messages.TensorProto(dtype=1, tensor_shape={}, float_val=[{"half": 0.5, "two": 2.0}[name]])
            )
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for ends, name in ((signature.inputs, "x"), (signature.outputs, "y")):
        ends[name].name, ends[name].dtype = f"{name}:0", 1
        ends[name].tensor_shape.unknown_rank = True
    model = messages.SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())


def start(directory: Path, flags: list[str]) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """Start the server; give it and its ports."""
    ready = directory / "ready.json"
    batching = directory / "batching.config"
    batching.write_text(
        f"max_batch_size {{ value: {MAX_ROWS} }} batch_timeout_micros {{ value: 500 }} max_enqueued_batches {{ value: 1000 }} "
        "num_batch_threads { value: 2 } allowed_batch_sizes: 8 allowed_batch_sizes: 32 allowed_batch_sizes: 64"
    )
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "slipway_server",
                    "--port=auto",
                    "--rest_api_port=auto",
                    "--bind_address=127.0.0.1",
                ),
                *(f"--model_name={MODEL}", f"--model_base_path={directory / 'model'}", f"--ready_file={ready}"),
                *("--enable_batching", f"--batching_parameters_file={batching}", *flags),
            ],
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + WAIT_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start:\n{(directory / 'server.log').read_text()[-3000:]}")
        time.sleep(0.1)
    found: dict[str, int] = json.loads(ready.read_text())
    return process, found


def resident_mb(pid: int) -> float:
    """Read the resident memory of *pid*."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def slope_per_min(times_s: list[float], values: list[float]) -> float:
    """Give the slope of the least-squares line, per minute."""
    if len(times_s) < 2:
        return 0.0
    return 60 * float(np.polyfit(times_s, values, 1)[0])


class Client:
    """One connection that asks until told to stop."""

    def __init__(self, ports: dict[str, int], seed: int) -> None:
        """Speak REST if *seed* is even, gRPC if odd."""
        self._ports = ports
        self._random = random.Random(seed)  # noqa: S311  # a load, no secret
        self.protocol = "grpc" if seed % 2 else "rest"
        self.requests = self.rows = 0
        self.faults: list[str] = []

    def run(self, until: float) -> None:
        """Ask until the monotonic time *until*."""
        with contextlib.ExitStack() as cleanup:
            ask = (self._over_grpc if self.protocol == "grpc" else self._over_rest)(cleanup)
            while time.monotonic() < until and len(self.faults) < 10:
                rows = self._random.randint(1, MAX_ROWS)
                x = np.float32([self._random.randint(-(2**20), 2**20) / 8 for _ in range(rows)])
                try:
                    y = ask(x)
                except Exception as error:
                    self.faults.append(f"{self.protocol}, {rows} rows: {error!r}"[:500])
                    continue
                self.requests += 1
                self.rows += rows
                if not np.array_equal(y, x / 2 + 2):
                    self.faults.append(f"{self.protocol}, {rows} rows: {x.tolist()} was answered {y}"[:500])

    def _over_rest(self, cleanup: contextlib.ExitStack) -> Callable[[Any], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["rest_port"], timeout=60)
        cleanup.callback(connection.close)

        def ask(x: Any) -> Any:
            connection.request("POST", f"/v1/models/{MODEL}:predict", json.dumps({"instances": x.tolist()}).encode())
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {content[:300]!r}")
            return np.float32(json.loads(content)["predictions"])

        return ask

    def _over_grpc(self, cleanup: contextlib.ExitStack) -> Callable[[Any], Any]:
        import grpc  # noqa: PLC0415

        channel = cleanup.enter_context(
            grpc.insecure_channel(
                f"127.0.0.1:{self._ports['grpc_port']}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
        )
        call = channel.unary_unary(paths.GRPC_PREDICT)

        def ask(x: Any) -> Any:
            return predict.decode_response(call(predict.encode_request(MODEL, {"x": x}), timeout=60))[1]["y"]

        return ask


def run_clients(ports: dict[str, int], seeds: list[int], until: float, results: Any) -> None:
    """Be one process of clients, a thread each."""
    clients = [Client(ports, seed) for seed in seeds]
    threads = [threading.Thread(target=client.run, args=(until,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put([(one.protocol, one.requests, one.rows, one.faults) for one in clients])


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--output", type=Path, help="write the result here, as JSON")
    parser.add_argument(
        "--server_flag", action="append", default=[], help="one more flag for the server; may be repeated"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch) / "model" / "1")
        process, ports = start(Path(scratch), arguments.server_flag)
        try:
            result = soak(process, ports, arguments)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()
    result["exit_code"] = process.returncode
    is_flat = result["slope_mb_per_min"] < SLOPE_MB_PER_MIN or arguments.minutes < MEANS_SOMETHING_FROM_MIN
    is_good = not result["faults"] and is_flat and result["exit_code"] == 0
    result["verdict"] = "good" if is_good else "bad"
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(
        f"{result['verdict']}: {result['minutes']:g} min, {result['clients']} clients, {result['requests']:,} requests "
        f"({result['rest']:,} REST, {result['grpc']:,} gRPC), {result['rows']:,} rows, {result['faults']} faults; RSS "
        f"{result['rss_mb']['first']:.1f} to {result['rss_mb']['last']:.1f} MB, {result['slope_mb_per_min']:+.3f} MB/min\n"
    )
    for fault in result["first_faults"]:
        sys.stdout.write(f"  {fault}\n")
    return 0 if is_good else 1


def soak(process: subprocess.Popen[bytes], ports: dict[str, int], arguments: argparse.Namespace) -> dict[str, Any]:
    """Load the server for the time asked for, and watch its memory."""
    began = time.monotonic()
    until = began + 60 * arguments.minutes
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    groups = max(min(os.cpu_count() or 1, 4), 1)
    workers = [
        context.Process(target=run_clients, args=(ports, list(range(group, arguments.clients, groups)), until, results))
        for group in range(groups)
    ]
    for worker in workers:
        worker.start()
    times, memory = [], []
    while time.monotonic() < until and process.poll() is None:
        times.append(time.monotonic() - began)
        memory.append(resident_mb(process.pid))
        time.sleep(1.0)
    if process.poll() is not None:
        raise SystemExit(f"the server ended with {process.returncode}")
    outcomes = [outcome for _ in workers for outcome in results.get(timeout=WAIT_S)]
    for worker in workers:
        worker.join()
    settled = len(times) // 5
    faults = [fault for *_, found in outcomes for fault in found]
    return {
        "minutes": arguments.minutes,
        "clients": arguments.clients,
        "requests": sum(requests for _, requests, _, _ in outcomes),
        "rows": sum(rows for _, _, rows, _ in outcomes),
        **{
            name: sum(requests for protocol, requests, _, _ in outcomes if protocol == name)
            for name in ("rest", "grpc")
        },
        "faults": len(faults),
        "first_faults": faults[:5],
        "rss_mb": {"first": memory[settled], "last": memory[-1], "largest": max(memory)},
        "slope_mb_per_min": slope_per_min(times[settled:], memory[settled:]),
        "samples": [{"s": round(at, 1), "rss_mb": round(mb, 2)} for at, mb in zip(times, memory, strict=True)],
    }


if __name__ == "__main__":
    sys.exit(main())

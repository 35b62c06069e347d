"""
What REST costs: CPU µs of the server per small request, and milliseconds to read and write large tensors.

    python server/bench/rest.py [--rounds=5] [--seconds=4] [--connections=64] [--against=CHECKOUT] [--only=requests|tensors]

Requests: half_plus_two, three numbers in and out, driven by `wrk` (apt install wrk), without and with batching, next to a handler
that answers at once on the same HTTP layer: what lies between the two is paths, JSON, metrics, queue and model. CPU time
is that of the server process, user and system, from /proc. Tensors: 224x224x3 float32 as JSON, read by way of
simdjson and by way of Python's values, and written. All are measured in turns; times move with the machine, ratios
within one run less so. With --against, another checkout is measured in the same turns.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SOURCES = Path(__file__).parents[1]
MODEL = SOURCES.parent / "tests/testdata/saved_model_half_plus_two_cpu"
PATH = "/v1/models/half_plus_two:predict"
REQUEST = b'{"instances": [1.0, 2.0, 5.0]}'
ANSWER = b'{"predictions":[2.5,3.0,4.5]}'

_ECHO = """
import asyncio, pathlib, sys, uvloop
from slipway_server.transports import ports
from slipway_server.transports.http import HttpServer, Response
async def answer(request): return Response(200, bytes(sys.argv[1], "ascii"))
async def main():
    bound = ports.bind("127.0.0.1", "auto", flag="port")
    await HttpServer(answer, lambda status, message: Response(status, message.encode())).start(bound)
    ready = pathlib.Path(sys.argv[2])
    partial = ready.with_suffix(".partial")
    partial.write_text('{"rest_port": %d}' % bound.getsockname()[1])
    partial.rename(ready)
    await asyncio.Event().wait()
uvloop.run(main())
"""

_WRK_SCRIPT = f'wrk.method = "POST"\nwrk.body = {json.dumps(REQUEST.decode())}\n'


@contextmanager
def running(command: list[str], sources: Path, ready: Path) -> Iterator[tuple[int, int]]:
    """Run a server until the block ends; give its process id and port."""
    environment = {**os.environ, "PYTHONPATH": str(sources), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"the server did not start:\n{log.read().decode(errors='replace')}")
                time.sleep(0.05)
            yield process.pid, json.loads(ready.read_text())["rest_port"]
        finally:
            process.terminate()
            process.wait()


def tell(line: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(f"{line}\n")


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, in user mode and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drive(port: int, script: Path, seconds: int, connections: int) -> tuple[int, float]:
    """Load the server; return how many requests it answered, and how many in a second."""
    said = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}{PATH}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    requests, rate = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec:\s+([\d.]+)", said)
    if requests is None or rate is None or "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"not every request was answered:\n{said}")
    return int(requests[1]), float(rate[1])


def measure_requests(rounds: int, seconds: int, connections: int, against: Path | None) -> None:
    """Print CPU per request and throughput of each server, medians of all rounds."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; apt install wrk")
    trees = {"": SOURCES} if against is None else {"": SOURCES, "against: ": against / "server"}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script = directory / "post.lua"
        script.write_text(_WRK_SCRIPT)
        servers = {
            "answer at once": stack.enter_context(
                running(["-c", _ECHO, ANSWER.decode(), str(directory / "echo")], SOURCES, directory / "echo")
            )
        }
        for name, tree in trees.items():
            for how, flags in (("one by one", []), ("batched", ["--enable_batching"])):
                ready = directory / f"ready{len(servers)}"
                command = [
                    *("-m", "slipway_server", "--port=auto", "--rest_api_port=auto", "--bind_address=127.0.0.1"),
                    *(f"--ready_file={ready}", "--model_name=half_plus_two", f"--model_base_path={MODEL}", *flags),
                ]
                servers[name + how] = stack.enter_context(running(command, tree, ready))
        costs: dict[str, list[float]] = {name: [] for name in servers}
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, (pid, port) in servers.items():
                before = cpu_s(pid)
                requests, rate = drive(port, script, seconds, connections)
                costs[name].append((cpu_s(pid) - before) / requests * 1e6)
                rates[name].append(rate)
    floor = statistics.median(costs["answer at once"])
    tell(f"{'half_plus_two, REST':32}{'CPU µs':>9}{'spread':>16}{'requests/s':>12}{'per core':>10}{'ratio':>7}")
    for name, values in costs.items():
        cost = statistics.median(values)
        spread = f"{min(values):.1f}-{max(values):.1f}"
        rate = statistics.median(rates[name])
        tell(f"{name:32}{cost:9.1f}{spread:>16}{rate:12.0f}{1e6 / cost:10.0f}{cost / floor:7.2f}")


def measure_tensors(rounds: int) -> None:
    """Print the time to read images as JSON, fast and by way of Python's values, and to write them."""
    import numpy as np  # noqa: PLC0415

    from slipway_wire import dtypes, json_predict, json_simd, json_text  # noqa: PLC0415
    from slipway_wire.json_predict import ParsedRequest  # noqa: PLC0415
    from slipway_wire.signatures import PREDICT, Signature, TensorSpec  # noqa: PLC0415

    signature = Signature("s", PREDICT, {"x": TensorSpec("x", dtypes.FLOAT, None, "x:0")}, {})

    def by_values(body: bytes) -> None:
        ParsedRequest("", row_format=True, body=body, content=json_text.parse_object(body)).inputs(signature)

    def milliseconds(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) * 1e3

    tell(f"{'224x224x3 float32':20}{'MB':>7}{'read, ms':>10}{'by values':>11}{'ratio':>7}{'write, ms':>11}")
    for rows in (1, 8, 32):
        images = np.random.default_rng(7).random((rows, 224, 224, 3), np.float32)
        body = json_predict.encode_request({"x": images})
        fast, slow, written = [], [], []
        for _ in range(rounds):
            fast.append(milliseconds(lambda: json_predict.parse_request(body).inputs(signature)))  # noqa: B023
            slow.append(milliseconds(lambda: by_values(body)))  # noqa: B023
            written.append(milliseconds(lambda: json_predict.encode_response({"y": images}, row_format=True)))  # noqa: B023
        if json_simd.parse(body) is None:
            raise SystemExit("simdjson did not take the body; the comparison would be of one way with itself")
        fast_ms, slow_ms = statistics.median(fast), statistics.median(slow)
        tell(
            f"{f'batch {rows}':20}{len(body) / 1e6:7.1f}{fast_ms:10.1f}{slow_ms:11.1f}{slow_ms / fast_ms:7.1f}"
            f"{statistics.median(written):11.1f}"
        )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", choices=("requests", "tensors"))
    arguments = parser.parse_args()
    if arguments.only != "tensors":
        measure_requests(arguments.rounds, arguments.seconds, arguments.connections, arguments.against)
    if arguments.only != "requests":
        measure_tensors(arguments.rounds)


if __name__ == "__main__":
    main()

"""
What a gRPC call costs the server, by our own HTTP/2 and by grpcio: calls per second, and CPU µs per call.

    python server/bench/grpc_transport.py [--in_flight=64] [--connections=8] [--seconds=3] [--rounds=5] [--json=FILE]

Two works: `null` answers every call at once with the same 70 bytes, so that only the transport is left; `half_plus_two`
is the whole server with TF Serving's own test model. h2load (Debian: nghttp2-client) drives both, closed loop, from
the same machine. The transports are measured in alternation; the numbers are medians, and the ratio is that within a
round. CPU is that of the server's process, all threads, from /proc.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/testdata/saved_model_half_plus_two_2_versions"
TRANSPORTS = ("slipway", "grpcio")
WORKS = ("null", "half_plus_two")
SERVE = "--serve-null"
WAIT_S = 120.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_RATE = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")
_DONE = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded")


def serve_null(transport: str, port_file: str) -> None:
    """Answer every call with the same bytes, in a process of its own."""
    import uvloop  # noqa: PLC0415

    from slipway_server import memory  # noqa: PLC0415
    from slipway_server.transports import grpcio_server  # noqa: PLC0415
    from slipway_server.transports.http2 import server as http2  # noqa: PLC0415
    from slipway_server.transports.rpc import Incoming, Unary  # noqa: PLC0415
    from slipway_wire import paths  # noqa: PLC0415

    answer = bytes(70)
    written = Path(port_file)

    async def predict(_body: bytes, _incoming: Incoming) -> bytes:
        return answer

    async def main() -> None:
        services = {paths.PREDICTION_SERVICE: {"Predict": Unary(predict, is_stepwise=True)}}
        start = http2.start_server if transport == "slipway" else grpcio_server.start_server
        _server, (port,) = await start(services, ["127.0.0.1:0"], {})
        memory.settle()
        written.write_text(json.dumps({"grpc_port": port}))  # noqa: ASYNC240  # nobody is served yet
        await asyncio.Event().wait()

    uvloop.run(main())


class Served:
    """One server in a process of its own."""

    def __init__(self, work: str, transport: str, directory: Path) -> None:
        ready = directory / f"{work}-{transport}.json"
        if work == "null":
            command = [sys.executable, __file__, SERVE, transport, f"{ready}.partial"]
        else:
            command = [
                sys.executable, "-m", "slipway_server", "--port=auto", f"--grpc_transport={transport}",
                "--enable_batching", "--model_name=half_plus_two", f"--model_base_path={MODEL}", f"--ready_file={ready}",
            ]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            if work == "null" and Path(f"{ready}.partial").exists() and Path(f"{ready}.partial").read_text():
                ready = Path(f"{ready}.partial")
            if ready.exists():
                self.port = json.loads(ready.read_text())["grpc_port"]
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"the server for {work} on {transport} did not start")

    def cpu_s(self) -> float:
        """Return the CPU time that the process has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def body_of(work: str) -> bytes:
    """Return a gRPC message: prefix and PredictRequest."""
    from slipway_wire import predict  # noqa: PLC0415

    request = bytes(100)
    if work != "null":
        request = predict.encode_request("half_plus_two", {"x": np.float32([1.0, 2.0, 5.0])})
    return struct.pack(">BL", 0, len(request)) + request


def drive(served: Served, body: Path, args: argparse.Namespace) -> tuple[float, float]:
    """Load *served* for a while; return calls per second and server CPU seconds per call."""
    before = served.cpu_s()
    streams = max(args.in_flight // args.connections, 1)
    done = subprocess.run(
        [
            "h2load", f"--duration={args.seconds}", f"--clients={args.connections}", f"--max-concurrent-streams={streams}",
            "--window-bits=20", "--connection-window-bits=24", f"--data={body}", "--header=content-type: application/grpc",
            "--header=te: trailers", f"http://127.0.0.1:{served.port}/tensorflow.serving.PredictionService/Predict",
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    used = served.cpu_s() - before
    rate, counts = _RATE.search(done.stdout), _DONE.search(done.stdout)
    if rate is None or counts is None or counts[1] != counts[2]:
        sys.exit(f"h2load: calls failed:\n{done.stdout}{done.stderr}")
    return float(rate[1]), used / int(counts[1])


def main() -> None:
    """Measure, and tell."""
    if sys.argv[1:2] == [SERVE]:
        serve_null(*sys.argv[2:4])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in_flight", type=int, default=64)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed; on Debian it is in the package nghttp2-client")
    works = args.works.split(",")
    results: dict[str, dict[str, list[tuple[float, float]]]] = {w: {t: [] for t in TRANSPORTS} for w in works}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        servers = {(w, t): Served(w, t, directory) for w in works for t in TRANSPORTS}
        try:
            for work in works:
                (directory / work).write_bytes(body_of(work))
            for number in range(args.rounds + 1):
                for (work, transport), served in servers.items():
                    measured = drive(served, directory / work, args)
                    # The first round warms up.
                    if number:
                        results[work][transport].append(measured)
        finally:
            for served in servers.values():
                served.close()
    tell(results, args)


def tell(results: dict[str, dict[str, list[tuple[float, float]]]], args: argparse.Namespace) -> None:
    """Print a table; write all samples if asked to."""
    lines = [
        f"{args.in_flight} in flight on {args.connections} connections, medians of {args.rounds} rounds of {args.seconds} s",
        f"{'work':<15}{'transport':<11}{'calls/s':>9}{'CPU µs/call':>13}{'calls: grpcio = 1':>19}",
    ]
    for work, measured in results.items():
        for transport, rounds in measured.items():
            ratios = [ours[0] / theirs[0] for ours, theirs in zip(rounds, measured["grpcio"], strict=True)]
            rate, cpu = (statistics.median(one[at] for one in rounds) for at in (0, 1))
            lines.append(f"{work:<15}{transport:<11}{rate:>9.0f}{cpu * 1e6:>13.1f}{statistics.median(ratios):>19.2f}")
    sys.stdout.write("\n".join(lines) + "\n")
    if args.json:
        args.json.write_text(
            json.dumps({"arguments": vars(args) | {"json": str(args.json)}, "samples": results}, indent=1)
        )


if __name__ == "__main__":
    main()

"""
What clients notice while versions are exchanged, the configuration is reloaded and labels move: failures and latency.

    python server/bench/switch.py [--rate=600] [--rounds=5] [--model=DIR] [--json=FILE] [--quick]

A server of its own is driven at an offered rate (open loop: a slow answer delays no later request), half of it over REST
and half over gRPC, half of either by the newest version and half by a label. Meanwhile, again and again, a new version
is put under the base path and takes over, a model is added and removed, and a label moves between two versions.

A request counts as *during* an event if it was under way at any time between its beginning and the moment the server
said that it was done, or within a second of its beginning (else events that hit a stall of the machine would count for more
than others); as *before* if it ended before the first one and is not among the first, which open connections; as *after* if it began half a second after the last
one or later. Every answer is checked. Latencies move with the machine, and the client shares it: compare them within one
run. Exit code 1 if a request failed.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from slipway_wire import messages, paths, predict, text_config

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/testdata/saved_model_half_plus_two_2_versions/00000123"
WAIT_S = 60.0
SPAN_S = 1.0
EVENTS = ("version switch", "config reload", "label move")


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due and answered (s, monotonic), how, and what went wrong ("" if nothing did)."""

    protocol: str
    due: float
    end: float
    error: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to the server, from its beginning until the server said that it was done."""

    kind: str
    begin: float
    end: float


class Rest:
    """Just enough of an HTTP/1.1 client: keep-alive connections, one request at a time on each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body."""
        connection = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        content = await reader.readexactly(length)
        self._free.append(connection)
        return int(head[9:12]), content


class Load:
    """Requests at a rate, until told to stop."""

    def __init__(self, rest: Rest, channel: grpc.aio.Channel, rate: float) -> None:
        self.samples: list[Sample] = []
        self._rest = rest
        self._predict = channel.unary_unary(paths.GRPC_PREDICT)
        self._rate = rate
        self._is_over = False
        x = np.float32([1.0, 5.0])
        self._bodies = [
            predict.encode_request("latest", {"x": x}),
            predict.encode_request("labelled", {"x": x}, label="stable"),
        ]
        self._paths = ["/v1/models/latest:predict", "/v1/models/labelled/labels/stable:predict"]

    async def run(self) -> None:
        """Offer requests, and wait for the last answer in the end."""
        began, number = time.monotonic(), 0
        under_way: set[asyncio.Task[None]] = set()
        while not self._is_over:
            due = began + number / self._rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._one(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)

    def stop(self) -> None:
        """Offer no more."""
        self._is_over = True

    async def _one(self, number: int, due: float) -> None:
        protocol, target = ("rest", "grpc")[number % 2], number // 2 % 2
        try:
            async with asyncio.timeout(WAIT_S):
                ask = self._ask_rest if protocol == "rest" else self._ask_grpc
                error = await ask(target)
        except Exception as failure:  # whatever it is, a client noticed
            error = repr(failure)
        self.samples.append(Sample(protocol, due, time.monotonic(), error))

    async def _ask_rest(self, target: int) -> str:
        status, body = await self._rest.ask("POST", self._paths[target], b'{"instances": [1.0, 5.0]}')
        return "" if status == 200 and json.loads(body) == {"predictions": [2.5, 4.5]} else f"{status}: {body!r}"

    async def _ask_grpc(self, target: int) -> str:
        _, outputs = predict.decode_response(await self._predict(self._bodies[target]))
        return "" if outputs["y"].tolist() == [2.5, 4.5] else repr(outputs)


class Admin:
    """Does to the server what is measured."""

    def __init__(self, directory: Path, model: Path, rest: Rest, channel: grpc.aio.Channel) -> None:
        self._directory = directory
        self._model = model
        self._rest = rest
        self._reload = channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
        self._newest = 1
        self.events: list[Event] = []

    async def version_switch(self) -> None:
        """Put a new version in place, take the old one away once it has been freed."""
        old, self._newest = self._newest, self._newest + 1
        put(self._model, self._directory / "latest", self._newest)
        while await self._states("latest") != {self._newest: "AVAILABLE", old: "END"}:  # noqa: ASYNC110  # elsewhere
            await asyncio.sleep(0.02)  # it happens in another process
        shutil.rmtree(self._directory / "latest" / str(old))

    async def config_reload(self) -> None:
        """Add a model and remove it."""
        for others in (("other",), ()):
            await self._apply(self._stable, others)

    async def label_move(self) -> None:
        """Let the label point to the other version."""
        self._stable = 3 - self._stable
        await self._apply(self._stable, ())

    _stable = 1

    async def _apply(self, stable: int, others: Sequence[str]) -> None:
        request = messages.ReloadConfigRequest(config=config(self._directory, stable, others))
        response = messages.ReloadConfigResponse.FromString(await self._reload(request.SerializeToString()))
        if response.status.error_code:
            raise RuntimeError(response.status.error_message)

    async def _states(self, model: str) -> dict[int, str]:
        """Versions that are there or have just gone."""
        _, body = await self._rest.ask("GET", f"/v1/models/{model}")
        found = {int(one["version"]): one["state"] for one in json.loads(body)["model_version_status"]}
        return {version: state for version, state in found.items() if version >= self._newest - 1}

    async def measure(self, kind: str) -> None:
        """Do one of EVENTS, and write down when."""
        actions: dict[str, Callable[[], Awaitable[None]]] = {
            "version switch": self.version_switch,
            "config reload": self.config_reload,
            "label move": self.label_move,
        }
        begin = time.monotonic()
        async with asyncio.timeout(WAIT_S):
            await actions[kind]()
        self.events.append(Event(kind, begin, time.monotonic()))


def put(model: Path, base_path: Path, version: int) -> None:
    """Copy *model* under another name, and rename it when it is whole."""
    base_path.mkdir(parents=True, exist_ok=True)
    partial = base_path / f"{version}.partial"
    shutil.copytree(model, partial)
    partial.rename(base_path / str(version))


def config(directory: Path, stable: int, others: Sequence[str]) -> Any:
    """Make the ModelServerConfig."""
    text = f"""model_config_list {{
      config {{ name: "latest" base_path: "{directory}/latest" model_platform: "tensorflow" }}
      config {{
        name: "labelled" base_path: "{directory}/labelled" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }} version_labels {{ key: "stable" value: {stable} }}
      }}
    """ + "".join(
        f'config {{ name: "{name}" base_path: "{directory}/{name}" model_platform: "tensorflow" }} ' for name in others
    )
    return text_config.parse(messages.ModelServerConfig, f"{text} }}".encode())


def summary(samples: Sequence[Sample], events: Sequence[Event], since: float) -> list[dict[str, Any]]:
    """Count and rank the requests of each phase, by protocol; those *since* count as before."""
    first, last = min(event.begin for event in events), max(event.end for event in events)

    def during(kind: str) -> Callable[[Sample], bool]:
        spans = [(event.begin, max(event.end, event.begin + SPAN_S)) for event in events if event.kind == kind]
        return lambda sample: any(sample.due <= end and sample.end >= begin for begin, end in spans)

    phases: dict[str, Callable[[Sample], bool]] = {
        "before": lambda sample: since <= sample.due and sample.end < first,
        **{kind: during(kind) for kind in EVENTS},
        "after": lambda sample: sample.due >= last + 0.5,
        "whole run": lambda _: True,
    }
    rows = []
    for phase, belongs in phases.items():
        for protocol in ("rest", "grpc"):
            chosen = [sample for sample in samples if sample.protocol == protocol and belongs(sample)]
            latencies = sorted(sample.end - sample.due for sample in chosen)
            cuts = statistics.quantiles(latencies, n=100, method="inclusive") if len(latencies) > 1 else []
            rows.append(
                {
                    "phase": phase,
                    "protocol": protocol,
                    "events": sum(event.kind == phase for event in events),
                    "requests": len(chosen),
                    "failed": sum(bool(sample.error) for sample in chosen),
                    "p50_ms": round(cuts[49] * 1e3, 3) if cuts else None,
                    "p99_ms": round(cuts[98] * 1e3, 3) if cuts else None,
                    "max_ms": round(latencies[-1] * 1e3, 3) if latencies else None,
                }
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write *rows* as Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


async def run(model: Path, rate: float, rounds: int, calm_s: float) -> dict[str, Any]:
    """Start a server, do it all, and return the result."""
    with tempfile.TemporaryDirectory(prefix="slipway-switch-") as name:
        directory = Path(name)
        put(model, directory / "latest", 1)
        put(model, directory / "other", 1)
        for version in (1, 2):
            put(model, directory / "labelled", version)
        (directory / "models.config").write_text(str(config(directory, 1, ())))
        server = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs yet
            [
                *(sys.executable, "-m", "slipway_server", "--port=auto", "--rest_api_port=auto"),
                *("--bind_address=127.0.0.1", f"--ready_file={directory}/ready.json", "--version_settle_s=0.1"),
                *(f"--model_config_file={directory}/models.config", "--tensorflow_intra_op_parallelism=1"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=(directory / "log").open("wb"),
        )
        try:
            return await _drive(directory, model, server, rate, rounds, calm_s)
        except BaseException:
            sys.stderr.write((directory / "log").read_text())
            raise
        finally:
            server.terminate()
            server.wait(WAIT_S)


async def _drive(
    directory: Path, model: Path, server: "subprocess.Popen[bytes]", rate: float, rounds: int, calm_s: float
) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while not (directory / "ready.json").exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the server did not start")
        await asyncio.sleep(0.05)
    ready = json.loads((directory / "ready.json").read_text())
    rest = Rest(ready["rest_port"])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ready['grpc_port']}") as channel:
        admin, load = Admin(directory, model, rest, channel), Load(rest, channel, rate)
        loading = asyncio.create_task(load.run())
        await asyncio.sleep(calm_s / 2)
        since = time.monotonic()
        await asyncio.sleep(calm_s)
        for _ in range(rounds):
            for kind in EVENTS:
                await admin.measure(kind)
                await asyncio.sleep(calm_s / 4)
        await asyncio.sleep(0.5 + calm_s)
        load.stop()
        await loading
    return {
        "model": model.name,
        "offered_rate_rps": rate,
        "host_cpus": len(os.sched_getaffinity(0)),
        "failed": sum(bool(sample.error) for sample in load.samples),
        "errors": sorted({sample.error for sample in load.samples if sample.error})[:10],
        "rows": summary(load.samples, admin.events, since),
    }


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=600.0, help="requests per second, over all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each event happens")
    parser.add_argument("--model", type=Path, default=MODEL, help="version directory of a y = x / 2 + 2")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--quick", action="store_true", help="one round, short pauses")
    arguments = parser.parse_args()
    rounds, calm_s = (1, 0.5) if arguments.quick else (arguments.rounds, 5.0)
    result = asyncio.run(run(arguments.model, arguments.rate, rounds, calm_s))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    sys.stdout.write(f"{table(result['rows'])}\n\nfailed requests: {result['failed']} {result['errors'] or ''}\n")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

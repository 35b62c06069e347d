"""One run of `overhead.py`: its servers, its results, and what all its parts do."""

import argparse
import json
import os
import platform
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import loads, models
from harness.loads import Request
from harness.models import HALF, Question
from harness.processes import WAIT_S, Servers, Started
from harness.rounds import Cell, Target, run_rounds
from slipway_wire import paths, payloads

IN_FLIGHT = 64


class Run:
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

    def _request(self, model: str, which: str, question: Question) -> Request:
        return loads.request_of(f"{model}-{which}", question.payload(model), self.servers.directory)

    def _message(self, model: str, which: str, question: Question) -> Request:
        return loads.message_of(f"{model}-{which}", question.payload(model), self.servers.directory)

    def _answers(self, server: Started, model: str, question: Question) -> dict[str, bytes]:
        """Ask once over either protocol, REST in both forms; half_plus_two's answer is known, and all must agree."""
        payload = question.payload(model)
        answers = {
            "grpc": loads.grpc_answer(server, payload.grpc_method, payload.grpc_message),
            "rest": loads.rest_answer(server, payload.rest_path, payload.rest_body),
        }
        posted, _ = loads.rest_exchange(server, payload.rest_path, payload.grpc_message, loads.MESSAGE_HEADERS)
        if posted != answers["grpc"]:
            raise SystemExit(f"the server answers {posted!r} to a message over REST, {answers['grpc']!r} over gRPC")
        outputs = payloads.decode_grpc_answer(payload, answers["grpc"])
        over_rest = payloads.decode_rest_answer(replace(payload, expected=outputs), answers["rest"])
        if model == HALF and not np.array_equal(outputs["y"], models.images(HALF) / 2 + 2):
            raise SystemExit(f"the server's answer is wrong: {outputs}")
        for name, array in over_rest.items():
            if not np.allclose(array, outputs[name], rtol=1e-5):
                raise SystemExit(f"the server's answers differ: {outputs} over gRPC, {over_rest} over REST")
        return answers

    def _alias(self, server: Started, model: str) -> str:
        """Ask the server what the model's input is called."""
        url = f"http://127.0.0.1:{server.rest_port}{paths.rest_path(model, 'metadata')}"
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:  # http, to ourselves
            signatures = json.load(answer)["metadata"]["signature_def"]["signature_def"]
        (alias,) = signatures["serving_default"]["inputs"]
        return str(alias)

    def _measure(self, title: str, cells: Mapping[str, Cell]) -> dict[str, Cell]:
        """Measure *cells*, end the servers behind them, and give those that were not lost."""
        kept = self._in_rounds(title, cells)
        self.servers.close()
        self.results["tables"][title] = {name: cell.told() for name, cell in kept.items()}
        return kept

    def _in_rounds(self, title: str, cells: Mapping[str, Cell]) -> dict[str, Cell]:
        """Measure *cells*, and give those that were not lost; of others is told why."""
        run_rounds(list(cells.values()), self._arguments.rounds, say)
        for name, cell in cells.items():
            if cell.lost:
                self._leave_out(f"{title}: {name}", cell.lost)
        return {name: cell for name, cell in cells.items() if not cell.lost}

    def _leave_out(self, what: str, why: str) -> None:
        self.results["skipped"][what] = why
        say(f"{what} is left out: {why}")

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

"""
Whether memory is given back: the resident memory of a server over many exchanges of versions.

    python server/bench/reloads.py [--reloads=50] [--mib=64] [--model=DIR] [--json=FILE]

Each time a new version is put under the base path, is loaded beside the old one and takes over, the old one is freed, a
few requests are answered, and the process's resident memory is read. Without --model the versions hold one variable of
--mib MiB, so that a version that is not freed would show at once. The first few exchanges warm up allocators and pools;
the slope, by least squares over the second half, is what matters, next to the size of a version.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WAIT_S = 60.0
MIB = 2**20
BODY = b'{"instances": [1.0, 5.0]}'

EXPORT = """
import sys, tensorflow as tf

class Model(tf.Module):
    def __init__(self, rows):
        self.ballast = tf.Variable(tf.random.uniform([rows, 1024, 256]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x):
        return {"y": x / 2 + 2 + 0 * self.ballast[0, 0, 0]}

model = Model(int(sys.argv[2]))
tf.saved_model.save(model, sys.argv[1], signatures=model.serve)
"""


def resident_bytes(pid: int) -> int:
    """Return how much memory the process *pid* holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(values: Sequence[float]) -> float:
    """Return the slope of *values* over their places, by least squares."""
    return statistics.linear_regression(range(len(values)), values).slope


class Server:
    """One server with one model."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "slipway_server", "--port=auto", "--rest_api_port=auto", "--model_name=m"),
                *("--bind_address=127.0.0.1", f"--ready_file={directory}/ready.json", "--version_settle_s=0"),
                f"--model_base_path={directory}/m",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(directory / "log").open("wb"),
        )

    def wait(self) -> None:
        """Wait until it is ready, or raise."""
        deadline = time.monotonic() + WAIT_S
        while not (ready := self._directory / "ready.json").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._directory / "log").read_text())
            time.sleep(0.05)
        port = json.loads(ready.read_text())["rest_port"]
        self._url = f"http://127.0.0.1:{port}/v1/models/m"

    def wait_for(self, states: dict[int, str]) -> None:
        """Wait until these versions are in these states."""
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = self._get(self._url)
            found = {int(one["version"]): one["state"] for one in answer["model_version_status"]}
            if states.items() <= found.items():
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited in vain for {states}; there is {found}")
            time.sleep(0.02)

    def ask(self, times: int) -> None:
        """Send a few requests, and look at the answers."""
        for _ in range(times):
            answer = self._get(f"{self._url}:predict", BODY)
            if answer != {"predictions": [2.5, 4.5]}:
                raise RuntimeError(f"wrong answer: {answer}")

    @staticmethod
    def _get(url: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(url, body, timeout=WAIT_S) as answer:  # noqa: S310  # of our own server
            return json.loads(answer.read())

    def resident_bytes(self) -> int:
        """Return how much memory it holds, when it has had the time to give some back."""
        time.sleep(0.2)
        return resident_bytes(self._process.pid)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(WAIT_S)


def put(model: Path, base_path: Path, version: int) -> None:
    """Link *model*'s files under another name, and rename it when it is whole."""
    base_path.mkdir(exist_ok=True)
    partial = base_path / f"{version}.partial"
    shutil.copytree(model, partial, copy_function=os.link)
    partial.rename(base_path / str(version))


def run(model: Path | None, reloads: int, mib: int) -> dict[str, Any]:
    """Exchange versions, and return the result."""
    with tempfile.TemporaryDirectory(prefix="slipway-reloads-") as name:
        directory = Path(name)
        source = directory / "source"
        if model is None:
            subprocess.run([sys.executable, "-c", EXPORT, source, str(mib)], check=True, capture_output=True)
        else:
            shutil.copytree(model, source)
        size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        put(source, directory / "m", 1)
        server = Server(directory)
        try:
            server.wait()
            server.ask(10)
            resident = [server.resident_bytes()]
            for version in range(2, reloads + 2):
                put(source, directory / "m", version)
                server.wait_for({version: "AVAILABLE", version - 1: "END"})
                shutil.rmtree(directory / "m" / str(version - 1))
                server.ask(10)
                resident.append(server.resident_bytes())
        finally:
            server.stop()
    late = resident[len(resident) // 2 :]
    return {
        "reloads": reloads,
        "version_mib": round(size / MIB, 2),
        "resident_mib": [round(one / MIB, 1) for one in resident],
        "slope_mib_per_reload": round(slope([one / MIB for one in late]), 4),
        "slope_per_version_size": round(slope(late) / size, 5),
    }


def table(result: dict[str, Any]) -> str:
    """Write the result as Markdown."""
    resident = result["resident_mib"]
    growth = f"{result['slope_mib_per_reload']} MiB per reload, {100 * result['slope_per_version_size']:.2f} %"
    places = sorted({0, 1, 2, 5, 10, 20, 30, 40, len(resident) - 1} & set(range(len(resident))))
    return "\n".join(
        [
            f"| reloads | {' | '.join(map(str, places))} |",
            f"| --- |{' --- |' * len(places)}",
            f"| resident (MiB) | {' | '.join(str(resident[place]) for place in places)} |",
            "",
            f"A version is {result['version_mib']} MiB; over the second half memory grew by {growth} of a version.",
        ]
    )


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--mib", type=int, default=64, help="size of the variable of a version")
    parser.add_argument("--model", type=Path, help="version directory of a y = x / 2 + 2, instead")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    result = run(arguments.model, arguments.reloads, arguments.mib)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    sys.stdout.write(f"{table(result)}\n")


if __name__ == "__main__":
    main()

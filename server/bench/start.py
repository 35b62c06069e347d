"""
From the start of the server's process to ready, next to what a script needs that imports TensorFlow and loads the model.

    python server/bench/start.py [--rounds=5] [--model=DIRECTORY] [--imports] [--output=FILE]

Without a model, a CNN of the digits' size with a warm-up record, batched as the default line is. Each round starts a new process of
every kind, in an order that changes; ratios are taken within the round. CPU seconds are those of all threads, up to the moment
that counts: wall time moves with whatever else the machine does. `--imports` lists what the server's own modules take to
import, beside TensorFlow's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from harness import models
from harness.processes import WAIT_S, Servers, cpu_s
from harness.rounds import Cell, ratio, run_rounds
from harness.table import shown

from slipway_wire import predict, tfrecord, warmup_log

WANTED = 1.2
SCRIPT = "import tensorflow as tf; kept = tf.saved_model.load({!r}); print('loaded', flush=True); input()"
SCRIPT_WITH_SESSION = (
    "import tensorflow as tf; session = tf.compat.v1.Session(graph=tf.Graph()); session.graph.as_default().__enter__(); "
    "tf.compat.v1.saved_model.loader.load(session, ['serve'], {!r}); print('loaded', flush=True); input()"
)
BATCHING = "max_batch_size {{ value: 32 }} num_batch_threads {{ value: 2 }} {}".format(
    " ".join(f"allowed_batch_sizes: {size}" for size in (1, 2, 4, 8, 16, 32))
)
KINDS = {
    "server": (),
    "server, no thread plan measured": ("--thread_plan=one_batch",),
    "server, not warmed up": ("--enable_model_warmup=false",),
}
BASELINE = "import tensorflow and load"


def script(servers: Servers, code: str) -> dict[str, float]:
    """Start Python with *code*, which prints a line when it is done."""
    began = time.monotonic()
    process = servers.start("script", ["-c", code], is_pinned=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit(f"the script ended:\n{(servers.directory / 'script.log').read_text()[-2000:]}")
    return _ended(servers, process, began)


def server(servers: Servers, base_path: Path, flags: Sequence[str]) -> dict[str, float]:
    """Start the server, and wait until it says that it is ready."""
    ready, batching = servers.directory / "ready.json", servers.directory / "batching"
    ready.unlink(missing_ok=True)
    batching.write_text(BATCHING)
    command = ["-m", "slipway_server", "--port=auto", "--rest_api_port=auto", "--bind_address=127.0.0.1"]
    command += [f"--ready_file={ready}", "--model_name=digits", f"--model_base_path={base_path}"]
    command += ["--enable_batching", f"--batching_parameters_file={batching}", *flags]
    began = time.monotonic()
    process = servers.start("server", command, is_pinned=False)
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > began + WAIT_S:
            raise SystemExit(f"the server did not start:\n{(servers.directory / 'server.log').read_text()[-2000:]}")
        time.sleep(0.002)
    return _ended(servers, process, began)


def _ended(servers: Servers, process: "subprocess.Popen[bytes]", began: float) -> dict[str, float]:
    found = {"wall_s": time.monotonic() - began, "cpu_s": cpu_s(process.pid)}
    servers.end(process)
    return found


def imports(command: Sequence[str]) -> list[tuple[float, str]]:
    """Run Python with *command*; return seconds and name of what was imported at the outermost level, slowest first."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=False)
    found = []
    for line in done.stderr.splitlines():
        fields = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and fields[1].strip().isdigit() and not fields[2][1:].startswith(" "):
            found.append((int(fields[1]) / 1e6, fields[2].strip()))
    return sorted(found, reverse=True)


def _digits(servers: Servers) -> Path:
    """Export the model, with a record for its warm-up."""
    base_path = servers.export(models.CNN)
    path = base_path / "1" / warmup_log.WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    request = predict.encode_request("digits", {"x": models.images(models.CNN)[:1].astype(np.float32)})
    path.write_bytes(tfrecord.frame_all([warmup_log.encode("predict", request)]))
    return base_path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="base path of a model, with one version in it")
    parser.add_argument("--imports", action="store_true", help="list what the server imports, too")
    parser.add_argument("--output", type=Path, help="write the numbers here, as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        servers = Servers(Path(scratch), sorted(os.sched_getaffinity(0)))
        base_path = (arguments.model or _digits(servers)).resolve()
        version = str(max(path for path in base_path.iterdir() if path.name.isdigit()))
        kinds: dict[str, Callable[[], dict[str, float]]] = {
            BASELINE: partial(script, servers, SCRIPT.format(version)),
            "import tensorflow and load into a session": partial(script, servers, SCRIPT_WITH_SESSION.format(version)),
            **{name: partial(server, servers, base_path, flags) for name, flags in KINDS.items()},
        }
        cells = {name: Cell(name, measure) for name, measure in kinds.items()}
        for measure in kinds.values():
            measure()  # else the first round would read files from the disk
        try:
            run_rounds(list(cells.values()), arguments.rounds, lambda line: print(line, file=sys.stderr))  # noqa: T201
        finally:
            servers.close()
    ratios = {name: {key: ratio(cells, name, BASELINE, key) for key in ("wall_s", "cpu_s")} for name in cells}
    if arguments.output:
        told = {"cells": {name: cell.told() for name, cell in cells.items()}, "ratios": ratios, "wanted": WANTED}
        arguments.output.write_text(json.dumps(told, indent=2) + "\n")
    print("| from start to ready | wall, s | CPU, s | wall, to the first | CPU, to the first |\n|---|--:|--:|--:|--:|")  # noqa: T201
    for name, cell in cells.items():
        numbers = [shown(cell.told()[key]) for key in ("wall_s", "cpu_s")]  # type: ignore[arg-type]
        print(f"| {name} | {' | '.join([*numbers, *map(shown, ratios[name].values())])} |")  # noqa: T201
    met = "met" if ratios["server"]["wall_s"]["median"] <= WANTED else "missed"
    print(f"\nWanted: server at most {WANTED} of the first: {met}.")  # noqa: T201
    if arguments.imports:
        told_imports = imports(["-c", "import slipway_server.__main__, slipway_server.app; import tensorflow"])
        print("\n| the server imports | s |\n|---|--:|")  # noqa: T201
        for seconds, name in told_imports[:15]:
            print(f"| `{name}` | {seconds:.3f} |")  # noqa: T201


if __name__ == "__main__":
    main()

"""
What the scheduler itself costs: CPU µs of Python per task through submit, merge, split and answer.

    python server/bench/batcher.py [--in_flight=64] [--tasks=100000] [--rounds=5] [--against=CHECKOUT]

The model is one numpy expression, and the load is closed: one thread keeps the tasks in flight, as the event loop does.
With --against, another checkout of the sources is measured in alternation, each round in a process of its own, and the
ratio is told; without, the ratio to a `ThreadPoolExecutor` that only hands over and answers. Times move with the
machine; ratios within one run less so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SOURCES = Path(__file__).parents[1]
ROUND = "--one-round"


def measure(submit: Callable[[], "Future[Any]"], in_flight: int, tasks: int) -> float:
    """Keep *in_flight* tasks going until *tasks* are done; return CPU seconds per task, of all threads."""
    done: deque[Future[Any]] = deque()
    has_done = threading.Event()

    def arrive(future: "Future[Any]") -> None:
        done.append(future)
        has_done.set()

    began = time.process_time()
    submitted = finished = 0
    while finished < tasks:
        while submitted - finished < in_flight and submitted < tasks:
            submit().add_done_callback(arrive)
            submitted += 1
        has_done.wait()
        has_done.clear()
        while done:
            done.popleft().result()
            finished += 1
    return (time.process_time() - began) / tasks


def one_round(in_flight: int, tasks: int) -> dict[str, float]:
    """Measure everything once; return name -> µs."""
    from slipway_server.batching.scheduler import BatchScheduler, DirectScheduler, Work  # noqa: PLC0415
    from slipway_server.config_files import BatchingPolicy  # noqa: PLC0415
    from slipway_server.metrics import Metrics  # noqa: PLC0415

    x = np.ones(1, np.float32)

    def model(inputs: Any) -> Any:
        return {"y": inputs["x"] / 2 + 2}

    def work() -> Work:
        return Work("m", "key", model, {"x": x}, time.monotonic() + 30)

    def batched(threads: int) -> BatchScheduler:
        scheduler = BatchScheduler(BatchingPolicy(max_batch_size=64, num_batch_threads=threads), Metrics())
        scheduler.start()
        return scheduler

    one, two = batched(1), batched(2)
    direct = DirectScheduler(1, Metrics())
    pool = ThreadPoolExecutor(1)
    ways: dict[str, Callable[[], Future[Any]]] = {
        "batched, 1 thread": lambda: one.submit(work()),
        "batched, 2 threads": lambda: two.submit(work()),
        "direct": lambda: direct.submit(work()),
        "ThreadPoolExecutor": lambda: pool.submit(model, work().inputs),
    }
    for submit in ways.values():
        measure(submit, in_flight, tasks // 10)
    return {name: 1e6 * measure(submit, in_flight, tasks) for name, submit in ways.items()}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in_flight", type=int, default=64)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="root of another checkout")
    parser.add_argument(ROUND, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_round:
        sys.stdout.write(json.dumps(one_round(arguments.in_flight, arguments.tasks)))
        return
    checkouts = {"this": SOURCES}
    if arguments.against:
        checkouts["other"] = arguments.against.resolve() / "server"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(arguments.rounds):
        for name, sources in checkouts.items():
            # The one-round process is this file in both cases; only what it imports differs.
            command = [sys.executable, "-P", __file__, *sys.argv[1:], ROUND]
            environment = {**os.environ, "PYTHONPATH": str(sources)}
            found[name].append(json.loads(subprocess.check_output(command, env=environment)))
    medians = {
        name: {way: statistics.median(one[way] for one in rounds) for way in rounds[0]}
        for name, rounds in found.items()
    }
    for name, ways in medians.items():
        for way, median in ways.items():
            spread = max(one[way] for one in found[name]) - min(one[way] for one in found[name])
            ratio = f"{median / ways['ThreadPoolExecutor']:.2f} of ThreadPoolExecutor"
            if arguments.against:
                ratio = f"{median / medians['other'][way]:.2f} of the other checkout"
            sys.stdout.write(f"{name:6} {way:20} {median:7.2f} us a task (spread {spread:.2f}), {ratio}\n")


if __name__ == "__main__":
    main()

"""
What TensorFlow Serving's digits cost: CPU µs to write an answer's floats as JSON, beside the shortest that read back.

    python server/bench/floats.py [--rounds=30]

TF Serving writes six significant digits, and nine where six do not read back; the shortest is what Slipway's own
clients write. Both by what the server encodes an output with, [n] of float32, in one process, in turn, round by round.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from slipway_wire import json_tensors

SIZES = (1, 10, 20, 100, 1000, 100_000)
# Long enough for the clock, short enough for a hundred rounds.
_ENOUGH_S = 0.003
THEIRS = json_tensors.Style(digits="tf_serving")

_HEAD = "| floats | TF Serving's digits, µs | shortest, µs | ratio, median (smallest to largest) |\n|--:|--:|--:|--:|"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    print(_HEAD)  # noqa: T201
    for size in SIZES:
        values = np.random.default_rng(0).normal(0, 3, size).astype(np.float32)
        ours, shortest = [], []
        for _ in range(rounds):
            ours.append(_cost_us(lambda values=values: json_tensors.encode(values, THEIRS)))  # type: ignore[misc]
            shortest.append(_cost_us(lambda values=values: json_tensors.encode(values)))  # type: ignore[misc]
        ratios = [a / b for a, b in zip(ours, shortest, strict=True)]
        print(  # noqa: T201
            f"| {size} | {statistics.median(ours):.2f} | {statistics.median(shortest):.2f} | "
            f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
        )


def _cost_us(call: Callable[[], object]) -> float:
    began, count = time.thread_time(), 0
    while count < 5 or time.thread_time() - began < _ENOUGH_S:
        call()
        count += 1
    return (time.thread_time() - began) / count * 1e6


if __name__ == "__main__":
    main()

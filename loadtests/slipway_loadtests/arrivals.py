"""When requests are due in an open loop: an absolute schedule, drawn from a seed, that no slow answer can move."""

import random
from collections.abc import Iterator


def poisson(rate: float, seed: str, worker: int = 0, workers: int = 1) -> Iterator[int]:
    """
    Draw arrivals of a Poisson process.

    Locust's `constant_throughput` and `poisson` wait *after* the previous answer: while the server stalls they
    send nothing, and the stall is missing from the latencies (coordinated omission).

    Args:
        rate: Arrivals per second, over all workers.
        seed: Same seed, same arrivals: both protocols meet the same bursts.
        worker: Which of *workers* generators this is; together they give the whole process.
        workers: How many share the rate.

    Yields:
        Nanoseconds since the start of the load, increasing.
    """
    # Not for secrets: the same arrivals tomorrow are the point.
    draw = random.Random(f"{seed}/{worker}")  # noqa: S311
    at = 0.0
    while True:
        at += draw.expovariate(rate / workers)
        yield round(at * 1e9)

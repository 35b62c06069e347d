"""When requests are due in an open loop: an absolute schedule, drawn from a seed, that no slow answer can move."""

import random
from collections.abc import Iterator, Sequence


def poisson(rate: float, seed: str) -> Iterator[int]:
    """
    Draw arrivals of a Poisson process.

    Locust's `constant_throughput` and `poisson` wait *after* the previous answer: while the server stalls they
    send nothing, and the stall is missing from the latencies (coordinated omission).

    Args:
        rate: Arrivals per second. Processes with rates a and b and different seeds are together one of rate a + b.
        seed: Same seed, same arrivals: both protocols meet the same bursts.

    Yields:
        Nanoseconds since the start of the load, increasing.
    """
    # Not for secrets: the same arrivals tomorrow are the point.
    draw = random.Random(seed)  # noqa: S311
    at = 0.0
    while True:
        at += draw.expovariate(rate)
        yield round(at * 1e9)


def stepped(steps: Sequence[tuple[float, float]], seed: str) -> Iterator[int]:
    """
    Draw arrivals of Poisson processes that follow one another.

    Args:
        steps: Arrivals per second, and for how many seconds; a rate of 0 is a pause.
        seed: Same seed, same arrivals.

    Yields:
        Nanoseconds since the start of the load, increasing; ends with the last step.
    """
    begin = 0.0
    for place, (rate, seconds) in enumerate(steps):
        if rate:
            for after_ns in poisson(rate, f"{seed}/{place}"):
                if after_ns >= seconds * 1e9:
                    break
                yield round(begin * 1e9) + after_ns
        begin += seconds

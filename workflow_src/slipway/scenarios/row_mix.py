"""Requests with few rows and with many at once, as several kinds of callers send them: who waits for whom."""

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from slipway import repetitions, statistics
from slipway.load_plan import NAMES
from slipway.records import Protocol, Repetition
from slipway.repetitions import in_window
from slipway.scenario_settings import RowMix
from slipway.scenarios.taking import Taking, Wanted
from slipway_wire import payloads as wire_payloads
from slipway_wire.samples import Samples

# Enough that the order of a period, which is drawn, is none that a batcher could get used to.
_LEAST_REQUESTS = 100
_CLOSED, _OPEN = "the mix, closed loop", "the mix"


def sequence(weights: Mapping[int, int], seed: str) -> list[int]:
    """
    Draw the rows of the requests of one period.

    Args:
        weights: Rows in a request -> how often, against the others.
        seed: Of the order.

    Returns:
        Rows, each number of them exactly as often as it should be.
    """
    divisor = math.gcd(*weights.values())
    parts = sum(weights.values()) // divisor
    times = -(-_LEAST_REQUESTS // parts)
    drawn = [rows for rows, weight in sorted(weights.items()) for _ in range(times * weight // divisor)]
    random.Random(seed).shuffle(drawn)  # noqa: S311 - the same order tomorrow is the point
    return drawn


def by_rows(samples: Samples, rows: Sequence[int]) -> dict[int, npt.NDArray[np.int64]]:
    """
    Sort the latencies of a window by how many rows the requests had.

    Args:
        samples: With the payload of each request.
        rows: Of each payload.

    Returns:
        Rows -> microseconds from when each request was due in the window to its answer, int64 [requests], ascending.
    """
    assert samples.payload is not None  # it was ordered
    known = in_window(samples) & (samples.payload >= 0)
    asked = np.array(rows)[samples.payload[known]]
    took = (samples.slip_us + samples.service_us)[known]
    return {count: np.sort(took[asked == count]) for count in sorted(set(rows))}


def row_mix(settings: RowMix, taking: Taking) -> None:
    """Find the peak of the mix in a closed loop, then offer a share of it; one protocol after the other."""
    bench = taking.bench
    most, largest = bench.max_batch_size, max(settings.rows)
    if most is not None and largest > most:
        taking.invalid.append(f"not measured: {largest} rows are more than the server's max_batch_size of {most}")
        return
    rows = sequence(settings.rows, f"{bench.windows.settings.seed}/{taking.name}")
    sent = {count: bench.make_payloads(count) for count in settings.rows}
    path = bench.windows.directory / f"payloads-{taking.name}.tfrecord"
    path.write_bytes(wire_payloads.encode(sent[count][n % len(sent[count])] for n, count in enumerate(rows)))
    told = ", ".join(f"{rows.count(count) / len(rows):.0%} of {_rows(count)}" for count in sorted(settings.rows))
    taking.notes.append(f"requests in a drawn order: {told}")
    for protocol in taking.protocols:
        wanted = Wanted(
            protocol,
            _CLOSED,
            users=settings.users,
            window_s=settings.window_s,
            warmup_s=bench.windows.settings.warmup_s,
            # Of the smallest requests; what the mix asks of the generator is looked at below.
            rows=min(settings.rows),
            payloads=path,
        )
        _, closed = taking.window(wanted)
        if not closed.throughput_rps:
            taking.invalid.append(
                f"{NAMES[protocol]}: nothing was answered within a window: set {taking.name}.window_s to more"
            )
            continue
        rate = settings.share * closed.throughput_rps
        _offer(settings, taking, protocol, wanted, rate, rows)
        _judge_generator(taking, protocol, rate, rows)


def _offer(
    settings: RowMix, taking: Taking, protocol: Protocol, closed: Wanted, rate: float, rows: Sequence[int]
) -> None:
    found: list[tuple[Repetition, dict[int, npt.NDArray[np.int64]]]] = []
    for index in range(settings.repetitions):
        window, repetition = taking.window(
            Wanted(
                protocol,
                _OPEN,
                users=settings.users,
                window_s=settings.window_s,
                warmup_s=closed.warmup_s,
                rate=rate,
                rows=closed.rows,
                index=index,
                seed=str(index),
                payloads=closed.payloads,
                numbered=True,
            )
        )
        found.append((repetition, by_rows(window.samples, rows)))
    counted = taking.counted(protocol, _OPEN)
    classes = [latencies for repetition, latencies in found if not repetition.invalid]
    mean_rows = sum(rows) / len(rows)
    taking.value("offered", "Offered", "1/s", rate, protocol=protocol)
    answered = [r.throughput_rps * mean_rows for r in counted]
    taking.median("predictions_per_s", "Predictions per second", "rows/s", answered, protocol=protocol)
    for count in sorted(set(rows)):
        for key, name, quantile in (("p50", "Median latency", 0.5), ("p99", "99th percentile", 0.99)):
            values = [statistics.percentile(one[count], quantile) for one in classes]
            taking.median(f"latency_{key}", name, "us", values, protocol=protocol, label=_rows(count))
    taking.value("batch_rows", "Rows in a batch, mean", "count", _mean_batch(counted), protocol=protocol)


def _mean_batch(counted: Sequence[Repetition]) -> float | None:
    batches = [(size, times) for r in counted for size, times in r.batch_sizes.items()]
    total = sum(times for _, times in batches)
    return sum(size * times for size, times in batches) / total if total else None


def _judge_generator(taking: Taking, protocol: Protocol, rate: float, rows: Sequence[int]) -> None:
    """A request takes the generator as long as its rows make it: the mix must stay as far below its ceiling as any load."""
    ceilings = [ceiling for count in rows if (ceiling := taking.bench.ceiling(protocol, count))]
    if len(ceilings) < len(rows):
        # The generator was not calibrated.
        return
    share = rate * sum(1 / ceiling for ceiling in ceilings) / len(rows)
    taking.value("generator_share", "Of the load generator's ceiling", "share", share, protocol=protocol)
    if share > repetitions.MOST_OF_CEILING:
        taking.invalid.append(
            f"{NAMES[protocol]}: {rate:.0f}/s of the mix are {share:.0%} of what the load generator can do"
        )


def _rows(count: int) -> str:
    return f"{count} row{'s' if count > 1 else ''}"

"""Closed loops: one caller, many rows, rows that are all there, more rows per request, and what serialization costs."""

import math
import random
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TypeVar

from slipway import repetitions, statistics
from slipway.records import Protocol, Repetition
from slipway.scenario_settings import MultiStream, Offline, PayloadSweep, Serialization, SingleStream
from slipway.scenarios.taking import Taking, Wanted
from slipway_wire.loads import Encoding

T = TypeVar("T")
_DEFAULT_BATCH = 32
# A generator that makes requests while the clock runs is part of what is measured, not a limit to it.
CLIENT_IS_MEASURED = frozenset({repetitions.SATURATED, repetitions.NEAR_CEILING, repetitions.LAGGING})
ENCODINGS: dict[Encoding, str] = {
    "prebuilt": "prepared beforehand",
    # The digits of doubles are what json.dumps writes of float32; most published sizes of JSON are of these.
    "plain_prebuilt": "prepared beforehand, as plain clients make them",
    "per_request": "made and read per request",
    "naive": "made and read per request, as plain clients do",
}


def interleaved(steps: Sequence[T], count: int, seed: str) -> list[tuple[int, T]]:
    """Repeat *steps* *count* times, in another random order each time: (number of the repetition, step)."""
    return [
        (index, step)
        for index in range(count)
        for step in random.Random(f"{seed}/{index}").sample(list(steps), len(steps))  # noqa: S311 - repeatable
    ]


def single_stream(settings: SingleStream, taking: Taking) -> None:
    """One request in flight; MLPerf's number is the 90th percentile."""
    _streams(settings, taking)


def multi_stream(settings: MultiStream, taking: Taking) -> None:
    """One request of several rows in flight; MLPerf's number is the 99th percentile."""
    _streams(settings, taking)


def _streams(settings: SingleStream | MultiStream, taking: Taking) -> None:
    warmup_s = taking.bench.windows.settings.warmup_s
    for index, protocol in interleaved(taking.protocols, settings.repetitions, taking.name):
        taking.window(
            Wanted(
                protocol,
                "",
                users=1,
                window_s=settings.window_s,
                warmup_s=warmup_s,
                rows=settings.rows,
                index=index,
            )
        )
    for protocol in taking.protocols:
        counted = taking.counted(protocol, "")
        for key, name in (("p50", "Median latency"), ("p90", "90th percentile"), ("p99", "99th percentile")):
            taking.median(f"latency_{key}", name, "us", _latencies(counted, f"{key}_us"), protocol=protocol)


def _latencies(counted: Sequence[Repetition], percentile: str) -> list[float | None]:
    return [getattr(r.latency, percentile) for r in counted]


def offline(settings: Offline, taking: Taking) -> None:
    """All rows are there; how many a second go through."""
    bench = taking.bench
    rows = settings.rows or bench.max_batch_size or _DEFAULT_BATCH
    requests = math.ceil(settings.total_rows / rows)
    for protocol in taking.protocols:
        label = f"{rows} rows per request"
        # It ends with its requests; the length is what it may take at most.
        window, repetition = taking.window(
            Wanted(
                protocol,
                label,
                users=settings.users,
                window_s=3600.0,
                rows=rows,
                requests=requests,
                # It ends with its last answers, one user after the other.
                forgiven=frozenset({repetitions.UNSTEADY, repetitions.IDLE}),
            )
        )
        samples = window.samples
        if not len(samples.done_us):
            continue
        seconds = float(samples.done_us.max()) / 1e6
        value = rows * int((~samples.failed).sum()) / seconds
        taking.value("rows_per_s", "Rows per second", "rows/s", value, protocol=protocol, label=label)
        taking.value("duration", f"Time for {requests * rows:,} rows", "s", seconds, protocol=protocol, label=label)
        if repetition.invalid:
            taking.invalid.append(f"{protocol}: {'; '.join(repetition.invalid)}")


def payload(settings: PayloadSweep, taking: Taking) -> None:
    """The same load with more rows in each request: predictions, bytes and CPU per prediction."""
    bench, most = taking.bench, taking.bench.max_batch_size
    rows = [count for count in settings.rows if most is None or count <= most]
    if too_large := [count for count in settings.rows if count not in rows]:
        told = ", ".join(map(str, too_large))
        taking.notes.append(f"{told} rows: not measured, for the server's max_batch_size is {most}")
    steps = [(count, protocol) for count in rows for protocol in taking.protocols]
    for index, (count, protocol) in interleaved(steps, settings.repetitions, taking.name):
        taking.window(
            Wanted(
                protocol,
                _rows(count),
                users=settings.users,
                window_s=settings.window_s,
                warmup_s=bench.windows.settings.warmup_s,
                rows=count,
                index=index,
            )
        )
    for count, protocol in steps:
        counted, more = taking.counted(protocol, _rows(count)), {"protocol": protocol, "label": _rows(count)}
        taking.median(
            "predictions_per_s", "Predictions per second", "rows/s", [r.predictions_per_s for r in counted], **more
        )
        taking.median("latency_p50", "Median latency", "us", _latencies(counted, "p50_us"), **more)
        taking.median("bytes_per_row", "Bytes per row, both ways", "bytes", [_bytes(r, count) for r in counted], **more)
        cpu = [None if r.server_cpu_us_per_request is None else r.server_cpu_us_per_request / count for r in counted]
        taking.median("server_cpu_per_row", "Server CPU per row", "us", cpu, **more)


def _rows(count: int) -> str:
    return f"{count} row{'s' if count > 1 else ''}"


def _bytes(repetition: Repetition, rows: int) -> float | None:
    sent, received = repetition.bytes_sent_per_request, repetition.bytes_received_per_request
    return None if sent is None or received is None else (sent + received) / rows


def serialization(settings: Serialization, taking: Taking) -> None:
    """The same requests prepared, made fast and made plainly: what part of a protocol's price is the client's."""
    (method, *_) = {payload.method for payload in taking.bench.make_payloads(settings.rows)}
    if method != "predict":
        taking.invalid.append(f"not measured: the load calls {method}, and only predict is made while the clock runs")
        return
    steps = [(encoding, protocol) for encoding in ENCODINGS for protocol in taking.protocols]
    for index, (encoding, protocol) in interleaved(steps, settings.repetitions, taking.name):
        taking.window(
            Wanted(
                protocol,
                ENCODINGS[encoding],
                users=settings.users,
                window_s=settings.window_s,
                warmup_s=taking.bench.windows.settings.warmup_s,
                rows=settings.rows,
                encoding=encoding,
                forgiven=CLIENT_IS_MEASURED if encoding in {"per_request", "naive"} else frozenset(),
                index=index,
            )
        )
    for label in ENCODINGS.values():
        found: dict[Protocol, dict[int, Repetition]] = {}
        for protocol in taking.protocols:
            counted, more = taking.counted(protocol, label), {"protocol": protocol, "label": label}
            found[protocol] = {r.index: r for r in counted}
            taking.median(
                "predictions_per_s", "Predictions per second", "rows/s", [r.predictions_per_s for r in counted], **more
            )
            taking.median("latency_p50", "Median latency", "us", _latencies(counted, "p50_us"), **more)
            both_ways = [_bytes(r, settings.rows) for r in counted]
            taking.median("bytes_per_row", "Bytes per row, both ways", "bytes", both_ways, **more)
            client = [r.generator_cpu_us_per_request for r in counted]
            taking.median("client_cpu", "Client CPU per request", "us", client, **more)
        if set(found) == {"rest", "grpc"}:
            ratio(taking, found, label)
            sizes = {p: [size for r in of.values() if (size := _bytes(r, settings.rows))] for p, of in found.items()}
            if all(sizes.values()):
                rest, grpc = median(sizes["rest"]), median(sizes["grpc"])
                taking.value("rest_over_grpc_bytes", "REST ÷ gRPC, bytes", "ratio", rest / grpc, label=label)


def ratio(taking: Taking, found: Mapping[Protocol, Mapping[int, Repetition]], label: str) -> None:
    """Take down how many times as many requests gRPC gets through as REST, in the repetitions (number -> it) of both."""
    both = sorted(found["rest"].keys() & found["grpc"].keys())
    pairs = [(found["grpc"][index].throughput_rps, found["rest"][index].throughput_rps) for index in both]
    usable = [(grpc, rest) for grpc, rest in pairs if grpc and rest]
    paired = statistics.paired_ratio([grpc for grpc, _ in usable], [rest for _, rest in usable])
    if paired:
        bounds = {"low": paired.low, "high": paired.high}
        taking.value("grpc_over_rest", "gRPC ÷ REST, requests", "ratio", paired.value, label=label, **bounds)

"""The same load by different clients: what a Python client pays, and whether another load generator finds the same server."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from slipway import provenance, repetitions
from slipway.errors import InvalidMeasurement
from slipway.load_plan import NAMES
from slipway.records import Protocol, Repetition
from slipway.scenario_settings import Clients
from slipway.scenarios.streams import CLIENT_IS_MEASURED, interleaved, ratio
from slipway.scenarios.taking import Taking, Wanted
from slipway_wire import payloads
from slipway_wire.loads import Tier

LABELS: dict[Tier, str] = {
    "wire": "wire tier (the load generator's own)",
    "library": "library tier (Locust's FastHttpSession, grpcio)",
    "native": "native tier (h2load)",
}
# h2load keeps silent about what was under way at its end, and one request is sent in front of it.
_FORGIVEN: dict[Tier, frozenset[str]] = {
    "wire": frozenset(),
    "library": CLIENT_IS_MEASURED,
    "native": frozenset({repetitions.MISCOUNTED}),
}
_H2LOAD = "h2load"


def clients(settings: Clients, taking: Taking) -> None:
    """Send one request again and again by each tier of clients, in turns; every ratio is of one tier on both sides."""
    tiers = _tiers(settings, taking)
    taking.notes += [f"{LABELS[tier]}: {told}" for tier in tiers if (told := _versions(tier))]
    one = _one_payload(taking, settings.rows)
    steps = [(tier, protocol) for tier in tiers for protocol in taking.protocols]
    failed = set()
    for index, (tier, protocol) in interleaved(steps, settings.repetitions, taking.name):
        if (tier, protocol) in failed:
            continue
        wanted = Wanted(
            protocol,
            LABELS[tier],
            users=settings.users,
            window_s=settings.window_s,
            warmup_s=taking.bench.windows.settings.warmup_s,
            rows=settings.rows,
            tier=tier,
            payloads=one,
            forgiven=_FORGIVEN[tier],
            index=index,
        )
        try:
            taking.window(wanted)
        except InvalidMeasurement as failure:
            # A program that only checks ours voids this scenario; it does not end the benchmark.
            if tier != "native":
                raise
            taking.invalid.append(str(failure))
            failed.add((tier, protocol))
    counted: dict[Tier, dict[Protocol, list[Repetition]]] = {
        tier: {protocol: taking.counted(protocol, LABELS[tier]) for protocol in taking.protocols} for tier in tiers
    }
    for tier, found in counted.items():
        for protocol, measured in found.items():
            median = partial(taking.median, protocol=protocol, label=LABELS[tier])
            median("requests_per_s", "Requests per second", "1/s", [r.throughput_rps for r in measured])
            timeless = taking.timeless(protocol, LABELS[tier])
            median("client_cpu", "Client CPU per request", "us", [r.generator_cpu_us_per_request for r in timeless])
            median("latency_p50", "Median latency", "us", [r.latency.p50_us for r in measured])
        if set(found) == {"rest", "grpc"}:
            by_index = {protocol: {r.index: r for r in measured} for protocol, measured in found.items()}
            ratio(taking, by_index, LABELS[tier])
    if {"wire", "native"} <= counted.keys():
        _cross_check(settings, taking, counted["wire"], counted["native"])


def _tiers(settings: Clients, taking: Taking) -> list[Tier]:
    """List the tiers that can be measured here, and note why others cannot."""
    tiers = list(settings.tiers)
    if taking.bench.windows.tls:
        taking.notes += [f"{LABELS[tier]}: left out, the target speaks TLS" for tier in tiers if tier != "wire"]
        return [tier for tier in tiers if tier == "wire"]
    if "native" in tiers and shutil.which(_H2LOAD) is None:
        taking.notes.append(f"{LABELS['native']}: left out, there is no {_H2LOAD} here (Debian: nghttp2-client)")
        tiers.remove("native")
    return tiers


def _versions(tier: Tier) -> str:
    """Say by which programs and libraries a tier sends; the wire tier's are the load generator's own."""
    if tier == "native":
        done = subprocess.run([_H2LOAD, "--version"], capture_output=True, text=True, check=False)
        return done.stdout.strip()
    libraries = provenance.tool_versions("locust", "geventhttpclient", "grpcio") if tier == "library" else {}
    return ", ".join(f"{name} {version}" for name, version in libraries.items())


def _one_payload(taking: Taking, rows: int) -> Path:
    """Write a payload file of one request, for h2load knows no more; give its path."""
    bench = taking.bench
    path = bench.windows.directory / f"payloads-{taking.name}.tfrecord"
    # What is sent is among what the record describes.
    bench.file(rows)
    path.write_bytes(payloads.encode(list(bench.make_payloads(rows))[:1]))
    return path


def _cross_check(
    settings: Clients,
    taking: Taking,
    wire: Mapping[Protocol, Sequence[Repetition]],
    native: Mapping[Protocol, Sequence[Repetition]],
) -> None:
    """Hold the wire tier against h2load, on a server that has all it can do: both must find the same rate."""
    for protocol in taking.protocols:
        if not (wire[protocol] and native[protocol]):
            continue  # why is told already
        ours, theirs = (_median_rps(found[protocol]) for found in (wire, native))
        taking.value("native_over_wire", "h2load ÷ wire tier, requests", "ratio", theirs / ours, protocol=protocol)
        if fault := disagreement(ours, theirs, settings.most_apart):
            taking.invalid.append(f"{NAMES[protocol]}: {fault}")


def disagreement(ours: float, theirs: float, most: float) -> str | None:
    """Say how two load generators' rates of the same server differ by more than *most*, as a share; None if they agree."""
    if abs(theirs - ours) <= most * ours:
        return None
    return (
        f"h2load gets {theirs:.0f} requests/s of this server and the wire tier {ours:.0f}: over {most:.0%} apart, so that "
        "no number of the wire tier is to be believed before it is known why"
    )


def _median_rps(measured: Sequence[Repetition]) -> float:
    return float(np.median([r.throughput_rps for r in measured]))

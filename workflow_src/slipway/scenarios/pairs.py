"""Two loads at once: REST and gRPC on one server, each from a load generator of its own."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from slipway import repetitions
from slipway.load_generator import LoadGenerator
from slipway.load_plan import NAMES
from slipway.records import UNTRIED, Protocol, Repetition
from slipway.repetitions import Window
from slipway.scenario_settings import Mixed
from slipway.scenarios.taking import Taking, Wanted

# For both generators to connect before the common begin.
_LEAD_NS = 300_000_000
_WAKING_S = 0.05


def mixed(settings: Mixed, taking: Taking) -> None:
    """Offer both protocols at once, each at a share of what it can do alone; then each at that rate by itself."""
    bench = taking.bench
    if len(taking.protocols) < 2:
        spoken = " and ".join(taking.protocols)
        taking.invalid.append(f"{UNTRIED}: one protocol is not mixed: the target speaks {spoken} here")
        return
    rates = {protocol: settings.share * bench.peak(protocol) for protocol in taking.protocols}
    wanted = {protocol: _wanted(settings, taking, protocol, rate, "both at once") for protocol, rate in rates.items()}
    with ThreadPoolExecutor(1) as other, bench.start_generator() as second:
        _wake(taking, second, wanted["rest"])
        for index in range(settings.repetitions):
            bench.told.begin(f"{taking.name}: both protocols at once, repetition {index + 1} of {settings.repetitions}")
            origin = time.monotonic_ns() + _LEAD_NS
            orders = {p: replace(taking.order(w), origin_ns=origin) for p, w in wanted.items()}
            # Both are ordered before either is counted: their files need different names.
            orders["rest"] = replace(orders["rest"], samples=orders["rest"].samples.replace(".npz", "-rest.npz"))
            load, model = bench.windows.machine.load, bench.windows.model
            rest = other.submit(load, second, bench.server, model, orders["rest"])
            windows: dict[Protocol, Window] = {
                "grpc": load(bench.windows.generator, bench.server, model, orders["grpc"]),
                "rest": rest.result(),
            }
            for protocol in ("rest", "grpc"):
                made = taking.take_down(replace(wanted[protocol], index=index), windows[protocol])
                _keep_joint(taking, made, protocol, windows)
            bench.told.end(settings.window_s)
    for index in range(settings.repetitions):
        for protocol, rate in rates.items():
            taking.window(replace(_wanted(settings, taking, protocol, rate, "alone"), index=index))
    for protocol in rates:
        for label in ("both at once", "alone"):
            counted, more = taking.counted(protocol, label), {"protocol": protocol, "label": label}
            taking.median("latency_p50", "Median latency", "us", [r.latency.p50_us for r in counted], **more)
            taking.median("latency_p99", "99th percentile", "us", [r.latency.p99_us for r in counted], **more)
    _judge_generators(taking, rates)


def _wake(taking: Taking, generator: LoadGenerator, wanted: Wanted) -> None:
    """Have all of the second generator started and its payloads read, before both get a common begin."""
    bench = taking.bench
    users = bench.windows.machine.generator_processes
    order = replace(taking.order(wanted), rate=None, users=users, warmup_s=0.0, window_s=_WAKING_S)
    bench.windows.machine.load(generator, bench.server, bench.windows.model, order)
    Path(order.samples).unlink()


def _wanted(settings: Mixed, taking: Taking, protocol: Protocol, rate: float, label: str) -> Wanted:
    own = taking.bench.windows.settings
    # What the other load uses is nothing foreign; it is looked at for both together.
    forgiven = frozenset({repetitions.DISTURBED}) if label != "alone" else frozenset()
    return Wanted(
        protocol,
        label,
        users=16,
        window_s=settings.window_s,
        warmup_s=own.warmup_s,
        rate=rate,
        rows=own.rows,
        forgiven=forgiven,
    )


def _keep_joint(taking: Taking, made: Repetition, protocol: Protocol, windows: dict[Protocol, Window]) -> None:
    """Correct what one window cannot know of the other: CPU that is neither's own."""
    foreign = joint_foreign(made, windows["grpc" if protocol == "rest" else "rest"])
    broken = [*made.invalid]
    if foreign is not None and foreign > repetitions.MOST_FOREIGN_CORES:
        broken.append(repetitions.DISTURBED)
    corrected = made.model_copy(
        update={"foreign_cpu_cores": foreign, "server_cpu_us_per_request": None, "invalid": broken}
    )
    taking.windows[-1] = taking.windows[-1].model_copy(update={"repetition": corrected})


def joint_foreign(made: Repetition, other: Window) -> float | None:
    """Give the cores that something beside server and both generators used; None if that is not known."""
    if made.foreign_cpu_cores is None:
        return None
    outcome = other.outcome
    seconds = (outcome.cpu_to_ns - outcome.cpu_from_ns) / 1e9
    return max(0.0, made.foreign_cpu_cores - (outcome.cpu_ns / 1e9 / seconds if seconds else 0.0))


def _judge_generators(taking: Taking, rates: dict[Protocol, float]) -> None:
    """Both generators may share a core: together they must stay as far below their ceilings as one alone."""
    ceilings = {p: taking.bench.ceiling(p, taking.bench.windows.settings.rows) for p in rates}
    share = sum(rate / (ceilings[p] or float("inf")) for p, rate in rates.items())
    taking.value("generator_share", "Of the load generators' ceilings, added up", "share", share)
    if share > repetitions.MOST_OF_CEILING:
        told = " and ".join(f"{rates[p]:.0f}/s over {NAMES[p]}" for p in rates)
        taking.invalid.append(f"{told} are together {share:.0%} of what the load generators can do")

"""
Does the load generator tell the truth? The same server is measured by it, by h2load and by wrk, in turns.

    .venv/bin/python tests/tools/generator_truth.py                 # some three minutes; Markdown on standard output

The server answers each request after the same time (`slipway_loadtests.null_server --delay-ms`), so that it is known what there
is to be found, and it stays far below all generators' ceilings: who reports something else is wrong.

- *rate*: each offers the same requests per second, on so many connections that each has 250 of them. Ours arrive at random (Poisson),
  differ in number from round to round, and each generator's answers are told as a share of what it offered. h2load's connections send in
  step, one request each at once, which then wait for one another: with more connections it reports more, rightly.
- *closed*: each has so many connections with one request in flight. The server's delay makes the rate. wrk knows nothing else.
- *at wrk's rate*: ours offers, at random, the rate that wrk just came to.

Latencies are from sending to the last byte, for the others tell no more. A line for each says how far apart they are: throughput
(closed: answers per second; rate: share of what was offered) is to agree within 2 %, the median latency within 0.1 ms.

Two more tables: a server that takes 50 ms, and one that stalls for 300 ms of every 2 s. wrk makes up latencies for requests that it
could not send during a stall; h2load does not.

The machine should be quiet: the first line says how much of its CPUs something else used. Where it cannot be, real-time priority helps
(`sudo chrt -r 5 .venv/bin/python …`): generators and server then run before everything else. Needs h2load (Debian: nghttp2-client), which
`make setup` installs, and wrk (Debian: wrk); without one of them its lines are missing.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from slipway import cpu
from slipway.load_generator import LoadGenerator, load_generator
from slipway_wire import payloads, samples
from slipway_wire.loads import LoadOrder, Protocol, Tier
from slipway_wire.tolerances import Tolerances

MOST_RATE_APART = 0.02
MOST_P50_APART_US = 100.0
OURS, H2LOAD, WRK = "wire tier", "h2load", "wrk"
NAMES = {"rest": "REST", "grpc": "gRPC"}
WARMUP_S = 0.2
PER_CONNECTION = 250.0
# What wrk has found, as numbers; its own table rounds.
DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests": %d, "duration_us": %d, "p50_us": %.1f, "p90_us": %.1f, "p99_us": %.1f, "min_us": %d, "errors": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.min,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Found:
    """
    What one generator reports of one window.

    Attributes:
        rate: Answers per second.
        share: Answers of what was offered; None in a closed loop.
        p50_us: Median latency, from sending.
        p90_us: 90th percentile, from when a request was due where that is known.
        p99_us: Likewise.
        min_us: The lowest.
    """

    rate: float
    share: float | None
    p50_us: float
    p90_us: float
    p99_us: float
    min_us: float


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server listens, what it is asked, and its process."""

    pid: int
    ports: Mapping[str, int]
    directory: Path
    payload: payloads.Payload


@contextlib.contextmanager
def server_of(file: Path, payload: payloads.Payload, cpus: Sequence[int], *flags: str) -> Iterator[Server]:
    """Run the null server on *cpus* for the block, as slow as *flags* say."""
    argv = [sys.executable, "-I", "-m", "slipway_loadtests.null_server", "--payloads", str(file), *flags]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        cpu.keep_on([process.pid], cpus)
        assert process.stdout is not None
        try:
            yield Server(process.pid, json.loads(process.stdout.readline()), file.parent, payload)
        finally:
            process.terminate()


def by_orders(
    generator: LoadGenerator,
    server: Server,
    protocol: Protocol,
    tier: Tier,
    users: int,
    seconds: float,
    rate: float | None,
) -> Found:
    """Have our generator send, or h2load behind it; both leave a line per request."""
    path = server.directory / "samples.npz"
    order = LoadOrder(
        protocol=protocol,
        host="127.0.0.1",
        port=server.ports[f"{protocol}_port"],
        users=users,
        warmup_s=WARMUP_S,
        window_s=seconds,
        samples=str(path),
        tier=tier,
        rate=rate,
        seed=str(random.random()),
    )
    outcome, _ = generator.run(order, lambda: None, lambda _: None)
    if outcome.errors or outcome.wrong_answers:
        raise SystemExit(f"{tier} over {protocol}: {outcome.errors or outcome.first_wrong}")
    found = samples.read(path)
    due = (found.planned_us >= found.begin_us) & (found.planned_us < found.end_us)
    done = (found.done_us >= found.begin_us) & (found.done_us < found.end_us)
    # h2load's are evenly spaced: what it should have offered is known. Ours is what the schedule had.
    offered = (due.sum() if tier != "native" else rate * seconds) if rate else None
    took = found.slip_us[due] + found.service_us[due]
    p90, p99 = np.percentile(took, [90, 99])
    p50 = float(np.median(found.service_us[due]))
    share = float(done.sum() / offered) if offered else None
    return Found(float(done.sum() / seconds), share, p50, float(p90), float(p99), float(found.service_us.min()))


def by_wrk(server: Server, users: int, seconds: float, cpus: Sequence[int]) -> Found:
    """Have wrk send over REST."""
    script, body = server.directory / "wrk.lua", server.directory / "wrk.json"
    body.write_bytes(server.payload.rest_body)
    script.write_text(
        f'local file = io.open("{body}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\nfile:close()\n'
        f'wrk.headers["Content-Type"] = "application/json"\n{DONE}'
    )
    url = f"http://127.0.0.1:{server.ports['rest_port']}{server.payload.rest_path}"
    # It takes whole seconds alone.
    command = ["wrk", "-t1", f"-c{users}", f"-d{max(round(seconds), 1)}s", "-s", str(script), url]
    done = subprocess.run(
        ["taskset", "-c", cpu.as_list(cpus), *command], capture_output=True, text=True, check=True, timeout=seconds + 60
    )
    return parse_wrk(done.stdout)


def parse_wrk(output: str) -> Found:
    """Read the last line of wrk's output, which `DONE` has written."""
    told = json.loads(output[output.rindex("{") :])
    if told["errors"]:
        raise SystemExit(f"wrk: {told['errors']} requests failed")
    rate = told["requests"] / told["duration_us"] * 1e6
    return Found(rate, None, told["p50_us"], told["p90_us"], told["p99_us"], told["min_us"])


# --- what is measured -------------------------------------------------------------------------------

Key = tuple[str, str, str]  # load, protocol, generator


@dataclass
class Machine:
    """The generator, the place of wrk, and which of the others there are."""

    generator: LoadGenerator
    cpus: Sequence[int]
    has_h2load: bool
    has_wrk: bool


def rounds(
    machine: Machine, server: Server, count: int, seconds: float, users: int, rates: Sequence[float]
) -> dict[Key, list[Found]]:
    """Measure everything *count* times, each time in another order; what is compared stands in one round."""
    found: dict[Key, list[Found]] = {}
    tiers: dict[str, Tier] = {OURS: "wire"} | ({H2LOAD: "native"} if machine.has_h2load else {})
    steps: list[tuple[str, Protocol, str, float | None]] = [
        (f"rate {rate:.0f}/s" if rate else f"closed, {users} connections", protocol, name, rate)
        for rate in (*rates, None)
        for protocol in ("rest", "grpc")
        for name in tiers
    ]
    steps += [(f"closed, {users} connections", "rest", WRK, None)] if machine.has_wrk else []
    for number in range(count):
        sys.stderr.write(f"round {number + 1} of {count}\n")
        for load, protocol, name, rate in random.sample(steps, len(steps)):
            if name == WRK:
                one = by_wrk(server, users, seconds, machine.cpus)
                again = by_orders(machine.generator, server, "rest", "wire", users, seconds, one.rate)
                found.setdefault(("at wrk's rate", "rest", WRK), []).append(one)
                found.setdefault(("at wrk's rate", "rest", OURS), []).append(again)
            else:
                connections = max(round(rate / PER_CONNECTION), 1) if rate else users
                one = by_orders(machine.generator, server, protocol, tiers[name], connections, seconds, rate)
            found.setdefault((load, protocol, name), []).append(one)
    return found


class Foreign:
    """CPU time that is neither the generators' nor the server's nor this program's."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in (*pids, os.getpid())]
        self._began = time.monotonic()
        self._before = self._foreign_s()

    def _foreign_s(self) -> float:
        # With their children that have ended: h2load and wrk.
        return cpu.busy_s() - sum(sum(process.cpu_times()[:4]) for process in self._processes)

    def cores(self) -> float:
        """Give how many cores it used on average since this was made."""
        return max(0.0, self._foreign_s() - self._before) / (time.monotonic() - self._began)


# --- tables -----------------------------------------------------------------------------------------


def spread(values: Sequence[float], form: str) -> str:
    """Write a median with the least and the most: `2,105 (2,098 to 2,131)`."""
    low, middle, high = (format(value, form) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def table_of_found(found: Mapping[Key, Sequence[Found]]) -> str:
    """Write what each generator reports: medians of all rounds, least and most."""
    lines = ["| load | protocol | generator | answers/s | of what was offered | p50 µs |", "|---|---|---|--:|--:|--:|"]
    for (load, protocol, name), ones in sorted(found.items()):
        shares = [one.share for one in ones if one.share is not None]
        lines.append(
            f"| {load} | {NAMES[protocol]} | {name} | {spread([one.rate for one in ones], ',.0f')} "
            f"| {spread(shares, '.2%') if shares else '–'} | {spread([one.p50_us for one in ones], ',.0f')} |"
        )
    return "\n".join(lines)


def differences(found: Mapping[Key, Sequence[Found]]) -> list[tuple[str, str, str, list[float], list[float]]]:
    """
    Compare our generator with each other one, round by round.

    Returns:
        Load, protocol, the other's name; in each round how much more throughput ours reports, as a share, and how much
        more median latency, in µs.
    """
    made = []
    for load, protocol, name in sorted(found):
        if name == OURS or (load, protocol, OURS) not in found:
            continue
        pairs = list(zip(found[load, protocol, OURS], found[load, protocol, name], strict=True))
        rates = [
            # Each against its own schedule: arrivals at random are not equally many in each round.
            ours.share / (theirs.share or 1.0) - 1 if ours.share is not None else ours.rate / theirs.rate - 1
            for ours, theirs in pairs
        ]
        made.append((load, protocol, name, rates, [ours.p50_us - theirs.p50_us for ours, theirs in pairs]))
    return made


def table_of_differences(found: Mapping[Key, Sequence[Found]]) -> tuple[str, bool]:
    """Write how far ours is from each other generator, and say whether all are as near as they should be."""
    lines = ["| load | protocol | wire tier against | throughput | p50, ms | |", "|---|---|---|--:|--:|---|"]
    every = True
    for load, protocol, name, rates, latencies in differences(found):
        rate, latency = statistics.median(rates), statistics.median(latencies)
        near = abs(rate) <= MOST_RATE_APART and abs(latency) <= MOST_P50_APART_US
        every = every and near
        lines.append(
            f"| {load} | {NAMES[protocol]} | {name} | {spread(rates, '+.2%')} "
            f"| {spread([value / 1000 for value in latencies], '+.3f')} | {'agrees' if near else '**apart**'} |"
        )
    return "\n".join(lines), every


def table_of_slow(machine: Machine, server: Server, seconds: float) -> str:
    """Write the least that each client reports of a server that takes 50 ms."""
    lines = ["| client | REST, least ms | gRPC, least ms |", "|---|--:|--:|"]
    tiers: list[Tier] = ["wire", "library", *(["native"] if machine.has_h2load else [])]  # type: ignore[list-item]
    for tier in tiers:
        least = [
            by_orders(machine.generator, server, protocol, tier, 4, seconds, None).min_us / 1000
            for protocol in ("rest", "grpc")
        ]
        lines.append(f"| {H2LOAD if tier == 'native' else f'{tier} tier'} | {least[0]:.2f} | {least[1]:.2f} |")
    if machine.has_wrk:
        lines.append(f"| wrk | {by_wrk(server, 4, seconds, machine.cpus).min_us / 1000:.2f} | – |")
    return "\n".join(lines)


def table_of_stalls(machine: Machine, server: Server, seconds: float, rate: float) -> str:
    """Write what an open and what closed loops report of a server that stalls: only one of them asks meanwhile."""
    lines = ["| load | answers/s | p50 ms | p90 ms | p99 ms |", "|---|--:|--:|--:|--:|"]
    loads = [
        (f"wire tier, {rate:.0f}/s on a schedule", "wire", rate),
        ("wire tier, closed, 1 connection", "wire", None),
    ]
    loads += [("h2load, closed, 1 connection", "native", None)] if machine.has_h2load else []
    found = [
        (name, by_orders(machine.generator, server, "rest", tier, 1, seconds, offered))  # type: ignore[arg-type]
        for name, tier, offered in loads
    ]
    found += (
        [("wrk, closed, 1 connection, made up for", by_wrk(server, 1, seconds, machine.cpus))]
        if machine.has_wrk
        else []
    )
    for name, one in found:
        milliseconds = " | ".join(f"{value / 1000:.1f}" for value in (one.p50_us, one.p90_us, one.p99_us))
        lines.append(f"| {name} | {one.rate:,.0f} | {milliseconds} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="how often everything is measured (default 5)"
    )
    parser.add_argument("--window", type=float, default=1.5, metavar="S", help="length of a window (default 1.5)")
    parser.add_argument("--users", type=int, default=16, metavar="N", help="connections (default 16)")
    parser.add_argument("--rates", type=float, nargs="+", default=[1000, 2000], metavar="R", help="offered requests/s")
    parser.add_argument("--delay-ms", type=float, default=2.0, metavar="MS", help="what each answer takes (default 2)")
    parser.add_argument("--floats", type=int, default=784, metavar="N", help="numbers in a request (default 784)")
    arguments = parser.parse_args()
    server_cpus, generator_cpus = cpu.split(sorted(os.sched_getaffinity(0)))
    x = np.random.default_rng(1).random((1, arguments.floats), np.float32)
    payload = payloads.make("m", {"x": x}, {"y": x[:, :10]})
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-truth-")))
        file = directory / "payloads.tfrecord"
        file.write_bytes(payloads.encode([payload]))
        generator = stack.enter_context(load_generator(file, Tolerances(), log=directory / "generator.log"))
        cpu.keep_on([*generator.pids], generator_cpus)
        machine = Machine(generator, generator_cpus, *(shutil.which(tool) is not None for tool in (H2LOAD, WRK)))
        with server_of(file, payload, server_cpus, "--delay-ms", str(arguments.delay_ms)) as server:
            foreign = Foreign([*generator.pids, server.pid])
            found = rounds(machine, server, arguments.rounds, arguments.window, arguments.users, arguments.rates)
            cores = foreign.cores()
        with server_of(file, payload, server_cpus, "--delay-ms", "50") as server:
            slow = table_of_slow(machine, server, 1.0)
        stalls_of = ("--delay-ms", "1", "--stall-ms", "300", "--stall-every-ms", "2000")
        with server_of(file, payload, server_cpus, *stalls_of) as server:
            stalls = table_of_stalls(machine, server, 6.0, 500.0)
    compared, near = table_of_differences(found)
    sys.stdout.write(
        f"{arguments.rounds} rounds of {arguments.window:g} s, answers after {arguments.delay_ms:g} ms, {os.cpu_count()} CPUs, of "
        f"which something else used {cores:.2f}.\n\n"
    )
    for told in (compared, table_of_found(found), slow, stalls):
        sys.stdout.write(f"{told}\n\n")
    return 0 if near else 1


if __name__ == "__main__":
    sys.exit(main())

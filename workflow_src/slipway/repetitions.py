"""Samples and readings of one window -> a repetition, and whether it counts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from slipway import statistics, steady
from slipway.conditions import Conditions, Reading
from slipway.records import Latency, Load, Repetition
from slipway.server_metrics import ServerSide
from slipway.steady import Settled
from slipway_wire.loads import LoadOutcome
from slipway_wire.samples import Samples

SLOT_US = 250_000

# The validity rules. A generator close to its limit delays what it measures; the one below is what Locust warns at.
MOST_GENERATOR_UTILISATION = 0.9
# Of what it gets from a server that does nothing; above that it may be the generator that was measured.
MOST_OF_CEILING = 0.7
# An open loop kept its schedule if requests left on time: within 1 ms, or a tenth of the latency they measure.
MOST_SLIP_US = 1000.0
MOST_SLIP_SHARE = 0.1
MOST_RATE_ERROR = 0.01
# The event loop of the generator: how late it may wake up, usually and ever.
MOST_LAG_P99_US = 2000.0
MOST_LAG_US = 50_000.0
# What runs beside the server delays it unseen by the generator. A quiet host of two CPUs showed up to 0.07 cores;
# with 0.8 the 99th percentile was three times as long, and no other rule was broken.
MOST_FOREIGN_CORES = 0.1
# The same for half a second: what comes in bursts is gone in a mean. A clock of 10 ms allows no lower one.
MOST_SLOT_FOREIGN_CORES = 0.2
MOST_DISTURBED_SLOTS = 0.25
MOST_STOLEN = 0.01
LEAST_CLOCK = 0.9
# What a quota took while somebody waited. It may end a period of which nothing was left to do.
MOST_THROTTLED = 0.01
# On loopback nothing is lost, but on a busy machine an acknowledgement may be late, and TCP sends its last segment again.
MOST_SENT_AGAIN = 0.001
# Closed loop: a user has a request under way but for the moment between an answer and the next request.
LEAST_IN_FLIGHT = 0.8

NOTHING_ANSWERED = "no request was answered in the window"
FAILED_REQUESTS = "requests failed"
WRONG_ANSWERS = "answers were wrong"
SATURATED = "the load generator used more than 90 % of its core: it was saturated, not the server"
NEAR_CEILING = "over 70 % of what the load generator gets from a server that does nothing: it may be what was measured"
LATE = "open loop: requests left later than 1 ms and a tenth of the 99th percentile of latency"
OFF_RATE = "open loop: answered less or more than was offered, by over 1 %"
LAGGING = "the load generator's event loop lagged (99th percentile over 2 ms, or 50 ms once)"
DISTURBED = "something else used more than 0.1 of the cores that were measured on"
MISCOUNTED = "the server counted another number of requests than the client"
IDLE = "closed loop: fewer requests were under way than 80 % of the users"
UNSTEADY = "not steady: answers per second still rose or fell"
STOLEN = "a hypervisor gave over 1 % of the CPUs' time to other machines"
SLOWED = "the server's CPUs ran at under 90 % of their clock while they were busy"
GPU_SLOWED = "a GPU was slowed down (power, heat), or its memory erred"
THROTTLED = "a CPU quota had the server or the load generator wait for over 1 % of the time"
KILLED = "memory ran out, and the kernel ended a process"
SENT_AGAIN = "TCP sent over 0.1 % of the bytes again, though they never left this host"
RECONNECTED = "connections were opened again under load"
UNDECLARED = "the server says that it runs with other settings than were declared"

# These say that something disturbed the clock on the wall; what CPU time and bytes say they leave as it is. All others void both.
# A generator at its limit tells too low a rate and too long a wait, but the server's CPU time was used for what it answered.
ONLY_WALL_CLOCK = frozenset(
    {
        *(SATURATED, NEAR_CEILING, LAGGING, LATE, DISTURBED),
        *(STOLEN, SLOWED, GPU_SLOWED, THROTTLED, SENT_AGAIN, UNSTEADY),
    }
)


# What tables say of a broken rule, where its sentence would be all that one sees.
SHORT = {
    NOTHING_ANSWERED: "no answer",
    FAILED_REQUESTS: "failed requests",
    WRONG_ANSWERS: "wrong answers",
    SATURATED: "generator saturated",
    NEAR_CEILING: "near the ceiling",
    LATE: "left late",
    OFF_RATE: "off its rate",
    LAGGING: "generator lagged",
    DISTURBED: "disturbed",
    MISCOUNTED: "miscounted",
    IDLE: "users idle",
    UNSTEADY: "not steady",
    STOLEN: "CPU stolen",
    SLOWED: "CPU slowed",
    GPU_SLOWED: "GPU slowed",
    THROTTLED: "throttled",
    KILLED: "out of memory",
    SENT_AGAIN: "sent again",
    RECONNECTED: "reconnected",
    UNDECLARED: "other settings",
}


@dataclass(frozen=True, slots=True)
class Window:
    """Everything known of one window: from the client, from the kernel at its begin, at its end and between, from the server."""

    samples: Samples
    outcome: LoadOutcome
    begin: Reading
    end: Reading
    server: ServerSide
    conditions: Conditions = field(default_factory=Conditions)
    is_local: bool = True


def in_window(samples: Samples) -> npt.NDArray[np.bool_]:
    """Say of each request whether it was due (closed loop: sent) in the window; bool [requests]."""
    return (samples.planned_us >= samples.begin_us) & (samples.planned_us < samples.end_us)


def latencies_us(samples: Samples, load: Load) -> npt.NDArray[np.int64]:
    """
    Give the latencies that a window is judged by, sorted.

    Closed loop: from sending to the last byte, of every request that was *sent* in the window; however long it
    took. Open loop: from the *planned* time, of every request that was planned in the window, failed ones
    included.

    Returns:
        Microseconds, int64 [requests], ascending.
    """
    planned = in_window(samples)
    if load.kind == "open":
        return np.sort((samples.slip_us + samples.service_us)[planned])
    return np.sort(samples.service_us[planned & ~samples.failed])


def latency_record(ordered: npt.NDArray[np.int64]) -> Latency:
    """Sum up sorted latencies; a percentile is there only where the samples are enough to prove one."""
    return Latency(
        samples=len(ordered),
        mean_us=float(ordered.mean()) if len(ordered) else 0.0,
        p50_us=statistics.percentile(ordered, 0.5),
        p90_us=statistics.percentile(ordered, 0.9),
        p95_us=statistics.percentile(ordered, 0.95),
        p99_us=statistics.percentile(ordered, 0.99),
        p999_us=statistics.percentile(ordered, 0.999),
        max_us=float(ordered[-1]) if len(ordered) else 0.0,
    )


def done_between(samples: Samples, begin_ns: int, end_ns: int) -> int:
    """Count the answers that were complete between two moments of CLOCK_MONOTONIC."""
    begin_us, end_us = (begin_ns - samples.origin_ns) / 1000, (end_ns - samples.origin_ns) / 1000
    done = samples.done_us[~samples.failed]
    return int(np.count_nonzero((done >= begin_us) & (done < end_us)))


def repetition(
    window: Window,
    load: Load,
    *,
    rows: int,
    index: int,
    order: int,
    ceiling_rps: float | None = None,
    declared: Mapping[str, str] | None = None,
    is_level: bool = True,
) -> Repetition:
    """
    Make the record of one window.

    Args:
        window: What is known of it.
        load: What was asked for.
        rows: Rows in each request.
        index: Number of the repetition, the same for both protocols: they are compared in pairs.
        order: Place in the run.
        ceiling_rps: The most the generator gets, requests per second; None: not calibrated.
        declared: Setting -> value that the server should run with; None: nobody said.
        is_level: Whether the load stays the same, so that answers per second should, too.
    """
    settled = Settled(0, is_longer=False)
    if is_level:
        counted, settled = after_warmup(window.samples, load)
        window = replace(window, samples=counted)
    samples, outcome = window.samples, window.outcome
    window_s = (samples.end_us - samples.begin_us) / 1e6
    ordered = latencies_us(samples, load)
    done = samples.done_us[~samples.failed]
    completed = int(np.count_nonzero((done >= samples.begin_us) & (done < samples.end_us)))
    planned = in_window(samples)
    per_slot = answers_per_slot(samples)
    in_flight = in_flight_at_client(samples) if load.kind == "closed" else None
    undeclared = undeclared_settings(declared or {}, window.server.settings)
    conditions = window.conditions
    server_in_flight = None
    if window.server.latency_s is not None:
        server_in_flight = completed / window_s * window.server.latency_s
    generator_requests = done_between(samples, outcome.cpu_from_ns, outcome.cpu_to_ns)
    return Repetition(
        index=index,
        order=order,
        window_s=window_s,
        discarded_s=samples.begin_us / 1e6,
        completed=completed,
        errors=outcome.errors,
        wrong_answers=outcome.wrong_answers,
        checked_answers=outcome.checked_answers,
        throughput_rps=completed / window_s,
        predictions_per_s=completed * rows / window_s,
        latency=latency_record(ordered),
        slip_p99_us=_slip_p99_us(samples, planned) if load.kind == "open" else None,
        offered=int(planned.sum()) if load.kind == "open" else None,
        bytes_sent_per_request=_per_request(outcome.bytes_sent, outcome.requests),
        bytes_received_per_request=_per_request(outcome.bytes_received, outcome.requests),
        server_cpu_us_per_request=_server_cpu_us(window),
        generator_cpu_us_per_request=outcome.cpu_ns / 1000 / max(generator_requests, 1),
        generator_utilisation=outcome.utilisation,
        foreign_cpu_cores=_foreign_cores(window),
        loop_lag_p99_us=outcome.lag_p99_us,
        loop_lag_max_us=outcome.lag_max_us,
        batch_sizes=window.server.batch_sizes,
        batch_reasons=window.server.batch_reasons,
        stages_us=window.server.stages_us,
        histogram=statistics.log_linear_histogram(ordered),
        per_slot=per_slot,
        trend=settled.trend,
        in_flight=in_flight,
        server_in_flight=server_in_flight,
        reconnects=outcome.reconnects,
        sent_again_share=_sent_again(window),
        disturbed_slots=_disturbed_slots(window),
        stolen_share=conditions.stolen_share,
        clock_share=conditions.clock_share,
        throttled_share=_throttled(window),
        undeclared=undeclared,
        gpu=conditions.gpu,
        invalid=[
            *broken_rules(window, load, ordered, completed, ceiling_rps),
            *([UNSTEADY] if settled.is_steady is False else []),
            *([IDLE] if _is_idle(in_flight, load) else []),
            *([UNDECLARED] if undeclared else []),
        ],
    )


def answers_per_slot(samples: Samples) -> list[int]:
    """Count the answers in each quarter of a second, from the begin of the load to the end of its window."""
    done = samples.done_us[~samples.failed]
    counts: list[int] = np.histogram(done, np.arange(0, samples.end_us + 1, SLOT_US))[0].tolist()
    return counts


def after_warmup(samples: Samples, load: Load) -> tuple[Samples, Settled]:
    """
    Let the window of a closed loop begin where the load had settled, which may be later than planned, and say whether it had.

    In an open loop what is answered moves as arrivals were drawn; whether it keeps up with them is another rule.
    """
    if load.kind == "open":
        return samples, Settled(-(-samples.begin_us // SLOT_US), is_longer=False)
    found = steady.settled(answers_per_slot(samples), -(-samples.begin_us // SLOT_US))
    begin_us = max(samples.begin_us, found.warmup_slots * SLOT_US if found.is_longer else 0)
    return replace(samples, begin_us=begin_us), found


def in_flight_at_client(samples: Samples) -> float:
    """Give the mean number of requests that were under way in the window, by the clients' own clocks."""
    sent = samples.planned_us + samples.slip_us
    under_way = np.minimum(samples.done_us, samples.end_us) - np.maximum(sent, samples.begin_us)
    return float(np.maximum(under_way, 0).sum() / (samples.end_us - samples.begin_us))


def undeclared_settings(declared: Mapping[str, str], told: Mapping[str, str]) -> list[str] | None:
    """List the settings that a server tells otherwise than they were *declared*; None: it tells none of them."""
    if not declared.keys() & told.keys():
        return None
    return [
        f"{name}: declared {value}, the server says {told[name]}"
        for name, value in declared.items()
        if name in told and told[name] != value
    ]


def broken_rules(
    window: Window, load: Load, ordered: npt.NDArray[np.int64], completed: int, ceiling_rps: float | None = None
) -> list[str]:
    """List the validity rules that *window* broke; its *ordered* latencies and *completed* requests are given."""
    outcome, samples, conditions = window.outcome, window.samples, window.conditions
    lagged = outcome.lag_p99_us > MOST_LAG_P99_US or outcome.lag_max_us > MOST_LAG_US
    rules = {
        NOTHING_ANSWERED: completed == 0,
        FAILED_REQUESTS: bool(outcome.errors),
        WRONG_ANSWERS: outcome.wrong_answers > 0,
        SATURATED: outcome.utilisation > MOST_GENERATOR_UTILISATION,
        NEAR_CEILING: _is_near(ceiling_rps, samples, completed),
        LAGGING: lagged,
        DISTURBED: (_foreign_cores(window) or 0.0) > MOST_FOREIGN_CORES
        or (_disturbed_slots(window) or 0.0) > MOST_DISTURBED_SLOTS,
        MISCOUNTED: window.server.requests not in (None, outcome.requests),
        RECONNECTED: outcome.reconnects > 0,
        # What a real network loses belongs to what is measured there.
        SENT_AGAIN: window.is_local and (_sent_again(window) or 0.0) > MOST_SENT_AGAIN,
        STOLEN: (conditions.stolen_share or 0.0) > MOST_STOLEN,
        SLOWED: conditions.clock_share is not None and conditions.clock_share < LEAST_CLOCK,
        THROTTLED: (_throttled(window) or 0.0) > MOST_THROTTLED,
        KILLED: bool(conditions.oom_kills),
        GPU_SLOWED: conditions.gpu is not None and bool(conditions.gpu.slowed or conditions.gpu.ecc_errors),
    }
    if load.kind == "open":
        planned = in_window(samples)
        slip = _slip_p99_us(samples, planned)
        high = float(ordered[int(len(ordered) * 0.99)]) if len(ordered) else 0.0
        rules[LATE] = slip is not None and slip > max(MOST_SLIP_US, MOST_SLIP_SHARE * high)
        rules[OFF_RATE] = _is_off_rate(int(planned.sum()), completed, ordered, samples)
    return [rule for rule, broken in rules.items() if broken]


def _is_near(ceiling_rps: float | None, samples: Samples, completed: int) -> bool:
    window_s = (samples.end_us - samples.begin_us) / 1e6
    return ceiling_rps is not None and completed / window_s > MOST_OF_CEILING * ceiling_rps


def _is_off_rate(offered: int, completed: int, ordered: npt.NDArray[np.int64], samples: Samples) -> bool:
    if not offered:
        return True
    # What is under way when the window begins is answered in it, and what is under way when it ends is not.
    # By Little's law that is rate × mean latency at each edge, and it varies as arrivals do.
    under_way = offered / (samples.end_us - samples.begin_us) * float(ordered.mean())
    edges = 2 + 3 * (2 * under_way) ** 0.5
    return bool(abs(completed - offered) > MOST_RATE_ERROR * offered + edges)


def _slip_p99_us(samples: Samples, planned: npt.NDArray[np.bool_]) -> float | None:
    slips = samples.slip_us[planned]
    return float(np.percentile(slips, 99)) if len(slips) else None


def _per_request(count: int | None, requests: int) -> float | None:
    return None if count is None or not requests else count / requests


def _server_cpu_us(window: Window) -> float | None:
    begin, end = window.begin, window.end
    requests = done_between(window.samples, begin.time_ns, end.time_ns)
    if begin.server_ns is None or end.server_ns is None or not requests:
        return None
    return (end.server_ns - begin.server_ns) / 1000 / requests


def _foreign_cores(window: Window) -> float | None:
    begin, end, outcome = window.begin, window.end, window.outcome
    seconds = (end.time_ns - begin.time_ns) / 1e9
    generator_s = (outcome.cpu_to_ns - outcome.cpu_from_ns) / 1e9
    if begin.server_ns is None or end.server_ns is None or not generator_s:
        return None
    server = (end.server_ns - begin.server_ns) / 1e9 / seconds
    generator = outcome.cpu_ns / 1e9 / generator_s
    # The CPUs' time comes in steps of 10 ms, the others' does not: on a quiet host the rest may be below zero.
    return max(0.0, (end.busy_s - begin.busy_s) / seconds - server - generator)


def _disturbed_slots(window: Window) -> float | None:
    slots = window.conditions.foreign_slots
    return sum(cores > MOST_SLOT_FOREIGN_CORES for cores in slots) / len(slots) if slots else None


def _sent_again(window: Window) -> float | None:
    again, sent = window.outcome.bytes_sent_again, window.outcome.bytes_sent
    return None if again is None or not sent else again / sent


def _throttled(window: Window) -> float | None:
    seconds = (window.end.time_ns - window.begin.time_ns) / 1e9
    waited = window.conditions.throttled_s
    return None if waited is None or not seconds else waited / seconds


def _is_idle(in_flight: float | None, load: Load) -> bool:
    # A lone user is never more than one; between two quick answers the client's own work weighs too much.
    return (
        in_flight is not None and (load.concurrency or 1) > 1 and in_flight < LEAST_IN_FLIGHT * (load.concurrency or 1)
    )

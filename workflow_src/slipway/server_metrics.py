"""What a server says of itself on /monitoring/prometheus/metrics, read before and after a load."""

import http.client
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from slipway.security import OPEN, Security, headers, http_connection
from slipway_wire.paths import METRICS_PATH

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

# Name and labels of a metric -> its value.
Metrics = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True)
class ServerSide:
    """
    What happened at the server between two readings.

    Attributes:
        requests: Requests of the protocol it answered, with whatever status; None if it does not count them.
        batch_sizes: Rows in an executed batch -> batches; empty if it does not say.
        stages_us: Stage -> mean microseconds per request of the protocol; empty if it does not say.
        batch_reasons: Why a batch was released -> batches; empty if it does not say.
        latency_s: Mean from a request's last byte to its answer's bytes, of those answered OK; None if it does not say.
        settings: Setting -> value that the server runs with, of those that it tells.
    """

    requests: int | None
    batch_sizes: dict[int, int]
    stages_us: dict[str, float]
    batch_reasons: dict[str, int] = field(default_factory=dict)
    latency_s: float | None = None
    settings: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> Metrics:
    """Read Prometheus' text format; lines that are no sample are passed over."""
    return {(name, frozenset(_LABEL.findall(labels))): float(value) for name, labels, value in _SAMPLE.findall(text)}


def scrape(host: str, rest_port: int, security: Security = OPEN) -> Metrics | None:
    """Ask the server; None if it does not offer metrics there."""
    connection = http_connection(host, rest_port, security, timeout_s=10)
    try:
        connection.request("GET", METRICS_PATH, headers=headers(rest_port, security))
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return parse(text) if answer.status == 200 else None


def replayed(metrics: Metrics | None, model: str) -> dict[int, int]:
    """Read how many warm-up records of each version of *model* were replayed; a version without any is not in it."""
    found: dict[int, int] = defaultdict(int)
    for (metric, labels), value in (metrics or {}).items():
        named = dict(labels)
        wanted = {"model": model, "source": "record", "status": "OK"}
        if metric == "slipway_warmup_requests_total" and wanted.items() <= named.items():
            found[int(named["version"])] += round(value)
    return dict(found)


def thread_plan(metrics: Metrics | None, model: str, version: int) -> str:
    """Read how many CPUs a batch of *version* has: one_batch, batch_per_core or configured; "" if the server does not say."""
    wanted = {"model": model, "version": str(version)}
    for (metric, labels), value in (metrics or {}).items():
        named = dict(labels)
        if metric == "slipway_thread_plan" and value and wanted.items() <= named.items():
            return named["plan"]
    return ""


def between(before: Metrics | None, after: Metrics | None, *, model: str, protocol: str) -> ServerSide:
    """Take the difference of two readings around a load that had the server to itself."""
    if before is None or after is None:
        return ServerSide(None, {}, {})

    def grown(name: str, label: Callable[[dict[str, str]], str], **wanted: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for (metric, labels), value in after.items():
            named = dict(labels)
            if metric == name and wanted.items() <= named.items():
                found[label(named)] += value - before.get((metric, labels), 0.0)
        return found

    answered = grown("slipway_requests_total", lambda _: "", model=model, protocol=protocol)
    batches = grown("slipway_batches_total", lambda labels: labels.get("size", ""), model=model)
    reasons = grown("slipway_batches_total", lambda labels: labels.get("reason", ""), model=model)
    spent_s = grown("slipway_stage_seconds_sum", lambda labels: labels.get("stage", ""), model=model, protocol=protocol)
    counted = grown(
        "slipway_stage_seconds_count", lambda labels: labels.get("stage", ""), model=model, protocol=protocol
    )
    answered_s = sum(grown("slipway_request_seconds_sum", lambda _: "", model=model, protocol=protocol).values())
    answered_ok = sum(grown("slipway_request_seconds_count", lambda _: "", model=model, protocol=protocol).values())
    return ServerSide(
        requests=round(sum(answered.values())) if answered else None,
        batch_sizes=dict(sorted((int(size), round(count)) for size, count in batches.items() if count and size)),
        stages_us={stage: spent_s[stage] / count * 1e6 for stage, count in counted.items() if count},
        batch_reasons=dict(sorted((why, round(count)) for why, count in reasons.items() if count and why)),
        latency_s=answered_s / answered_ok if answered_ok else None,
        settings=settings(after),
    )


def settings(metrics: Metrics) -> dict[str, str]:
    """Read what the server says it runs with: setting -> value; {} if it does not say."""
    told = [dict(labels) for (metric, labels) in metrics if metric == "slipway_setting_info"]
    return {labels["setting"]: labels["value"] for labels in told}

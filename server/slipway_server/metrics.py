"""
What the server counts: TF Serving's metrics and its own. Aggregates only; nothing here grows with the number of requests.

A request is counted once, when it ends, into the totals of its kind; all that is told of requests, TF Serving's metrics
included, is added up from those totals when somebody looks. One lock is taken for it: on this code's CPython an
uncontended one costs 0.1 µs, per-thread shards would save half of that and cost exactness.

`python -m slipway_server.metrics` writes the catalogue, `docs/metrics.md`.
"""

import collections
import platform
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from slipway_server import instruments, process_stats
from slipway_server.instruments import Counter, Family, Histogram, Rows, View
from slipway_wire import __version__

MAX_REQUEST_KINDS = 300
"""Combinations of model, version, signature, protocol and method that are told apart; see `Metrics.count_request`."""

OTHER = "other"
"""Stands for the versions and signatures that are told apart no more."""

# Source of the bounds: the monitoring::Buckets::Exponential calls in tensorflow_serving/servables/tensorflow/util.cc.
LATENCY_BOUNDS_US = tuple(10 * 1.8**i for i in range(33))
EXAMPLE_BOUNDS = tuple(float(2**i) for i in range(15))
# Source: the same calls in tensorflow_serving/batching/batching_session.cc and .h.
QUEUING_BOUNDS_US = tuple(100 * 1.2**i for i in range(52))
BATCH_SIZE_BOUNDS = tuple(2**i for i in range(14))
# From 100 µs to 13 s.
WAIT_BOUNDS_S = tuple(1e-4 * 2**i for i in range(18))

# Batch sizes up to this are told one by one, larger ones by the next power of two: labels must not grow with requests.
_EXACT_SIZES = 1024

_LATENCY_BOUNDS_S = tuple(bound / 1e6 for bound in LATENCY_BOUNDS_US)
# Stages are told with every second bound: a factor of 3.24 tells them apart well enough, at half the series.
_STAGE_BOUNDS_S = _LATENCY_BOUNDS_S[1::2]
# Loads take from milliseconds to many minutes.
LOAD_BOUNDS_S = tuple(0.01 * 2**i for i in range(18))

STAGES = ("parse", "batch_wait", "queue", "compute", "encode")
"""In the order in which a request passes them. No request reaches `batch_wait` unless a batch timeout is set."""
_COMPUTE = STAGES.index("compute")


class RequestKind(NamedTuple):
    """What requests are told apart by; only names that exist, so that no caller can make new ones."""

    model: str
    version: str
    signature: str
    protocol: str
    """`grpc` or `rest`."""
    method: str
    """`Predict`, `Classify`, `Regress` or `MultiInference`."""


class _Totals:
    """All requests of one kind; guarded by the lock of the metrics."""

    __slots__ = ("answers", "examples", "latency", "request_bytes", "response_bytes", "stages")

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.latency = Histogram(_LATENCY_BOUNDS_S)
        self.stages = [Histogram(_LATENCY_BOUNDS_S) for _ in STAGES]
        self.examples = Histogram(EXAMPLE_BOUNDS)
        self.request_bytes = 0
        self.response_bytes = 0

    def add(self, other: "_Totals") -> None:
        for status, count in other.answers.items():
            self.answers[status] = self.answers.get(status, 0) + count
        for own, more in zip(self.histograms(), other.histograms(), strict=True):
            own.merge(more)
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes

    def histograms(self) -> list[Histogram]:
        return [self.latency, *self.stages, self.examples]


class Metrics:
    """Every metric of the server; made once, passed to whoever counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Two scrapes at once would take twice the time from requests, and neither would be done sooner.
        self._scraping = threading.Lock()
        self._moment = threading.local()
        self._requests: dict[RequestKind, _Totals] = {}
        self._lookups: dict[tuple[object, ...], float] = {}
        self._connections: dict[str, Callable[[], float]] = {}
        self._loading_since: dict[tuple[str, int], float] = {}
        self._in_flight: Callable[[], float] = lambda: 0.0
        self._availability: Callable[[], Rows] = lambda: ()
        self._settings: Mapping[str, str] = {}
        self._queues: list[Callable[[], Mapping[str, int]]] = []

        latency = "from the request's last byte to the answer's bytes, in microseconds"
        self.request_count = View(
            ":tensorflow:serving:request_count",
            "counter",
            ("model_name", "status"),
            self._request_count,
            help="Answered requests: Predict, Classify, Regress and MultiInference; over REST status and metadata, too.",
        )
        self.request_latency = View(
            ":tensorflow:serving:request_latency",
            "histogram",
            ("model_name", "API", "entrypoint"),
            self._request_latency,
            help=f"Requests answered OK: {latency}.",
        )
        self.runtime_latency = View(
            ":tensorflow:serving:runtime_latency",
            "histogram",
            ("model_name", "API", "runtime"),
            self._runtime_latency,
            help="Time a request's graph ran, of a batch the whole, in microseconds.",
        )
        self.request_example_counts = View(
            ":tensorflow:serving:request_example_counts",
            "histogram",
            ("model",),
            self._example_counts,
            help="Examples in a MultiInference request.",
        )
        self.request_example_count_total = View(
            ":tensorflow:serving:request_example_count_total",
            "counter",
            ("model",),
            lambda: [(labels, histogram.sum) for labels, histogram in self._example_counts()],
            help="Examples in all MultiInference requests.",
        )
        self.request_log_count = Family(
            ":tensorflow:serving:request_log_count",
            "counter",
            ("model_name", "status_code"),
            Counter,
            help="Requests chosen for the request log: OK if written, else why not.",
        )
        self.mlmd_map = Family(
            ":tensorflow:serving:mlmd_map",
            "gauge",
            ("model_name", "version", "mlmd_uuid"),
            Counter,
            help="1 for each version loaded with assets.extra/mlmd_uuid; TF Serving has no label for what the file says.",
        )

        kind = RequestKind._fields
        self.requests = View(
            "slipway_requests_total",
            "counter",
            (*kind, "status"),
            self._requests_by_status,
            help="Answered requests, by canonical status code.",
        )
        self.request_seconds = View(
            "slipway_request_seconds",
            "histogram",
            kind,
            lambda: [(key, totals.latency) for key, totals in self._snapshot()],
            help="Requests answered OK: from the request's last byte to the answer's bytes, in seconds.",
        )
        self.stages_s = View(
            "slipway_stage_seconds",
            "histogram",
            (*kind, "stage"),
            lambda: [
                ((*key, stage), _coarsened(histogram))
                for key, totals in self._snapshot()
                for stage, histogram in zip(STAGES, totals.stages, strict=True)
                if stage != "batch_wait" or any(histogram.counts)
            ],
            help="Where the time of requests goes, in seconds: parse, batch_wait (until the batch was full or "
            "batch_timeout_micros over; only where that is set), queue (then until a thread was free), compute (of the whole "
            "batch) and encode.",
        )
        self.request_bytes = View(
            "slipway_request_bytes_total",
            "counter",
            kind,
            lambda: [(key, float(totals.request_bytes)) for key, totals in self._snapshot()],
            help="Bytes of request bodies, decompressed.",
        )
        self.response_bytes = View(
            "slipway_response_bytes_total",
            "counter",
            kind,
            lambda: [(key, float(totals.response_bytes)) for key, totals in self._snapshot()],
            help="Bytes of the bodies of answers that were OK, before compression.",
        )
        self.batches = Family(
            "slipway_batches_total",
            "counter",
            ("model", "size", "reason"),
            Counter,
            help="Batches that were answered, by the rows asked for and why they were released: full, timeout, free or "
            "rerun, which is a part of a batch that failed.",
        )
        self.batch_padding_rows = Family(
            "slipway_batch_padding_rows_total",
            "counter",
            ("model",),
            Counter,
            help="Rows added to batches to reach an allowed size.",
        )
        self.batch_rows = Family(
            "slipway_batch_rows",
            "histogram",
            ("model",),
            Histogram,
            BATCH_SIZE_BOUNDS,
            help="Rows asked for in executed batches.",
        )
        self.batch_wait_s = Family(
            "slipway_batch_wait_seconds",
            "histogram",
            ("model",),
            Histogram,
            WAIT_BOUNDS_S,
            help="How long requests waited for their batch to be released, in seconds.",
        )
        self.batch_reruns = Family(
            "slipway_batch_reruns_total",
            "counter",
            ("model",),
            Counter,
            help="Runs of parts of a batch that had failed, to find the request at fault.",
        )
        self.queued = View(
            "slipway_queued_requests", "gauge", ("model",), self._queued, help="Requests that wait to be run now."
        )
        self.not_run = Family(
            "slipway_requests_not_run_total",
            "counter",
            ("model", "reason"),
            Counter,
            help="Requests that were given up before they ran: expired, cancelled, refused because a queue was full, or "
            "failed because another part of the same large request did.",
        )
        session = ":tensorflow:serving:batching_session"
        self.queuing_latency_us = Family(
            f"{session}:queuing_latency",
            "histogram",
            ("thread_pool_name",),
            Histogram,
            QUEUING_BOUNDS_US,
            help="How long requests waited for their batch, in microseconds.",
        )
        self.wrapped_run_count = Family(f"{session}:wrapped_run_count", "counter", (), Counter, help="Runs of batches.")
        self.padding_size = Family(
            f"{session}:padding_size",
            "histogram",
            ("execution_batch_size",),
            Histogram,
            BATCH_SIZE_BOUNDS,
            help="Rows added to batches, by the size they reached.",
        )
        self.input_batch_size = Family(
            f"{session}:input_batch_size", "histogram", (), Histogram, BATCH_SIZE_BOUNDS, help="Rows of requests."
        )
        self.processed_batch_size = Family(
            f"{session}:processed_batch_size",
            "histogram",
            (),
            Histogram,
            BATCH_SIZE_BOUNDS,
            help="Rows of batches, padding included.",
        )
        self.model_loads = Family(
            "slipway_model_loads_total",
            "counter",
            ("model", "version", "status"),
            Counter,
            help="Loads of versions that ended, all tries of a version together, by canonical status code.",
        )
        self.model_load_seconds = Family(
            "slipway_model_load_seconds",
            "histogram",
            ("model",),
            Histogram,
            LOAD_BOUNDS_S,
            help="From the begin of a load to AVAILABLE, warm-up and retries included, in seconds.",
        )
        self.saved_model_load_attempts = Family(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "counter",
            ("model_path", "status"),
            Counter,
            help="Tries to load a SavedModel: success or fail.",
        )
        self.saved_model_load_latency_us = Family(
            ":tensorflow:cc:saved_model:load_latency",
            "counter",
            ("model_path",),
            Counter,
            help="Time that loads of a SavedModel took which succeeded, in microseconds.",
        )
        self.model_warmup_latency_us = Family(
            ":tensorflow:serving:model_warmup_latency",
            "histogram",
            ("model_path", "status"),
            Histogram,
            LATENCY_BOUNDS_US,
            help="Time to replay all warm-up records of a version, in microseconds.",
        )
        self.model_warmup_records_read = Family(
            ":tensorflow:serving:model_warmup_records_read",
            "counter",
            ("model_path", "status"),
            Counter,
            help="Warm-up records that were replayed.",
        )
        self.warmup_requests = Family(
            "slipway_warmup_requests_total",
            "counter",
            ("model", "version", "source", "status"),
            Counter,
            help="Requests of warm-up, by where they come from (record, batch_size or synthesized) and canonical status code.",
        )
        self.warmup_seconds = Family(
            "slipway_warmup_request_seconds",
            "histogram",
            ("model", "version", "source"),
            Histogram,
            LOAD_BOUNDS_S,
            help="Time that one request of warm-up took, all its repetitions together, in seconds.",
        )
        self.thread_plan = Family(
            "slipway_thread_plan",
            "gauge",
            ("model", "version", "plan", "reason"),
            Counter,
            help="1 for the thread plan that each version got when it was last loaded, 0 for earlier ones: one_batch (a batch has all CPUs), batch_per_core (each "
            "batch has one) or configured (by flags or files); and why: measured, flag, configured, or what kept it from "
            "being measured.",
        )
        self.model_unloads = Family(
            "slipway_model_unloads_total",
            "counter",
            ("model", "version"),
            Counter,
            help="Versions that were unloaded and freed.",
        )
        self.available = View(
            "slipway_model_available",
            "gauge",
            ("model", "version"),
            lambda: self._availability(),  # noqa: PLW0108  # `watch` exchanges it
            help="1 for each version that answers requests; 0 for each that is known and does not.",
        )
        self.in_flight = View(
            "slipway_in_flight",
            "gauge",
            (),
            lambda: [((), self._in_flight())],
            help="Requests being answered now.",
        )
        self.connections = View(
            "slipway_connections",
            "gauge",
            ("protocol",),
            lambda: [((protocol,), count()) for protocol, count in self._connections.items()],
            help="Client connections that are open now.",
        )
        self.log_messages = Family(
            "slipway_log_messages_total",
            "counter",
            ("level",),
            Counter,
            help="Lines of the log, by level: a rising count of ERROR is worth a look at the log.",
        )
        self.dropped = Family(
            "slipway_log_lines_dropped_total",
            "counter",
            ("log",),
            Counter,
            help="Lines or records for which a log had no room, because its disk or its reader was too slow.",
        )
        self.build_info = View(
            "slipway_build_info",
            "gauge",
            ("version", "tensorflow", "python"),
            lambda: [((__version__, _tensorflow_version(), platform.python_version()), 1.0)],
            help="1, with the versions of this server, of TensorFlow and of Python.",
        )
        self.settings = View(
            "slipway_setting_info",
            "gauge",
            ("setting", "value"),
            lambda: [(setting, 1.0) for setting in self._settings.items()],
            help="1 for each setting that decides how fast the server is, with the value it runs with: threads, batching, "
            "whether StableHLO is preferred. thread_plan is what is asked for; slipway_thread_plan tells what versions got.",
        )
        self.process = tuple(
            View(name, kind, (), lambda name=name: _process_value(name), help=text)  # type: ignore[misc]
            for name, (kind, text) in process_stats.DESCRIPTIONS.items()
        )

    def watch(self, *, in_flight: Callable[[], float], availability: Callable[[], Rows]) -> None:
        """Ask *in_flight* and *availability*, whenever somebody looks, for what they are named after."""
        self._in_flight = in_flight
        self._availability = availability

    def tell_settings(self, settings: Mapping[str, str]) -> None:
        """From now on, tell *settings*; none of them may be a secret."""
        self._settings = dict(settings)

    def watch_queue(self, waiting: Callable[[], Mapping[str, int]]) -> None:
        """From now on, look here, too, for how many requests wait: model -> requests."""
        self._queues.append(waiting)

    def watch_connections(self, protocol: str, count: Callable[[], float]) -> None:
        """Ask *count*, whenever somebody looks, how many connections of *protocol* are open."""
        self._connections[protocol] = count

    def count_request(
        self,
        kind: RequestKind,
        status: str,
        latency_s: float,
        stages_s: Sequence[float | None],
        *,
        request_bytes: int = 0,
        response_bytes: int = 0,
        examples: int | None = None,
    ) -> None:
        """
        Count one request that has ended.

        The kind known longest makes room when there are more than MAX_REQUEST_KINDS: its counts go to a kind with
        version and signature OTHER, so that no sum over them ever shrinks.

        Args:
            kind: What was asked of whom.
            status: Name of the canonical code.
            latency_s: Seconds from first to last.
            stages_s: Seconds in each of STAGES; None for one that was not reached.
            request_bytes: Size of the request's body.
            response_bytes: Size of the answer's body.
            examples: How many there were in a MultiInference request.
        """
        with self._lock:
            totals = self._requests.get(kind)
            if totals is None:
                totals = self._begin_kind(kind)
            totals.answers[status] = totals.answers.get(status, 0) + 1
            totals.request_bytes += request_bytes
            totals.response_bytes += response_bytes
            if status == "OK":
                totals.latency.counts[bisect_left(_LATENCY_BOUNDS_S, latency_s)] += 1
                totals.latency.sum += latency_s
            for histogram, seconds in zip(totals.stages, stages_s, strict=True):
                if seconds is not None:
                    histogram.counts[bisect_left(_LATENCY_BOUNDS_S, seconds)] += 1
                    histogram.sum += seconds
            if examples is not None:
                totals.examples.counts[bisect_left(EXAMPLE_BOUNDS, examples)] += 1
                totals.examples.sum += examples

    def count_answers(
        self,
        kind: RequestKind,
        *,
        latencies_s: Sequence[float],
        parse_s: Sequence[float],
        waits_s: tuple[float | None, float | None, float | None],
        encode_s: float,
        request_bytes: int,
        response_bytes: int,
    ) -> None:
        """
        Count requests that were answered well by one call of the model; see `count_request`.

        Args:
            kind: What was asked of whom.
            latencies_s: Seconds from first to last, of each request.
            parse_s: Seconds in the first of STAGES, of each.
            waits_s: Seconds in those between, the same for all.
            encode_s: Seconds in the last, likewise.
            request_bytes: Size of all requests' bodies.
            response_bytes: Size of all answers' bodies.
        """
        count = len(latencies_s)
        with self._lock:
            totals = self._requests.get(kind)
            if totals is None:
                totals = self._begin_kind(kind)
            totals.answers["OK"] = totals.answers.get("OK", 0) + count
            totals.request_bytes += request_bytes
            totals.response_bytes += response_bytes
            _count_all(totals.latency, latencies_s)
            parse, *others = totals.stages
            _count_all(parse, parse_s)
            for histogram, seconds in zip(others, (*waits_s, encode_s), strict=True):
                if seconds is not None:
                    histogram.counts[bisect_left(_LATENCY_BOUNDS_S, seconds)] += count
                    histogram.sum += count * seconds

    def count_lookup(self, model: str, status: str) -> None:
        """
        Count one answered REST request for status or metadata, which TF Serving counts like any other.

        Args:
            model: Its name; empty if there is none of that name.
            status: Name of the canonical code.
        """
        with self._lock:
            self._lookups[model, status] = self._lookups.get((model, status), 0) + 1

    def version_moved(self, model: str, version: int, state: str, status: str, now: float) -> None:
        """
        Count what follows from the new state of a version.

        Args:
            model: Its name.
            version: Its number.
            state: The state it has come to.
            status: Name of the canonical code: why, if it has failed.
            now: Monotonic time, in seconds.
        """
        if state == "LOADING":
            self._loading_since[model, version] = now
            return
        since = self._loading_since.pop((model, version), None)
        if state == "AVAILABLE" and since is not None:
            self.model_load_seconds.of(model).observe(now - since)
        if state == "AVAILABLE" or (state == "END" and status != "OK"):
            self.model_loads.of(model, version, status).add()
        elif state == "END":
            self.model_unloads.of(model, version).add()

    def batch(self, model: str, rows: int, padding_rows: int, reason: str) -> None:
        """Count one executed batch of *rows* rows that were asked for, and the rows added to them."""
        self.batches.of(model, size_label(rows), reason).add()
        self.batch_rows.of(model).observe(rows)
        if padding_rows:
            self.batch_padding_rows.of(model).add(padding_rows)

    def session_run(self, rows: int, padding_rows: int) -> None:
        """Count one run of a batch under TF Serving's names: *rows* that were asked for, and the rows added to them."""
        self.wrapped_run_count.of().add()
        self.padding_size.of(size_label(rows + padding_rows)).observe(padding_rows)
        self.processed_batch_size.of().observe(rows + padding_rows)

    def exposition(self) -> str:
        """Return all metrics in Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines())

    def catalogue(self) -> str:
        """Return the description of all metrics as Markdown."""
        theirs: list[str] = []
        own: list[str] = []
        for family in self._families():
            about = family.description
            (theirs if about.name.startswith(":") else own).append(
                f"| `{about.name}` | {about.kind} | {', '.join(f'`{label}`' for label in about.labels)} | {about.help} |"
            )
        return _CATALOGUE.format(
            theirs="\n".join(theirs),
            own="\n".join(own),
            max_kinds=MAX_REQUEST_KINDS,
            max_members=instruments.MAX_MEMBERS,
        )

    def sum_of(self, family: "Family[Any] | View", **wanted: str) -> float:
        """Add up what *family* has with these label values: of a histogram the count."""
        names = family.description.labels
        return sum(
            instruments.size(value)
            for labels, value in family.rows()
            if wanted.items() <= dict(zip(names, map(str, labels), strict=True)).items()
        )

    def snapshot(self) -> dict[str, float]:
        """
        Return every sample as it stands in the text: name with labels -> value.

        Two of them tell what happened in between.
        """
        samples = (line.rpartition(" ") for line in self._lines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    # What follows reads; `_begin_kind` runs with the lock held.

    def _lines(self) -> list[str]:
        # All that is told of requests is of one moment, and their lock is held once.
        with self._scraping:
            self._moment.requests = self._snapshot()
            try:
                return [line for family in self._families() for line in instruments.exposition(family)]
            finally:
                del self._moment.requests

    def _families(self) -> "list[Family[Any] | View]":
        own = [family for family in vars(self).values() if isinstance(family, Family | View)]
        return [*own, *self.process]

    def _begin_kind(self, kind: RequestKind) -> _Totals:
        if len(self._requests) >= MAX_REQUEST_KINDS:
            oldest = next((key for key in self._requests if key.version != OTHER), None)
            if oldest is not None:
                gone = self._requests.pop(oldest)
                kept = oldest._replace(version=OTHER, signature=OTHER)
                self._requests.setdefault(kept, _Totals()).add(gone)
        return self._requests.setdefault(kind, _Totals())

    def _snapshot(self) -> list[tuple[RequestKind, _Totals]]:
        taken: list[tuple[RequestKind, _Totals]] | None = getattr(self._moment, "requests", None)
        if taken is not None:
            return taken
        with self._lock:
            copies = []
            for kind, totals in sorted(self._requests.items()):
                copy = _Totals()
                copy.add(totals)
                copies.append((kind, copy))
        return copies

    def _queued(self) -> Rows:
        waiting: collections.Counter[str] = collections.Counter()
        for queue in self._queues:
            waiting.update(queue())
        return [((model,), float(count)) for model, count in sorted(waiting.items())]

    def _request_count(self) -> Rows:
        counts = self._lookups.copy()
        for kind, totals in self._snapshot():
            for status, count in totals.answers.items():
                counts[kind.model, status] = counts.get((kind.model, status), 0) + count
        return sorted(counts.items())

    def _requests_by_status(self) -> Rows:
        return [
            ((*kind, status), float(count))
            for kind, totals in self._snapshot()
            for status, count in sorted(totals.answers.items())
        ]

    def _request_latency(self) -> Rows:
        # TF Serving writes the method in lower case for REST.
        return self._merged(
            lambda kind: (
                kind.model,
                kind.method if kind.protocol == "grpc" else kind.method.lower(),
                kind.protocol.upper(),
            ),
            lambda totals: _in_microseconds(totals.latency),
        )

    def _runtime_latency(self) -> Rows:
        # Whatever ran it, TF Serving calls it so.
        return self._merged(
            lambda kind: (kind.model, kind.method, "TF1"), lambda totals: _in_microseconds(totals.stages[_COMPUTE])
        )

    def _example_counts(self) -> list[tuple[tuple[object, ...], Histogram]]:
        return self._merged(lambda kind: (kind.model,), lambda totals: totals.examples)

    def _merged(
        self, labels_of: Callable[[RequestKind], tuple[object, ...]], histogram_of: Callable[[_Totals], Histogram]
    ) -> list[tuple[tuple[object, ...], Histogram]]:
        """Add up the histograms of all kinds with equal labels; those without a single value are left out."""
        merged: dict[tuple[object, ...], Histogram] = {}
        for kind, totals in self._snapshot():
            histogram = histogram_of(totals)
            if any(histogram.counts):
                merged.setdefault(labels_of(kind), Histogram(histogram.bounds)).merge(histogram)
        return list(merged.items())


def _count_all(histogram: Histogram, values_s: Sequence[float]) -> None:
    """Count *values_s*, most of which fall into one bucket."""
    histogram.sum += sum(values_s)
    lowest = bisect_left(_LATENCY_BOUNDS_S, min(values_s))
    if lowest == bisect_left(_LATENCY_BOUNDS_S, max(values_s)):
        histogram.counts[lowest] += len(values_s)
        return
    for value_s in values_s:
        histogram.counts[bisect_left(_LATENCY_BOUNDS_S, value_s)] += 1


def size_label(rows: int) -> int:
    """Return *rows* itself, or the next power of two if it is so large that each size of its own would be too many."""
    return rows if rows <= _EXACT_SIZES else 1 << (rows - 1).bit_length()


def _in_microseconds(histogram: Histogram) -> Histogram:
    told = Histogram(LATENCY_BOUNDS_US)
    told.counts, told.sum = histogram.counts, histogram.sum * 1e6
    return told


def _coarsened(histogram: Histogram) -> Histogram:
    told = Histogram(_STAGE_BOUNDS_S)
    counts = histogram.counts
    # Bounds 1, 3, 5, … stay: buckets 0 and 1 become one, 2 and 3, …; behind the last bound stays what is left.
    told.counts = [counts[place] + counts[place + 1] for place in range(0, 2 * len(_STAGE_BOUNDS_S), 2)]
    told.counts.append(sum(counts[2 * len(_STAGE_BOUNDS_S) :]))
    told.sum = histogram.sum
    return told


def _process_value(name: str) -> Rows:
    values: Mapping[str, float] = process_stats.read()
    return [((), values[name])] if name in values else []


def _tensorflow_version() -> str:
    """Say which TensorFlow is loaded; importing it here would take seconds."""
    tensorflow = sys.modules.get("tensorflow")
    return str(getattr(tensorflow, "__version__", "not loaded"))


_CATALOGUE = """\
# Metrics

Written by `python -m slipway_server.metrics`; a test keeps this page and the code together.

`--monitoring_config_file` with `prometheus_config {{ enable: true }}` serves them on the REST port, by default at
`/monitoring/prometheus/metrics`.

## TF Serving's names

As TF Serving writes them: no HELP lines, labels always in braces, counters without `_total`. Dashboards made for it work.

| name | kind | labels | |
|---|---|---|---|
{theirs}

## Names of our own

With HELP lines, in seconds and bytes.

| name | kind | labels | |
|---|---|---|---|
{own}

## How many series there can be

Labels hold only names that exist: what was asked of an unknown model is counted under an empty model name. At most
{max_kinds} combinations of model, version, signature, protocol and method are told apart; beyond, the one known longest moves to
`version="other",signature="other"`, so that sums over versions never shrink. Any other metric keeps its {max_members} newest
combinations of label values.
"""

if __name__ == "__main__":
    sys.stdout.write(Metrics().catalogue())

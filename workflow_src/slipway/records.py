"""
What each stage writes down for the next one and for the report: one frozen model per file.

These are the only shapes in which stages meet. Units stand in the names (`_s`, `_ms`, `_us`, `_bytes`);
digests are `sha256:<64 hex digits>`; a value that was not measured is None, never 0.
"""

import itertools
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway import files
from slipway.errors import SourceError
from slipway.prices import Prices
from slipway_wire import __version__
from slipway_wire.loads import Tier

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Protocol = Literal["rest", "grpc"]


class Record(BaseModel):
    """A file of the workflow, read and written whole."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_inf_nan="strings", json_schema_serialization_defaults_required=True
    )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record at *path*, or raise SourceError that names the file and the first fault."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            msg = f"{path}: not there. Run the stage that writes it, or `snakemake --cores all`."
            raise SourceError(msg) from error
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "the file"
            msg = f"{path}: {where}: {fault['msg']}. It is damaged or from another version: delete it and run again."
            raise SourceError(msg) from error

    def write(self, path: Path) -> None:
        """Write this record to *path* as canonical JSON, whole or not at all."""
        files.write_json(path, self.jsonable())

    def jsonable(self) -> Any:
        """Give this record as what JSON knows: infinite distances are strings, for JSON has no number for them."""
        return json.loads(self.model_dump_json())


# --- trees -----------------------------------------------------------------------------------------


class FileEntry(Record):
    """One file of a tree."""

    digest: Digest
    bytes: int


class TreeManifest(Record):
    """The content of a directory: what every consumer of that directory verifies first."""

    digest: Digest = Field(description="Digest over names and file digests; times and modes do not count.")
    files: dict[str, FileEntry] = Field(description="Relative POSIX path -> entry.")

    @classmethod
    def of(cls, directory: Path) -> "TreeManifest":
        """Read every file below *directory*."""
        entries = {
            name: FileEntry(digest=files.sha256_file(path), bytes=path.stat().st_size)
            for name, path in files.tree_files(directory).items()
        }
        return cls(digest=files.digest_of_digests({n: e.digest for n, e in entries.items()}), files=entries)

    def verify(self, directory: Path) -> None:
        """Raise SourceError, naming the first file that differs, unless *directory* holds exactly this."""
        found = TreeManifest.of(directory)
        for name in sorted(self.files.keys() | found.files.keys()):
            if name not in found.files:
                raise SourceError(f"{directory / name}: missing. Delete {directory} and run again.")
            if name not in self.files:
                raise SourceError(f"{directory / name}: not in the manifest. Delete {directory} and run again.")
            if self.files[name] != found.files[name]:
                msg = (
                    f"{directory / name}: changed after it was written: expected {self.files[name].digest} "
                    f"({self.files[name].bytes} bytes), found {found.files[name].digest} "
                    f"({found.files[name].bytes} bytes). Delete {directory} and run again."
                )
                raise SourceError(msg)

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.bytes for entry in self.files.values())


# --- checkpoint, export ----------------------------------------------------------------------------


class TrainRecord(Record):
    """results/training/{model}/{version}.json."""

    model: str
    version: int
    script: str
    sources: dict[str, Digest] = Field(description="The script, what it imports and its inputs -> their content.")
    options: dict[str, Any]
    threads: int
    tree: TreeManifest = Field(description="What the script left.")
    tools: dict[str, str] = Field(description="Package -> version that it could import.")


class CheckpointRecord(Record):
    """results/checkpoints/{model}/{version}/checkpoint.json."""

    model: str
    version: int
    kind: str = Field(description="Kind of source: builtin, keras, weights, checkpoint.")
    description: str = Field(description="One sentence for the report: what this is and where it comes from.")
    tree: TreeManifest = Field(description="The source files, as they were read.")
    golden_digest: Digest
    golden_rows: int
    metrics: dict[str, float] = Field(description="As measured offline, e.g. accuracy (0..1) on the golden rows.")
    parameters: int | None = Field(None, description="Trainable and other weights, as a count of numbers.")
    tools: dict[str, str] = Field(description="Package -> version that made it.")


class ExportRecord(Record):
    """results/exports/{model}/{version}.json."""

    model: str
    version: int
    tree: TreeManifest
    signatures: list[str]
    tools: dict[str, str]


# --- validate --------------------------------------------------------------------------------------


class TensorRecord(Record):
    """One tensor of a signature, as the contract states it."""

    name: str
    dtype: str
    shape: list[int | str | None] = Field(description="Numbers, symbols such as N, or null where any size goes.")
    note: str = ""


class SignatureRecord(Record):
    """One SignatureDef."""

    name: str
    method: Literal["predict", "classify", "regress"]
    inputs: list[TensorRecord]
    outputs: list[TensorRecord]


class Check(Record):
    """One thing the contract demands, and whether it is so."""

    kind: Literal["structure", "behaviour", "golden", "compatibility"]
    subject: str = Field(description="What was looked at, e.g. serving_default.outputs.logits.")
    ok: bool
    expected: str
    found: str

    def line(self) -> str:
        """Say the fault in one line."""
        return f"{self.subject}: expected {self.expected}, found {self.found}"


class Parity(Record):
    """How far two ways to the same answer lie apart."""

    path: str = Field(description="The two ends, e.g. checkpoint→SavedModel or SavedModel→gRPC.")
    signature: str
    output: str
    rows: int
    max_abs: float
    max_rel: float
    argmax_agreement: float | None = Field(None, description="Share of rows (0..1) with the same arg max.")
    atol: float
    rtol: float
    why_not: str = Field(
        "", description="Why values were not compared: shape, kind and finiteness decide then; empty: they were."
    )
    ok: bool


class StableHloRecord(Record):
    """results/stablehlo/{model}/{version}.json."""

    model: str
    version: int
    tree: TreeManifest = Field(description="Programs, weights and their manifest.")
    stablehlo: str = Field(description="Version of StableHLO that programs are written in.")
    batch_sizes: list[int] = Field(description="Numbers of rows that there are programs for.")
    signatures: list[str]
    parity: list[Parity] = Field(
        description="Answers of a server without TensorFlow: against golden ones, and of each program against the largest."
    )
    tools: dict[str, str]


class ValidationRecord(Record):
    """results/validation/{model}/{version}.json."""

    model: str
    version: int
    contract_digest: Digest = Field(description="Of the contract's file, and of the text files that it names.")
    contract: dict[str, Any] | None = Field(None, description="The contract itself, as JSON; not kept before 0.2.")
    signatures: list[SignatureRecord]
    checks: list[Check]
    parity: list[Parity]
    accuracy: float | None = Field(None, description="Of the SavedModel on the golden rows (0..1).")

    @property
    def ok(self) -> bool:
        """Whether every check and every comparison passed."""
        return all(c.ok for c in self.checks) and all(p.ok for p in self.parity)


# --- warmup, servable ------------------------------------------------------------------------------


class WarmupEntry(Record):
    """One warm-up record."""

    signature: str
    method: Literal["predict", "classify", "regress"]
    rows: int
    bytes: int
    source: Literal["golden", "recorded", "synthetic"] = Field("golden", description="Where its first row comes from.")
    synthetic_rows: int = Field(0, description="Rows of it that were made up, because the source had no more.")
    form: Literal["values", "filled"] = Field(
        "values", description="filled: it carries its first value alone (of Examples the first one), which fills it."
    )


class WarmupOmission(Record):
    """A signature and batch size without a record of its own."""

    signature: str
    rows: int
    bytes: int = Field(description="What its record would have weighed in its smallest form.")


class RequestLogReading(Record):
    """What was found in a log of requests."""

    files: int
    requests: int = Field(description="Requests that were read.")
    taken: int = Field(description="Requests whose rows were kept.")
    spare: int = Field(description="Requests that would do, too, but rows there were enough.")
    skipped: dict[str, int] = Field(description="Why a request would not do -> requests.")
    complete: bool = Field(description="False: reading stopped early, for every signature had enough rows.")


class WarmupRecord(Record):
    """results/warmup/{model}/{version}/warmup.json."""

    model: str
    version: int
    digest: Digest = Field(description="Of tf_serving_warmup_requests.")
    bytes: int
    entries: list[WarmupEntry]
    replayed: int = Field(description="Records that a server replayed, by its own count, before it served the version.")
    max_bytes: int | None = Field(None, description="The budget.")
    left_out: list[WarmupOmission] = Field(default_factory=list, description="What the budget had no room for.")
    log: RequestLogReading | None = Field(None, description="The requests' log; None: another source.")


class ServableRecord(Record):
    """results/servables/{model}/{version}.json: the digest that decides whether anything downstream reruns."""

    model: str
    version: int
    tree: TreeManifest
    checkpoint_digest: Digest
    export_digest: Digest
    stablehlo_digest: Digest | None = Field(None, description="Where server.backend is stablehlo.")
    warmup_digest: Digest


# --- image, launch ---------------------------------------------------------------------------------


class LayerRecord(Record):
    """One layer of an OCI image."""

    name: str = Field(description="base, tensorflow, packages, server, model, config.")
    digest: Digest = Field(description="Of the blob as stored.")
    diff_id: Digest = Field(description="Of the uncompressed tar.")
    bytes: int
    raw_bytes: int
    cached: bool = Field(description="Taken from the layer cache in this build.")


class ImageRecord(Record):
    """results/images/{model}/image.json."""

    model: str
    versions: list[int]
    reference: str = Field(description="Name and tag under which engines know it, e.g. slipway/digits:2.")
    image_id: Digest = Field(description="Digest of the image config: the same for every compression.")
    manifest_digest: Digest
    layers: list[LayerRecord]
    compression: Literal["gzip", "zstd", "none"]
    base: str
    packages: dict[str, str] = Field(description="Python package -> version inside the image.")
    created: str = Field(description="RFC 3339, from SOURCE_DATE_EPOCH, never the time of the build.")

    @property
    def bytes(self) -> int:
        """Size of all blobs, as a registry stores them."""
        return sum(layer.bytes for layer in self.layers)


class GoldenAnswer(Record):
    """Golden requests sent through one protocol, compared with the checkpoint's own answers."""

    protocol: Protocol
    version: int
    parity: list[Parity]
    accuracy: float | None = None


class EngineRecord(Record):
    """What ran the image."""

    name: str = Field(description="docker, podman, podman+runc, … or process.")
    version: str
    isolated: bool = Field(description="False for a plain local process: then the report says so loudly.")
    network: str
    rejected: dict[str, str] = Field(default_factory=dict, description="Engine tried before -> why it would not do.")


class LaunchRecord(Record):
    """results/launch/{model}.json."""

    model: str
    image_id: Digest
    engine: EngineRecord
    ready_s: float = Field(description="From the start of the container until every version was AVAILABLE.")
    versions: dict[int, str] = Field(description="Version -> state, as the server reported it.")
    answers: list[GoldenAnswer]
    replayed: dict[int, int] | None = Field(
        None, description="Version -> warm-up records replayed before it was AVAILABLE, by the server's own count."
    )
    stop_s: float = Field(description="From SIGTERM to the end of the process.")
    exit_code: int

    @property
    def ok(self) -> bool:
        """Whether the server answered right and stopped well."""
        return self.exit_code == 0 and all(p.ok for a in self.answers for p in a.parity)


# --- environment ----------------------------------------------------------------------------------


class Environment(Record):
    """Where and with what everything ran; an allow-list, never environment variables."""

    cpu: str
    logical_cpus: int
    memory_bytes: int
    kernel: str
    python: str
    gpus: list[str]
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    slipway: str


# --- benchmark -------------------------------------------------------------------------------------


class Payload(Record):
    """The values every request of a cell carries, and what they weigh in each protocol."""

    id: str
    signature: str
    rows: int
    distinct: int = Field(description="Different payloads, sent in turn.")
    values_digest: Digest
    rest_body_bytes: float = Field(description="Mean over the distinct payloads.")
    rest_plain_body_bytes: float | None = Field(
        None, description="What `json.dumps` makes of the same values, with the digits of doubles; null: no numbers."
    )
    grpc_message_bytes: float


class Load(Record):
    """How requests are offered."""

    kind: Literal["closed", "open"]
    concurrency: int | None = Field(None, description="Closed loop: users, each with one connection, one in flight.")
    rate: float | None = Field(None, description="Open loop: offered requests per second (Poisson arrivals).")


class Latency(Record):
    """Percentiles of one window in microseconds; None where too few samples prove it."""

    samples: int
    mean_us: float
    p50_us: float | None
    p90_us: float | None
    p95_us: float | None
    p99_us: float | None
    p999_us: float | None
    max_us: float


class GpuUse(Record):
    """What all NVIDIA GPUs of the machine did in one window, by their driver."""

    devices: int
    utilisation: float = Field(description="Share of the time in which a kernel ran (0..1), mean over the GPUs.")
    memory_bytes: int = Field(description="In use at most, all GPUs together.")
    power_w: float | None = Field(description="Mean over the window, all GPUs together; null: they do not say.")
    slowed: list[str] = Field(description="Why the driver lowered clocks, but for idleness and clocks that were set.")
    ecc_errors: int | None = Field(description="Uncorrected errors of memory in the window; null: not counted.")


class Repetition(Record):
    """One measured window of one cell."""

    index: int
    order: int = Field(description="Place in the run: cells are interleaved in a seeded random order.")
    window_s: float
    discarded_s: float = Field(description="Warm-up in front of the window that does not count.")
    completed: int
    errors: dict[str, int] = Field(description="Kind of error -> count.")
    wrong_answers: int
    checked_answers: int
    throughput_rps: float
    predictions_per_s: float
    latency: Latency = Field(
        description="Closed loop: service latency; open loop: response latency from the planned send."
    )
    slip_p99_us: float | None = Field(None, description="Open loop: how late requests left.")
    offered: int | None = Field(None, description="Open loop: requests planned in the window.")
    bytes_sent_per_request: float | None
    bytes_received_per_request: float | None
    server_cpu_us_per_request: float | None
    generator_cpu_us_per_request: float
    generator_utilisation: float = Field(
        description="CPU seconds the generator used per second of window, of one core; of several processes the busiest one."
    )
    foreign_cpu_cores: float | None = Field(
        None, description="Of the cores for server and generator (all, if not pinned), those that something else used."
    )
    loop_lag_p99_us: float | None = Field(None, description="How late the generator's event loop woke up, usually.")
    loop_lag_max_us: float | None = Field(None, description="How late at worst.")
    batch_sizes: dict[int, int] = Field(
        description="Rows in an executed batch -> batches, in warm-up and window; empty: the server does not say."
    )
    batch_reasons: dict[str, int] = Field(
        default_factory=dict,
        description="Why batches were released -> batches: full, timeout, free (a thread was), rerun; empty: not told.",
    )
    stages_us: dict[str, float] = Field(
        description="Server's mean time per request by stage, in warm-up and window: parse, batch_wait, queue, compute, encode…"
    )
    trend: float | None = Field(
        None,
        description="z of Mann–Kendall's test on answers per quarter of a second; null: an open loop, or too little for it.",
    )
    in_flight: float | None = Field(None, description="Closed loop: requests under way at the client, mean.")
    server_in_flight: float | None = Field(
        None, description="Requests under way in the server, mean: its rate times its own latency (Little)."
    )
    reconnects: int | None = Field(None, description="Connections that were opened again under load.")
    sent_again_share: float | None = Field(None, description="Of the bytes sent, those that TCP sent again (0..1).")
    disturbed_slots: float | None = Field(
        None, description="Share of the half seconds in which something else used more than 0.2 cores."
    )
    stolen_share: float | None = Field(None, description="Of the CPUs' time, what a hypervisor gave to others (0..1).")
    clock_share: float | None = Field(
        None, description="Median clock of the server's CPUs while they were busy, as a share of the second highest."
    )
    throttled_share: float | None = Field(
        None, description="Of the window, how long a quota had the server or the load generator wait (0..1)."
    )
    undeclared: list[str] | None = Field(
        None,
        description="Settings that the server tells, where they differ from those declared; null: none could be compared.",
    )
    gpu: GpuUse | None = Field(None, description="null: no GPU did anything, or nothing here can ask one.")
    histogram: dict[int, int] = Field(description="Log-linear latency histogram: upper bound in µs -> count.")
    per_slot: list[int] = Field(description="Completions in each 250 ms of warm-up and window.")
    invalid: list[str] = Field(description="Validity rules that were broken; empty if the repetition counts.")


class Distribution(Record):
    """Latency over all requests of all repetitions that count, read off the raw samples: for a drawing, not for a verdict."""

    samples: int
    quantiles: list[float] = Field(description="0..1, ascending; those that the samples prove something about.")
    latency_us: list[float] = Field(description="Of each of them: a latency that some request had.")


class Cell(Record):
    """One protocol under one load."""

    id: str
    protocol: Protocol
    payload: str
    load: Load
    repetitions: list[Repetition]
    distribution: Distribution | None = Field(None, description="null: nothing counts, or an older Slipway measured.")


class FirstRequests(Record):
    """Requests of one signature and batch size, one after the other."""

    signature: str
    rows: int
    first_us: float
    later_us: list[float] = Field(description="Those after it, in order.")


class ColdStart(Record):
    """One start of a fresh server and its first requests."""

    warmed: bool = Field(description="Whether warm-up records were replayed before AVAILABLE.")
    protocol: Protocol
    ready_s: float
    first_requests_us: list[float]
    by_batch: list[FirstRequests] = Field(
        default_factory=list,
        description="After those: every warm-up record as a request. The first of the signature and batch size that "
        "`first_requests_us` are of is no first one here.",
    )


class Ceiling(Record):
    """What the load generator got from a server that does nothing: the most it can get from any."""

    protocol: Protocol
    concurrency: int
    throughput_rps: float
    generator_cpu_us_per_request: float
    generator_utilisation: float = Field(
        description="Of one core, at the ceiling; of several processes the busiest one."
    )
    floor_p50_us: float = Field(description="Median latency with one request in flight: none can be measured below it.")
    processes: int = Field(1, description="Of the load generator: how many made the load together.")


class ScenarioWindow(Record):
    """One window of a scenario."""

    label: str = Field(description="Which step of the scenario, such as `8 rows`.")
    protocol: Protocol
    rows: int = Field(description="In each request.")
    load: Load
    tier: Tier = Field(
        "wire",
        description="Whose clients sent it: the load generator's own (wire), libraries that Python programs take (library), or "
        "h2load (native). Everything outside of scenarios is of the wire tier.",
    )
    repetition: Repetition


class ScenarioValue(Record):
    """One number that a scenario answers its question with."""

    key: str = Field(description="What it is, such as rate_at_slo; the same in every run.")
    name: str = Field(description="What it is, in words.")
    protocol: Protocol | None = Field(None, description="None: of both together.")
    label: str = Field("", description="Which step of the scenario; empty: the whole.")
    value: float | None = Field(description="None: it could not be found; a note says why.")
    unit: Literal["1/s", "rows/s", "us", "s", "bytes", "share", "count", "share/h", "ratio"]
    low: float | None = Field(None, description="Lower end of the 95 % interval.")
    high: float | None = None


class ScenarioSeries(Record):
    """How something went over time."""

    name: str
    protocol: Protocol | None = None
    unit: Literal["1/s", "us", "bytes"]
    x_s: list[float] = Field(description="Seconds since the scenario's load began.")
    y: list[float | None]


# How a reason begins why a scenario was not even tried: what it needs is not here.
UNTRIED = "not measured"


class ScenarioRecord(Record):
    """One scenario of a benchmark: what was asked, what was found, and whether it counts."""

    name: str = Field(description="As the config calls it.")
    kind: str
    settings: dict[str, Any] = Field(description="As they were used.")
    duration_s: float
    values: list[ScenarioValue]
    series: list[ScenarioSeries] = Field(default_factory=list)
    windows: list[ScenarioWindow]
    faults: list[str] = Field(default_factory=list, description="What the server did that it must not.")
    invalid: list[str] = Field(default_factory=list, description="Why the whole does not count; empty if it does.")
    notes: list[str] = Field(default_factory=list, description="What must be read with the numbers.")

    @property
    def is_untried(self) -> bool:
        """Whether nothing of it was measured, because what it needs is not here."""
        return bool(self.invalid) and all(why.startswith(UNTRIED) for why in self.invalid)


class TargetRecord(Record):
    """A server that somebody else started, as far as it tells."""

    addresses: dict[Protocol, str] = Field(description="Protocol -> host:port.")
    versions: dict[int, str] | None = Field(None, description="Version -> state; None: it does not say.")
    signature: SignatureRecord
    method: Literal["predict", "classify", "regress"] = Field("predict", description="By which it is called.")
    label: str = Field(
        "", description="Label of the version that is asked; empty: it is asked by number, or by neither."
    )
    tls: dict[Protocol, str] = Field(
        default_factory=dict, description="Protocol -> version and cipher of its TLS; one that is not here is plain."
    )
    payload: str = Field(description="Where requests come from, and what their answers are held against.")


class Placement(Record):
    """Which CPUs did what."""

    logical_cpus: int
    server_cpus: str
    generator_cpus: str
    pinned: bool
    generator_processes: int = Field(1, description="How many processes of the load generator make a load together.")


class BenchmarkRecord(Record):
    """results/benchmarks/{model}/{version}/benchmark.json."""

    model: str
    version: int
    servable_digest: Digest | None = Field(description="None: the server is not ours, and does not say.")
    image_id: Digest | None = Field(description="None: likewise.")
    engine: EngineRecord
    target: TargetRecord | None = Field(None, description="The server that was measured; None: the line's own.")
    seed: int
    started: str = Field(description="RFC 3339, UTC.")
    duration_s: float
    placement: Placement
    server_flags: list[str]
    batching: dict[str, int | list[int]] | None
    thread_plan: str = Field(
        "",
        description="Whether a batch had all CPUs (one_batch) or one (batch_per_core), by the server; empty: not told.",
    )
    payloads: list[Payload]
    window_s: float | None = Field(
        None,
        description="Length of a window of the cells, as configured; one that had not settled was measured again and longer. "
        "null: an older Slipway measured.",
    )
    warmup_s: float | None = Field(
        None, description="Load in front of each, as configured; it may have taken longer to settle. null: likewise."
    )
    cells: list[Cell]
    cold_starts: list[ColdStart]
    scenarios: list[ScenarioRecord] = Field(default_factory=list)
    cut_short: str = Field("", description="Why it ended before its time; empty: it did not.")
    reruns: int = Field(0, description="Windows that broke a rule and were measured again; the second try stands.")
    resident_bytes: int | None = Field(None, description="Of the server at the end of the load.")
    ceilings: list[Ceiling] = Field(default_factory=list, description="Calibration of the generator, per protocol.")
    locust: dict[str, str] = Field(default_factory=dict, description="Versions of the load generator's parts.")
    not_measured: dict[str, str] = Field(default_factory=dict, description="What was left out -> why.")
    environment: Environment | None = Field(
        None, description="As it was while measuring (provenance.environment()); the report has no better source."
    )


# --- api -------------------------------------------------------------------------------------------


class SnippetRecord(Record):
    """A program of a few lines that calls the model."""

    title: str = Field(description="What it is written in.")
    file: str = Field(description="Its name in the directory that it runs in.")
    text: str


class ApiRecord(Record):
    """results/api/{model}.json."""

    model: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Names a directory, too.")
    version: int = Field(description="The version whose golden rows and answers are the examples.")
    signature: str = Field(description="What the snippets call.")
    snippets: list[SnippetRecord]
    tree: TreeManifest = Field(description="results/api/{model}: OpenAPI, requests, answers, programs.")


# --- result ----------------------------------------------------------------------------------------


class StageTime(Record):
    """Wall time of one job, from Snakemake's benchmark file."""

    stage: str
    job: str
    seconds: float


class VersionResult(Record):
    """Everything known of one version."""

    version: int
    checkpoint: CheckpointRecord
    export: ExportRecord
    validation: ValidationRecord
    warmup: WarmupRecord
    servable: ServableRecord


class ModelResult(Record):
    """Everything known of one model."""

    model: str
    versions: list[VersionResult]
    image: ImageRecord
    launch: LaunchRecord
    benchmarks: list[BenchmarkRecord]
    api: ApiRecord | None = Field(None, description="How it is called; None: a run of an older Slipway.")


class TargetResult(Record):
    """result.json of `slipway bench`: what a server that somebody else started does under load."""

    schema_: Literal["slipway.bench/1"] = Field("slipway.bench/1", alias="schema")
    run_id: str
    created: str = Field(description="RFC 3339, UTC: when the measurement ended.")
    title: str
    command: str = Field(description="What a reader types to redo it.")
    environment: Environment = Field(description="Of the load generator's machine.")
    benchmark: BenchmarkRecord

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Result(Record):
    """result.json: the page is a pure function of it."""

    schema_: Literal["slipway.result/1"] = Field("slipway.result/1", alias="schema")
    run_id: str
    created: str = Field(description="RFC 3339, UTC: when the newest measurement ended.")
    title: str
    command: str = Field(description="What a reader types to redo it.")
    environment: Environment
    models: list[ModelResult]
    stage_times: list[StageTime]
    prices: Prices | None = Field(None, description="What computing costs; None: nobody said.")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Read the result at *path*, also one of an older Slipway: what it did not know yet reads as not measured.

        Raises:
            SourceError: It is missing or damaged, or a newer Slipway wrote it; then it says which.
        """
        try:
            return super().read(path)
        except SourceError as error:
            if newer := _newer(path, cls.model_fields["schema_"].default):
                raise SourceError(f"{path}: {newer}") from error
            raise


def _newer(path: Path, known: str) -> str:
    """Say of a result that cannot be read that it is newer than this Slipway, or another file; "" if that cannot be told."""
    try:
        found = json.loads(path.read_bytes())
        schema = str(found.get("schema", ""))
        writer = str(found.get("environment", {}).get("slipway", ""))
    except (OSError, ValueError, AttributeError):
        return ""
    name, _, number = schema.rpartition("/")
    known_name, _, known_number = known.rpartition("/")
    if name == known_name and number.isdecimal() and int(number) > int(known_number):
        what = f"it is {schema}, and Slipway {__version__} reads up to {known}"
    elif _numbers(writer) > _numbers(__version__):
        what = f"it was written by Slipway {writer}, and this is {__version__}"
    elif name.startswith("slipway.") and name != known_name:
        return f"expected {known}, found {schema}: it is another file of Slipway's."
    else:
        return ""
    return f"{what}. Use the newer Slipway for it{f' ({writer})' if writer else ''}; nothing is wrong with the file."


def _numbers(version: str) -> list[int]:
    """Take the leading numbers of a version apart, to compare: 0.12.1.dev3 is [0, 12, 1]."""
    parts = itertools.takewhile(str.isdecimal, version.split("."))
    return [int(part) for part in parts]

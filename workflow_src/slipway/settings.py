"""
The settings: config.yaml as typed, frozen values, or one line per fault.

The YAML is the *config*; what is made from it here are the *settings*. `config/config.schema.json` is
generated from these models for editors, and a test keeps it in step.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from slipway.errors import SettingsError
from slipway.prices import Prices
from slipway.scenario_settings import STANDARD, Scenario, with_kinds
from slipway.serving_settings import Rollback, ServingSettings, VersionNumber
from slipway.source_settings import Section, Source

# Also a word of image names, which end in a letter or a digit.
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9_-]{0,61}[a-z0-9])?$")]


# --- models ----------------------------------------------------------------------------------------


class VersionSettings(Section):
    """One version of a model."""

    source: Source
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="Digest of the source's content, as `slipway add-version` writes it; the line refuses another content.",
    )


class ModelSettings(Section):
    """One servable: its contract and its versions."""

    contract: Path = Field(description="The YAML contract that drives export, validation, warm-up and load.")
    versions: dict[VersionNumber, VersionSettings] = Field(
        min_length=1,
        description="Explicit integers: a number that counts up by itself would not be reproducible.",
    )
    contract_baseline: Path | None = Field(
        None,
        description="The contract that callers know (YAML or JSON); a new one that breaks them fails the validation. "
        "Without it, the newest that was published counts.",
    )
    allow_breaking: str | None = Field(
        None,
        min_length=1,
        description="Why this contract may break callers of the one before; take it out again once it is published.",
    )
    warmup: "WarmupSettings | None" = Field(None, description="Takes the place of the section `warmup` for this model.")
    server: "ServerSettings | None" = Field(
        None,
        description="Takes the place of the section `server` for this model's image, such as {batching: null} for one "
        "whose rows must not be put together.",
    )
    serving: ServingSettings = Field(default_factory=ServingSettings)

    @model_validator(mode="after")
    def _what_is_served_exists(self) -> "ModelSettings":
        if faults := self.serving.faults(self.versions):
            raise ValueError("\n".join(faults))
        return self


# --- warm-up ---------------------------------------------------------------------------------------


class RecordedRequests(Section):
    """Requests that were logged in production."""

    path: Path = Field(
        description="A request log, or a directory of them: PredictionLog records (TFRecord), as model servers log "
        "requests; or JSON lines, each a REST body or a line of our server's own log."
    )
    model: str | None = Field(
        None, min_length=1, description="Name under which the model was served there; without it the model's own."
    )
    versions: list[VersionNumber] | None = Field(
        None,
        min_length=1,
        description="Take requests that these versions answered, and no others; without it of any version, for a new "
        "one has been asked nothing yet.",
    )


class WarmupSettings(Section):
    """What a version is asked before it serves: every signature in every allowed batch size."""

    source: Literal["golden", "recorded", "synthetic"] = Field(
        "golden",
        description="Rows to ask with: golden data; requests that were logged; or rows made up from the contract. "
        "Where a signature has no golden rows, or too few were logged, the rest is made up.",
    )
    recorded: RecordedRequests | None = Field(None, description="The logged requests; for `source: recorded`.")
    seed: int | None = Field(None, ge=0, description="Seed of made-up rows; without it the contract's probe.seed.")
    max_bytes: PositiveInt = Field(
        64 * 2**20,
        # A message of protobuf can be no larger.
        le=2**31 - 1,
        description="Most that all records together may weigh. Where they would weigh more, the largest carry one value "
        "that fills their tensors; what is too large even so is left out, the largest batch sizes first.",
    )

    @model_validator(mode="after")
    def _recorded_are_named(self) -> "WarmupSettings":
        if (self.source == "recorded") != (self.recorded is not None):
            raise ValueError("`source: recorded` and `recorded: {path: …}` go together")
        return self

    def files(self) -> list[str]:
        """List the files that records are made from; the directory itself while there is nothing in it."""
        if self.recorded is None:
            return []
        path = self.recorded.path
        return [str(file) for file in log_files(path)] if path.is_dir() else [str(path)]


def log_files(directory: Path) -> list[Path]:
    """List the files directly in *directory*, by name; hidden ones are no logs."""
    return sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))


# --- server, image, launch -------------------------------------------------------------------------


# As many as a batch has where nothing else is said.
_MOST_ROWS = 32


class BatchingSettings(Section):
    """The server's batching parameters; names and meanings are TF Serving's."""

    max_batch_size: PositiveInt = 32
    batch_timeout_micros: int = Field(0, ge=0, description="0: a batch leaves as soon as a thread is free.")
    max_enqueued_batches: PositiveInt = 64
    num_batch_threads: PositiveInt = 2
    allowed_batch_sizes: list[PositiveInt] = Field(
        [1, 2, 4, 8, 16, 32],
        description="Batches are padded up to one of these; every one of them is warmed.",
    )

    @model_validator(mode="after")
    def _sizes_end_at_the_maximum(self) -> "BatchingSettings":
        sizes = self.allowed_batch_sizes
        if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            msg = (
                f"allowed_batch_sizes must increase and end with max_batch_size: "
                f"last entry was {sizes[-1]}; expected {self.max_batch_size}"
            )
            raise ValueError(msg)
        return self


class ServerSettings(Section):
    """How the server runs in the image."""

    batching: BatchingSettings | None = Field(
        default_factory=BatchingSettings,
        description="null: every request runs by itself.",
    )
    backend: Literal["saved_model", "stablehlo"] = Field(
        "saved_model",
        description="stablehlo: every signature is compiled by XLA, and the image has JAX's runtime in TensorFlow's place; "
        "for signatures that take and give numbers, in shapes that are known but for the rows.",
    )
    compiled_batch_sizes: list[PositiveInt] = Field(
        default_factory=list,
        description="Numbers of rows that backend stablehlo is compiled for; without it allowed_batch_sizes, or without "
        "batching 1, 2, 4, 8, 16 and 32. Other numbers are filled up, or run in parts.",
    )
    flags: list[str] = Field(
        default_factory=list, description="More flags for the server, such as --num_load_threads=2."
    )

    @model_validator(mode="after")
    def _compiled_sizes_fit(self) -> "ServerSettings":
        sizes = self.compiled_batch_sizes
        if sizes and self.backend != "stablehlo":
            raise ValueError("compiled_batch_sizes is for `backend: stablehlo`")
        if sizes != sorted(set(sizes)):
            raise ValueError(f"compiled_batch_sizes must increase, got {sizes}")
        return self

    def sizes_to_compile(self) -> list[int]:
        """List the numbers of rows that a version is compiled for, fewest first."""
        batching = self.batching
        most = batching.max_batch_size if batching else _MOST_ROWS
        powers = [2**power for power in range(most.bit_length()) if 2**power < most]
        return self.compiled_batch_sizes or (batching.allowed_batch_sizes if batching else []) or [*powers, most]


class ImageSettings(Section):
    """How the OCI image is put together."""

    compression: Literal["gzip", "zstd", "none"] = Field("gzip", description="gzip is read by every engine.")
    slim: Literal["none", "safe"] = Field("safe", description="safe: leave out headers, tests and build tools.")
    base: Path | None = Field(None, description="A root file system as .tar, instead of one made from Debian packages.")
    suite: str = Field("bookworm", description="Debian release that the base is made from.")
    strict: bool = Field(
        default=False,
        description="Refuse to build where a locked Debian package has left the mirror. Without it the image is made "
        "from the newer one, and its record and the report say so.",
    )
    repository: str = Field(
        "slipway/{model}",
        # The grammar of image names (distribution/reference), with {model} as a word.
        pattern=r"^([a-z0-9]|\{model\})([a-z0-9._/:-]|\{model\})*$",
        description="Repository part of the image's name; {model} stands for the model's.",
    )
    user: int = Field(10001, ge=1, description="Numeric user and group of the server.")


class LaunchSettings(Section):
    """How the image is run here."""

    engine: Literal["auto", "docker", "podman", "process"] = Field(
        "auto",
        description="auto: the first that really runs the image; `process` (no container) only as a last resort.",
    )
    memory: str = Field("4g", pattern=r"^[1-9][0-9]*[kmg]$")
    pids: PositiveInt = 512
    ready_timeout_s: PositiveFloat = 120
    stop_timeout_s: PositiveFloat = 20
    gpus: Literal["none", "all"] = "none"


# --- benchmark, report -----------------------------------------------------------------------------


Share = Annotated[float, Field(gt=0, le=0.95)]


class BenchmarkSettings(Section):
    """What is measured, for how long, and how often."""

    versions: dict[Name, list[VersionNumber]] = Field(
        default_factory=dict,
        description="Versions to measure, per model; a model that is not named: its newest version.",
    )
    signature: str | None = Field(
        None,
        description="Signature that the load calls; without it serving_default or, where that takes no tensors but "
        "tf.Examples, the one that golden data are about.",
    )
    rows: PositiveInt = Field(1, description="Rows in each request.")
    concurrency: list[PositiveInt] = Field([1, 4, 16, 64], min_length=1, description="Closed loop: users at once.")
    open_loop_share: Share | Annotated[list[Share], Field(min_length=1)] = Field(
        0.5,
        description="Open loop: offered rate as a share of the slower protocol's peak; several, rising, for latency by rate.",
    )
    open_loop_rate: PositiveFloat | None = Field(
        None, description="Open loop: offered requests per second, instead of a share of the peak."
    )
    window_s: PositiveFloat = Field(3.0, description="Length of one measured window.")
    warmup_s: PositiveFloat = Field(0.5, description="Load in front of each window that does not count.")
    repetitions: PositiveInt = Field(
        6, description="Windows per cell; 6 are the fewest that give a 95 % interval of the median."
    )
    cold_starts: int = Field(3, ge=0, description="Starts of a fresh server, each with and without warm-up records.")
    seed: int = Field(1, ge=0, description="Seed of the order of cells, of arrivals and of the choice of payloads.")
    scenarios: dict[Name, Scenario] = Field(
        default_factory=dict,
        description="More loads, measured after the standard ones; a scenario that is called like a kind is of that kind.",
    )
    only: list[str] = Field(
        default_factory=list,
        description="Measure these alone: names of scenarios, or cold_start, saturation, open_loop for the standard loads; "
        "empty: everything.",
    )
    generator_processes: PositiveInt | None = Field(
        None,
        description="Processes of the load generator that make each load together; without it one for each CPU that it has: 1 of 2 "
        "to 7 CPUs, 2 of 8 to 15, else 4.",
    )
    cluster_threads: PositiveInt = Field(4, description="Cores of a benchmark job where Snakemake has no --cores.")

    @model_validator(mode="before")
    @classmethod
    def _named_like_a_kind(cls, given: Any) -> Any:
        if isinstance(given, dict) and "scenarios" in given:
            return {**given, "scenarios": with_kinds(given["scenarios"])}
        return given

    @field_validator("open_loop_share", mode="wrap")
    @classmethod
    def _shares_rise(cls, given: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        # One line, where a union has a fault for each of its members.
        wanted = "expected a number above 0 and up to 0.95, or a list of such numbers that rise"
        try:
            found = validate(given)
        except ValidationError as error:
            raise ValueError(f"{wanted}, got {given!r}") from error
        if isinstance(found, list) and found != sorted(set(found)):
            raise ValueError(f"{wanted}, got {given!r}")
        return found

    @property
    def open_loop_shares(self) -> list[float]:
        """The offered rates of the open loop, as shares of the slower protocol's peak, lowest first."""
        return self.open_loop_share if isinstance(self.open_loop_share, list) else [self.open_loop_share]

    @property
    def open_loop_rates(self) -> int:
        """How many rates the open loop has."""
        return 1 if self.open_loop_rate is not None else len(self.open_loop_shares)

    @model_validator(mode="after")
    def _only_what_there_is(self) -> "BenchmarkSettings":
        there = (*STANDARD, *self.scenarios)
        if unknown := [name for name in self.only if name not in there]:
            raise ValueError(f"only: no scenario {unknown[0]}; there are: {', '.join(there)}")
        if clash := [name for name in self.scenarios if name in STANDARD]:
            raise ValueError(
                f"scenarios.{clash[0]}: this is what the section benchmark itself describes; take another name"
            )
        return self

    def wants(self, name: str) -> bool:
        """Say whether scenario *name*, or the standard load called so, is to be measured."""
        return not self.only or name in self.only


class ReportSettings(Section):
    """What the page says of itself."""

    title: str = "Slipway"
    prices: Prices | None = Field(
        None, description="What computing costs here; without it the report tells no cost in money."
    )


class PublishSettings(Section):
    """Where reports are kept."""

    directory: Path = Field(Path("published"), description="Gets one folder per run and an index of all runs.")


class Settings(Section):
    """Everything in config.yaml."""

    format: Literal[1]
    models: dict[Name, ModelSettings] = Field(default_factory=dict, min_length=1, validate_default=True)
    sheet: Path | None = Field(
        None,
        description="More models: a table (.csv, .tsv, .yaml) with a row for each version and the columns model, version, "
        "kind, path, contract and source.KEY for whatever else a source has.",
    )
    warmup: WarmupSettings = Field(default_factory=WarmupSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    image: ImageSettings = Field(default_factory=ImageSettings)
    launch: LaunchSettings = Field(default_factory=LaunchSettings)
    benchmark: BenchmarkSettings = Field(default_factory=BenchmarkSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)
    publish: PublishSettings = Field(default_factory=PublishSettings)
    rollbacks: list[Rollback] = Field(
        default_factory=list, description="What `slipway rollback` did, oldest first. Nothing is built from it."
    )

    @model_validator(mode="after")
    def _benchmarked_versions_exist(self) -> "Settings":
        for model, versions in self.benchmark.versions.items():
            known = self.models.get(model)
            if known is None:
                raise ValueError(f"benchmark.versions: no model {model}; there are: {', '.join(sorted(self.models))}")
            if missing := [version for version in versions if version not in known.versions]:
                there = ", ".join(map(str, sorted(known.versions)))
                raise ValueError(f"benchmark.versions.{model}: no version {missing[0]}; there are: {there}")
        return self

    def versions(self, model: str) -> list[int]:
        """List the versions of *model*, lowest first."""
        return sorted(self.models[model].versions)

    def warmup_of(self, model: str) -> WarmupSettings:
        """Give what holds for the warm-up of *model*."""
        return self.models[model].warmup or self.warmup

    def server_of(self, model: str) -> ServerSettings:
        """Give how the server runs in the image of *model*."""
        return self.models[model].server or self.server

    def served(self, model: str) -> list[int]:
        """List the versions of *model* that the server in its image serves, lowest first."""
        return self.models[model].serving.served(self.models[model].versions)

    def benchmarked(self, model: str) -> list[int]:
        """
        List the versions of *model* that are measured, lowest first.

        Of those that `benchmark.versions` names, or by itself the newest; but only what is served can be measured, and a
        rollback must not fail because of what it takes out of service.
        """
        served = self.served(model)
        return sorted(set(self.benchmark.versions.get(model, ())) & set(served)) or served[-1:]


def cache_directory(environment: Mapping[str, str]) -> Path:
    """
    Find the directory for what is the same in every project: wheels, image layers, the base.

    Args:
        environment: SLIPWAY_CACHE, if set; else XDG_CACHE_HOME or HOME decide, as the XDG base directory
            specification says.
    """
    if chosen := environment.get("SLIPWAY_CACHE"):
        return Path(chosen)
    return Path(environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/tmp")) / ".cache", "slipway")  # noqa: S108


def parse_settings(config: Mapping[str, Any], name: str = "config") -> Settings:
    """
    Make settings from a parsed YAML mapping.

    Args:
        config: What the YAML file holds; keys Snakemake adds of its own are not expected.
        name: What errors call it, such as config/config.yaml.

    Raises:
        SettingsError: With one line per fault, each naming the key, what was expected and what was found.
    """
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, name))) from error


def of_its_own_models(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Take the models of config/config.yaml out of *config* where the command line brings models of its own.

    Snakemake merges what a `--configfile` says into config/config.yaml: a file that names models would get the
    models there beside its own, and build and measure them, too. One that names none changes how those are run. A
    sheet names models as well.

    Args:
        config: The merged config.
        given: What `--configfile` and `--config` say, merged.
    """
    if not given.get("models") and not given.get("sheet"):
        return dict(config)
    own = {key: value for key, value in config.items() if key != "sheet"}
    own |= {key: given[key] for key in ("models", "sheet") if given.get(key)}
    if not given.get("models"):
        own.pop("models", None)
    if isinstance(benchmark := config.get("benchmark"), Mapping):
        # Which versions are measured is said per model.
        shared = {key: value for key, value in benchmark.items() if key != "versions"}
        own["benchmark"] = shared | (given.get("benchmark") or {})
    return own


def check_files(settings: Settings, name: str = "config") -> None:
    """Raise SettingsError, one line per fault, unless every file that *settings* names is there."""
    faults = []
    for model, chosen in settings.models.items():
        if not chosen.contract.is_file():
            faults.append(f"{name}: models.{model}.contract: no file {chosen.contract}; looked in {Path.cwd()}")
        if chosen.contract_baseline and not chosen.contract_baseline.is_file():
            faults.append(
                f"{name}: models.{model}.contract_baseline: no file {chosen.contract_baseline}; looked in {Path.cwd()}"
            )
        for version, made in chosen.versions.items():
            faults += [
                f"{name}: models.{model}.versions.{version}.source: no file {file}; looked in {Path.cwd()}"
                for file in made.source.files()
                if not Path(file).exists()
            ]
        if (recorded := settings.warmup_of(model).recorded) and not recorded.path.exists():
            where = f"models.{model}.warmup" if chosen.warmup else "warmup"
            faults.append(f"{name}: {where}.recorded.path: nothing at {recorded.path}; looked in {Path.cwd()}")
    if settings.image.base and not settings.image.base.is_file():
        faults.append(f"{name}: image.base: no file {settings.image.base}; looked in {Path.cwd()}")
    if faults:
        raise SettingsError("\n".join(faults))


def fault_lines(error: ValidationError, name: str, schema: str = "config/config.schema.json") -> list[str]:
    """Turn every fault that pydantic found into one line `name: key.path: what, got …`; *schema* lists the keys there are."""
    return [line for fault in error.errors() for line in _lines_of_fault(fault, name, schema)]


def _lines_of_fault(fault: Any, name: str, schema: str) -> list[str]:
    where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    where = f"{where}: " if where else ""
    return [f"{name}: {where}{line}" for line in fault_texts(fault, schema)]


def fault_texts(fault: Any, schema: str = "config/config.schema.json") -> list[str]:
    """Tell one fault that pydantic found, without its place: `what, got …`. A validator of ours may find several at once."""
    what = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    got = "" if fault["type"] in {"missing", "value_error", "extra_forbidden"} else f", got {fault['input']!r}"
    if fault["type"] == "extra_forbidden":
        what = f"unknown key; see {schema} for those there are"
    return [f"{line}{got}" for line in what.splitlines()]

"""The configuration that comes in text-format files, turned into frozen values once, at start."""

import dataclasses
import itertools
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_wire import messages, text_config
from slipway_wire.status import FailedPrecondition, InvalidArgument

_PLATFORM = "tensorflow"


@dataclass(frozen=True, slots=True)
class Latest:
    """The highest *num_versions* versions."""

    num_versions: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Every version there is."""


@dataclass(frozen=True, slots=True)
class Specific:
    """These versions, as far as they are there."""

    versions: frozenset[int]


VersionPolicy = Latest | All | Specific


@dataclass(frozen=True, slots=True)
class RequestLogConfig:
    """
    How a model's requests are logged.

    Attributes:
        kind: `tfrecord` (PredictionLog records) or `jsonl`.
        filename_prefix: Path that the files' names begin with.
        sampling_rate: Share of the answered requests, 0 to 1.

    Source of the fields: tensorflow_serving/config/logging_config.proto.
    """

    kind: str
    filename_prefix: str
    sampling_rate: float


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """
    One model to serve.

    Attributes:
        name: How requests name it.
        base_path: Directory that holds the version directories: an absolute path or a URI such as `gs://bucket/m`.
        version_policy: Which of its versions are served.
        version_labels: Label -> version.
        request_log: How its requests are logged; None: not at all.
    """

    name: str
    base_path: str
    version_policy: VersionPolicy = field(default_factory=Latest)
    version_labels: Mapping[str, int] = field(default_factory=dict)
    request_log: RequestLogConfig | None = None


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """
    How requests are put together into batches.

    Attributes:
        max_batch_size: Rows of the largest batch; with splitting, of the largest request.
        batch_timeout_s: An open batch older than this leaves when a thread is free; 0: whenever a thread is free.
        max_enqueued_batches: Batches that may wait in one queue; 0 counts as 1.
        num_batch_threads: Batches that run at once, of all models together.
        thread_pool_name: Label of these threads in the metrics.
        allowed_batch_sizes: Ascending; a batch is padded to the next of them. None: any size runs.
        pad_variable_length_inputs: Pad inputs that differ in other dimensions than the first to a common shape.
        enable_large_batch_splitting: Divide a request that does not fit over several batches.
        max_execution_batch_size: With splitting, rows of the largest batch; None: max_batch_size.

    Source: BatchingParameters in tensorflow_serving/servables/tensorflow/session_bundle_config.proto.
    """

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @property
    def largest_batch(self) -> int:
        """Rows of the largest batch that runs."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded(self, rows: int) -> int:
        """Return the smallest allowed batch size that *rows* rows fit in; *rows* itself if any size goes."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_model_server_config(path: Path) -> Any:
    """
    Read a text-format ModelServerConfig; `model_configs` judges what it says.

    Raises:
        InvalidArgument: The file cannot be read or parsed.
    """
    return read_text(path, messages.ModelServerConfig)


def single_model_config(name: str, base_path: str) -> Any:
    """Make the ModelServerConfig that `--model_name` and `--model_base_path` stand for."""
    config = messages.ModelServerConfig()
    if not is_uri(base_path):
        # TF Serving refuses a relative path here; it means only one thing, so it is taken for that.
        base_path = str(Path(base_path).absolute())
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=_PLATFORM)
    return config


def model_configs(config: Any, present: Any = None) -> tuple[ModelConfig, ...]:
    """
    Check a ModelServerConfig as a whole, and read the models it lists.

    Args:
        config: The message.
        present: The ModelServerConfig it is to replace, if there is one.

    Raises:
        InvalidArgument: It asks for what cannot be; nothing of it is to be applied then.
        FailedPrecondition: It cannot follow *present*.

    Source of the rules, their order and texts: tensorflow_serving/model_servers/server_core.cc.
    """
    kind = config.WhichOneof("config")
    if present is not None and present.WhichOneof("config") and kind != "model_config_list":
        raise FailedPrecondition(
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
        )
    if kind == "custom_model_config":
        raise InvalidArgument("custom_model_config is not supported; list the models in a model_config_list")
    listed = config.model_config_list.config
    seen = set()
    for model in listed:
        if not model.name:
            raise InvalidArgument(f"A model in the config list has no name; its base_path is {model.base_path!r}")
        if model.name in seen:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
    for model in listed:
        if not is_uri(model.base_path) and not Path(model.base_path).is_absolute():
            raise InvalidArgument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
    platforms = {model.name: _platform(model) for model in (present.model_config_list.config if present else ())}
    for model in listed:
        platform = _platform(model)
        if platform != (old := platforms.get(model.name, platform)):
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model {model.name} platform was {old} "
                f"and new platform requested is {platform}"
            )
        if platform != _PLATFORM:
            raise InvalidArgument(f"Model {model.name} requests unsupported platform {platform}")
    return tuple(map(_model_config, listed))


def is_uri(path: str) -> bool:
    """Say whether *path* names another file system, as in `gs://bucket/model`."""
    return re.match(r"[A-Za-z][A-Za-z0-9.+-]*://", path) is not None


def _platform(config: Any) -> str:
    has_type = config.model_type != messages.ModelType.Value("MODEL_TYPE_UNSPECIFIED")
    if not config.model_platform and not has_type:
        raise InvalidArgument(f"Illegal setting neither ModelConfig::model_type nor model_platform for {config.name}")
    if config.model_platform and has_type:
        raise InvalidArgument(f"Illegal setting both ModelConfig::model_type and model_platform for {config.name}")
    return config.model_platform or str(messages.ModelType.Name(config.model_type)).lower()


def _model_config(config: Any) -> ModelConfig:
    policy: VersionPolicy = Latest()
    match config.model_version_policy.WhichOneof("policy_choice"):
        case "latest":
            policy = Latest(config.model_version_policy.latest.num_versions)
        case "all":
            policy = All()
        case "specific":
            policy = Specific(frozenset(config.model_version_policy.specific.versions))
    request_log = request_log_config(config)
    if request_log is not None:
        check_writable(request_log)
    return ModelConfig(config.name, config.base_path, policy, dict(config.version_labels), request_log)


# Beside the SavedModel in a version directory. Source: tensorflow_serving/servables/tensorflow/bundle_factory_util.cc.
MODEL_BATCHING_FILE = "batching_params.pbtxt"


def read_batching_policy(path: Path) -> BatchingPolicy:
    """
    Read a text-format BatchingParameters; a field that is not set takes TF Serving's default.

    Raises:
        InvalidArgument: The file cannot be read or parsed, or the parameters contradict each other.
    """
    return batching_policy(read_text(path, messages.BatchingParameters))


def read_model_batching_policy(directory: Path, pool: BatchingPolicy) -> BatchingPolicy | None:
    """
    Read the parameters that a version brings along.

    Args:
        directory: The version's.
        pool: Gives what one model cannot choose: the threads, which all models share, and their name.

    Returns:
        The version's own parameters; None if it has none and is not to be batched.

    Raises:
        InvalidArgument: The file is there and cannot be used; the message names it.
    """
    path = directory / MODEL_BATCHING_FILE
    if not path.exists():
        return None
    try:
        parameters = text_config.parse(messages.BatchingParameters, path.read_bytes())
        parameters.ClearField("num_batch_threads")
        policy = batching_policy(parameters)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}") from error
    return dataclasses.replace(policy, num_batch_threads=pool.num_batch_threads, thread_pool_name=pool.thread_pool_name)


def batching_policy(parameters: Any) -> BatchingPolicy:
    """
    Turn a BatchingParameters message into a policy; a field that is not set takes TF Serving's default.

    Raises:
        InvalidArgument: The parameters contradict each other.

    Source of the rules and texts: WrapSessionForBatching in
    tensorflow_serving/servables/tensorflow/bundle_factory_util.cc and SharedBatchScheduler::Create and AddQueue in
    tensorflow/core/kernels/batching_util/shared_batch_scheduler.h.
    """
    default = BatchingPolicy()
    policy = BatchingPolicy(
        max_batch_size=_value(parameters, "max_batch_size", default.max_batch_size),
        batch_timeout_s=_value(parameters, "batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=_value(parameters, "max_enqueued_batches", default.max_enqueued_batches),
        num_batch_threads=_value(parameters, "num_batch_threads", default.num_batch_threads),
        thread_pool_name=_value(parameters, "thread_pool_name", default.thread_pool_name),
        allowed_batch_sizes=tuple(parameters.allowed_batch_sizes),
        pad_variable_length_inputs=parameters.pad_variable_length_inputs,
        enable_large_batch_splitting=_value(parameters, "enable_large_batch_splitting", default=False),
        max_execution_batch_size=_value(parameters, "max_execution_batch_size", None),
    )
    if policy.num_batch_threads < 1:
        raise InvalidArgument(f"num_batch_threads must be positive; was {policy.num_batch_threads}")
    if policy.max_batch_size < 1:
        # TF Serving's text calls it by the scheduler's name for it.
        raise InvalidArgument(f"input_batch_size_limit must be positive; was {policy.max_batch_size} (max_batch_size)")
    if policy.batch_timeout_s < 0:
        raise InvalidArgument(
            f"batch_timeout_micros must be non-negative; was {_value(parameters, 'batch_timeout_micros', 0)}"
        )
    if policy.max_enqueued_batches < (1 if policy.enable_large_batch_splitting else 0):
        raise InvalidArgument(f"max_enqueued_batches must be positive; was {policy.max_enqueued_batches}")
    if policy.largest_batch < 1:
        raise InvalidArgument(f"max_execution_batch_size must be positive; was {policy.largest_batch}")
    if policy.largest_batch > policy.max_batch_size:
        raise InvalidArgument(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            f"max_execution_batch_size. max_batch_size was {policy.max_batch_size}; "
            f"max_execution_batch_size was {policy.largest_batch}"
        )
    _check_allowed_sizes(policy)
    return policy


def _check_allowed_sizes(policy: BatchingPolicy) -> None:
    sizes = policy.allowed_batch_sizes
    if any(size < 1 for size in sizes) or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise InvalidArgument(
            "allowed_batch_sizes entries must be monotonically increasing and positive; "
            f"were {', '.join(map(str, sizes))}"
        )
    # With splitting TF Serving wants max_batch_size, too, although no batch becomes as large as that.
    if sizes and sizes[-1] not in {policy.max_batch_size, policy.largest_batch}:
        raise InvalidArgument(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {policy.max_batch_size}"
        )


# What a user hardly means: more waiting batches than this, a wait (s), and a share of a batch that may be padding.
_MANY_BATCHES = 10_000
_LONG_TIMEOUT_S = 1.0
_MOSTLY_PADDING = 0.9


def doubts_about(policy: BatchingPolicy) -> list[str]:
    """Name, one line each, the parameters that are valid and hardly ever what their author wants."""
    doubts = []
    if policy.max_enqueued_batches > _MANY_BATCHES:
        doubts.append(
            f"max_enqueued_batches is {policy.max_enqueued_batches}: an overloaded server will refuse nothing, and "
            "answer after its callers have left; the wait you can afford, divided by the time of a batch, is enough"
        )
    if policy.max_enqueued_batches == 0:
        doubts.append("max_enqueued_batches is 0, which counts as 1")
    if policy.batch_timeout_s >= _LONG_TIMEOUT_S:
        doubts.append(
            f"batch_timeout_micros is {policy.batch_timeout_s * 1e6:.0f}: a lone request will wait "
            f"{policy.batch_timeout_s:g} s for company; the unit is microseconds, and 0 waits only for a free thread"
        )
    if policy.largest_batch == 1:
        doubts.append("the largest batch has one row: nothing will be put together")
    for smaller, larger in itertools.pairwise((0, *policy.allowed_batch_sizes)):
        padding = 1 - (smaller + 1) / larger
        if padding > _MOSTLY_PADDING:
            doubts.append(
                f"allowed_batch_sizes goes from {smaller} to {larger}: a batch of {smaller + 1} will be {padding:.0%} "
                "padding; add a size in between"
            )
    if policy.max_execution_batch_size is not None and not policy.enable_large_batch_splitting:
        doubts.append("max_execution_batch_size has no effect without enable_large_batch_splitting { value: true }")
    room = policy.max_enqueued_batches * policy.largest_batch
    if policy.enable_large_batch_splitting and policy.max_batch_size > room:
        doubts.append(
            f"requests of more than {room} rows will always be refused, although max_batch_size is "
            f"{policy.max_batch_size}: that is all that max_enqueued_batches batches hold"
        )
    return doubts


def _value(parameters: Any, name: str, default: Any) -> Any:
    return getattr(parameters, name).value if parameters.HasField(name) else default


def read_metrics_path(path: Path) -> str | None:
    """
    Read a text-format MonitoringConfig; return the URL path of the metrics, or None if they are not enabled.

    Raises:
        InvalidArgument: The file cannot be read or parsed.
    """
    config = read_text(path, messages.MonitoringConfig).prometheus_config
    return (config.path or "/monitoring/prometheus/metrics") if config.enable else None


def read_text(path: Path, message_class: Any) -> Any:
    """
    Read a text-format message.

    Raises:
        InvalidArgument: The file cannot be read or parsed; the place of a syntax error goes to stderr.
    """
    try:
        return text_config.parse(message_class, path.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"Invalid protobuf file: '{path}': {error.strerror}") from error
    except InvalidArgument as error:
        # TF Serving's clients look for this line on stderr; there it is protobuf itself that writes it.
        sys.stderr.write(f"{error.message}\n")
        raise InvalidArgument(f"Invalid protobuf file: '{path}'") from error


def request_log_config(model: Any) -> RequestLogConfig | None:
    """
    Read the `logging_config` of a ModelConfig message; None if it has none.

    Raises:
        InvalidArgument: It is incomplete, or asks for what there is not.
    """
    if not model.HasField("logging_config"):
        return None
    collector, sampling = model.logging_config.log_collector_config, model.logging_config.sampling_config
    where = f"logging_config of model {model.name}"
    if collector.type not in {"tfrecord", "jsonl"}:
        raise InvalidArgument(f"{where}: log_collector_config.type must be tfrecord or jsonl; was {collector.type!r}")
    if not collector.filename_prefix:
        raise InvalidArgument(f"{where}: log_collector_config.filename_prefix must be set")
    if not model.logging_config.HasField("sampling_config"):
        raise InvalidArgument(f"{where}: sampling_config must be set, for example {{ sampling_rate: 0.01 }}")
    if not 0.0 <= sampling.sampling_rate <= 1.0:
        raise InvalidArgument(
            f"{where}: sampling_config.sampling_rate must be between 0 and 1; was {sampling.sampling_rate:g}"
        )
    return RequestLogConfig(collector.type, collector.filename_prefix, sampling.sampling_rate)


def check_writable(config: RequestLogConfig) -> None:
    """
    Find out before anything is served whether a log can be written.

    Raises:
        InvalidArgument: Its directory is missing or may not be written to.
    """
    directory = Path(config.filename_prefix).absolute().parent
    if not directory.is_dir():
        raise InvalidArgument(
            f"log_collector_config.filename_prefix {config.filename_prefix}: there is no directory {directory}; make it"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InvalidArgument(
            f"log_collector_config.filename_prefix {config.filename_prefix}: {directory} cannot be written to"
        )

"""The configuration that comes in text-format files, turned into frozen values once, at start."""

import itertools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_wire import messages, text_config
from slipway_wire.status import InvalidArgument, Unimplemented


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
class ModelConfig:
    """One model to serve."""

    name: str
    base_path: Path
    version_policy: VersionPolicy = field(default_factory=Latest)
    version_labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """
    How requests are put together into batches.

    Source: BatchingParameters in tensorflow_serving/servables/tensorflow/session_bundle_config.proto.
    """

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()

    def padded(self, rows: int) -> int:
        """Return the smallest allowed batch size that *rows* rows fit in; *rows* itself if any size goes."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_model_configs(path: Path) -> tuple[ModelConfig, ...]:
    """
    Read a text-format ModelServerConfig.

    Raises:
        InvalidArgument: The file cannot be read or parsed, or asks for what cannot be.

    Source of the rules and texts: tensorflow_serving/model_servers/server_core.cc.
    """
    config = read_text(path, messages.ModelServerConfig)
    models = [_model_config(model) for model in config.model_config_list.config]
    seen = set()
    for model in models:
        if model.name in seen:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
    return tuple(models)


def _model_config(config: Any) -> ModelConfig:
    if not Path(config.base_path).is_absolute():
        raise InvalidArgument(
            f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
        )
    has_type = config.model_type != messages.ModelType.Value("MODEL_TYPE_UNSPECIFIED")
    if not config.model_platform and not has_type:
        raise InvalidArgument(f"Illegal setting neither ModelConfig::model_type nor model_platform for {config.name}")
    if config.model_platform and has_type:
        raise InvalidArgument(f"Illegal setting both ModelConfig::model_type and model_platform for {config.name}")
    if config.model_platform not in {"", "tensorflow"}:
        raise InvalidArgument(f"Model {config.name} requests unsupported platform {config.model_platform}")
    policy: VersionPolicy = Latest()
    match config.model_version_policy.WhichOneof("policy_choice"):
        case "latest":
            policy = Latest(config.model_version_policy.latest.num_versions)
        case "all":
            policy = All()
        case "specific":
            policy = Specific(frozenset(config.model_version_policy.specific.versions))
    return ModelConfig(config.name, Path(config.base_path), policy, dict(config.version_labels))


def read_batching_policy(path: Path) -> BatchingPolicy:
    """
    Read a text-format BatchingParameters; a field that is not set takes TF Serving's default.

    Raises:
        InvalidArgument: The file cannot be read or parsed, or the parameters contradict each other.
        Unimplemented: They ask for what is not there yet.

    Source of the rules and texts: tensorflow_serving/batching/batching_session.cc and
    tensorflow/core/kernels/batching_util/shared_batch_scheduler.h.
    """
    parameters = read_text(path, messages.BatchingParameters)
    if parameters.enable_large_batch_splitting.value or parameters.pad_variable_length_inputs:
        raise Unimplemented(f"{path}: splitting large batches and padding to equal shapes are not supported yet")
    default = BatchingPolicy()
    policy = BatchingPolicy(
        max_batch_size=_value(parameters, "max_batch_size", default.max_batch_size),
        batch_timeout_s=_value(parameters, "batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=_value(parameters, "max_enqueued_batches", default.max_enqueued_batches),
        num_batch_threads=_value(parameters, "num_batch_threads", default.num_batch_threads),
        allowed_batch_sizes=tuple(parameters.allowed_batch_sizes),
    )
    if policy.max_batch_size < 1:
        raise InvalidArgument(f"max_batch_size must be positive; was {policy.max_batch_size}")
    if policy.num_batch_threads < 1:
        raise InvalidArgument(f"num_batch_threads must be positive; was {policy.num_batch_threads}")
    if policy.batch_timeout_s < 0:
        raise InvalidArgument(
            f"batch_timeout_micros must be non-negative; was {_value(parameters, 'batch_timeout_micros', 0)}"
        )
    if policy.max_enqueued_batches < 0:
        raise InvalidArgument(f"max_enqueued_batches must be non-negative; was {policy.max_enqueued_batches}")
    sizes = policy.allowed_batch_sizes
    if any(size < 1 for size in sizes) or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise InvalidArgument(f"allowed_batch_sizes must be positive and strictly increasing; were {list(sizes)}")
    if sizes and sizes[-1] != policy.max_batch_size:
        raise InvalidArgument(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {policy.max_batch_size}"
        )
    return policy


def _value(parameters: Any, name: str, default: int) -> int:
    return int(getattr(parameters, name).value) if parameters.HasField(name) else default


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

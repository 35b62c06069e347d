"""
How versions are loaded: flags and the files that flags name, put together into one frozen value at start.

Knows no TensorFlow, so that a mistake in a file is told before the seconds that importing it takes.

Source of what wins over what: tensorflow_serving/model_servers/server.cc (BuildAndStart).
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from slipway_server.config_files import read_text
from slipway_server.settings import Settings
from slipway_wire import messages
from slipway_wire.status import InvalidArgument, Unimplemented

logger = logging.getLogger(__name__)

_PLATFORM = "tensorflow"

_PARALLELISM = ("tensorflow_session_parallelism", "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism")

# Flags whose meaning a platform configuration takes over whole, as in TF Serving.
_REPLACED_BY_PLATFORM_CONFIG = (
    "enable_batching",
    "enable_model_warmup",
    "enable_per_model_batching_parameters",
    "mixed_precision",
    "num_request_iterations_for_warmup",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "per_process_gpu_memory_fraction",
    "prefer_tflite_model",
    "saved_model_tags",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_session_parallelism",
)


Plan = Literal["one_batch", "batch_per_core"]
"""One batch has all CPUs; or each batch has one, and as many run at once."""

DEFAULT_PLAN: Plan = "one_batch"

WantedPlan = Literal["auto", Plan]
"""A plan, or whichever is measured to be the better one."""

_PLANS: Mapping[str, WantedPlan] = {"auto": "auto", "one_batch": "one_batch", "batch_per_core": "batch_per_core"}


@dataclass(frozen=True, slots=True)
class ThreadOptions:
    """
    How many CPUs one batch gets.

    Attributes:
        plan: Of models that are not named.
        by_model: Name -> plan.
        configured_by: The flag or file that sets the threads of sessions itself, so that no plan holds; "": none.
        limit_s: What may be spent on measuring one model (s).
    """

    plan: WantedPlan = DEFAULT_PLAN
    by_model: Mapping[str, WantedPlan] = field(default_factory=dict)
    configured_by: str = ""
    limit_s: float = 2.0

    def wanted(self, model: str) -> WantedPlan:
        """Return what is wanted for *model*."""
        return self.by_model.get(model, self.plan)


@dataclass(frozen=True, slots=True)
class WarmupOptions:
    """
    What happens between loading and serving.

    Attributes:
        is_enabled: Whether records are replayed at all.
        iterations: How often each is, at least 1.
        threads: How many are replayed at once, at least 1.
        has_all_batch_sizes: Whether each signature also runs at every allowed batch size.
        is_synthesized: Whether requests are made up from the signatures of a version that brings no records.
    """

    is_enabled: bool = True
    iterations: int = 1
    threads: int = 1
    has_all_batch_sizes: bool = True
    is_synthesized: bool = False


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """
    How versions are loaded.

    Attributes:
        session_config: Serialized tensorflow.ConfigProto of every session.
        tags: The meta graph to load.
        prefers_tflite: Whether `model.tflite` is served where a version has one.
        prefers_stablehlo: Whether `stablehlo/` is served where a version has it.
        tflite_interpreters: How many interpreters of one version may run at once.
        op_libraries: Shared libraries of custom ops, loaded before any model.
        modules: Python modules that register ops, imported before any model.
        has_frozen_variables: Whether variables become constants once loaded.
        warmup: What happens before a version serves.
        threads: How many CPUs one batch gets.
    """

    session_config: bytes = b""
    tags: tuple[str, ...] = ("serve",)
    prefers_tflite: bool = False
    prefers_stablehlo: bool = False
    tflite_interpreters: int = 1
    op_libraries: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    has_frozen_variables: bool = False
    warmup: WarmupOptions = field(default_factory=WarmupOptions)
    threads: ThreadOptions = field(default_factory=ThreadOptions)

    def with_intra_op_threads(self, count: int) -> "LoadOptions":
        """Return the same options for sessions with *count* threads for one op."""
        config = messages.ConfigProto.FromString(self.session_config)
        config.intra_op_parallelism_threads = count
        return replace(self, session_config=_completed(config))


def from_settings(settings: Settings) -> LoadOptions:
    """
    Read the files that *settings* names and put everything together.

    Raises:
        InvalidArgument: A file cannot be read or parsed, or asks for what cannot be.
        Unimplemented: A file asks for what this server does not do.
    """
    if settings.platform_config_file:
        return _from_platform_config(settings)
    config = messages.ConfigProto()
    if settings.tensorflow_session_config_file:
        config = read_text(Path(settings.tensorflow_session_config_file), messages.ConfigProto)
    _apply_flags(config, settings)
    flags = [f"--{name}" for name in _PARALLELISM if getattr(settings, name)]
    where = flags[0] if flags else "--tensorflow_session_config_file"
    return LoadOptions(
        session_config=_completed(config),
        tags=_tags(settings.saved_model_tags.split(",")),
        prefers_tflite=settings.prefer_tflite_model,
        prefers_stablehlo=settings.prefer_stablehlo,
        tflite_interpreters=_interpreters(settings.num_tflite_pools, settings.num_tflite_interpreters_per_pool),
        op_libraries=_listed(settings.op_library),
        modules=_listed(settings.import_module),
        has_frozen_variables=settings.freeze_variables,
        warmup=WarmupOptions(
            is_enabled=settings.enable_model_warmup,
            iterations=max(settings.num_request_iterations_for_warmup, 1),
            threads=max(settings.num_model_warmup_threads, 1),
            has_all_batch_sizes=settings.enable_all_batch_sizes_warmup,
            is_synthesized=settings.synthesize_warmup_requests,
        ),
        threads=_threads(settings, config, where),
    )


def read_platform_config(path: Path) -> Any:
    """
    Read a text-format PlatformConfigMap; return the SessionBundleConfig it holds for the platform "tensorflow".

    Raises:
        InvalidArgument: The file cannot be read or parsed, or holds no such configuration.
        Unimplemented: It asks for what this server does not do.
    """
    platforms = read_text(path, messages.PlatformConfigMap).platform_configs
    if _PLATFORM not in platforms:
        found = ", ".join(sorted(platforms)) or "none"
        raise InvalidArgument(f'{path}: no configuration for the platform "{_PLATFORM}"; it has {found}')
    adapter = platforms[_PLATFORM].source_adapter_config
    wrapper = messages.SavedModelBundleSourceAdapterConfig
    if not adapter.Is(wrapper.DESCRIPTOR):
        raise InvalidArgument(
            f"{path}: source_adapter_config is {adapter.type_url or 'empty'}; "
            f"expected [type.googleapis.com/{wrapper.DESCRIPTOR.full_name}]"
        )
    config = wrapper.FromString(adapter.value).legacy_config
    for name in ("session_target", "experimental_fixed_input_tensors"):
        if getattr(config, name):
            raise Unimplemented(f"{path}: {name} is not supported; remove it")
    for name in ("thread_pool_factory_config", "session_run_load_threadpool_index"):
        if config.HasField(name):
            logger.warning("%s: %s has no effect; threads are set by session_config", path, name)
    return config


def _from_platform_config(settings: Settings) -> LoadOptions:
    bundle = read_platform_config(Path(settings.platform_config_file))
    default = Settings()
    for name in _REPLACED_BY_PLATFORM_CONFIG:
        if getattr(settings, name) != getattr(default, name):
            logger.warning("--%s has no effect: --platform_config_file takes its place", name)
    config = messages.ConfigProto()
    config.CopyFrom(bundle.session_config)
    _apply_mixed_precision(config, bundle.mixed_precision)
    warmup = bundle.model_warmup_options
    return LoadOptions(
        session_config=_completed(config),
        tags=_tags(bundle.saved_model_tags or ["serve"]),
        prefers_tflite=bundle.prefer_tflite_model,
        prefers_stablehlo=settings.prefer_stablehlo,
        tflite_interpreters=_interpreters(
            bundle.num_tflite_pools, bundle.num_tflite_interpreters_per_pool or bundle.num_tflite_interpreters
        ),
        op_libraries=_listed(settings.op_library),
        modules=_listed(settings.import_module),
        has_frozen_variables=settings.freeze_variables,
        warmup=WarmupOptions(
            is_enabled=bundle.enable_model_warmup,
            iterations=max(warmup.num_request_iterations.value, 1),
            threads=max(warmup.num_model_warmup_threads.value, 1),
            has_all_batch_sizes=warmup.enable_all_batch_sizes_warmup or settings.enable_all_batch_sizes_warmup,
            is_synthesized=settings.synthesize_warmup_requests,
        ),
        threads=_threads(settings, config, "--platform_config_file"),
    )


def _threads(settings: Settings, config: Any, where: str) -> ThreadOptions:
    """Read `--thread_plan`; *config*, which *where* has written, goes over it if it says anything of threads itself."""
    default: WantedPlan = "auto"
    by_model: dict[str, WantedPlan] = {}
    for part in _listed(settings.thread_plan):
        model, equals, name = part.rpartition("=")
        plan = _PLANS.get(name)
        if plan is None or (equals and not model):
            raise InvalidArgument(
                f"--thread_plan: expected {', '.join(_PLANS)}, also MODEL=PLAN, separated by commas; got {part!r}"
            )
        if equals:
            by_model[model] = plan
        else:
            default = plan
    says_threads = (
        config.intra_op_parallelism_threads
        or config.inter_op_parallelism_threads
        or config.session_inter_op_thread_pool
    )
    if says_threads and ({default, *by_model.values()} - {"auto"}):
        logger.warning("--thread_plan=%s has no effect: %s sets the threads", settings.thread_plan, where)
    return ThreadOptions(default, by_model, where if says_threads else "", settings.thread_plan_limit_s)


def _apply_flags(config: Any, settings: Settings) -> None:
    """Write what flags say over what the session config file says; a flag at its default says nothing."""
    parallelism = settings.tensorflow_session_parallelism
    if intra := settings.tensorflow_intra_op_parallelism or parallelism:
        config.intra_op_parallelism_threads = intra
    if inter := settings.tensorflow_inter_op_parallelism or parallelism:
        config.inter_op_parallelism_threads = inter
    if settings.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = settings.per_process_gpu_memory_fraction
    if settings.gpu_memory_growth:
        config.gpu_options.allow_growth = True
    if settings.gpu_pinned_host_memory:
        config.gpu_options.force_gpu_compatible = True
    if settings.gpu_memory_limit_mb:
        del config.gpu_options.experimental.virtual_devices[:]
        config.gpu_options.experimental.virtual_devices.add(memory_limit_mb=[settings.gpu_memory_limit_mb])
    if settings.xla_cpu_compilation_enabled or settings.xla_gpu_compilation_enabled:
        optimizer = config.graph_options.optimizer_options
        optimizer.global_jit_level = type(optimizer).ON_2
        # TensorFlow leaves the CPU out of its global JIT unless it is told twice.
        optimizer.cpu_global_jit = True
    _apply_mixed_precision(config, settings.mixed_precision)


def _apply_mixed_precision(config: Any, precision: str) -> None:
    if precision == "bfloat16":
        rewriter = config.graph_options.rewrite_options
        rewriter.auto_mixed_precision_onednn_bfloat16 = type(rewriter).ON
    elif precision:
        logger.warning("--mixed_precision=%s has no effect; bfloat16 is the one that has", precision)


def _completed(config: Any) -> bytes:
    """Add what sessions of a server need whatever the user says."""
    config.allow_soft_placement = True
    if not config.session_inter_op_thread_pool:
        # Without this, all sessions share the threads of whichever came first.
        config.use_per_session_threads = True
    serialized: bytes = config.SerializeToString(deterministic=True)
    return serialized


def _tags(tags: Any) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in tags if tag.strip())


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _interpreters(pools: int, per_pool: int) -> int:
    return max(pools or (os.cpu_count() or 1), 1) * max(per_pool, 1)

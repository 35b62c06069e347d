"""Which loader a version gets: the one place where flags, backends and warm-up meet."""

import functools
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway_server import cpus, memory
from slipway_server.load_options import LoadOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Loader, Servable
from slipway_server.servables.planned import Choices, PlannedLoader, Sizes, same_twice
from slipway_server.servables.warmup import Prepare, WarmedLoader
from slipway_wire import messages
from slipway_wire.status import FailedPrecondition

logger = logging.getLogger(__name__)

# Source: tensorflow_serving/servables/tensorflow/util.h (kMLMDuuidFileName); a label has room for no more.
_MLMD_FILE = "assets.extra/mlmd_uuid"
_MAX_MLMD_BYTES = 256

# Without it, the sessions of a process share the threads for ops of whichever came first, whatever they ask for; read by
# TensorFlow when it makes its first device (local_device.cc).
_POOL_PER_SESSION = "TF_OVERRIDE_GLOBAL_THREADPOOL"

MakeLoader = Callable[[str, int, Path], Loader]
"""Model, version, version directory -> what loads it."""


def loader_maker(
    options: LoadOptions,
    metrics: Metrics,
    prepare: Callable[[Path], Prepare],
    sizes: Callable[[Path], Sizes] = lambda _directory: same_twice,
    threads: int = 1,
) -> MakeLoader:
    """
    Import what serves versions, and return what makes a loader for one.

    That is TensorFlow, with ops that it does not come with; or JAX's runtime where StableHLO is preferred, and TensorFlow
    only once a version comes that has none.

    Args:
        options: How to load.
        metrics: Where loads and warm-up are counted.
        prepare: From a version directory to what the batcher makes of the inputs of one request; see `warmup.Prepare`.
        sizes: From a version directory to the runs that its thread plan is measured with; see `planned.Sizes`.
        threads: How many batches, or requests where there are none, run at once.

    Raises:
        WireError: A library or module of ops cannot be loaded; or JAX is not installed.
    """

    def with_tensorflow() -> MakeLoader:
        return _with_tensorflow(options, metrics, sizes, threads)

    choose = _with_stablehlo(options, metrics, with_tensorflow) if options.prefers_stablehlo else with_tensorflow()

    def make(model: str, version: int, directory: Path) -> Loader:
        _tell_origin(model, version, directory, metrics)
        return WarmedLoader(
            choose(model, version, directory),
            directory,
            options.warmup,
            model=model,
            version=version,
            metrics=metrics,
            prepare=lambda: prepare(directory),
        )

    return make


def _with_tensorflow(
    options: LoadOptions, metrics: Metrics, sizes: Callable[[Path], Sizes], threads: int
) -> MakeLoader:
    choices = Choices(options, cpus.count(), cpus.has_gpu(), threads, metrics)
    if choices.may_differ:
        os.environ.setdefault(_POOL_PER_SESSION, "1")
    # TensorFlow takes seconds to import, which a wrong flag or file should not.
    _import_tensorflow(with_keras=bool(options.modules))
    from slipway_server.backends import ops, saved_model, tflite  # noqa: PLC0415

    ops.register(options)

    def choose(model: str, version: int, directory: Path) -> Loader:
        if options.prefers_tflite and (directory / tflite.MODEL_FILE).exists():
            return tflite.TfLiteLoader(directory, options)
        return PlannedLoader(
            lambda planned, is_counted: saved_model.SavedModelLoader(
                directory, planned, metrics if is_counted else None
            ),
            directory,
            choices,
            model=model,
            version=version,
            sizes=lambda: sizes(directory),
            has_plan=lambda servable: isinstance(servable, saved_model.SavedModelServable),
        )

    return choose


def _with_stablehlo(options: LoadOptions, metrics: Metrics, with_tensorflow: Callable[[], MakeLoader]) -> MakeLoader:
    if missing := [name for name in ("jax", "jaxlib") if importlib.util.find_spec(name) is None]:
        raise FailedPrecondition(
            f"--prefer_stablehlo: {missing[0]}, which runs StableHLO, is not installed; pip install 'slipway[server-stablehlo]'"
        )
    _set_up_jax(options)
    from slipway_server.backends import pjrt, stablehlo  # noqa: PLC0415 - half a second, and only for those who want it

    # Here, so that a device that cannot be had is told before any version.
    logger.info("StableHLO runs on %s", pjrt.device())
    lock = threading.Lock()
    otherwise: list[MakeLoader] = []

    def choose(model: str, version: int, directory: Path) -> Loader:
        return _Later(functools.partial(found, model, version, directory))

    def found(model: str, version: int, directory: Path) -> Loader:
        if stablehlo.has_stablehlo(directory):
            return stablehlo.StableHloLoader(directory, metrics)
        if importlib.util.find_spec("tensorflow") is None:
            raise stablehlo.no_stablehlo(directory)
        with lock:  # versions may come from several threads
            if not otherwise:
                logger.warning("%s: no StableHLO; importing TensorFlow, which serves its SavedModel", directory)
                otherwise.append(with_tensorflow())
                memory.settle()
        return otherwise[0](model, version, directory)

    return choose


class _Later:
    """A loader that is chosen when it loads: to look may fail, and to import takes its time."""

    def __init__(self, make: Callable[[], Loader]) -> None:
        self._make = make

    def load(self) -> Servable:
        return self._make().load()


def _set_up_jax(options: LoadOptions) -> None:
    """
    Hand to JAX's runtime what flags say, by the environment, which is all that it reads; what stands there already wins.

    Sources: https://docs.jax.dev/en/latest/gpu_memory_allocation.html; xla/pjrt/utils.cc (DefaultThreadPoolSize) for NPROC.
    """
    config: Any = messages.ConfigProto.FromString(options.session_config)
    wanted = {}
    if config.intra_op_parallelism_threads > 0:
        wanted["NPROC"] = str(config.intra_op_parallelism_threads)
    gpu = config.gpu_options
    if gpu.allow_growth:
        wanted["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if gpu.per_process_gpu_memory_fraction > 0:
        wanted["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{gpu.per_process_gpu_memory_fraction:g}"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    without_effect = {
        "--freeze_variables": options.has_frozen_variables,
        "--op_library": bool(options.op_libraries),
        "--import_module": bool(options.modules),
        "--prefer_tflite_model": options.prefers_tflite,
        "--xla_cpu_compilation_enabled or --xla_gpu_compilation_enabled": bool(
            config.graph_options.optimizer_options.global_jit_level
        ),
        "--mixed_precision": bool(config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16),
        "--gpu_pinned_host_memory": gpu.force_gpu_compatible,
        "--gpu_memory_limit_mb": bool(gpu.experimental.virtual_devices),
        "--thread_plan": {options.threads.plan, *options.threads.by_model.values()} != {"auto"},
    }
    if found := [name for name, is_set in without_effect.items() if is_set]:
        logger.warning("%s: no effect on versions with StableHLO, which XLA always compiles whole", ", ".join(found))


def _import_tensorflow(*, with_keras: bool) -> None:
    """
    Import TensorFlow, and not Keras unless somebody's modules may want it as `tensorflow.keras`.

    TensorFlow imports Keras, and that whatever it finds (scikit-learn, SciPy), to know the path of that one name: a fifth of
    the CPU time of its import, a third where scikit-learn is installed. A SavedModel needs none of it.
    """
    if with_keras or {"tensorflow", "keras"} & sys.modules.keys():
        return
    sys.modules["keras"] = None  # type: ignore[assignment]  # as the import system has it: not to be found
    try:
        import tensorflow  # noqa: F401, ICN001, PLC0415 - for its side effect
    finally:
        del sys.modules["keras"]


def _tell_origin(model: str, version: int, directory: Path, metrics: Metrics) -> None:
    """Put what ML Metadata knows the version by among the metrics, where the version says it."""
    try:
        with (directory / _MLMD_FILE).open("rb") as file:
            uuid = file.read(_MAX_MLMD_BYTES).decode(errors="replace").strip()
    except OSError:
        return
    metrics.mlmd_map.of(model, str(version), uuid).value = 1.0

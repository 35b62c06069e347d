"""Which loader a version gets: the one place where flags, backends and warm-up meet."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from slipway_server import cpus
from slipway_server.load_options import LoadOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Loader
from slipway_server.servables.planned import Choices, PlannedLoader, Sizes, same_twice
from slipway_server.servables.warmup import Prepare, WarmedLoader

# Source: tensorflow_serving/servables/tensorflow/util.h (kMLMDuuidFileName); a label has room for no more.
_MLMD_FILE = "assets.extra/mlmd_uuid"
_MAX_MLMD_BYTES = 256

# Without it, the sessions of a process share the threads for ops of whichever came first, whatever they ask for; read by
# TensorFlow when it makes its first device (local_device.cc).
_POOL_PER_SESSION = "TF_OVERRIDE_GLOBAL_THREADPOOL"


def loader_maker(
    options: LoadOptions,
    metrics: Metrics,
    prepare: Callable[[Path], Prepare],
    sizes: Callable[[Path], Sizes] = lambda _directory: same_twice,
    threads: int = 1,
) -> Callable[[str, int, Path], Loader]:
    """
    Import TensorFlow, register ops that it does not come with, and return what makes a loader for a version.

    Args:
        options: How to load.
        metrics: Where loads and warm-up are counted.
        prepare: From a version directory to what the batcher makes of the inputs of one request; see `warmup.Prepare`.
        sizes: From a version directory to the runs that its thread plan is measured with; see `planned.Sizes`.
        threads: How many batches, or requests where there are none, run at once.

    Raises:
        WireError: A library or module of ops cannot be loaded.
    """
    choices = Choices(options, cpus.count(), cpus.has_gpu(), threads, metrics)
    if not options.threads.configured_by:
        os.environ.setdefault(_POOL_PER_SESSION, "1")
    # TensorFlow takes seconds to import, which a wrong flag or file should not.
    _import_tensorflow(with_keras=bool(options.modules))
    from slipway_server.backends import ops, saved_model, tflite  # noqa: PLC0415

    ops.register(options)

    def make(model: str, version: int, directory: Path) -> Loader:
        loader: Loader
        _tell_origin(model, version, directory, metrics)
        if options.prefers_tflite and (directory / tflite.MODEL_FILE).exists():
            loader = tflite.TfLiteLoader(directory, options)
        else:
            loader = PlannedLoader(
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
        return WarmedLoader(
            loader,
            directory,
            options.warmup,
            model=model,
            version=version,
            metrics=metrics,
            prepare=lambda: prepare(directory),
        )

    return make


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

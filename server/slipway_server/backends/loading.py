"""Which loader a version gets: the one place where flags, backends and warm-up meet."""

from collections.abc import Callable
from pathlib import Path

from slipway_server.load_options import LoadOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Loader
from slipway_server.servables.warmup import Prepare, WarmedLoader


def loader_maker(
    options: LoadOptions, metrics: Metrics, prepare: Callable[[Path], Prepare]
) -> Callable[[str, int, Path], Loader]:
    """
    Import TensorFlow, register ops that it does not come with, and return what makes a loader for a version.

    Args:
        options: How to load.
        metrics: Where loads and warm-up are counted.
        prepare: From a version directory to what the batcher makes of the inputs of one request; see `warmup.Prepare`.

    Raises:
        WireError: A library or module of ops cannot be loaded.
    """
    # TensorFlow takes seconds to import, which a wrong flag or file should not.
    from slipway_server.backends import ops, saved_model, tflite  # noqa: PLC0415

    ops.register(options)

    def make(model: str, version: int, directory: Path) -> Loader:
        loader: Loader
        if options.prefers_tflite and (directory / tflite.MODEL_FILE).exists():
            loader = tflite.TfLiteLoader(directory, options)
        else:
            loader = saved_model.SavedModelLoader(directory, options, metrics)
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

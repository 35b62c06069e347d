"""Models of Keras 3 and of Keras 2 (tf_keras) in one process: told apart, and read by the one that can."""

import importlib.util
import sys
from pathlib import Path
from typing import Any, Literal

import h5py
import keras

from slipway.errors import SettingsError, SourceError, one_line

Loader = Literal["auto", "keras", "keras2"]

_EXTRA = "pip install 'slipway[keras2]'"


def is_model(module: Any) -> bool:
    """Whether *module* is a model of either Keras; a process without tf_keras has none of its models."""
    return isinstance(module, keras.Model) or is_keras2(module)


def is_keras2(module: Any) -> bool:
    """Whether *module* is a model of tf_keras."""
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras is not None and isinstance(module, tf_keras.Model)


def load_whole(path: Path, loader: Loader, *, unsafe: bool) -> Any:
    """
    Load a whole model.

    Args:
        path: `.keras` or `.h5`.
        loader: Which Keras reads it; auto: Keras 3 if it can, else tf_keras if it is installed.
        unsafe: Whether code in the file may run.

    Raises:
        SourceError: With the reason of each that tried.
    """
    reasons = []
    if loader in {"auto", "keras"}:
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
        except Exception as error:
            reasons.append(f"Keras {keras.__version__} cannot load it as a whole model: {one_line(error)}")
    if loader in {"auto", "keras2"}:
        if importlib.util.find_spec("tf_keras") is None:
            reasons.append(f"Keras 2 is not installed, which loads what Keras 2 wrote: {_EXTRA}")
        else:
            import tf_keras  # noqa: PLC0415 - an optional extra, for old files

            try:
                return tf_keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
            except Exception as error:
                reasons.append(f"tf_keras {tf_keras.__version__} cannot either: {one_line(error)}")
    raise SourceError(
        f"{path.name}: {'; '.join(reasons)}. A file with weights only is `kind: weights` and needs a builder."
    )


def load_weights(module: Any, path: Path, loader: Loader, *, by_name: bool) -> None:
    """
    Read weights into a model that a builder made.

    Args:
        module: The model, of either Keras; it reads the file itself.
        path: `.weights.h5`, or `.h5` by the names of layers.
        loader: Which Keras the model must be of; auto: either.
        by_name: Match layers by name; every layer with weights must be in the file.

    Raises:
        SourceError: If the weights do not fit, or the file is damaged.
        SettingsError: If the builder's model is of the other Keras.
    """
    found = "keras2" if is_keras2(module) else "keras"
    if loader not in {"auto", found}:
        raise SettingsError(
            f"loader: {loader}: the builder returns a model of {found}; build it with the other, or write auto."
        )
    try:
        if by_name:
            _every_layer_is_there(module, path)
            module.load_weights(path, by_name=True)
        else:
            module.load_weights(path)
    except SourceError:
        raise
    except Exception as error:
        msg = f"{path.name}: the weights do not fit the model, or the file is damaged: {one_line(error)}"
        raise SourceError(msg) from error


def _every_layer_is_there(module: Any, path: Path) -> None:
    """Keras passes over layers that it does not find, and leaves them as they were drawn."""
    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        names = set(group)
    missing = [layer.name for layer in module.layers if layer.weights and layer.name not in names]
    if missing:
        raise SourceError(
            f"{path.name}: by_name: the file has no layer {', '.join(missing[:3])}; it has: {', '.join(sorted(names)[:8])}."
        )

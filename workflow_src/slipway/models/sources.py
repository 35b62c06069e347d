"""Sources as models in memory, each read by its own framework and called by the names of tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from slipway.errors import SettingsError, SourceError, one_line
from slipway.models import digits, graph_sources, keras_models
from slipway.models.builders import build
from slipway.models.model import Model
from slipway.source_settings import (
    BuiltinSource,
    CheckpointSource,
    FrozenGraphSource,
    KerasSource,
    SavedModelSource,
    Source,
    Tf1CheckpointSource,
    WeightsSource,
)

Array = npt.NDArray[Any]


class ModuleModel:
    """
    A Keras model or a tf.Module as a `slipway.models.model.Model`.

    Attributes:
        variables: All its weights, in the order of its layers.
        resources: What else its calls need, such as lookup tables.
    """

    def __init__(self, module: Any) -> None:
        if not (keras_models.is_model(module) or isinstance(module, tf.Module)) or not callable(module):
            raise SourceError(
                f"expected a Keras model or a tf.Module that can be called, found {type(module).__name__}"
            )
        self._module = module
        self._is_keras = keras_models.is_model(module)
        self._input = _input_structure(module) if self._is_keras else None

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights; read it after a call, which may make some."""
        if self._is_keras:
            # A weight of Keras 2 is a variable; one of Keras 3 has one.
            return [one if isinstance(one, tf.Variable) else one.value for one in self._module.weights]
        return list(self._module.variables)

    @property
    def resources(self) -> list[Any]:
        """Lookup tables and the like, which an export must track beside the weights."""
        kind = tf.saved_model.experimental.TrackableResource
        if self._is_keras:
            return [
                value for layer in _layers(self._module) for value in vars(layer).values() if isinstance(value, kind)
            ]
        return list(self._module._flatten(predicate=lambda value: isinstance(value, kind)))  # noqa: SLF001 - documented for subclasses

    @property
    def facts(self) -> dict[str, float]:
        """None: what a file of weights says of its training is not read."""
        return {}

    @property
    def ops(self) -> dict[str, str]:
        """None: there is no graph before the export."""
        return {}

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """
        Run the model for inference.

        Args:
            inputs: Name -> tensor [rows, …]; the only input goes by any name.

        Returns:
            The model's own outputs by name; an only output without a name is `output`.
        """
        if self._is_keras:
            return self._named(self._module(self._packed(inputs), training=False))
        if len(inputs) == 1:
            return self._named(self._module(*inputs.values()))
        return self._named(self._module(**inputs))

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """
        Run the model as its own framework does it (Keras: `predict`), outside of any export.

        Raises:
            SourceError: If the model does not take the inputs.
        """
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        try:
            if self._is_keras:
                found = self._named(self._module.predict(self._packed(tensors), verbose=0))
            else:
                found = self.call(tensors)
        except SettingsError:
            raise
        except Exception as error:
            sent = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in inputs.items())
            raise SourceError(
                f"the model does not take {sent}: {one_line(error)}. Correct `inputs` in the contract."
            ) from error
        return {name: np.asarray(value) for name, value in found.items()}

    def _packed(self, inputs: Mapping[str, tf.Tensor]) -> Any:
        """Nest *inputs* as a Keras model takes them: by name, or as they come where there is only one."""
        if self._input is None:  # a subclassed model says nothing of its inputs
            return next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)
        wanted = keras.tree.flatten(self._input)
        if len(inputs) == len(wanted) == 1:
            return keras.tree.pack_sequence_as(self._input, list(inputs.values()))
        by_key = self._input if isinstance(self._input, dict) else {tensor.name: tensor for tensor in wanted}
        if by_key.keys() != inputs.keys():
            msg = f"contract: the model has inputs {', '.join(by_key)}, the contract has {', '.join(inputs)}."
            raise SettingsError(msg)
        named = {name: inputs[name] for name in by_key}
        return (
            named if isinstance(self._input, dict) else keras.tree.pack_sequence_as(self._input, list(named.values()))
        )

    def _named(self, outputs: Any) -> dict[str, Any]:
        if isinstance(outputs, Mapping):
            return dict(outputs)
        values = keras.tree.flatten(outputs)
        if len(values) == 1:
            return {"output": values[0]}
        names = getattr(self._module, "output_names", None) or [f"output_{index}" for index in range(len(values))]
        return dict(zip(names, values, strict=True))


def _input_structure(model: keras.Model) -> Any:
    """Give what a functional or sequential model takes, as Keras tensors in their nesting; None for any other."""
    try:
        structure = model.input
    except (AttributeError, ValueError):
        return None
    # A list of one stands for the tensor itself.
    return structure[0] if isinstance(structure, (list, tuple)) and len(structure) == 1 else structure


def _layers(model: keras.Model) -> list[Any]:
    found = []
    for layer in model.layers:
        found += _layers(layer) if keras_models.is_model(layer) else [layer]
    return found


def load(source: Source, directory: Path) -> Model:
    """
    Load *source* from *directory*, which holds a copy of its files.

    Raises:
        SourceError: If a file is damaged or does not fit the model it is read into.
    """
    match source:
        case BuiltinSource():
            return _with_weights(digits.build(), directory / digits.WEIGHTS_FILE)
        case KerasSource():
            path = directory / source.path.name
            return ModuleModel(keras_models.load_whole(path, source.loader, unsafe=source.unsafe))
        case WeightsSource():
            path = directory / source.path.name
            return _with_weights(build(source.builder), path, source.loader, by_name=source.by_name)
        case CheckpointSource():
            return _load_checkpoint(build(source.builder), source.root, directory / source.path.name)
        case Tf1CheckpointSource():
            return graph_sources.load_checkpoint(source, directory)
        case FrozenGraphSource():
            return graph_sources.load_frozen_graph(source, directory)
        case SavedModelSource():
            return graph_sources.load_saved_model(source, directory)


def _with_weights(
    module: Any, path: Path, loader: keras_models.Loader = "auto", *, by_name: bool = False
) -> ModuleModel:
    if not keras_models.is_model(module):
        raise SourceError(
            f"{path.name}: expected a builder that returns a Keras model, it returned {type(module).__name__}."
        )
    keras_models.load_weights(module, path, loader, by_name=by_name)
    return ModuleModel(module)


def _load_checkpoint(module: Any, root: str, prefix: Path) -> ModuleModel:
    model = ModuleModel(module)
    try:
        saved = {name.split("/")[0] for name, _ in tf.train.list_variables(str(prefix))}
    except Exception as error:
        raise SourceError(f"{prefix.name}: not a TensorFlow checkpoint, or damaged: {one_line(error)}") from error
    if root not in saved:
        objects = ", ".join(sorted(saved - {"_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter"})) or "nothing"
        raise SourceError(f"{prefix.name}: holds no object {root}; it holds: {objects}. Name one as `root`.")
    try:
        status = tf.train.Checkpoint(**{root: module}).read(str(prefix))
        # Not assert_consumed: the state of the optimizer stays behind.
        status.assert_existing_objects_matched().expect_partial()
    except Exception as error:
        msg = f"{prefix.name}: the checkpoint does not fit the model, or is damaged: {one_line(error)}"
        raise SourceError(msg) from error
    return model

"""What every source becomes: weights, what else its calls need, and two ways to an answer."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt
import tensorflow as tf

from slipway.errors import SettingsError

Array = npt.NDArray[Any]


class Model(Protocol):
    """A source in memory, called by the names of tensors."""

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights, in an order that is the same each time; read it after a call, which may make some."""

    @property
    def resources(self) -> list[Any]:
        """Lookup tables and the like, which an export must track beside the weights."""

    @property
    def facts(self) -> dict[str, float]:
        """What the source says of itself in numbers, such as the `source_step` of its training."""

    @property
    def ops(self) -> dict[str, str]:
        """Kinds of ops that a call runs -> a node of that kind; empty where only an export will tell."""

    def call(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """
        Run the model for inference, in an export.

        Args:
            inputs: Name -> tensor [rows, …]; the only input goes by any name.

        Returns:
            The model's own outputs by name; an only output without a name is `output`.
        """

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """
        Run the source as its own framework does it, outside of any export.

        Raises:
            SourceError: If the model does not take the inputs.
        """


def named_inputs(wanted: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Put *inputs* into the order of *wanted*; an only input goes by any name."""
    if len(inputs) == len(wanted) == 1:
        return dict.fromkeys(wanted, next(iter(inputs.values())))
    if inputs.keys() != wanted.keys():
        raise SettingsError(
            f"contract: the source has inputs {', '.join(wanted)}, the contract has {', '.join(inputs)}."
        )
    return {name: inputs[name] for name in wanted}


def check_fits(name: str, tensor: tf.Tensor, spec: tf.TensorSpec, graph_name: str) -> None:
    """Raise SettingsError if the graph's placeholder does not take what the contract promises to take."""
    where = f"contract: input {name} is {tensor.dtype.name} {tensor.shape}, but {graph_name} in the graph"
    if tensor.dtype != spec.dtype:
        raise SettingsError(f"{where} is {spec.dtype.name}.")
    narrower = spec.shape.rank is not None and tensor.shape.rank is not None and spec.shape.rank == tensor.shape.rank
    fixed = narrower and any(s is not None and t is None for s, t in zip(spec.shape, tensor.shape, strict=True))
    if fixed or not spec.shape.is_compatible_with(tensor.shape):
        raise SettingsError(f"{where} has shape {spec.shape}.")

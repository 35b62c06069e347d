"""What every source becomes: weights, what else its calls need, and two ways to an answer."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt
import tensorflow as tf

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
    def parameters(self) -> int:
        """How many numbers the weights are."""

    @property
    def facts(self) -> dict[str, float]:
        """What the source says of itself in numbers, such as the `source_step` of its training."""

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

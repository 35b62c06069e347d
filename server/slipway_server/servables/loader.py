"""What the manager needs of whatever is served: something that loads, and something that runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slipway_wire.signatures import Signature
from slipway_wire.tensors import Array

Tensors = Mapping[str, Array]
"""Alias -> array. Strings are arrays of dtype object that hold bytes."""


@dataclass(frozen=True, slots=True)
class Call:
    """One run of one signature: what to feed, what to fetch."""

    signature: str
    inputs: Tensors
    outputs: Sequence[str]


class Servable(Protocol):
    """One version in memory, ready to run; used from many threads at once."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Signature name -> signature."""

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """Signature name -> SignatureDef message, as it stands in the SavedModel."""

    def run(self, call: Call) -> dict[str, Array]:
        """
        Run one signature.

        Returns:
            Output alias -> array, for every name in ``call.outputs``.

        Raises:
            WireError: With the canonical code of what the model refused.
        """

    def close(self) -> None:
        """Free what the version holds; nothing runs any more."""


class Loader(Protocol):
    """Knows how to bring one version into memory; asked again when it failed."""

    def load(self) -> Servable:
        """
        Load, initialise and warm up.

        Raises:
            Exception: Whatever keeps the version from being served; its text is shown in the version's status.
        """

"""What the manager needs of whatever is served: something that loads, and something that runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from slipway_server.config_files import BatchingPolicy
from slipway_wire.signatures import Signature
from slipway_wire.tensors import Array

Tensors = Mapping[str, Array]
"""Alias -> array. Strings are arrays of dtype object that hold bytes."""


# Not frozen: each request makes one, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Call:
    """One run of one signature: what to feed, what to fetch."""

    signature: str
    inputs: Tensors
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class JointCall:
    """
    Several signatures over the same inputs, to be answered by one run.

    Attributes:
        calls: At least one; all with the same inputs.
    """

    calls: tuple[Call, ...]
    signature: ClassVar[str] = ""

    @property
    def inputs(self) -> Tensors:
        """What every signature is fed."""
        return self.calls[0].inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names under which `joined` tells the outputs of all calls."""
        return tuple([f"{number}/{alias}" for number, call in enumerate(self.calls) for alias in call.outputs])

    def joined(self, answers: Sequence[Tensors]) -> dict[str, Array]:
        """Put the outputs of all calls, in their order, into one mapping that the batcher can split."""
        return {
            f"{number}/{alias}": array for number, outputs in enumerate(answers) for alias, array in outputs.items()
        }

    def parted(self, outputs: Tensors) -> list[dict[str, Array]]:
        """Undo `joined`."""
        return [
            {alias: outputs[f"{number}/{alias}"] for alias in call.outputs} for number, call in enumerate(self.calls)
        ]


class Servable(Protocol):
    """
    One version in memory, ready to run; used from many threads at once.

    Attributes:
        batching_policy: How requests for it are put together; None: each runs by itself. Set once, while it loads.
    """

    batching_policy: BatchingPolicy | None

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

    def run_together(self, calls: Sequence[Call]) -> list[dict[str, Array]]:
        """
        Run several signatures over the same inputs, in one run of the graph if the backend can.

        Args:
            calls: Each with the same inputs; of a tensor that several signatures share, one value is fed.

        Returns:
            What `run` returns, for each call.
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

"""Where the rows of warm-up records come from; every source has as many rows as are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from slipway import rows
from slipway.contract import Contract
from slipway.golden import Golden

Array = npt.NDArray[Any]
Source = Literal["golden", "recorded", "synthetic"]
_NO_GOLDEN = Golden({}, {}, None)


@dataclass(frozen=True, slots=True)
class Rows:
    """
    The inputs of one call.

    Attributes:
        inputs: As the SignatureDef has them, name -> array of shape [rows, …].
        source: Where the first row comes from.
        synthetic: How many of the rows were made up.
    """

    inputs: Mapping[str, Array]
    source: Source
    synthetic: int


class RowSource(Protocol):
    """Gives rows for any signature of a contract."""

    def rows(self, signature: str, count: int) -> Rows:
        """Give *count* rows for *signature*; the first of more are the same as fewer."""


class SyntheticRows:
    """Rows made up by dtype, shape, range and values of the contract; the same ones for the same seed."""

    def __init__(self, contract: Contract, seed: int | None = None) -> None:
        """Draw for *contract* with *seed*; None: with its own."""
        self._contract = contract if seed is None else _with_probe(contract, seed=seed)

    def rows(self, signature: str, count: int) -> Rows:
        """See `RowSource`."""
        return Rows(rows.rows_for(self._contract, signature, count, _NO_GOLDEN), "synthetic", count)

    def like(self, signature: str, count: int, others: Mapping[str, Array]) -> dict[str, Array]:
        """Give *count* rows for *signature* in which symbolic sizes are those of *others*."""
        dims = {
            symbol: size
            for name, tensor in self._contract.inputs_of(signature).items()
            for symbol, size in zip(tensor.shape[1:], others[name].shape[1:], strict=True)
            if isinstance(symbol, str)
        }
        contract = _with_probe(self._contract, dims=self._contract.probe.dims | dims)
        return rows.rows_for(contract, signature, count, _NO_GOLDEN)


def _with_probe(contract: Contract, **changed: object) -> Contract:
    return contract.model_copy(update={"probe": contract.probe.model_copy(update=changed)})


class GoldenRows:
    """Golden rows, from the first again where they are too few; made-up ones for signatures whose inputs they lack."""

    def __init__(self, contract: Contract, golden: Golden, synthetic: SyntheticRows) -> None:
        """Take *golden*, the rows of serving_default."""
        self._contract = contract
        self._golden = golden
        self._synthetic = synthetic

    def rows(self, signature: str, count: int) -> Rows:
        """See `RowSource`."""
        if not rows.has_golden_rows(self._contract, signature, self._golden):
            return self._synthetic.rows(signature, count)
        return Rows(rows.rows_for(self._contract, signature, count, self._golden), "golden", 0)


class RecordedRows:
    """Logged rows; made-up ones after the last of them."""

    def __init__(self, kept: Mapping[str, Mapping[str, Array]], synthetic: SyntheticRows) -> None:
        """
        Take what was logged.

        Args:
            kept: Signature -> inputs, name -> array of shape [rows, …]; fits the contract. A signature may be missing.
            synthetic: Makes up what is missing.
        """
        self._kept = kept
        self._synthetic = synthetic

    def rows(self, signature: str, count: int) -> Rows:
        """See `RowSource`."""
        kept = self._kept.get(signature)
        if kept is None:
            return self._synthetic.rows(signature, count)
        have = min(len(next(iter(kept.values()))), count)
        inputs = {name: array[:have] for name, array in kept.items()}
        if have < count:
            drawn = self._synthetic.like(signature, count - have, inputs)
            inputs = {name: np.concatenate([array, drawn[name]]) for name, array in inputs.items()}
        return Rows(inputs, "recorded", count - have)

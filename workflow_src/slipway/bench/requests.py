"""What is sent to a server that nobody has golden data of: a file's rows, a contract's, or drawn ones; with the answers to expect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import golden, rows
from slipway.bench.target import TargetServer, client
from slipway.contract import read_contract
from slipway.errors import ContractViolation, ServerError, SettingsError
from slipway.payloads import MOST_DISTINCT
from slipway.targets import NAMES, Target
from slipway_wire import payloads
from slipway_wire.payloads import Payload
from slipway_wire.signatures import Signature, TensorSpec, format_shape
from slipway_wire.tolerances import Tolerance

Array = npt.NDArray[Any]
CONTRACT = "contract"
_ROWS = 256


@dataclass(frozen=True, slots=True)
class Source:
    """
    Rows to send.

    Attributes:
        told: Where they come from.
        inputs: Name -> array of shape [rows, …].
        outputs: Name -> array, what must be answered; None: nobody knows, the server is asked first.
        has_rows: Whether the first axis counts rows, so that requests may have any number of them.
    """

    told: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array] | None
    has_rows: bool = True

    @property
    def rows(self) -> int:
        """How many there are."""
        return min(len(array) if array.ndim else 1 for array in self.inputs.values())

    def chosen(self, count: int) -> list[tuple[dict[str, Array], dict[str, Array] | None]]:
        """Cut requests of *count* rows, the first again where there are too few: inputs, and what must be answered."""
        if not self.has_rows:
            return [(dict(self.inputs), dict(self.outputs) if self.outputs else None)]
        distinct = min(MOST_DISTINCT, max(self.rows // count, 1))
        places = [(np.arange(count) + number * count) % self.rows for number in range(distinct)]
        return [
            (
                {name: array[at] for name, array in self.inputs.items()},
                {name: array[at] for name, array in self.outputs.items()} if self.outputs else None,
            )
            for at in places
        ]


def source_of(word: str | None, contract: Path | None, signature: Signature, seed: int) -> Source:
    """
    Find the rows that `--payload` names.

    Args:
        word: A .npz file, `contract`, or None: rows are drawn to fit the signature.
        contract: `--contract`.
        signature: What the server takes.
        seed: Of drawn rows.

    Raises:
        SettingsError: If they do not fit *signature*.
        SourceError: If a file cannot be read.
    """
    if contract is not None and word is None:
        word = CONTRACT
    if word is None:
        return drawn(signature, seed)
    if word == CONTRACT:
        if contract is None:
            raise SettingsError("--payload contract: which? Name its file with --contract.")
        promised = read_contract(contract).signatures.get(signature.name)
        if promised is None or promised.method != "predict":
            raise SettingsError(f"--contract: {contract} has no predict signature {signature.name}")
        values = rows.draw(read_contract(contract), promised, _ROWS)
        return Source(f"drawn within the ranges of {contract.name}", _fitting(str(contract), values, signature), None)
    path = Path(word)
    arrays = golden.read_arrays(path, "Write it with numpy.savez: one array per input, by its name.")
    if any(name.startswith("inputs/") for name in arrays):
        inputs = {name.removeprefix("inputs/"): a for name, a in arrays.items() if name.startswith("inputs/")}
        outputs = {name.removeprefix("outputs/"): a for name, a in arrays.items() if name.startswith("outputs/")}
        told = f"{path.name}, with the answers there"
        return Source(told, _fitting(word, inputs, signature), _promised(path, outputs, signature))
    return Source(f"rows of {path.name}", _fitting(word, arrays, signature), None)


def _promised(path: Path, outputs: Mapping[str, Array], signature: Signature) -> dict[str, Array] | None:
    if not outputs:
        return None
    if missing := [name for name in signature.outputs if name not in outputs]:
        raise SettingsError(f"--payload: {path} has no outputs/{missing[0]}, which {signature.name} answers")
    return {name: outputs[name] for name in signature.outputs}


def _fitting(where: str, arrays: Mapping[str, Array], signature: Signature) -> dict[str, Array]:
    """Pick the signature's inputs in its dtypes, or raise SettingsError that names the first that does not fit."""
    found = {}
    for name, spec in signature.inputs.items():
        if name not in arrays:
            raise SettingsError(f"--payload: {where}: no array {name}; it has: {', '.join(arrays) or 'none'}")
        array, wanted = arrays[name], spec.dtype.numpy
        if wanted is not None and array.dtype != wanted:
            if not np.can_cast(array.dtype, wanted, "same_kind"):
                raise SettingsError(f"--payload: {where}: {name}: expected {spec.dtype.name}, found {array.dtype}")
            array = array.astype(wanted)
        sizes = spec.shape
        if sizes is not None and (
            array.ndim != len(sizes)
            or any(want not in (None, have) for want, have in zip(sizes[1:], array.shape[1:], strict=True))
        ):
            raise SettingsError(
                f"--payload: {where}: {name}: expected shape {format_shape(sizes)}, found {list(array.shape)}"
            )
        found[name] = array
    return found


def drawn(signature: Signature, seed: int) -> Source:
    """Draw rows that fit *signature*: floats from 0 to 1, whole numbers from 0 to 9, words; an axis of any size after the first has 1."""
    generator = np.random.default_rng(seed)
    specs = signature.inputs.values()
    has_rows = all(spec.shape is None or (spec.shape and spec.shape[0] is None) for spec in specs)
    inputs = {name: _values(generator, spec, has_rows=has_rows) for name, spec in signature.inputs.items()}
    return Source("drawn at random to fit the signature", inputs, None, has_rows)


def _values(generator: np.random.Generator, spec: TensorSpec, *, has_rows: bool) -> Array:
    shape = spec.shape if spec.shape is not None else (None,)
    sizes = [(_ROWS if has_rows and not axis else 1) if size is None else size for axis, size in enumerate(shape)]
    dtype = spec.dtype.numpy
    if dtype is None:
        raise SettingsError(f"{spec}: values of this type cannot be drawn; give some with --payload")
    if dtype == np.dtype(object):
        return np.array([b"alpha", b"beta", b"gamma"], object)[generator.integers(0, 3, sizes)]
    if dtype.kind in "fc":
        return np.asarray(generator.random(sizes)).astype(dtype)
    return np.asarray(generator.integers(0, 2 if dtype.kind == "b" else 10, sizes)).astype(dtype)


@dataclass(frozen=True, slots=True)
class Asking:
    """
    Makes payloads with the answers to expect.

    Attributes:
        server: Is asked for what nobody else knows.
        model: Name of the model.
        version: The version to ask; None: the one that the server chooses.
        signature: What is called.
        source: Rows.
        tolerance: How near answers must come.
    """

    server: TargetServer
    model: str
    version: int | None
    signature: Signature
    source: Source
    tolerance: Tolerance

    def payloads(self, count: int) -> Sequence[Payload]:
        """
        Make requests of *count* rows each.

        Raises:
            ContractViolation: The protocols answer differently, or not what the payload file says.
            ServerError: The server refuses a request.
        """
        made = []
        for number, (inputs, promised) in enumerate(self.source.chosen(count)):
            expected = promised
            for protocol, place in self.server.places.items():
                answer = self._ask(place, inputs)
                if expected is None:
                    expected = answer
                elif fault := self._difference(expected, answer):
                    other = "the payload file" if promised else NAMES[next(iter(self.server.places))]
                    raise ContractViolation(
                        f"payload {number}: {NAMES[protocol]} answers otherwise than {other} says: {fault}"
                    )
            made.append(
                payloads.make(
                    self.model,
                    inputs,
                    expected,
                    version=self.version,
                    signature_name="" if self.signature.name == "serving_default" else self.signature.name,
                )
            )
        return made

    def _ask(self, place: Target, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            with client(place, self.model, self.version) as asked:
                return asked.call_predict(self.signature, inputs)
        except ServerError as error:
            raise ServerError(f"{place}: {' '.join(str(error).split())}") from error

    def _difference(self, expected: Mapping[str, Array], found: Mapping[str, Array]) -> str | None:
        for name, wanted in expected.items():
            if name not in found:
                return f"no output {name}; it has: {', '.join(found)}"
            if fault := self.tolerance.difference(wanted, found[name]):
                return f"{name}: {fault}"
        return None

    def is_repeatable(self) -> bool:
        """Ask the first payload twice and see whether the answers are the same, as near as they must be."""
        inputs, _ = self.source.chosen(1)[0]
        (place, *_) = self.server.places.values()
        first, second = (self._ask(place, inputs) for _ in range(2))
        return self._difference(first, second) is None

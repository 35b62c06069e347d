"""What is sent to a server that nobody has golden data of: a file's rows, a contract's, or drawn ones; with the answers to expect."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import golden
from slipway.bench import examples
from slipway.bench.target import METHODS, TargetServer, client, takes_examples
from slipway.errors import ContractViolation, ServerError, SettingsError
from slipway.model_clients import ModelClient
from slipway.payloads import MOST_DISTINCT
from slipway.records import Protocol
from slipway.targets import NAMES
from slipway_wire import payloads
from slipway_wire.inference import CLASSES, INPUTS, OUTPUTS, SCORES
from slipway_wire.model_spec import ModelSpec
from slipway_wire.paths import PostVerb
from slipway_wire.payloads import Payload
from slipway_wire.signatures import Signature, TensorSpec, format_shape
from slipway_wire.status import WireError
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
        contract: `--contract`; beside golden data it says how another form of the signature carries them.
        signature: What the server takes.
        seed: Of drawn rows.

    Raises:
        SettingsError: If they do not fit *signature*.
        SourceError: If a file cannot be read.
    """
    method = METHODS[signature.method]
    if contract is not None and word is None:
        word = CONTRACT
    if word is None:
        if takes_examples(signature):
            raise SettingsError(f"--signature: {signature.name} takes tf.Examples, and {examples.ADVICE}.")
        return drawn(signature, seed)
    if word == CONTRACT:
        if contract is None:
            raise SettingsError("--payload contract: which? Name its file with --contract.")
        values = examples.of_contract(contract, signature, method, _ROWS)
        return Source(f"drawn within the ranges of {contract.name}", _fitting(str(contract), values, signature), None)
    return _of_file(Path(word), contract, signature, method)


def _of_file(path: Path, contract: Path | None, signature: Signature, method: str) -> Source:
    word = str(path)
    arrays = golden.read_arrays(path, "Write it with numpy.savez: one array per input, by its name.")
    if not any(name.startswith("inputs/") for name in arrays):
        values = examples.of_arrays(word, arrays) if takes_examples(signature) else arrays
        return Source(f"rows of {path.name}", _fitting(word, values, signature), None)
    told = f"{path.name}, with the answers there"
    if contract is not None:
        inputs, outputs = examples.of_golden(path, contract, signature, method)
        return Source(told, _fitting(word, inputs, signature), outputs)
    if takes_examples(signature):
        raise SettingsError(
            f"--payload: {path} has a model's own inputs, and {signature.name} takes tf.Examples: name a --contract, "
            "which says how they are carried"
        )
    inputs = {name.removeprefix("inputs/"): a for name, a in arrays.items() if name.startswith("inputs/")}
    outputs = {name.removeprefix("outputs/"): a for name, a in arrays.items() if name.startswith("outputs/")}
    return Source(told, _fitting(word, inputs, signature), _promised(path, outputs, signature))


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
        spec: Model, and the version or label to ask; with neither, the version that the server chooses.
        signature: What is called.
        method: How it is called: predict takes the tensors of any signature.
        source: Rows.
        tolerance: How near answers must come.
    """

    server: TargetServer
    spec: ModelSpec
    signature: Signature
    method: PostVerb
    source: Source
    tolerance: Tolerance

    def of_version(self, version: int, *, keep_answers: bool) -> "Asking":
        """Give what asks *version* instead; a file's answers say nothing of another version."""
        source = self.source if keep_answers else replace(self.source, outputs=None)
        return replace(self, spec=replace(self.spec, version=version, label=None), source=source)

    def by_label(self, label: str) -> "Asking":
        """Give what asks the version with *label* instead, whichever that is."""
        source = replace(self.source, outputs=None)
        return replace(self, spec=replace(self.spec, version=None, label=label), source=source)

    def payloads(self, count: int) -> Sequence[Payload]:
        """
        Make requests of *count* rows each.

        Raises:
            ContractViolation: The protocols answer differently, or not what the payload file says.
            ServerError: The server refuses a request.
            SettingsError: The rows cannot be said in JSON.
        """
        made = []
        with contextlib.ExitStack() as stack:
            clients: dict[Protocol, ModelClient] = {}
            for protocol in self.server.places:
                clients[protocol] = stack.enter_context(client(self.server, protocol, self.spec))
            for number, (inputs, promised) in enumerate(self.source.chosen(count)):
                expected = promised
                for protocol, asked in clients.items():
                    answer = self._ask(protocol, asked, inputs)
                    if expected is None:
                        expected = answer
                    elif fault := self._difference(expected, answer):
                        other = "the payload file" if promised else NAMES[next(iter(clients))]
                        raise ContractViolation(
                            f"payload {number}: {NAMES[protocol]} answers otherwise than {other} says: {fault}"
                        )
                made.append(self.payload(inputs, expected))
        return made

    def payload(self, inputs: Mapping[str, Array], expected: Mapping[str, Array] | None) -> Payload:
        """Make one request, or raise SettingsError if it cannot be made."""
        try:
            return payloads.make(
                self.spec.name,
                inputs,
                expected,
                version=self.spec.version,
                label=self.spec.label,
                signature_name=self.spec.signature_name,
                method=self.method,
            )
        except WireError as error:
            raise SettingsError(f"--payload: no request can be made of its rows: {error}") from error

    def _ask(self, protocol: Protocol, asked: ModelClient, inputs: Mapping[str, Array]) -> dict[str, Array]:
        name = self.signature.name
        try:
            match self.method:
                case "predict":
                    return asked.call_predict(self.signature, inputs)
                case "classify":
                    found = asked.call_classify(name, inputs[INPUTS].tolist())
                    both = {CLASSES: found.classes, SCORES: found.scores}
                    return {output: array for output, array in both.items() if array is not None}
                case "regress":
                    return {OUTPUTS: asked.call_regress(name, inputs[INPUTS].tolist()).values}
        except (ServerError, WireError) as error:
            raise ServerError(f"{self.server.places[protocol]}: {' '.join(str(error).split())}") from error

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
        protocol = next(iter(self.server.places))
        with client(self.server, protocol, self.spec) as asked:
            first, second = (self._ask(protocol, asked, inputs) for _ in range(2))
        return self._difference(first, second) is None

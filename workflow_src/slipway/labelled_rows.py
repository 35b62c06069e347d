"""Rows whose labels are known, as requests for a signature of a contract; and which class each answer chose."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import error_rate, golden, rows
from slipway.contract import ClassifySignature, Contract, PredictSignature, RegressSignature, TensorContract
from slipway.errors import ServerError, SettingsError, SourceError
from slipway.golden import Golden
from slipway.model_clients import ModelClient
from slipway_wire import dtypes, inference, signatures
from slipway_wire.signatures import Signature

Array = npt.NDArray[Any]
_METHODS = {"predict": signatures.PREDICT, "classify": signatures.CLASSIFY}


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """
    Rows to ask one signature about.

    Attributes:
        contract: Gives the tensors.
        name: Of a predict or classify signature.
        output: What of a predict answer is compared with the labels; None for classify.
        data: Rows of this signature, or of the model's own form; labels are there; outputs may be none.
    """

    contract: Contract
    name: str
    output: str | None
    data: Golden

    @property
    def labels(self) -> Array:
        """What is true of each row, [rows]."""
        assert self.data.labels is not None  # as read
        return self.data.labels

    def parts(self, tested: int, size: int) -> Iterator[dict[str, Array]]:
        """Make the inputs of requests for the first *tested* rows, *size* rows in each, in order, each row once."""
        for start in range(0, tested, size):
            chosen = slice(start, min(start + size, tested))
            part = {name: array[chosen] for name, array in self.data.inputs.items()}
            signature = self.contract.signatures[self.name]
            if isinstance(signature, PredictSignature) and signature.inputs.keys() <= part.keys():
                yield {name: part[name] for name in signature.inputs}
            else:
                count = chosen.stop - start
                yield rows.rows_for(self.contract, self.name, count, Golden(part, self.data.outputs, None))

    def check(self, served: Mapping[str, Signature], where: str) -> Signature:
        """
        Find the signature among those *served* and compare it with the contract's.

        Raises:
            ServerError: If it is not there, is of another method, or takes other tensors; says where.
        """
        found = served.get(self.name)
        if found is None:
            raise ServerError(f"{where} has no signature {self.name}; it has: {', '.join(served) or 'none'}.")
        method = _METHODS[self.contract.signatures[self.name].method]
        if found.method != method:
            raise ServerError(f"{where}: {self.name}: expected method {method}, found {found.method or 'none'}.")
        for what, tensors, specs in (
            ("input", self.contract.inputs_of(self.name), found.inputs),
            ("output", self.contract.outputs_of(self.name), found.outputs),
        ):
            for name, tensor in tensors.items():
                spec = specs.get(name)
                if what == "output" and name != self.output:
                    continue
                if spec is None:
                    raise ServerError(f"{where}: {self.name}: no {what} {name}; it has: {', '.join(specs) or 'none'}.")
                if not _fits(tensor, spec):
                    expected = f"{name}: {dtypes.from_name(tensor.dtype).name} {rows.format_shape(tensor)}"
                    raise ServerError(f"{where}: {self.name}: the contract has {what} {expected}, the server {spec}.")
        return found

    def ask(self, client: ModelClient, served: Signature, inputs: Mapping[str, Array]) -> Array:
        """Send one request and give what each row's answer chose, [rows]."""
        if self.output is None:
            found = error_rate.chosen_class(client.call_classify(self.name, inputs[inference.INPUTS].tolist()))
        else:
            outputs = client.call_predict(served, inputs)
            if self.output not in outputs:
                raise ServerError(f"{self.name}: no output {self.output} in the answer, only {', '.join(outputs)}.")
            found = error_rate.chosen(outputs[self.output])
        sent = len(next(iter(inputs.values())))
        if len(found) != sent:
            raise ServerError(f"{self.name}: {sent} rows were sent, {len(found)} answered.")
        return found

    def are_wrong(self, found: Array) -> npt.NDArray[np.bool_]:
        """Compare what was chosen for the first rows with their labels."""
        return ~error_rate.are_right(found, self.labels[: len(found)], self._names())

    def wrong_offline(self, tested: int) -> npt.NDArray[np.bool_] | None:
        """Compare the golden answers to the first *tested* rows with their labels; None where there are none."""
        signature = self.contract.signatures[self.name]
        output = signature.scores if isinstance(signature, ClassifySignature) else self.output
        values = self.data.outputs.get(output or "")
        return None if values is None else self.are_wrong(error_rate.chosen(values[:tested]))

    def _names(self) -> tuple[str, ...] | None:
        signature = self.contract.signatures[self.name]
        if isinstance(signature, ClassifySignature):
            return self.contract.classes(signature)
        for other in self.contract.signatures.values():
            if isinstance(other, ClassifySignature):
                return self.contract.classes(other)
        return None


def _fits(tensor: TensorContract, spec: signatures.TensorSpec) -> bool:
    if spec.dtype is not dtypes.from_name(tensor.dtype):
        return False
    if spec.shape is None:
        return True
    return len(spec.shape) == len(tensor.shape) and all(
        isinstance(want, str) or have in (None, want) for want, have in zip(tensor.shape, spec.shape, strict=True)
    )


def read(path: Path, contract: Contract, name: str, output: str | None) -> LabelledRows:
    """
    Read rows for signature *name* of *contract*.

    Args:
        path: .npz with `labels` and an array for each input, as golden.npz (`inputs/…`) or under its own name.
        contract: Gives the tensors.
        name: Of the signature.
        output: What to compare with the labels; None: what the contract's `golden.label` names.

    Raises:
        SettingsError: If there is no such signature or output, or the signature chooses nothing.
        SourceError: If the file is missing or damaged, or has not the right arrays.
    """
    signature = contract.signatures.get(name)
    if signature is None:
        raise SettingsError(f"--signature: no {name} in the contract; there are: {', '.join(contract.signatures)}")
    if isinstance(signature, RegressSignature):
        raise SettingsError(f"--signature: {name} is a regression: it gives numbers, which are neither right nor wrong")
    compared = None if isinstance(signature, ClassifySignature) else _compared(contract, name, signature, output)
    arrays = golden.read_arrays(path, "Write it with numpy.savez.")
    inputs = {
        key.removeprefix("inputs/"): a for key, a in arrays.items() if "/" not in key or key.startswith("inputs/")
    }
    outputs = {key.removeprefix("outputs/"): a for key, a in arrays.items() if key.startswith("outputs/")}
    labels = inputs.pop("labels", None)
    if labels is None:
        raise SourceError(f"{path}: no array labels, what is true of each row; found: {', '.join(arrays) or 'none'}.")
    own = isinstance(signature, PredictSignature) and signature.inputs.keys() <= inputs.keys()
    tensors = signature.inputs if isinstance(signature, PredictSignature) and own else contract.default.inputs
    fitted = rows.fit(str(path), tensors, inputs)
    count = len(next(iter(fitted.values())))
    if labels.shape != (count,):
        raise SourceError(f"{path}: labels: expected shape [{count}], one for each row, found {list(labels.shape)}.")
    return LabelledRows(contract, name, compared, Golden(fitted, outputs, labels))


def _compared(contract: Contract, name: str, signature: PredictSignature, output: str | None) -> str:
    chosen = output or contract.golden.label
    if chosen is None:
        raise SettingsError(
            f"--output: which output of {name} is compared with the labels? There are: {', '.join(signature.outputs)}"
        )
    if chosen not in signature.outputs:
        raise SettingsError(f"--output: {name} has no output {chosen}; there are: {', '.join(signature.outputs)}")
    return chosen

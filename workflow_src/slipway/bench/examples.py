"""Rows for signatures that take tf.Examples: of a contract, of golden data that a contract says how to carry, or of a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from google.protobuf.message import DecodeError

from slipway import answers, forms, golden, rows
from slipway.contract import Contract, read_contract
from slipway.errors import SettingsError
from slipway_wire import messages
from slipway_wire.inference import INPUTS
from slipway_wire.signatures import Signature

Array = npt.NDArray[Any]
ADVICE = (
    "the server does not tell of which features: name a --contract that does, or a --payload FILE.npz with an array for "
    "each feature, by its name"
)
_KINDS = {"f": "float32", "i": "int64", "u": "int64", "b": "int64", "O": "string"}


def of_contract(path: Path, signature: Signature, method: str, count: int) -> dict[str, Array]:
    """
    Draw *count* rows within the ranges of the contract at *path*, in the form that *signature* takes.

    Args:
        path: Of the contract.
        signature: As the server has it.
        method: By which its method is called.
        count: Rows.

    Returns:
        Input name -> array of shape [rows, …]; for classify and regress `inputs`, serialized tf.Examples.

    Raises:
        SettingsError: The contract has no such signature.
    """
    known = _promising(path, signature, method)
    own, name = rows.own_form(known, signature.name), signature.name
    values = rows.draw(known, own, count)
    return values if own is known.signatures[name] else forms.encode(known, name, values)


def of_golden(
    path: Path, contract: Path, signature: Signature, method: str
) -> tuple[dict[str, Array], dict[str, Array]]:
    """
    Carry the golden rows at *path* in the form that *signature* takes.

    Returns:
        Inputs as `of_contract`, and the answers to them: output name -> array of shape [rows, …].

    Raises:
        SettingsError: The contract has no such signature, or golden data lack what it takes or gives.
    """
    known, name = _promising(contract, signature, method), signature.name
    data = golden.read(path)
    own = rows.own_form(known, name)
    if missing := [one for one in own.inputs if one not in data.inputs]:
        raise SettingsError(f"--payload: {path} has no inputs/{missing[0]}, which {name} carries")
    expected = answers.expected(known, name, data)
    if missing := [one for one in known.outputs_of(name) if one not in expected]:
        raise SettingsError(f"--payload: {path} has no answers for {missing[0]}, which {name} gives")
    inputs = data.inputs if own is known.signatures[name] else forms.encode(known, name, data.inputs)
    return {one: inputs[one] for one in known.inputs_of(name)}, {one: expected[one] for one in known.outputs_of(name)}


def _promising(path: Path, signature: Signature, method: str) -> Contract:
    contract = read_contract(path)
    promised = contract.signatures.get(signature.name)
    if promised is None or promised.method != method:
        raise SettingsError(f"--contract: {path} has no {method} signature {signature.name}")
    return contract


def of_arrays(where: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """
    Make tf.Examples of a file's arrays: an array `inputs` of strings has them serialized, else each array is a feature.

    Args:
        where: What errors call the file.
        arrays: Name -> array of shape [rows, …].

    Returns:
        `inputs`, objects (bytes) of shape [rows].

    Raises:
        SettingsError: They differ in their rows, are of a kind that no feature is, or are no tf.Examples.
    """
    given = arrays.get(INPUTS)
    if given is not None and given.dtype == object and given.ndim == 1:
        for row, serialized in enumerate(given):
            try:
                messages.Example.FromString(serialized)
            except (DecodeError, TypeError) as error:
                raise SettingsError(
                    f"--payload: {where}: row {row} of {INPUTS} is no tf.Example (numpy drops zero bytes at the end of "
                    "strings; arrays of features have none of that)"
                ) from error
        return {INPUTS: given}
    sizes = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if not sizes or min(sizes.values()) == 0 or len(set(sizes.values())) > 1:
        told = ", ".join(f"{name}: {size}" for name, size in sizes.items()) or "no arrays"
        raise SettingsError(f"--payload: {where}: expected features of as many rows each, found {told}")
    if strange := [name for name, array in arrays.items() if array.dtype.kind not in _KINDS]:
        name = strange[0]
        raise SettingsError(f"--payload: {where}: {name}: no feature of a tf.Example is {arrays[name].dtype}")
    return {INPUTS: forms.pack({name: (_KINDS[array.dtype.kind], array) for name, array in arrays.items()})}

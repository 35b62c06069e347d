"""What the load sends: golden rows as requests, the same values in both protocols, with the answers they must get."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import answers, files, forms, golden, records
from slipway.contract import DEFAULT_SIGNATURE, Contract
from slipway.errors import SettingsError, SourceError
from slipway.rows import own_form
from slipway_wire import inference, json_examples, json_predict, messages, payloads, predict, signatures
from slipway_wire.payloads import Payload
from slipway_wire.signatures import Signature
from slipway_wire.status import WireError

Array = npt.NDArray[Any]

# Digits are much the same in all of them.
_WEIGHED = 4
# Enough that no cache in front of the model could answer from memory unnoticed, few enough to stay in the CPU's.
MOST_DISTINCT = 16


def chosen_signature(contract: Contract, named: str | None) -> str:
    """
    Choose the signature that is called: *named*, or what a request gets that names none.

    Where that is no predict signature, as in the MNIST tutorial, the model's own form is asked: its rows are what golden
    data are about, and it is the call that both protocols carry without tf.Examples.

    Raises:
        SettingsError: If there is no signature *named*.
    """
    if named is None:
        is_predict = contract.signatures[DEFAULT_SIGNATURE].method == "predict"
        return DEFAULT_SIGNATURE if is_predict else contract.golden.signature
    if named not in contract.signatures:
        there = ", ".join(contract.signatures)
        raise SettingsError(f"benchmark.signature: no signature {named} in the contract; there are: {there}")
    return named


def from_golden(
    data: golden.Golden, contract: Contract, *, model: str, version: int, signature: str | None, rows: int
) -> list[Payload]:
    """
    Make requests of *rows* golden rows each, for version *version* alone.

    Args:
        data: Golden rows; taken in order, beginning again at the first where they are too few.
        contract: Gives the tensors of *signature*.
        model: Name of the model.
        version: The version that must answer.
        signature: A signature whose answers golden data have: tensors, pictures, words or tf.Examples; None: see
            `chosen_signature`.
        rows: Rows in each request.

    Raises:
        SettingsError: If *signature* is not such a signature.
    """
    if contract.max_rows is not None and rows > contract.max_rows:
        raise SettingsError(f"benchmark.rows: must be at most {contract.max_rows}, the contract's max_rows, got {rows}")
    signature = chosen_signature(contract, signature)
    wanted = contract.signatures[signature]
    own = own_form(contract, signature)
    if missing := [name for name in own.inputs if name not in data.inputs]:
        raise SettingsError(
            f"benchmark.signature: golden data have no input {', no input '.join(missing)} of {signature}; "
            f"they are those of {contract.golden.signature}"
        )
    expected = answers.expected(contract, signature, data)
    if missing := [name for name in contract.outputs_of(signature) if name not in expected]:
        raise SettingsError(
            f"benchmark.signature: golden data have no output {', no output '.join(missing)} of {signature}; "
            f"they are those of {contract.golden.signature}"
        )
    if wanted.method == "predict" and not wanted.batched:
        raise SettingsError(f"benchmark.signature: {signature} has no rows, which the load counts; take another")
    inputs = data.inputs if own is wanted else forms.encode(contract, signature, data.inputs)
    distinct = min(MOST_DISTINCT, max(data.rows // rows, 1))
    chosen = [(np.arange(rows) + number * rows) % data.rows for number in range(distinct)]
    return [
        payloads.make(
            model,
            {name: inputs[name][places] for name in contract.inputs_of(signature)},
            {name: expected[name][places] for name in contract.outputs_of(signature)},
            version=version,
            signature_name="" if signature == DEFAULT_SIGNATURE else signature,
            method=wanted.method,
        )
        for places in chosen
    ]


def check_parity(sent: Sequence[Payload], version_directory: Path) -> None:
    """
    Decode every payload from both protocols, as the server will, and compare the values bit for bit.

    Args:
        sent: Payloads.
        version_directory: The SavedModel; JSON carries no dtypes, its signature does.

    Raises:
        SourceError: If the two protocols would not ask for the same.
    """
    try:
        known = signatures.read_signatures(version_directory)
    except WireError as error:
        raise SourceError(f"{version_directory}: {error}") from error
    check_same_values(sent, known, str(version_directory))


def check_same_values(sent: Sequence[Payload], known: Mapping[str, Signature], where: str) -> None:
    """
    Compare what the two protocols carry, bit for bit.

    Args:
        sent: Payloads.
        known: Signatures, by which JSON is read.
        where: Whose they are, for the error.

    Raises:
        SourceError: If the two protocols would not ask for the same.
    """
    try:
        for number, payload in enumerate(sent):
            over_grpc, over_rest = _over_grpc(payload), _over_rest(payload, known)
            for name in over_grpc.keys() | over_rest.keys():
                if not _same_bits(over_grpc.get(name), over_rest.get(name)):
                    raise SourceError(
                        f"payload {number}, input {name}: REST and gRPC carry different values: "
                        f"{_told(over_rest.get(name))} and {_told(over_grpc.get(name))}. "
                        "A dtype that JSON cannot carry, or golden data in another dtype than the signature's."
                    )
    except WireError as error:
        raise SourceError(f"{where}: its signature does not take the rows: {error}") from error


def _over_grpc(payload: Payload) -> Mapping[str, Array]:
    if payload.method == "predict":
        return predict.decode_request(payload.grpc_message).inputs
    return {inference.INPUTS: _features(inference.decode_classify_request(payload.grpc_message).examples)}


def _over_rest(payload: Payload, known: Mapping[str, Signature]) -> Mapping[str, Array]:
    if payload.method == "predict":
        signature = signatures.find_signature(known, payload.spec.signature_key)
        return json_predict.parse_request(payload.rest_body).inputs(signature)
    inference.find_signature(known, payload.spec.signature_key)
    return {inference.INPUTS: _features(json_examples.decode_request(payload.rest_body).examples)}


def _features(examples: Sequence[bytes]) -> Array:
    """
    Bring tf.Examples into one form: JSON carries features in no order, and an empty one without its kind.

    Returns:
        Serialized, objects (bytes) of shape [rows].
    """
    found = np.empty(len(examples), object)
    for row, serialized in enumerate(examples):
        example = messages.Example.FromString(serialized)
        for name in [name for name, feature in example.features.feature.items() if not _has_values(feature)]:
            del example.features.feature[name]
        found[row] = example.SerializeToString(deterministic=True)
    return found


def _has_values(feature: Any) -> bool:
    kind = feature.WhichOneof("kind")
    return kind is not None and len(getattr(feature, kind).value) > 0


def _same_bits(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


def _told(array: Array | None) -> str:
    return "nothing" if array is None else f"{array.dtype}{list(array.shape)}"


def record(sent: Sequence[Payload]) -> records.Payload:
    """Tell what is sent, as the report shows it."""
    rows = sent[0].rows
    return records.Payload(
        id=f"golden-{rows}",
        signature=sent[0].spec.signature_key,
        rows=rows,
        distinct=len(sent),
        values_digest=_digest([payload.inputs for payload in sent]),
        rest_body_bytes=float(np.mean([len(payload.rest_body) for payload in sent])),
        rest_plain_body_bytes=_plain_bytes(sent[:_WEIGHED]),
        grpc_message_bytes=float(np.mean([len(payload.grpc_message) for payload in sent])),
    )


def _plain_bytes(sent: Sequence[Payload]) -> float | None:
    """Weigh what plain clients would send: `json.dumps` spells a float32 out like the double it becomes."""
    if any(payload.method != "predict" for payload in sent):
        return None
    arrays = [payload.inputs for payload in sent]
    if any(array.dtype.kind != "f" or not array.ndim for inputs in arrays for array in inputs.values()):
        return None
    return float(np.mean([len(json.dumps({"instances": _instances(inputs)})) for inputs in arrays]))


def _instances(inputs: Mapping[str, Array]) -> list[Any]:
    columns = {name: array.tolist() for name, array in inputs.items()}
    if len(columns) == 1:
        return list(next(iter(columns.values())))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _digest(inputs: Sequence[Mapping[str, Array]]) -> str:
    """Digest names, shapes, dtypes and values; not their form on the wire."""
    parts = []
    for one in inputs:
        for name, array in sorted(one.items()):
            values = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
            parts.append(f"{name} {array.dtype} {list(array.shape)} {files.sha256_bytes(values)}\n")
    return files.sha256_bytes("".join(parts).encode())

"""
From a model's own outputs to the outputs of a predict signature, in numpy.

Golden answers are made here and not by the operations that an export adds: two ways to the same answer
are what makes their comparison a proof.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from slipway import forms
from slipway.contract import (
    ClassifySignature,
    Contract,
    OutputContract,
    PredictSignature,
    RegressSignature,
    Signature,
)
from slipway.contract.expressions import INTEGERS, Call, Expression, Name
from slipway.errors import SettingsError
from slipway.golden import Golden

Array = npt.NDArray[Any]
Value = TypeVar("Value")

# What a number without a class is called; TensorFlow's default for such tables.
UNKNOWN = "UNK"


@dataclass(frozen=True, slots=True)
class Place(Generic[Value]):
    """
    Where a function is called.

    Attributes:
        output: What is being made: gives the dtype of integers, and what numbers stand for.
        rows: Some tensor [rows, …] of the call.
    """

    output: OutputContract
    rows: Value

    @property
    def integer(self) -> str:
        """The dtype of integers."""
        return self.output.dtype if self.output.dtype in INTEGERS else "int64"


# A place, tensors, numbers -> tensor.
Functions = Mapping[str, Callable[..., Value]]


def pick(outputs: Mapping[str, Value], name: str) -> Value:
    """
    Choose the output *name* of a model; its only output goes by any name.

    Raises:
        SettingsError: If there are several and none has the name.
    """
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    try:
        return outputs[name]
    except KeyError:
        msg = f"contract: the model has no output {name}; it has: {', '.join(outputs)}. Name one of them in `from:`."
        raise SettingsError(msg) from None


def make(
    signature: PredictSignature, raw: Mapping[str, Value], inputs: Mapping[str, Value], functions: Functions[Value]
) -> dict[str, Value]:
    """
    Make the outputs of *signature* as its expressions say, with functions of one framework.

    Args:
        signature: Names the outputs and what they are made from.
        raw: The model's own outputs by name.
        inputs: The model's own inputs by name.
        functions: What the functions of `slipway.contract.expressions.FUNCTIONS` do.

    Raises:
        SettingsError: If a name is that of nothing.
    """

    def value(name: str) -> Value:
        output = signature.outputs[name]
        made = output.expression(name)
        return pick(raw, made.name) if isinstance(made, Name) else evaluate(made, output)

    def evaluate(expression: Expression, output: OutputContract) -> Value:
        match expression:
            case Name(name) if name in signature.outputs:
                return value(name)
            case Name(name):
                return inputs[name] if name in inputs and name not in raw else pick(raw, name)
            case Call(function, arguments, numbers):
                place = Place(output, next(iter(inputs.values())) if inputs else next(iter(raw.values())))
                return functions[function](place, *[evaluate(one, output) for one in arguments], *numbers)

    return {name: value(name) for name in signature.outputs}


def derive(
    signature: PredictSignature, raw: Mapping[str, Array], inputs: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """
    Make the outputs of *signature*, each as its contract says.

    Args:
        signature: Names the outputs and what they are made from.
        raw: The model's own outputs, name -> array of shape [rows, …].
        inputs: The model's own inputs, name -> array of shape [rows, …], for expressions that name them.

    Returns:
        Name -> array; integers have the contract's dtype, all else that of what it is made from.
    """
    return make(signature, raw, inputs or {}, FUNCTIONS)


def derive_others(
    contract: Contract, raw: Mapping[str, Array], inputs: Mapping[str, Array]
) -> dict[str, dict[str, Array]]:
    """
    Make what other predict signatures give of the same rows and the model's own form does not.

    Returns:
        Signature -> output -> array; only those signatures that have such outputs.
    """
    made = {}
    for name, signature in contract.signatures.items():
        if not isinstance(signature, PredictSignature) or not has_same_inputs(contract, signature):
            continue
        outputs = {key: o for key, o in signature.outputs.items() if not _is_own(contract, key, o)}
        if outputs:
            found = derive(signature, raw, inputs)
            made[name] = {key: found[key] for key in outputs}
    return made


def has_same_inputs(contract: Contract, signature: Signature) -> bool:
    """Tell whether *signature* gives the model the inputs of its own form, in whatever form it takes them."""
    if isinstance(signature, PredictSignature) and signature.is_own_form:
        return signature.inputs.keys() == contract.default.inputs.keys()
    return True


def _is_own(contract: Contract, name: str, output: OutputContract) -> bool:
    own = contract.default.outputs.get(name)
    return own is not None and (own.from_, own.class_names) == (output.from_, output.class_names)


def expected(contract: Contract, name: str, golden: Golden) -> dict[str, Array]:
    """
    Give what signature *name* must answer to the golden rows, as far as golden data tell.

    Returns:
        Output -> array; empty if there are no such rows, or the signature loses something of them.
    """
    signature = contract.signatures[name]
    own = contract.default
    if not has_same_inputs(contract, signature) or not own.inputs.keys() <= golden.inputs.keys():
        return {}
    rows = {key: golden.inputs[key] for key in own.inputs}
    if any(not np.array_equal(array, rows[key]) for key, array in forms.carried(contract, name, rows).items()):
        return {}
    match signature:
        case ClassifySignature():
            scores = golden.outputs[signature.scores].astype(np.float32)
            classes = contract.classes(signature)
            if signature.top_k is None:
                return {"classes": np.tile(named(np.arange(len(classes)), classes), (len(scores), 1)), "scores": scores}
            places = best(scores, signature.top_k)
            return {"classes": named(places, classes), "scores": np.take_along_axis(scores, places, axis=-1)}
        case RegressSignature():
            return {"outputs": golden.outputs[signature.value].astype(np.float32).reshape(-1)}
        case PredictSignature():
            of_own = {k: golden.outputs.get(k) for k, o in signature.outputs.items() if _is_own(contract, k, o)}
            others = golden.others.get(name, {})
            known = {k: of_own.get(k) if k in of_own else others.get(k) for k in signature.outputs}
            return {k: array for k, array in known.items() if array is not None}


def best(scores: Array, k: int) -> Array:
    """Give where the *k* largest of the last axis are, descending; of equals the lower comes first (as tf.math.top_k)."""
    places: Array = scores.shape[-1] - 1 - np.argsort(scores[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    return places[..., :k]


def named(ids: Array, classes: tuple[str, ...]) -> Array:
    """Give what numbers stand for, as objects (bytes)."""
    names = np.array([*(name.encode() for name in classes), UNKNOWN.encode()], object)
    return names[np.where((ids >= 0) & (ids < len(classes)), ids, len(classes))]


def viterbi(logits: Array, transitions: Array, lengths: Array | None = None) -> Array:
    """
    Find the likeliest sequence of tags of a linear-chain CRF.

    Args:
        logits: [rows, T, C].
        transitions: [C, C], from tag to tag; [C + 1, C + 1] if the last is the start of a sequence. One for all rows,
            or one each.
        lengths: [rows]; without them all rows have T steps.

    Returns:
        Tags, int64 [rows, T]; 0 beyond a row's length.

    Source: the recursion of Viterbi (1967), as tfa.text.viterbi_decode and its kin compute it.
    """
    rows, steps, tags = logits.shape
    inner = transitions[..., :tags, :tags]
    has_start = transitions.shape[-1] > tags
    start = transitions[..., -1, :tags] if has_start else np.zeros(tags, logits.dtype)
    length = np.full(rows, steps) if lengths is None else lengths
    best_score = np.zeros((rows, tags), logits.dtype)
    back = np.empty((steps, rows, tags), np.int64)
    for step in range(steps):
        moves = best_score[:, :, None] + inner
        moved = np.broadcast_to(start, best_score.shape) if step == 0 else moves.max(axis=1)
        runs = (step < length)[:, None]
        back[step] = np.where(runs, moves.argmax(axis=1), np.arange(tags))
        best_score = np.where(runs, moved + logits[:, step], best_score)
    found = np.zeros((rows, steps), np.int64)
    last = best_score.argmax(axis=-1) if rows else np.zeros(0, np.int64)
    for step in reversed(range(steps)):
        found[:, step] = np.where(step < length, last, 0)
        last = np.take_along_axis(back[step], last[:, None], axis=1)[:, 0]
    return found


def _viterbi(place: Place[Array], logits: Array, transitions: Array, lengths: Array | None = None) -> Array:
    return viterbi(logits, transitions, lengths).astype(place.integer, copy=False)


def _binary(_: Place[Array], p: Array) -> Array:
    flat = p.reshape(-1)
    return np.stack([1 - flat, flat], axis=-1)


FUNCTIONS: Functions[Array] = {
    "softmax": lambda _, x: special.softmax(x, axis=-1).astype(x.dtype, copy=False),
    "sigmoid": lambda _, x: special.expit(x).astype(x.dtype, copy=False),
    "argmax": lambda place, x: np.argmax(x, axis=-1).astype(place.integer, copy=False),
    "top_k_scores": lambda _, x, k: np.take_along_axis(x, best(x, k), axis=-1),
    "top_k_ids": lambda place, x, k: best(x, k).astype(place.integer, copy=False),
    "top_k_classes": lambda place, x, k: named(best(x, k), place.output.class_names),
    "lookup": lambda place, x: named(x, place.output.class_names),
    "viterbi": _viterbi,
    "lengths": lambda place, x, padding: (x != padding).sum(axis=-1).astype(place.integer),
    "tile": lambda place, x: np.tile(x, (len(place.rows), *[1] * x.ndim)),
    "flatten": lambda _, x: x.reshape(len(x), int(np.prod(x.shape[1:]))),
    "binary": _binary,
}

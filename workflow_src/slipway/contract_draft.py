"""
A contract as a model's file lets one write it: names, dtypes and shapes are known, the rest is marked for people to fill in.

Pure: what a model's signatures are comes in, YAML with comments goes out. It reads back as a contract as it stands.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import yaml

from slipway.contract import DEFAULT_SIGNATURE, ROWS, Dtype
from slipway.errors import SourceError
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS

# Sizes that may vary, by the axis they stand on: tensors that vary along the same axis mostly do so together.
_SYMBOLS = "NTUVWXYZ"
_TRIED_SIZE = 4
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIGNATURE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# The last word of a tensor's name -> what people call it.
_HUMAN = {
    "softmax": "probabilities",
    "logsoftmax": "log_probabilities",
    "sigmoid": "probability",
    "argmax": "label",
    "topkv2": "top",
}
# Says how a tensor was made, and nothing about what it is: the layer in front of it does.
_OPS = frozenset(
    {"biasadd", "matmul", "add", "addv2", "identity", "reshape", "squeeze", "relu", "tanh", "readvariableop"}
)
_WIRE_DTYPES = {"float": "float32", "double": "float64", "half": "float16"}
# What training feeds and serving must not: S4's example sends Dropout 1.0 with every request.
_OF_TRAINING = re.compile(r"dropout|keep_prob|is_?training|phase|learning_rate|train", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tensor:
    """
    One input or output, as the model's file has it.

    Attributes:
        dtype: As TensorFlow names it, e.g. float32.
        shape: None for a size that varies; None altogether for an unknown rank.
        tensor: Name in the graph.
        op: Kind of op that makes it; empty where that is not known.
    """

    dtype: str
    shape: tuple[int | None, ...] | None
    tensor: str = ""
    op: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature, as the model's file has it; `features` are those of the tf.Examples that it parses."""

    method: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """
    What a model's file says.

    Attributes:
        origin: What errors and the file's head call it.
        source: What the config calls it: keys of `source:`, as far as they are known.
        signatures: Key -> signature.
        remarks: What else people should know, a line each.
    """

    origin: str
    source: Mapping[str, Any]
    signatures: Mapping[str, Signature]
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class _Draft:
    """What is written while signatures are gone through."""

    dims: dict[str, int] = field(default_factory=dict)
    renamed_inputs: dict[str, str] = field(default_factory=dict)
    renamed_outputs: dict[str, str] = field(default_factory=dict)
    frozen: dict[str, Any] = field(default_factory=dict)


def write(found: Found) -> str:
    """
    Write the contract of a model as YAML.

    Raises:
        SourceError: It has no predict signature to start from.
    """
    return drafted(found)[0]


def drafted(found: Found) -> tuple[str, dict[str, Any]]:
    """
    Write the contract of a model as YAML, and say what the config calls its source.

    Returns:
        The YAML, and the keys of `source:`; `freeze_inputs` are guesses.

    Raises:
        SourceError: It has no predict signature to start from.
    """
    default = _default(found)
    draft = _Draft()
    body = [*_predict(DEFAULT_SIGNATURE, found.signatures[default], draft, was=default)]
    outputs = {_named(name, t.op): t for name, t in found.signatures[default].outputs.items()}
    taken = {DEFAULT_SIGNATURE}
    for key, signature in found.signatures.items():
        if key == default:
            continue
        name = key if _SIGNATURE_NAME.fullmatch(key) and key not in taken else human_name(key, "", taken)
        taken.add(name)
        if signature.method == PREDICT:
            body += ["", *_predict(name, signature, draft, was=key)]
        elif signature.method in (CLASSIFY, REGRESS):
            body += ["", *_of_examples(name, key, signature, found.signatures[default], outputs)]
        else:
            body += ["", f"  # {key}: method {signature.method or 'none'}, which no request calls: left out"]
    source = _source(found, draft, default)
    lines = [
        *_head(found, source),
        "format: 1",
        'doc: ""   # fill in: what the model does, in one sentence',
        "",
    ]
    lines += ["signatures:", *body, "", *_tail(draft)]
    return "\n".join(lines) + "\n", source


def human_name(name: str, op: str, taken: Collection[str] = ()) -> str:
    """
    Make a name that people can type of one that a graph has: `dense_1/Softmax:0` becomes `probabilities`.

    Args:
        name: Key of a signature or of a tensor.
        op: Kind of op that makes the tensor, if known.
        taken: Names that are given away.
    """
    words = [word for word in re.split(r"[/:]", name) if word and not word.isdigit()]
    last = re.sub(r"_\d+$", "", words[-1]) if words else ""
    while len(words) > 1 and re.sub(r"_\d+$", "", words[-1]).lower() in _OPS:
        words.pop()
    chosen = _HUMAN.get(op.lower()) or _HUMAN.get(last.lower()) or (words[-1] if words else "tensor")
    chosen = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", chosen).lower()
    chosen = re.sub(r"[^a-z0-9]+", "_", chosen).strip("_") or "tensor"
    if not chosen[0].isalpha():
        chosen = f"tensor_{chosen}"
    number, free = 2, chosen
    while free in taken:
        free, number = f"{chosen}_{number}", number + 1
    return free


def _named(name: str, op: str, taken: Collection[str] = ()) -> str:
    return name if _NAME.fullmatch(name) else human_name(name, op, taken)


def _default(found: Found) -> str:
    """Choose the signature that a request gets which names none."""
    predict = [key for key, signature in found.signatures.items() if signature.method == PREDICT]
    if not predict:
        there = ", ".join(f"{key} ({s.method or 'no method'})" for key, s in found.signatures.items()) or "none"
        raise SourceError(
            f"{found.origin}: expected a signature with method {PREDICT}, found: {there}. Write the contract by hand; "
            "docs/contract.md has one to start from."
        )
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in predict else predict[0]


# --- the parts of the file -------------------------------------------------------------------------


def _source(found: Found, draft: _Draft, default: str) -> dict[str, Any]:
    """Give the keys of `source:`, with the model's names for those of the contract."""
    source = dict(found.source)
    if found.source.get("kind") in ("saved_model", "frozen_graph", "tf1_checkpoint"):
        source |= {"signature": default} if source["kind"] == "saved_model" and default != DEFAULT_SIGNATURE else {}
        graph = source["kind"] != "saved_model"
        signature = found.signatures[default]
        sides = (
            ("inputs", signature.inputs, draft.renamed_inputs),
            ("outputs", signature.outputs, draft.renamed_outputs),
        )
        for side, tensors, renamed in sides:
            chosen = {new: tensors[old].tensor if graph else old for new, old in renamed.items() if old in tensors}
            source |= {side: chosen} if chosen and (graph or any(new != old for new, old in chosen.items())) else {}
        source |= {"freeze_inputs": draft.frozen} if draft.frozen else {}
    return source


def _head(found: Found, source: Mapping[str, Any]) -> Iterator[str]:
    yield "# yaml-language-server: $schema=contract.schema.json"
    yield f"# Written by `slipway contract init` from {found.origin}. Names, dtypes and shapes are the model's; look for"
    yield "# `fill in` where only you know: ranges, units, what scores mean. `slipway contract check` reads it again."
    if source:
        yield f"# In config.yaml:   source: {_flow(source)}"
    for remark in found.remarks:
        yield f"# NOTE {remark}"


def _tail(draft: _Draft) -> Iterator[str]:
    yield "# deterministic: bitwise       # if the same question always gets the same bits; within_tolerance without it"
    yield "# row_independent: false       # if a row's answer depends on who shares its batch: the server then must not batch"
    yield "# max_rows: 32                 # if the model takes no more at once"
    yield "golden:"
    yield "  atol: 1.0e-5                 # how close answers must come to the model's own: atol + rtol * |answer|"
    yield "  rtol: 1.0e-4"
    yield "  # label: label               # fill in: the output that labels are compared with, and"
    yield "  # min_accuracy: 0.9          # the least share of rows that must be right"
    yield "probe:"
    yield "  batch_sizes: [1, 2, 7, 32]"
    if draft.dims:
        yield f"  dims: {_flow(draft.dims)}   # fill in: sizes to try for those that vary"


def _predict(name: str, signature: Signature, draft: _Draft, *, was: str) -> Iterator[str]:
    yield f"  {name}:" + (f"   # in the model: {was}" if was != name else "")
    yield "    method: predict"
    yield "    inputs:"
    yield from _tensors(signature.inputs, draft, is_input=True)
    yield "    outputs:"
    yield from _tensors(signature.outputs, draft, is_input=False)


def _tensors(tensors: Mapping[str, Tensor], draft: _Draft, *, is_input: bool) -> Iterator[str]:
    names: dict[str, str] = {}
    # A tensor without rows is none that callers send or get; the last one stays, for a signature needs one.
    served = {n: t for n, t in tensors.items() if t.shape is None or t.shape} or tensors
    for key, tensor in tensors.items():
        if key not in served:
            yield f"      # {key}: {tensor.dtype} without rows, in the model {tensor.tensor}" + (
                "; fold it: `freeze_inputs` of the source" if is_input else "; not served: it cannot be cut into rows"
            )
            if is_input:
                draft.frozen[key] = 1.0 if tensor.dtype.startswith(("float", "double")) else 0
            continue
        name = names[key] = _named(key, tensor.op, names.values())
        (draft.renamed_inputs if is_input else draft.renamed_outputs).setdefault(name, key)
        yield f"      {name}: {_flow(_entry(tensor, draft, is_input=is_input))}   # {_comment(name, key, tensor, is_input)}"


def _entry(tensor: Tensor, draft: _Draft, *, is_input: bool) -> dict[str, Any]:
    dtype = _WIRE_DTYPES.get(tensor.dtype, tensor.dtype)
    if dtype not in get_args(Dtype):
        raise SourceError(
            f"{tensor.tensor}: dtype {dtype} has no form in a request; cast it in the graph to one of {', '.join(get_args(Dtype))}"
        )
    entry: dict[str, Any] = {"dtype": dtype, "shape": [ROWS]}
    for axis, size in enumerate((tensor.shape or ())[1:], 1):
        symbol = _SYMBOLS[axis] if axis < len(_SYMBOLS) else f"D{axis}"
        entry["shape"].append(symbol if size is None or size < 1 else size)
        if size is None or size < 1:
            draft.dims.setdefault(symbol, _TRIED_SIZE)
    if is_input and entry["dtype"] == "string":
        entry["values"] = ["fill in"]
    return entry


def _comment(name: str, key: str, tensor: Tensor, is_input: bool) -> str:
    notes = []
    if name != key:
        notes.append(f"in the model: {key}")
    if tensor.shape is None:
        notes.append("fill in: shape, the model does not say its rank")
    elif tensor.shape and tensor.shape[0] is not None:
        notes.append(f"the model takes exactly {tensor.shape[0]} rows at once: export it with a batch that varies")
    if is_input and _OF_TRAINING.search(key):
        notes.append("only training needs it? then fold it: `freeze_inputs` of the source")
    if tensor.dtype == "string":
        notes.append("fill in: strings that the model accepts" if is_input else "fill in: doc")
    elif is_input:
        notes.append("fill in: range, units, doc")
    elif tensor.op == "Softmax" or "prob" in name:
        notes.append("fill in, perhaps: range: [0, 1], row_sum: 1, meaning: probability")
    elif "logit" in name:
        notes.append("fill in, perhaps: meaning: logits")
    else:
        notes.append("fill in: range, meaning, doc")
    return "; ".join(notes)


def _of_examples(
    name: str, key: str, signature: Signature, default: Signature, outputs: Mapping[str, Tensor]
) -> Iterator[str]:
    """Write a classify or regress signature, if an output of the default signature can be what it gives."""
    classify = signature.method == CLASSIFY
    made_from = _scores(signature, outputs) if classify else _value(outputs)
    fixed = all(t.shape and all(size is not None for size in t.shape[1:]) for t in default.inputs.values())
    if made_from is None or not fixed:
        parsed = f" of {', '.join(signature.features)}" if signature.features else ""
        yield f"  # {key}: {'classifies' if classify else 'regresses'} tf.Examples{parsed}, but no output of the predict"
        yield "  # signature has what it gives: left out"
        return
    yield f"  {name}:" + (f"   # in the model: {key}" if name != key else "")
    yield f"    method: {'classify' if classify else 'regress'}"
    carried = _features(signature.features, default)
    if carried:
        yield f"    features: {_flow(carried)}"
    elif signature.features and set(signature.features) != set(default.inputs):
        yield f"    # fill in: features, input -> one of {', '.join(signature.features)}"
    yield f"    {'scores' if classify else 'value'}: {made_from}"
    if classify:
        yield "    # fill in: classes, what each score stands for; without them 0, 1, …"


def _features(features: tuple[str, ...], default: Signature) -> dict[str, str]:
    if len(features) == len(default.inputs) == 1 and features[0] not in default.inputs:
        return {_named(name, ""): features[0] for name in default.inputs}
    return {}


def _scores(signature: Signature, outputs: Mapping[str, Tensor]) -> str | None:
    """Name the output that scores are: of their shape, and called so."""
    given = signature.outputs.get("scores")
    shape = given.shape[1:] if given and given.shape else None
    fitting = [
        name
        for name, tensor in outputs.items()
        if tensor.shape and len(tensor.shape) == 2 and tensor.shape[1] and shape in (None, tensor.shape[1:])
    ]
    return min(fitting, key=lambda name: (not re.search("prob|score", name), name), default=None)


def _value(outputs: Mapping[str, Tensor]) -> str | None:
    return next(
        (name for name, t in outputs.items() if t.shape and t.shape[1:] in ((), (1,)) and t.dtype != "string"), None
    )


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True).strip()

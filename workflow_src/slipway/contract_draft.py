"""
A contract as a model's file lets one write it: names, dtypes and shapes are known, the rest is marked for people to fill in.

Pure: what a model's signatures are comes in, YAML with comments goes out. It reads back as a contract as it stands.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from slipway.contract import DEFAULT_SIGNATURE, ROWS, Dtype
from slipway.contract_draft_examples import TRIED_SIZE, examples, flow, of_examples, written
from slipway.contract_found import Found, Signature, Tensor, human_name, named
from slipway.errors import SourceError
from slipway_wire.signatures import CLASSIFY, PREDICT, REGRESS

# Sizes that may vary, by the axis they stand on: tensors that vary along the same axis mostly do so together.
_SYMBOLS = "NTUVWXYZ"
_SIGNATURE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Of the predict signature that a model gets which has none, and of what it calls its Examples.
_OWN_NAME = "predict"
_EXAMPLES = "examples"
_WIRE_DTYPES = {"float": "float32", "double": "float64", "half": "float16"}
# What training feeds and serving must not: S4's example sends Dropout 1.0 with every request.
_OF_TRAINING = re.compile(r"dropout|keep_prob|is_?training|phase|learning_rate|train", re.IGNORECASE)


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
    own = _as_predict(found.signatures[default])
    draft = _Draft()
    outputs = {named(name, t.op): t for name, t in own.outputs.items()}
    by_examples = {
        key: of_examples(signature, own, outputs)
        for key, signature in found.signatures.items()
        if signature.method in (CLASSIFY, REGRESS)
    }
    # The name of a request without one stays where it is: with its method, and its answers.
    own_name, taken = DEFAULT_SIGNATURE, {DEFAULT_SIGNATURE}
    if by_examples.get(DEFAULT_SIGNATURE):
        own_name = default if default != DEFAULT_SIGNATURE and _SIGNATURE_NAME.fullmatch(default) else _OWN_NAME
        taken.add(own_name)
    body = [*_predict(own_name, own, draft, was=default)]
    for key, signature in found.signatures.items():
        if key == default and key not in by_examples:
            continue
        keeps = _SIGNATURE_NAME.fullmatch(key) and (key not in taken or (key == DEFAULT_SIGNATURE != own_name))
        name = key if keeps else human_name(key, "", taken)
        taken.add(name)
        if key in by_examples:
            body += ["", *written(name, key, signature, by_examples[key])]
        elif signature.method == PREDICT:
            body += ["", *_predict(name, signature, draft, was=key)]
        else:
            body += ["", f"  # {key}: method {signature.method or 'none'}, which no request calls: left out"]
    source = _source(found, draft, default)
    lines = [
        *_head(found, source),
        "format: 1",
        'doc: ""   # fill in: what the model does, in one sentence',
        "",
    ]
    lines += ["signatures:", *body, "", *_tail(draft, own_name)]
    return "\n".join(lines) + "\n", source


def _default(found: Found) -> str:
    """Choose the signature that a request gets which names none."""
    methods = {key: signature.method for key, signature in found.signatures.items()}
    candidates = [key for key, method in methods.items() if method == PREDICT] or [
        key for key, method in methods.items() if method in (CLASSIFY, REGRESS) and found.signatures[key].takes_examples
    ]
    if not candidates:
        there = ", ".join(f"{key} ({method or 'no method'})" for key, method in methods.items()) or "none"
        raise SourceError(
            f"{found.origin}: expected a signature with method {PREDICT}, or one that parses tf.Examples, found: {there}. "
            "Write the contract by hand; docs/contract.md has one to start from."
        )
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in candidates else candidates[0]


def _as_predict(signature: Signature) -> Signature:
    """Give *signature* as a predict signature: what classifies and regresses gives numbers for the same Examples."""
    if signature.method == PREDICT:
        return signature
    # Names of classes are made of the contract's `classes`, not of what the graph says.
    outputs = {name: tensor for name, tensor in signature.outputs.items() if name != "classes"} or signature.outputs
    return replace(signature, method=PREDICT, outputs=outputs)


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
        yield f"# In config.yaml:   source: {flow(source)}"
    for remark in found.remarks:
        yield f"# NOTE {remark}"


def _tail(draft: _Draft, own_name: str) -> Iterator[str]:
    yield "# deterministic: bitwise       # if the same question always gets the same bits; within_tolerance without it"
    yield "# row_independent: false       # if a row's answer depends on who shares its batch: the server then must not batch"
    yield "# max_rows: 32                 # if the model takes no more at once"
    yield "golden:"
    if own_name != DEFAULT_SIGNATURE:
        yield f"  signature: {own_name}           # what golden data are about: the tensors that the model takes and gives"
    yield "  atol: 1.0e-5                 # how close answers must come to the model's own: atol + rtol * |answer|"
    yield "  rtol: 1.0e-4"
    yield "  # label: label               # fill in: the output that labels are compared with, and"
    yield "  # min_accuracy: 0.9          # the least share of rows that must be right"
    yield "probe:"
    yield "  batch_sizes: [1, 2, 7, 32]"
    if draft.dims:
        yield f"  dims: {flow(draft.dims)}   # fill in: sizes to try for those that vary"


def _predict(name: str, signature: Signature, draft: _Draft, *, was: str) -> Iterator[str]:
    yield f"  {name}:" + (f"   # in the model: {was}" if was != name else "")
    yield "    method: predict"
    yield "    inputs:"
    if signature.takes_examples:
        (key,) = signature.inputs
        examples_name = _EXAMPLES if key == "inputs" else named(key, "")
        draft.renamed_inputs.setdefault(examples_name, key)
        yield from examples(examples_name, key, signature)
    else:
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
                "; fold it: `freeze_inputs` of the source, with the value it has in use (fill in)"
                if is_input
                else "; not served: it cannot be cut into rows"
            )
            if is_input:
                draft.frozen[key] = 1.0 if tensor.dtype.startswith(("float", "double")) else 0
            continue
        name = names[key] = named(key, tensor.op, names.values())
        (draft.renamed_inputs if is_input else draft.renamed_outputs).setdefault(name, key)
        yield f"      {name}: {flow(_entry(tensor, draft, is_input=is_input))}   # {_comment(name, key, tensor, is_input)}"


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
            draft.dims.setdefault(symbol, TRIED_SIZE)
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

"""The part of a drafted contract that is about tf.Examples: what is in them, and what classifies and regresses them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from slipway.contract_found import Signature, Tensor, named
from slipway_wire.signatures import CLASSIFY

# A size to try, where any is taken.
TRIED_SIZE = 4
# Class names that a line holds; more are better in a file.
_MOST_CLASSES = 100
# The op that a signature of TensorFlow 2 is, in the names of its outputs.
_CALL = "PartitionedCall"
_FLOATS = ("float", "double", "half")


def of_examples(signature: Signature, own: Signature, outputs: Mapping[str, Tensor]) -> list[str]:
    """Write the keys of a classify or regress signature, if an output of the own form can be what it gives; else none."""
    classify = signature.method == CLASSIFY
    made_from = _scores(signature, outputs) if classify else _value(signature, outputs)
    fixed = all(t.shape and all(size is not None for size in t.shape[1:]) for t in own.inputs.values())
    if made_from is None or not (fixed or own.takes_examples):
        return []
    lines = [f"    method: {'classify' if classify else 'regress'}"]
    features = tuple(feature.name for feature in signature.features)
    if own.takes_examples:
        pass  # they go to the model as they are
    elif carried := _features(features, own):
        lines.append(f"    features: {flow(carried)}")
    elif features and set(features) != set(own.inputs):
        lines.append(f"    # fill in: features, input -> one of {', '.join(features)}")
    given = signature.outputs.get("scores" if classify else "outputs")
    guess = "" if _is_same(outputs[made_from], given) else "   # fill in: a guess by its shape; is it this one?"
    lines.append(f"    {'scores' if classify else 'value'}: {made_from}{guess}")
    return [*lines, *_classes(signature, outputs[made_from])] if classify else lines


def _classes(signature: Signature, scores: Tensor) -> Iterator[str]:
    names, count = signature.classes, scores.shape[-1] if scores.shape else None
    if not names or len(names) != count or list(names) == [str(number) for number in range(len(names))]:
        yield "    # fill in: classes, what each score stands for; without them 0, 1, …"
    elif len(names) <= _MOST_CLASSES:
        yield f"    classes: {flow(list(names))}   # as the model's graph has them"
    else:
        yield f"    # fill in: classes: {{file: labels.txt}}, one a line; the model's graph has {len(names)}, from {names[0]} on"


def written(name: str, key: str, signature: Signature, lines: list[str]) -> Iterator[str]:
    """Write a classify or regress signature of these keys, or why it is left out."""
    if lines:
        yield f"  {name}:" + (f"   # in the model: {key}" if name != key else "")
        yield from lines
        return
    parsed = f" of {', '.join(feature.name for feature in signature.features)}" if signature.features else ""
    yield f"  # {key}: {'classifies' if signature.method == CLASSIFY else 'regresses'} tf.Examples{parsed}, but no output of"
    yield "  # the predict signature has what it gives: left out"


def examples(name: str, key: str, signature: Signature) -> Iterator[str]:
    """Write the one input of a signature that parses tf.Examples, feature by feature."""
    yield f"      {name}:" + (f"   # in the model: {key}" if name != key else "")
    yield "        dtype: string"
    yield "        shape: [N]"
    yield "        example:   # the features of the tf.Examples that the model parses"
    for feature in signature.features:
        entry: dict[str, Any] = {"dtype": feature.dtype}
        notes = ["fill in: values that the model knows" if feature.dtype == "string" else "fill in: range, doc"]
        if feature.shape is None:
            entry["count"] = [0, TRIED_SIZE]
            notes.append("count, from how many values to how many")
        else:
            entry["shape"] = list(feature.shape)
        if feature.default is not None:
            alike = len(set(feature.default)) == 1
            entry["default"] = feature.default[0] if alike else list(feature.default)
        if feature.dtype == "string":
            entry["values"] = ["fill in"]
        yield f"          {flow({feature.name: entry})[1:-1]}   # {'; '.join(notes)}"


def _features(features: tuple[str, ...], default: Signature) -> dict[str, str]:
    if len(features) == len(default.inputs) == 1 and features[0] not in default.inputs:
        return {named(name, ""): features[0] for name in default.inputs}
    return {}


def _scores(signature: Signature, outputs: Mapping[str, Tensor]) -> str | None:
    """Name the output that scores are: the same tensor, or one of their shape and called so."""
    given = signature.outputs.get("scores")
    shape = given.shape[1:] if given and given.shape and None not in given.shape[1:] else None
    fitting = [
        name
        for name, tensor in outputs.items()
        if tensor.shape and len(tensor.shape) == 2 and tensor.shape[1] and shape in (None, tensor.shape[1:])
        if tensor.dtype.startswith(_FLOATS) and not _is_another(tensor, given)
    ]
    return min(
        fitting,
        key=lambda name: (not _is_same(outputs[name], given), not re.search("prob|score", name), name),
        default=None,
    )


def _value(signature: Signature, outputs: Mapping[str, Tensor]) -> str | None:
    """Name the output that a regression gives: the same tensor, or else the first of numbers with one a row."""
    given = signature.outputs.get("outputs")
    fitting = [
        name
        for name, tensor in outputs.items()
        if tensor.shape and tensor.shape[1:] in ((), (1,)) and tensor.dtype != "string"
        if not _is_another(tensor, given)
    ]
    return min(
        fitting,
        key=lambda name: (not _is_same(outputs[name], given), not outputs[name].dtype.startswith(_FLOATS)),
        default=None,
    )


def _is_same(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and bool(tensor.tensor) and tensor.tensor == other.tensor


def _is_another(tensor: Tensor, other: Tensor | None) -> bool:
    """Whether they are known to be two: in a graph of TensorFlow 1; in one of 2, each signature is a call of its own."""
    if other is None or not tensor.tensor or not other.tensor or tensor.tensor == other.tensor:
        return False
    return _CALL not in tensor.tensor and _CALL not in other.tensor


def flow(value: Any) -> str:
    """Write a value in YAML, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True).strip()

"""
What frozen inputs settle: branches that are never taken, and dropouts that drop nothing.

With `Dropout: 1.0` a TensorFlow 1 graph still draws random numbers, compares them, and multiplies by ones. It would be
right and slow, and nobody could tell it from a graph whose dropout is live. So the values that are known are followed
through the graph, random numbers as "some number in [0, 1)", and what is proven to change nothing is left out: no names
or scopes are guessed at. Arithmetic on weights and inputs stays as it is, bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slipway.graphs.names import op_of
from slipway.source_settings import full_name
from slipway_wire import dtypes, tensors
from slipway_wire.status import WireError

Array = npt.NDArray[Any]
# What is known of a tensor: its value; or that each of its elements lies in [0, 1) or [1, 2), is 1, or is true.
Fact = Array | Literal["unit", "one and more", "ones", "true"]

# Constants beyond this are weights.
_MOST_ELEMENTS = 16
_UNIFORM = ("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2")
_PASS_ON = ("Identity", "Snapshot", "StopGradient", "PreventGradient", "Enter")
_ARITHMETIC: dict[str, Any] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not,
}  # fmt: skip


def fold(graph: Any, frozen: Mapping[str, Any], keep: Sequence[str]) -> dict[str, str]:
    """
    Rewrite *graph* in place as far as frozen values settle it.

    Args:
        graph: GraphDef message, in the order of which an op comes after what it uses (but for loops).
        frozen: Tensor -> TensorProto message of its value.
        keep: Tensors that are wanted.

    Returns:
        Wanted tensor -> the tensor that has its value now; the same, mostly. What nobody needs any more is still in
        the graph.
    """
    {node.name: node for node in graph.node}
    known = _follow(graph, frozen)
    dead = _dead(graph, known)
    same = _same(graph, known, dead)

    def settled(tensor: str) -> str:
        while (other := same.get(full_name(tensor))) is not None:
            tensor = other
        return tensor

    for node in graph.node:
        if node.name in dead:
            continue
        inputs = [tensor if tensor.startswith("^") else settled(tensor) for tensor in node.input]
        if inputs != list(node.input):
            del node.input[:]
            node.input.extend(inputs)
    return {tensor: full_name(settled(tensor)) for tensor in keep}


# --- what is known ---------------------------------------------------------------------------------


def _follow(graph: Any, frozen: Mapping[str, Any]) -> dict[str, Fact]:
    known: dict[str, Fact] = {}
    for tensor, proto in frozen.items():
        known[tensor] = tensors.from_proto(proto)
    nodes = {node.name: node for node in graph.node}
    grown = True
    while grown:  # once, in a graph that is in order; the last look finds nothing new
        grown = False
        for node in graph.node:
            name = full_name(node.name)
            if name not in known and (fact := _fact(node, nodes, known)) is not None:
                known[name] = fact
                grown = True
    return known


def _fact(node: Any, nodes: Mapping[str, Any], known: Mapping[str, Fact]) -> Fact | None:
    if node.op == "Const":
        return _small_constant(node)
    if node.op in _UNIFORM:
        # The mask must be no larger than what it is for: its shape is taken from that, or is fixed as that is.
        shape = nodes.get(op_of(node.input[0])) if node.input else None
        return "unit" if shape is not None and shape.op in {"Shape", "Const"} else None
    facts = [known.get(full_name(tensor)) for tensor in node.input if not tensor.startswith("^")]
    if not facts or any(fact is None for fact in facts):
        return None
    if node.op in _PASS_ON:
        return facts[0]
    if node.op == "Cast":
        return _cast(node, facts[0])
    function = _ARITHMETIC.get(node.op)
    if function is None:
        return _ones(node.op, facts[0])
    if all(isinstance(fact, np.ndarray) for fact in facts):
        return _computed(function, facts)
    return _of_random(node.op, facts)


def _computed(function: Any, facts: Sequence[Any]) -> Fact | None:
    if len(facts) != (1 if function is np.logical_not else 2):
        return None
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(function(*facts))
    except (ValueError, TypeError):  # shapes or types that TensorFlow will refuse
        return None
    return found if found.size <= _MOST_ELEMENTS else None


def _is(fact: Fact | None, what: str) -> bool:
    """Whether *fact* is the word *what*; an array compares element by element."""
    return isinstance(fact, str) and fact == what


def _small_constant(node: Any) -> Array | None:
    proto = node.attr["value"].tensor
    if np.prod([dim.size for dim in proto.tensor_shape.dim], dtype=object) > _MOST_ELEMENTS:
        return None
    try:
        value = tensors.from_proto(proto)
    except WireError:
        return None
    return value if value.dtype.kind in "biuf" else None


def _cast(node: Any, fact: Fact | None) -> Fact | None:
    if isinstance(fact, np.ndarray):
        wanted = dtypes.from_number(node.attr["DstT"].type).numpy
        return None if wanted is None else fact.astype(wanted)
    return "ones" if _is(fact, "true") or _is(fact, "ones") else None


def _ones(op: str, fact: Fact | None) -> Fact | None:
    return "ones" if op == "Floor" and _is(fact, "one and more") else None


def _of_random(op: str, facts: Sequence[Fact | None]) -> Fact | None:
    """Tell what comes of a random number in [0, 1) and a number that is known."""
    if len(facts) != 2 or not any(_is(fact, "unit") for fact in facts):
        return None
    at = 0 if _is(facts[0], "unit") else 1
    other = facts[1 - at]
    if not isinstance(other, np.ndarray) or other.size != 1:
        return None
    number = float(other.ravel()[0])
    match op:
        case "Mul" if number == 1:
            return "unit"
        case "Add" | "AddV2" if number == 0:
            return "unit"
        case "Sub" if number == 0 and at == 0:
            return "unit"
        # TensorFlow's random numbers have 23 bits (random_distributions_utils.h): 1 + u is exact and below 2.
        case "Add" | "AddV2" if number == 1:
            return "one and more"
        case "GreaterEqual" if number <= 0 and at == 0:
            return "true"
        case "LessEqual" if number <= 0 and at == 1:
            return "true"
        case "Less" if number >= 1 and at == 0:
            return "true"
        case "Greater" if number >= 1 and at == 1:
            return "true"
    return None


# --- what follows from it --------------------------------------------------------------------------


def _predicate(node: Any, known: Mapping[str, Fact]) -> bool | None:
    fact = known.get(full_name(node.input[1])) if len(node.input) > 1 else None
    return bool(fact.ravel()[0]) if isinstance(fact, np.ndarray) and fact.size == 1 else None


def _dead(graph: Any, known: Mapping[str, Fact]) -> set[str]:
    """Name the ops that never run: behind the side of a Switch that is not taken."""
    dead: set[str] = set()
    not_taken: set[str] = set()
    grown = True
    while grown:
        grown = False
        for node in graph.node:
            if node.name in dead or not node.input:
                continue
            if node.op in {"Switch", "RefSwitch"} and (taken := _predicate(node, known)) is not None:
                not_taken.add(f"{node.name}:{0 if taken else 1}")
            reached = [op_of(t) in dead or (not t.startswith("^") and full_name(t) in not_taken) for t in node.input]
            if all(reached) if node.op in {"Merge", "RefMerge"} else any(reached):
                dead.add(node.name)
                grown = True
    return dead | not_taken


def _same(graph: Any, known: Mapping[str, Fact], dead: set[str]) -> dict[str, str]:
    """Tell which tensors have the value of which others."""
    # Some of what is named may have been cut off already.
    merges = {node.name for node in graph.node if node.op in {"Merge", "RefMerge"}}
    chosen = {t for node in graph.node for t in node.input if t.endswith(":1") and op_of(t) in merges}
    same = {}
    for node in graph.node:
        if node.name in dead:
            continue
        inputs = [full_name(tensor) for tensor in node.input if not tensor.startswith("^")]
        match node.op:
            case "Switch" | "RefSwitch":
                if (taken := _predicate(node, known)) is not None:
                    same[f"{node.name}:{1 if taken else 0}"] = inputs[0]
            case "Merge" | "RefMerge":
                alive = [tensor for tensor in inputs if op_of(tensor) not in dead and tensor not in dead]
                # Which of them it was (its second output) would have to be told, too.
                if len(alive) == 1 and len(inputs) > 1 and f"{node.name}:1" not in chosen:
                    same[f"{node.name}:0"] = alive[0]
            case "Mul":
                for number, tensor in enumerate(inputs):
                    if _is(known.get(tensor), "ones") and len(inputs) == 2:
                        same[f"{node.name}:0"] = inputs[1 - number]
            case "Select" | "SelectV2":
                if len(inputs) == 3 and _is(known.get(inputs[0]), "true"):
                    same[f"{node.name}:0"] = inputs[1]
    return same

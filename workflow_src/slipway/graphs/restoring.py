"""Which tensor of a checkpoint belongs into which variable of a graph, as its Saver has written it into the graph."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from slipway.graphs.cutting import VARIABLES
from slipway.graphs.names import op_of, sizes_of
from slipway.graphs.reading import SourceGraph
from slipway_wire import dtypes, tensors
from slipway_wire.status import WireError

# How `tf.train.ExponentialMovingAverage` names what it keeps.
AVERAGE = "/ExponentialMovingAverage"
_ASSIGNMENTS = ("Assign", "AssignVariableOp")


@dataclass(frozen=True, slots=True)
class Stored:
    """
    Where the value of a variable is.

    Attributes:
        key: Name in the checkpoint.
        part: Part of the tensor in it, as RestoreV2 takes it (`10 4 0,5:-`); empty: all.
        dtype: TensorFlow's name of the dtype.
        shape: Of the variable, None where it is unknown.
    """

    key: str
    part: str
    dtype: str
    shape: tuple[int | None, ...] | None


def variables(source: SourceGraph, names: set[str]) -> dict[str, Stored]:
    """
    Say where the value of every variable among the ops *names* is.

    Returns:
        Variable's op -> where its value is, in the order of the graph. A variable that no Saver mentions is taken to
        have its own name in the checkpoint.
    """
    saved = dict(_restored(source))
    found = {}
    for node in source.graph.node:
        if node.name in names and node.op in VARIABLES:
            dtype = dtypes.from_number(node.attr["dtype"].type).name
            key, part = saved.get(node.name, (_own_name(node), ""))
            found[node.name] = Stored(key, part, dtype, sizes_of(node))
    return found


def _own_name(node: Any) -> str:
    shared = node.attr["shared_name"].s.decode() if node.op == "VarHandleOp" else ""
    return shared or str(node.name)


def _restored(source: SourceGraph) -> Iterator[tuple[str, tuple[str, str]]]:
    """Follow what the restore op waits for to assignments, and from those to what they read."""
    nodes = {node.name: node for node in source.graph.node}
    waiting, seen = [op_of(source.restore_op)], set[str]()
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op in _ASSIGNMENTS and len(node.input) > 1:
            if read := _read(node.input[1], nodes):
                yield op_of(node.input[0]), read
        else:
            waiting += map(op_of, node.input)


def _read(tensor: str, nodes: Mapping[str, Any]) -> tuple[str, str] | None:
    """Say what of the checkpoint *tensor* is: its name and part; None if it is something else."""
    node = nodes.get(op_of(tensor))
    while node is not None and node.input and node.op in {"Identity", "Reshape"}:
        tensor = node.input[0]
        node = nodes.get(op_of(tensor))
    if node is None or len(node.input) < 2 or node.op not in {"Restore", "RestoreSlice", "RestoreV2"}:
        return None
    number = tensor.partition(":")[2] or "0"
    output = int(number) if number.isdecimal() else sys.maxsize
    names = _strings(nodes.get(op_of(node.input[1])))
    parts = _strings(nodes.get(op_of(node.input[2]))) if len(node.input) > 2 else [""] * len(names)
    return (names[output], parts[output]) if output < min(len(names), len(parts)) else None


def _strings(node: Any) -> list[str]:
    if node is None or node.op != "Const":
        return []
    try:
        return [value.decode() for value in tensors.from_proto(node.attr["value"].tensor).ravel().tolist()]
    except (WireError, AttributeError, UnicodeDecodeError):
        return []


def averaged(stored: Mapping[str, Stored], keys: set[str]) -> dict[str, Stored]:
    """Take the moving average of each variable that has one among the *keys* of the checkpoint."""
    return {
        name: replace(value, key=value.key + AVERAGE) if value.key + AVERAGE in keys else value
        for name, value in stored.items()
    }

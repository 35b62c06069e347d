"""Tensors of a graph by name: which one is meant, what comes near a name that is not there, what could be meant."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.errors import SourceError
from slipway.source_settings import FrozenValue, full_name
from slipway_wire import dtypes, signatures

PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
# GraphDef producer version from which a placeholder's empty shape means a scalar; before, it meant nothing.
# Source: tensorflow/core/ops/array_ops.cc, Placeholder.
_EMPTY_SHAPE_IS_SCALAR = 24
_SHOWN = 8
# What a graph ends in beside its answers.
_NO_ANSWERS = ("Assert", "Assign", "Const", "MergeSummary", "NoOp", "Print", "Queue", "Restore", "Save", "Variable", "VarHandle", "VarIsInit", "Summary")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A tensor that a graph is fed with: its op, dtype by TensorFlow's name, and shape (None: unknown)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        """Say it as `x (float32 [?, 3])`."""
        return f"{self.name} ({self.dtype} {signatures.format_shape(self.shape)})"


@dataclass(frozen=True, slots=True)
class Ends:
    """
    Where a model begins and ends in a graph; every tensor with the number of its output.

    Attributes:
        inputs: The contract's name -> tensor.
        outputs: The contract's name -> tensor.
        frozen: Tensor -> the value it has for good.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    frozen: Mapping[str, FrozenValue]

    @property
    def stops(self) -> frozenset[str]:
        """Tensors that are fed or frozen: what lies in front of them does not count."""
        return frozenset([*self.inputs.values(), *self.frozen])


def op_of(tensor: str) -> str:
    """Name the op of a tensor (`x:0`, `x`) or of a control input (`^x`)."""
    return tensor.removeprefix("^").partition(":")[0]


def placeholder(graph: Any, node: Any) -> Placeholder:
    """Describe a placeholder node of *graph*."""
    dtype = dtypes.from_number(node.attr["dtype"].type).name
    sizes = sizes_of(node)
    meaningless = sizes == () and node.op == "Placeholder" and graph.versions.producer < _EMPTY_SHAPE_IS_SCALAR
    return Placeholder(node.name, dtype, None if meaningless else sizes)


def sizes_of(node: Any) -> tuple[int | None, ...] | None:
    """Give the `shape` that is an attribute of *node*; None where it is unknown."""
    shape = node.attr["shape"].shape if "shape" in node.attr else None
    if shape is None or shape.unknown_rank:
        return None
    return tuple([None if dim.size < 0 else dim.size for dim in shape.dim])


def find_ends(
    where: str,
    graph: Any,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    frozen: Mapping[str, FrozenValue],
) -> Ends:
    """
    Look every name up.

    Raises:
        SourceError: With a line for each name that is not there, naming those that come near; or, where inputs or
            outputs are left out, those that could be meant.
    """
    nodes = {node.name: node for node in graph.node}
    faults = []
    if not outputs:
        faults.append(f"{where}: `outputs` names no tensor; {_list('nothing uses the result of', unused(graph))}.")
    if not inputs:
        faults.append(
            f"{where}: `inputs` names no tensor; {_list('the placeholders are', map(str, placeholders(graph)))}."
        )
    for key, names in (("inputs", inputs.values()), ("outputs", outputs.values()), ("freeze_inputs", frozen)):
        faults += [
            f"{where}: {key}: {_not_there(graph, name, nodes, key)}" for name in names if op_of(name) not in nodes
        ]
    for name, tensor in outputs.items():
        node = nodes.get(op_of(tensor))
        if node is not None and (node.op in PLACEHOLDERS or full_name(tensor) in map(full_name, inputs.values())):
            faults.append(
                f"{where}: output {name}: {tensor} is fed, not computed. Name the tensor that the model computes."
            )
    for tensor in frozen:
        node = nodes.get(op_of(tensor))
        if node is not None and node.op not in PLACEHOLDERS:
            faults.append(
                f"{where}: freeze_inputs: {tensor} is a {node.op}; only placeholders can be frozen. "
                f"{_list('There are', map(str, placeholders(graph)))}."
            )
    if faults:
        raise SourceError("\n".join(faults))
    return Ends(
        {name: full_name(tensor) for name, tensor in inputs.items()},
        {name: full_name(tensor) for name, tensor in outputs.items()},
        {full_name(tensor): value for tensor, value in frozen.items()},
    )


def placeholders(graph: Any) -> list[Placeholder]:
    """List the placeholders of *graph* in its order."""
    return [placeholder(graph, node) for node in graph.node if node.op in PLACEHOLDERS]


def near(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Give names that come near *name*: those that have it, or its last part, within; then those written alike."""
    there = list(names)
    last = name.rpartition("/")[2].lower()
    parts = sorted((n for n in there if last and last in n.lower()), key=lambda n: (n.count("/"), len(n), n))
    alike = difflib.get_close_matches(name, there, most, 0.6)
    return list(dict.fromkeys([*alike[:1], *parts[:most], *alike]))[:most]


def _not_there(graph: Any, name: str, nodes: Mapping[str, Any], key: str) -> str:
    if close := near(op_of(name), nodes):
        return f"no tensor {name} in the graph; near it: {', '.join(close)}."
    candidates = unused(graph) if key == "outputs" else map(str, placeholders(graph))
    return f"no tensor {name} in the graph; {_list('there are', candidates)}."


def unused(graph: Any) -> list[str]:
    """Name ops whose result no other uses: outputs, if they are not left-overs of the training."""
    used = {op_of(tensor) for node in graph.node for tensor in node.input}
    return [
        node.name
        for node in graph.node
        if node.name not in used and node.op not in PLACEHOLDERS and not any(word in node.op for word in _NO_ANSWERS)
    ]


def _list(what: str, names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{what}: {', '.join(found[:_SHOWN]) or 'none'}{more}"

"""
A graph cut down to what its answers need, and rewritten so that weights and inputs can be put in from outside.

What stays is what `Session.run` would run: the ops behind the outputs, up to the tensors that are fed or frozen.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from slipway.errors import SourceError
from slipway.graphs.names import PLACEHOLDERS, Ends, op_of, placeholder
from slipway.source_settings import full_name
from slipway_wire import messages

# Nodes that hold a weight: by reference (TensorFlow 1's own), or as a resource.
REF_VARIABLES = ("Variable", "VariableV2")
VARIABLES = (*REF_VARIABLES, "VarHandleOp")
TABLES = ("HashTable", "HashTableV2")
INITIALIZERS = ("InitializeTable", "InitializeTableV2", "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "LookupTableImport", "LookupTableImportV2")  # fmt: skip
# Attributes that tell of other machines and other graphs.
_DROPPED_ATTRIBUTES = ("_class", "_output_shapes")


def needed(where: str, graph: Any, roots: Iterable[str], stops: frozenset[str] = frozenset()) -> set[str]:
    """
    Name the ops behind the tensors (or ops) *roots*, roots included, without what lies behind the tensors *stops*.

    Raises:
        SourceError: If one needs what the graph has not: the file is cut off.
    """
    nodes = {node.name: node for node in graph.node}
    found: set[str] = set()
    waiting = [(root, "") for root in roots]
    while waiting:
        tensor, user = waiting.pop()
        name = op_of(tensor)
        if name in found or (not tensor.startswith("^") and full_name(tensor) in stops):
            continue
        if name not in nodes:
            raise SourceError(
                f"{where}: {user or 'an output'} needs {name}, which the graph has not: it is cut off or damaged."
            )
        found.add(name)
        waiting += [(source, name) for source in nodes[name].input]
    return found


def check_ends(where: str, graph: Any, ends: Ends) -> None:
    """
    Check that outputs are computed from the inputs, and that nothing else is left to feed.

    Raises:
        SourceError: With a line for each fault.
    """
    nodes = {node.name: node for node in graph.node}
    behind = needed(where, graph, ends.outputs.values(), ends.stops)
    used = {full_name(t) for name in behind for t in nodes[name].input if not t.startswith("^")} & ends.stops
    faults = [
        f"{where}: the outputs need the placeholder {placeholder(graph, nodes[name])}, which nobody feeds. Name it in "
        f"`inputs`, or give it the value it has when the model is used: freeze_inputs: {{{_quoted(name)}: …}}."
        for name in _in_order(graph, behind)
        if nodes[name].op in PLACEHOLDERS and nodes[name].op != "PlaceholderWithDefault"
    ]
    unused = [name for name, tensor in ends.inputs.items() if tensor not in used]
    if ends.inputs and len(unused) == len(ends.inputs):
        outputs = ", ".join(ends.outputs)
        faults.append(f"{where}: {outputs}: not computed from the inputs {', '.join(ends.inputs)}: it is the same for every request.")  # fmt: skip
    else:
        faults += [
            f"{where}: no output is computed from the input {name} ({ends.inputs[name]}). Leave it out."
            for name in unused
        ]
    faults += [
        f"{where}: the outputs do not need {tensor}, which freeze_inputs names. Leave it out."
        for tensor in ends.frozen
        if tensor not in used
    ]
    if faults:
        raise SourceError("\n".join(faults))


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f'"{name}"'


def _in_order(graph: Any, names: set[str]) -> list[str]:
    return [node.name for node in graph.node if node.name in names]


def part(graph: Any, names: set[str]) -> Any:
    """Make a GraphDef of the ops *names*, in the order of *graph*, for any machine, with the functions they call."""
    cut = messages.GraphDef()
    cut.versions.CopyFrom(graph.versions)
    for node in graph.node:
        if node.name in names:
            copied = cut.node.add()
            copied.CopyFrom(node)
            _make_portable(copied)
    functions = _functions(cut, graph)
    for function in graph.library.function:
        if function.signature.name in functions:
            copied = cut.library.function.add()
            copied.CopyFrom(function)
            for node in copied.node_def:
                _make_portable(node)
    return cut


def _make_portable(node: Any) -> None:
    node.device = ""
    for name in _DROPPED_ATTRIBUTES:
        if name in node.attr:
            del node.attr[name]


def _functions(cut: Any, graph: Any) -> set[str]:
    """Name the functions that the ops of *cut* call, and those that these call."""
    library = {function.signature.name: function for function in graph.library.function}
    found: set[str] = set()
    waiting = list(cut.node)
    while waiting:
        for name in called(waiting.pop()):
            if name in library and name not in found:
                found.add(name)
                waiting += library[name].node_def
    return found


def called(node: Any) -> list[str]:
    """Name what *node* may call: its op, and the functions among its attributes (PartitionedCall, If, While)."""
    names = [node.op]
    for key in sorted(node.attr):
        value = node.attr[key]
        kind = value.WhichOneof("value")
        if kind == "func":
            names.append(value.func.name)
        elif kind == "list":
            names += [function.name for function in value.list.func]
    return names


def initializer_of(graph: Any, table: str) -> Any | None:
    """Find the node that fills lookup table *table*; None if the graph has none."""
    for node in graph.node:
        if node.op in INITIALIZERS and node.input and op_of(node.input[0]) == table:
            return node
    return None


def without(graph: Any, names: Mapping[str, object] | set[str]) -> Any:
    """Make *graph* without the ops *names*; whatever else waits for them no longer does."""
    cut = messages.GraphDef()
    cut.CopyFrom(graph)
    del cut.node[:]
    for node in graph.node:
        if node.name in names:
            continue
        copied = cut.node.add()
        copied.CopyFrom(node)
        kept = [tensor for tensor in node.input if not (tensor.startswith("^") and op_of(tensor) in names)]
        if len(kept) != len(node.input):
            del copied.input[:]
            copied.input.extend(kept)
    return cut

"""
What flows where in a graph, through the functions that it calls: which inputs an output depends on, and which files fill tables.

Where it cannot tell, it says that everything depends on everything. Reads messages, runs nothing.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from slipway import graph_ops
from slipway.graph_ops import Ops, node_name

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_TABLES_FROM_FILES = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")
# Op that calls functions -> which of its inputs is the first argument of theirs.
_FIRST_ARGUMENT = dict.fromkeys((*_CALLS, "While", "StatelessWhile"), 0) | dict.fromkeys(
    ("If", "StatelessIf", "Case", "StatelessCase"), 1
)
_ONLY_LOOK = ("ReadVariableOp", "VarIsInitializedOp")
# Functions inside functions; beyond this depth, everything depends on everything.
_MOST_DEPTH = 50
# The output of a function that is called for what it does.
_NONE = -1


class _Body(NamedTuple):
    """The nodes of a graph or of a function, by name; and which tensors are the function's arguments."""

    nodes: Mapping[str, Any]
    arguments: Mapping[str, int]


def used_inputs(graph_def: Any, inputs: Collection[str], outputs: Iterable[str]) -> set[str]:
    """
    Find which of the tensors *inputs* (`x:0`) any of *outputs* depends on, by data or by control.

    Args:
        graph_def: A GraphDef message.
        inputs: Tensors that are fed.
        outputs: Tensors that are asked for.
    """
    return _Flow(graph_def).used(inputs, outputs)


class _Flow:
    def __init__(self, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}
        self._library = {function.signature.name: function for function in graph_def.library.function}
        self._bodies: dict[str, _Body] = {}
        # Function -> output -> arguments that it depends on.
        self._known: dict[tuple[str, int], frozenset[int]] = {}

    def used(self, inputs: Collection[str], outputs: Iterable[str]) -> set[str]:
        fed = {node_name(tensor): tensor for tensor in inputs}
        return {fed[name] for name in self._reached(_Body(self._nodes, {}), outputs, fed, 0) if name in fed}

    def _reached(self, body: _Body, tensors: Iterable[str], stop: Collection[str], depth: int) -> set[str]:
        """Name the nodes and arguments of *body* that *tensors* depend on, not looking behind those in *stop*."""
        waiting, seen, reached = list(tensors), set(), set()
        while waiting:
            tensor = waiting.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            name = node_name(tensor)
            reached.add(name)
            if name in body.nodes and name not in stop and name not in body.arguments:
                waiting += self._needed(body.nodes[name], tensor, depth)
        return reached

    def _needed(self, node: Any, tensor: str, depth: int) -> Iterator[str]:
        """Give the inputs of *node* that its output *tensor* depends on."""
        called = node.op if node.op in self._library else node.attr["f"].func.name if node.op in _CALLS else ""
        output = tensor.rpartition(":")[2]
        if called not in self._library or depth > _MOST_DEPTH:
            return iter(node.input)
        is_control = tensor.startswith("^")
        needed = self._arguments(called, _NONE if is_control else int(output) if output.isdigit() else 0, depth)
        return (tensor for place, tensor in enumerate(node.input) if place in needed or tensor.startswith("^"))

    def _arguments(self, name: str, output: int, depth: int) -> frozenset[int]:
        """Give the arguments that an output of function *name*, and anything that it does besides, depends on."""
        if (name, output) not in self._known:
            function = self._library[name]
            body = self._body(name)
            every = frozenset(body.arguments.values())
            # A function that calls itself gets here again.
            self._known[name, output] = every
            results = [arg.name for arg in function.signature.output_arg]
            if output < len(results):
                starts = [f"^{node}" for node in function.control_ret.values()]
                starts += [function.ret[results[output]]] if output != _NONE else []
                reached = self._reached(body, starts, (), depth + 1)
                self._known[name, output] = frozenset(
                    place for argument, place in body.arguments.items() if argument in reached
                )
        return self._known[name, output]

    def _body(self, name: str) -> _Body:
        if name not in self._bodies:
            function = self._library[name]
            nodes = {node.name: node for node in function.node_def}
            self._bodies[name] = _Body(
                nodes, {arg.name: place for place, arg in enumerate(function.signature.input_arg)}
            )
        return self._bodies[name]


def run_by_import(graph_def: Any, kinds: re.Pattern[str]) -> Ops:
    """
    Find ops of *kinds* that TensorFlow may run as soon as it is shown the graph, reached by a signature or not.

    To infer shapes it computes what depends on constants alone (common_runtime/eval_const_tensor.cc), `ReadFile` too.
    An argument of a function counts as a constant, for a caller may give it one.
    """
    found: Ops = {}
    for body in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        nodes: dict[str, Any] = {}
        for node in body:
            if kinds.fullmatch(node.op):
                nodes = nodes or {inner.name: inner for inner in body}
                behind = (nodes[name] for name in graph_ops.upstream(nodes, node.input))
                if all(one.input or one.op == "Const" for one in behind):
                    found.setdefault(node.op, node.name)
    return found


def foreign_tables(meta_graph: Any) -> Ops:
    """
    Find lookup tables that are filled from a file that is none of the SavedModel's assets.

    The file's name is followed back through identities and the functions that pass it on, to the tensor that TensorFlow
    sets to the place of an asset. Whatever else it comes from is foreign: a constant, or a name that is put together.

    Returns:
        Kind of op -> node.
    """
    graph = meta_graph.graph_def
    assets = {node_name(tensor) for tensor in graph_ops.assets_of(meta_graph)}
    bodies = {"": _Body({node.name: node for node in graph.node}, {})}
    for function in graph.library.function:
        arguments = {arg.name: place for place, arg in enumerate(function.signature.input_arg)}
        bodies[function.signature.name] = _Body({node.name: node for node in function.node_def}, arguments)
    filled = [
        (name, node)
        for name, body in bodies.items()
        for node in body.nodes.values()
        if node.op in _TABLES_FROM_FILES and len(node.input) > 1
    ]
    given = _given(bodies, meta_graph.object_graph_def) if filled else {}
    found: Ops = {}
    for name, node in filled:
        if not _is_asset(bodies, given, assets, (name, node.input[1])):
            found.setdefault(node.op, node.name)
    return found


# Function and argument -> where that comes from: body and tensor, or None for what is no asset.
_Given = Mapping[tuple[str, int], list[tuple[str, str] | None]]


def _given(bodies: Mapping[str, _Body], objects: Any) -> _Given:
    given: dict[tuple[str, int], list[tuple[str, str] | None]] = {}
    for caller, body in bodies.items():
        for node in body.nodes.values():
            first = 0 if node.op in bodies else _FIRST_ARGUMENT.get(node.op)
            for called in graph_ops.called_functions(node, bodies):
                for place in bodies[called].arguments.values():
                    source = None
                    if first is not None and place + first < len(node.input):
                        source = (caller, node.input[place + first])
                    given.setdefault((called, place), []).append(source)
    # TensorFlow 2 calls functions by itself, with objects that they are bound to; an asset is told by its kind.
    for called, concrete in objects.concrete_functions.items():
        if called in bodies:
            first = len(bodies[called].arguments) - len(concrete.bound_inputs)
            for place, bound in enumerate(concrete.bound_inputs, start=first):
                is_asset = 0 <= bound < len(objects.nodes) and objects.nodes[bound].HasField("asset")
                if not is_asset:
                    given.setdefault((called, place), []).append(None)
    return given


def _is_asset(bodies: Mapping[str, _Body], given: _Given, assets: Collection[str], start: tuple[str, str]) -> bool:
    """Say whether the tensor *start* of a body comes from assets alone, or from nowhere: then nobody calls it."""
    waiting: list[tuple[str, str] | None] = [start]
    seen: set[tuple[str, str]] = set()
    while waiting:
        source = waiting.pop()
        if source is None:
            return False
        if source in seen:
            continue
        seen.add(source)
        where, name = source[0], node_name(source[1])
        body = bodies[where]
        if name in body.arguments:
            waiting += given.get((where, body.arguments[name]), [])
        elif name in body.nodes and body.nodes[name].op == "Identity" and body.nodes[name].input:
            waiting.append((where, body.nodes[name].input[0]))
        elif not where and name in body.nodes and body.nodes[name].op == "ReadVariableOp" and body.nodes[name].input:
            waiting += _assigned(body, node_name(body.nodes[name].input[0]))
        elif where or name not in assets:
            return False
    return True


def _assigned(body: _Body, variable: str) -> list[tuple[str, str] | None]:
    """
    Give what is assigned to *variable*, by name; None for what cannot be followed.

    TensorFlow 2 keeps the place of an asset in a variable, which the initialiser assigns before it reads it.
    """
    found: list[tuple[str, str] | None] = []
    for node in body.nodes.values():
        if variable in (node_name(tensor) for tensor in node.input if not tensor.startswith("^")):
            if node.op == "AssignVariableOp" and len(node.input) > 1:
                found.append(("", node.input[1]))
            elif node.op not in _ONLY_LOOK:
                found.append(None)
    return found or [None]

"""
Which ops a graph can run: from signatures, and from what a loader runs before any request. Reads messages, runs nothing.

The messages are those of `slipway_wire.messages` or TensorFlow's own; both have the same fields.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from slipway_wire import messages

# Kind of op -> name of one node of that kind.
Ops = dict[str, str]

INIT, RESTORE = "init", "restore"
# What TensorFlow runs of a SavedModel while it loads it (saved_model/loader.cc, loader_util.cc; v1/loader_impl.py).
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
# TensorFlow 2 keeps its initialiser among the signatures. Any other name, whatever it begins with, is one that callers reach.
INIT_SIGNATURES = ("__saved_model_init_op",)
# Methods of a resource that are run when its object is made, or given up (saved_model/load.py).
_INIT_METHODS = ("_create_resource", "_initialize", "_destroy_resource")
_JOB = re.compile(r"/job:([^/]+)")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Functions may call themselves; no output lies this deep.
_MOST_STEPS = 100
# A protobuf file ends at 2 GiB, and nobody writes half of that into a graph; of a value's width, only the order counts.
_MOST_CONSTANT_BYTES = 2**30
_MOST_CONSTANTS_BYTES = 4 * _MOST_CONSTANT_BYTES
_VALUE_BYTES = 4


def signature_ops(meta_graph: Any, name: str) -> Ops:
    """Find every op that signature *name* of a MetaGraphDef can run."""
    return _Graph(meta_graph.graph_def).ops(_outputs_of(meta_graph, name))


def loading_ops(meta_graph: Any) -> dict[str, Ops]:
    """
    Find every op that runs when a MetaGraphDef is loaded, before any request.

    Returns:
        INIT -> what its initialisers run, RESTORE -> what reads its variables.
    """
    return run_ops(meta_graph, ())


def run_ops(meta_graph: Any, names: Iterable[str]) -> dict[str, Ops]:
    """Find what `loading_ops` does, and what each signature among *names* can run: INIT, RESTORE and those names -> ops."""
    graph = _Graph(meta_graph.graph_def)
    collections = [meta_graph.collection_def[key] for key in _INIT_COLLECTIONS if key in meta_graph.collection_def]
    starts = [name for collection in collections for name in collection.node_list.value if name]
    for name in INIT_SIGNATURES:
        if name in meta_graph.signature_def:
            starts += _outputs_of(meta_graph, name)
    restore = [meta_graph.saver_def.restore_op_name] if meta_graph.saver_def.restore_op_name else []
    init_functions, restore_functions = _functions_of_objects(meta_graph.object_graph_def)
    return {
        INIT: graph.ops(starts, init_functions),
        RESTORE: graph.ops(restore, restore_functions),
        **{name: graph.ops(_outputs_of(meta_graph, name)) for name in names},
    }


class _Graph:
    """
    A GraphDef message whose nodes are looked at once, however often it is walked.

    Attributes:
        nodes: Nodes outside functions, by name.
        library: Functions, by name.
    """

    def __init__(self, graph_def: Any) -> None:
        self.nodes = {node.name: node for node in graph_def.node}
        self.library = {function.signature.name: function for function in graph_def.library.function}
        self._alike = _alike(self.library)
        self._inputs: dict[str, list[str]] = {}
        # Node -> functions that it calls; function -> its nodes, with the functions that each calls.
        self._calls: dict[str, list[str]] = {}
        self._bodies: dict[str, list[tuple[Any, list[str]]]] = {}

    def ops(self, tensors: Iterable[str], functions: Iterable[str] = ()) -> Ops:
        """
        Find every op that *tensors* need, through functions and the functions that those call.

        Args:
            tensors: Tensors (`x:0`) or nodes (`x`, `^x`) to start from.
            functions: Functions of its library to start from, besides.

        Returns:
            Kind of op -> name of one node of that kind. A node that is placed in another process stands there once
            more, as `/job:worker`: for whoever judges it, that is a kind of its own.
        """
        found: Ops = {}
        for node, _ in self.reached(tensors, functions):
            op, device = node.op, node.device
            if op:
                found.setdefault(op, node.name)
            if device and (job := _JOB.search(device)) and job[1] != "localhost":
                found.setdefault(f"/job:{job[1]}", node.name)
        return {op: node for op, node in found.items() if op not in self.library}

    def reached(self, tensors: Iterable[str], functions: Iterable[str] = ()) -> Iterator[tuple[Any, Mapping[str, Any]]]:
        """Give each node that *tensors* and *functions* need, with the nodes of the body that it stands in, by name."""
        bodies = [name for name in functions if name in self.library]
        for name in sorted(self._upstream(tensors)):
            yield self.nodes[name], self.nodes
            if name not in self._calls:
                self._calls[name] = [*called_functions(self.nodes[name], self.library)]
            bodies += self._calls[name]
        seen: set[str] = set()
        while bodies:
            name = bodies.pop()
            if name not in seen:
                seen.add(name)
                bodies += self._alike.get(name, ())
                inner = {node.name: node for node in self.library[name].node_def}
                for node, called in self._body(name):
                    yield node, inner
                    bodies += called

    def _upstream(self, tensors: Iterable[str]) -> set[str]:
        waiting = [node_name(tensor) for tensor in tensors]
        seen: set[str] = set()
        while waiting:
            current = waiting.pop()
            if current not in seen and current in self.nodes:
                seen.add(current)
                if current not in self._inputs:
                    self._inputs[current] = [node_name(tensor) for tensor in self.nodes[current].input]
                waiting += self._inputs[current]
        return seen

    def _body(self, name: str) -> list[tuple[Any, list[str]]]:
        if name not in self._bodies:
            nodes = self.library[name].node_def
            self._bodies[name] = [(node, [*called_functions(node, self.library)]) for node in nodes]
        return self._bodies[name]


def reached(graph_def: Any, tensors: Iterable[str]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Give each node that *tensors* of a GraphDef need, with the nodes of the body that it stands in, by name."""
    return _Graph(graph_def).reached(tensors)


def maker(graph_def: Any, tensor: str) -> str:
    """Name the kind of op that makes *tensor*, looking through identities and the functions that are called; or ''."""
    library = {function.signature.name: function for function in graph_def.library.function}
    nodes = {node.name: node for node in graph_def.node}
    for _ in range(_MOST_STEPS):
        node = nodes.get(node_name(tensor))
        if node is None:
            return ""
        index = int(number) if (number := tensor.rpartition(":")[2]).isdigit() else 0
        called = next(called_functions(node, library), None) if node.op in (*_CALLS, *library) else None
        if called is not None and index < len(library[called].signature.output_arg):
            function = library[called]
            nodes = {inner.name: inner for inner in function.node_def}
            tensor = function.ret[function.signature.output_arg[index].name]
        elif node.op == "Identity" and node.input:
            tensor = node.input[0]
        else:
            return str(node.op)
    return ""


def upstream(nodes: Mapping[str, Any], tensors: Iterable[str], stop: Collection[str] = ()) -> set[str]:
    """Name the nodes that *tensors* need, themselves included, not looking behind those in *stop*."""
    waiting = [node_name(tensor) for tensor in tensors]
    seen: set[str] = set()
    while waiting:
        current = waiting.pop()
        if current not in seen and current in nodes:
            seen.add(current)
            if current not in stop:
                waiting += map(node_name, nodes[current].input)
    return seen


def all_ops(graph_def: Any) -> Ops:
    """Find every op of a GraphDef, of its functions too, reached or not."""
    every = [function.signature.name for function in graph_def.library.function]
    return _Graph(graph_def).ops([node.name for node in graph_def.node], every)


def assets_of(meta_graph: Any) -> dict[str, str]:
    """
    Name the files that belong to a SavedModel.

    Returns:
        Tensor that gives the path -> name of the file below `assets/`, as it stands there: nobody has checked it.
    """
    packed = (
        meta_graph.collection_def["saved_model_assets"].any_list.value
        if "saved_model_assets" in meta_graph.collection_def
        else ()
    )
    # TensorFlow 1 has them in a collection.
    assets = [*meta_graph.asset_file_def, *(messages.AssetFileDef.FromString(found.value) for found in packed)]
    return {asset.tensor_info.name: asset.filename for asset in assets}


def missing_functions(graph_def: Any) -> dict[str, str]:
    """
    Find functions that are called and are not in the library.

    Returns:
        Function -> a node that calls it.
    """
    library = {function.signature.name for function in graph_def.library.function}
    found: dict[str, str] = {}
    for body in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in body:
            for name in named_functions(node):
                if name not in library:
                    found.setdefault(name, node.name)
    return found


def large_constants(graph_def: Any) -> dict[str, int]:
    """
    Find constants that take more memory than any graph's constants have a reason to.

    A few bytes are enough to say `one value, repeated 10^12 times`; TensorFlow makes all of them when it loads the graph.

    Returns:
        Node -> bytes once it is expanded: those beyond 1 GiB, or, where many together are, the largest of them.
    """
    sizes: dict[str, int] = {}
    for body in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in body:
            if node.op == "Const":
                shape = node.attr["value"].tensor.tensor_shape
                # Of two functions' nodes of one name, the larger counts.
                size = math.prod(max(dim.size, 0) for dim in shape.dim) * _VALUE_BYTES
                sizes[node.name] = max(size, sizes.get(node.name, 0))
    large = {name: size for name, size in sizes.items() if size > _MOST_CONSTANT_BYTES}
    if not large and (total := sum(sizes.values())) > _MOST_CONSTANTS_BYTES:
        large[max(sizes, key=sizes.__getitem__)] = total
    return large


def _functions_of_objects(graph: Any) -> tuple[list[str], list[str]]:
    """Name the functions that TensorFlow 2 runs as it makes a SavedModel's objects: to fill them, and to restore them."""
    init, restore = [], []
    for node in graph.nodes:
        children = {child.local_name: child.node_id for child in node.children}
        init += [name for method in _INIT_METHODS for name in _concrete(graph, children.get(method))]
        for saveable in node.saveable_objects.values():
            restore += _concrete(graph, saveable.restore_function)
    return init, restore


def _concrete(graph: Any, node_id: int | None) -> list[str]:
    if node_id is None or not 0 <= node_id < len(graph.nodes):
        return []
    node = graph.nodes[node_id]
    return [*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name]


def called_functions(node: Any, library: Mapping[str, Any]) -> Iterator[str]:
    """Name the functions of *library* that *node* calls: as its op, or as attributes (PartitionedCall, If, While, MapDataset)."""
    return (name for name in (node.op, *named_functions(node)) if name in library)


def named_functions(node: Any) -> Iterator[str]:
    """Name what the attributes of *node* call functions, and what is bound to the attributes of those in their turn."""
    attributes = node.attr
    waiting = [attributes[key] for key in sorted(attributes)]
    while waiting:
        value = waiting.pop()
        for function in (value.func, *value.list.func):
            if function.name:
                yield function.name
            waiting += [function.attr[key] for key in sorted(function.attr)]


def _alike(library: Mapping[str, Any]) -> dict[str, list[str]]:
    """
    Name, for each function, those that TensorFlow may put in its place.

    Functions that say they implement the same are exchanged by Grappler, without a node that names the other one
    (grappler/optimizers/implementation_selector.cc): an LSTM has one for the CPU and one for the GPU.
    """
    groups: dict[bytes, list[str]] = {}
    for name, function in library.items():
        if "api_implements" in function.attr:
            groups.setdefault(function.attr["api_implements"].s, []).append(name)
    return {name: group for group in groups.values() for name in group}


def _outputs_of(meta_graph: Any, name: str) -> list[str]:
    return _tensor_names(meta_graph.signature_def[name].outputs.values())


def _tensor_names(infos: Iterable[Any]) -> list[str]:
    """Name the tensors of TensorInfo messages: one of a dense tensor, several of a sparse or composite one."""
    names = []
    for info in infos:
        sparse = info.coo_sparse
        names += [info.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
        names += _tensor_names(info.composite_tensor.components)
    return [name for name in names if name]


def node_name(tensor: str) -> str:
    """Name the node of a tensor (`x:0`) or of a control input (`^x`)."""
    return tensor.removeprefix("^").split(":")[0]

"""What is to be done to make a model of a graph: decided here from messages alone, done by `slipway.models.graph_model`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import SourceError
from slipway.graphs import cutting, folding, restoring
from slipway.graphs.frozen import to_constant
from slipway.graphs.names import PLACEHOLDERS, Ends, Placeholder, find_ends, op_of, placeholder
from slipway.graphs.reading import SourceGraph
from slipway.graphs.restoring import Stored
from slipway.source_settings import FrozenValue, full_name
from slipway_wire import dtypes
from slipway_wire.status import WireError

# TensorFlow's later names of ops that take a handle where these take a reference; else they are the same.
_RENAMED = {
    "LookupTableFind": "LookupTableFindV2",
    "LookupTableSize": "LookupTableSizeV2",
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefIdentity": "Identity",
    "RefMerge": "Merge",
    "RefNextIteration": "NextIteration",
    "RefSelect": "Select",
    "RefSwitch": "Switch",
}
_WRITES = ("Assign", "Scatter", "Apply", "SparseApply", "CountUpTo", "ResourceApply", "ResourceScatter", "ResourceSparseApply")  # fmt: skip
_FED_BY_QUEUES = ("IteratorGetNext", "QueueDequeue", "ReaderRead", "StageGet", "Unstage", "OrderedMapUnstage")


@dataclass(frozen=True, slots=True)
class Table:
    """
    A lookup table.

    Attributes:
        node: NodeDef message of the table.
        initializer: NodeDef message of the op that fills it.
    """

    node: Any
    initializer: Any

    @property
    def from_file(self) -> bool:
        """Whether it is filled from a text file."""
        return "TextFile" in str(self.initializer.op)


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How a graph becomes a model.

    Attributes:
        source: The graph as it was written.
        ends: Where the model begins and ends in it.
        original: GraphDef message: the part that `Session.run` needs to answer, with what restores and initializes it.
        served: GraphDef message: the part to export. Inputs, variables and tables are missing; they are put in.
        fetches: The contract's name of each output -> tensor in `served`, or among what is missing.
        placeholders: Input tensor -> the placeholder it is; inputs that are other tensors are not in it.
        frozen: Tensor -> TensorProto message of its value, for `original`.
        variables: Variable's op -> where its value is.
        tables: Table's op -> what it is.
    """

    source: SourceGraph
    ends: Ends
    original: Any
    served: Any
    fetches: Mapping[str, str]
    placeholders: Mapping[str, Placeholder]
    frozen: Mapping[str, Any]
    variables: Mapping[str, Stored]
    tables: Mapping[str, Table]


def make_plan(
    source: SourceGraph, inputs: Mapping[str, str], outputs: Mapping[str, str], freeze: Mapping[str, FrozenValue]
) -> Plan:
    """
    Find the model in the graph.

    Args:
        source: The graph.
        inputs: The contract's name -> tensor.
        outputs: The contract's name -> tensor.
        freeze: Tensor -> value.

    Raises:
        SourceError: If names are wrong or missing, something is left to feed, or it cannot be exported as a function
            of its inputs.
    """
    try:
        return _make_plan(source, inputs, outputs, freeze)
    except WireError as error:
        # A dtype or a tensor that no TensorFlow has written.
        raise SourceError(f"{source.where}: damaged: {error}. Fetch or save it again.") from error


def _make_plan(
    source: SourceGraph, inputs: Mapping[str, str], outputs: Mapping[str, str], freeze: Mapping[str, FrozenValue]
) -> Plan:
    where, graph = source.where, source.graph
    ends = find_ends(where, graph, inputs, outputs, freeze)
    nodes = {node.name: node for node in graph.node}
    cutting.check_ends(where, graph, ends)
    behind = cutting.needed(where, graph, ends.outputs.values(), ends.stops)
    frozen = {
        tensor: to_constant(where, tensor, dtypes.from_number(nodes[op_of(tensor)].attr["dtype"].type), value)
        for tensor, value in ends.frozen.items()
    }
    served, fetches = _settle(where, cutting.part(graph, behind | {op_of(tensor) for tensor in frozen}), ends, frozen)
    _refuse(where, served)
    left = {node.name for node in served.node}
    variables = restoring.variables(source, left)
    tables = {name: _table(where, graph, nodes[name]) for name in _in_order(served) if nodes[name].op in cutting.TABLES}
    fed = {tensor: nodes[op_of(tensor)] for tensor in ends.inputs.values()}
    others = frozenset(tensor for tensor, node in fed.items() if node.op not in PLACEHOLDERS)
    all_tables = [name for name in behind if nodes[name].op in cutting.TABLES]
    fillers = [found.name for name in all_tables if (found := cutting.initializer_of(graph, name)) is not None]
    roots = [*ends.outputs.values(), *ends.stops - others, *fillers, *([source.restore_op] if variables else [])]
    return Plan(
        source=source,
        ends=ends,
        original=cutting.part(graph, cutting.needed(where, graph, [root for root in roots if root], others)),
        served=_opened(served, {*variables, *tables, *map(op_of, set(fed) - others)}),
        fetches=fetches,
        placeholders={tensor: placeholder(graph, node) for tensor, node in fed.items() if tensor not in others},
        frozen=frozen,
        variables=variables,
        tables=tables,
    )


def _settle(where: str, graph: Any, ends: Ends, frozen: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Put frozen values in, and leave out what they settle."""
    for node in graph.node:
        if (proto := frozen.get(full_name(node.name))) is not None:
            _make_constant(node, proto)
    settled = folding.fold(graph, frozen, list(ends.outputs.values()))
    fed = frozenset(ends.inputs.values())
    fetches = {name: settled[tensor] for name, tensor in ends.outputs.items()}
    left = cutting.needed(where, graph, fetches.values(), fed)
    # An input that is one of several outputs of an op can be behind an answer in other ways, too.
    return cutting.part(graph, left), fetches


def _make_constant(node: Any, proto: Any) -> None:
    name = node.name
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)


def _refuse(where: str, graph: Any) -> None:
    """Raise SourceError for what is no function of its inputs and weights."""
    variables = {node.name for node in graph.node if node.op in cutting.VARIABLES}
    faults = []
    for node in graph.node:
        if node.op.startswith(_FED_BY_QUEUES):
            faults.append(
                f"{where}: the outputs need {node.name} ({node.op}), which feeds a training. Name what it gives as an "
                f'input of the model, such as "{node.name}:0".'
            )
        elif node.op.startswith(_WRITES) and node.input and op_of(node.input[0]) in variables:
            faults.append(
                f"{where}: the outputs wait for {node.name} ({node.op}), which changes the weight "
                f"{op_of(node.input[0])}: this is the training's graph. Freeze what says that it is training, or name "
                "an output in front of it."
            )
        elif node.op.startswith(("MutableHashTable", "MutableDenseHashTable", "AnonymousHashTable")):
            faults.append(
                f"{where}: the lookup table {node.name} ({node.op}) changes while it is used, and cannot be exported."
            )
    if faults:
        raise SourceError("\n".join(faults))


def _in_order(graph: Any) -> list[str]:
    return [node.name for node in graph.node]


def _table(where: str, graph: Any, node: Any) -> Table:
    initializer = cutting.initializer_of(graph, node.name)
    if initializer is None:
        raise SourceError(
            f"{where}: nothing fills the lookup table {node.name}: what fills it was cut off when the graph was frozen. "
            "Name its result as an input, or take the checkpoint with its .meta."
        )
    return Table(node, initializer)


def _opened(graph: Any, missing: set[str]) -> Any:
    """Leave out the ops *missing*, whose results are put in; what took references takes values."""
    found = cutting.without(graph, missing)
    for node in found.node:
        node.op = _RENAMED.get(node.op, node.op)
    return found


def asset_file(plan: Plan, tensor: str, path: bytes, directory: Path) -> Path:
    """
    Find the file that fills a table.

    Args:
        plan: Of the graph.
        tensor: That gives the path.
        path: What the tensor says: a path on the machine of the training, or nothing in a SavedModel.
        directory: Where the source's files are.

    Raises:
        SourceError: If it is not there.
    """
    if tensor in plan.source.assets:
        found = plan.source.assets[tensor]
    else:
        found = directory / Path(path.decode(errors="replace")).name
    if not found.is_file():
        raise SourceError(
            f"{plan.source.where}: a lookup table is filled from {path.decode(errors='replace') or found}; expected "
            f"{found.name} among the source's files. Name it in `assets`."
        )
    return found


def message_bytes(graph: Any) -> bytes:
    """Serialize a message, the same bytes each time."""
    return bytes(graph.SerializeToString(deterministic=True))

"""Every kind of op in a graph: how often it is there, what runs it, and what the op policy says. Reads messages, runs nothing."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from slipway import graph_ops, op_policy

# What runs the ops of a graph that is no SavedModel: it has no signatures yet.
GRAPH = "graph"


@dataclass(frozen=True, slots=True)
class OpFacts:
    """
    One kind of op.

    Attributes:
        op: Its name.
        nodes: How many there are, those of functions included.
        run_by: Signatures that reach it; `init` and `restore`, if loading the model runs it. None: nothing ever does.
        refused: What the op policy has against it; None if nothing.
    """

    op: str
    nodes: int
    run_by: list[str]
    refused: str | None


@dataclass(frozen=True, slots=True)
class OpTable:
    """
    All of them.

    Attributes:
        ops: By name.
        refusals: What `slipway validate` would say, line by line; [] if it takes the graph as it is.
    """

    ops: list[OpFacts]
    refusals: list[str]


def counts(graph_def: Any) -> dict[str, int]:
    """Count the nodes of each kind of op, by name, those of functions included; calls of functions are no ops."""
    functions = list(graph_def.library.function)
    found = Counter(node.op for node in graph_def.node if node.op)
    for function in functions:
        found.update(node.op for node in function.node_def)
    names = {function.signature.name for function in functions}
    return {op: count for op, count in sorted(found.items()) if op not in names}


def of_meta_graph(meta_graph: Any) -> OpTable:
    """List the ops of a MetaGraphDef, as `slipway validate` judges them where nothing is allowed."""
    names = [name for name in sorted(meta_graph.signature_def) if name not in graph_ops.INIT_SIGNATURES]
    run = graph_ops.run_ops(meta_graph, names)
    judged = op_policy.run_refusals(meta_graph, run, ())
    ops = []
    for op, nodes in counts(meta_graph.graph_def).items():
        places = [place for place, found in run.items() if op in found]
        ops.append(OpFacts(op, nodes, places, op_policy.refused_in(op, places)))
    return OpTable(ops, list(dict.fromkeys(line for lines in judged.values() for line in lines)))


def of_graph(graph_def: Any, where: str) -> OpTable:
    """List the ops of a GraphDef that has no signatures: a frozen graph, or that of a checkpoint; all of them count."""
    found = graph_ops.all_ops(graph_def)
    allowed = op_policy.OF_THE_SAVER
    refused = {op: None if op in allowed else op_policy.why_refused(op) for op in found}
    ops = [OpFacts(op, nodes, [GRAPH], refused.get(op)) for op, nodes in counts(graph_def).items()]
    return OpTable(ops, op_policy.graph_refusals(graph_def, allowed, where))

"""
Whether a graph is one at all: what no program writes, and what would make its reader run away, is told before anything else.

Names go into errors and into dictionaries; a name twice would let one node be judged and another one run. Functions that
call themselves, or each other ten times on twenty levels, are small in a file and without end in memory.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from slipway import graph_ops
from slipway.errors import SourceError
from slipway.graphs.names import op_of

# Lenient on purpose: node_def_util.cc (IsValidNodeName) takes fewer, and every version others.
_NAME = re.compile(r"[\w.][\w.\\/>:\-]*", re.ASCII)
_LONGEST_NAME = 2000
# The largest models have some 100,000 nodes, and functions a few levels deep.
_MOST_NODES = 10_000_000
_MOST_LEVELS = 200
_LOOPS = ("NextIteration", "RefNextIteration")


def check(where: str, graph: Any) -> None:
    """
    Check the names of a GraphDef, that nothing in it goes in a circle but loops, and what its functions come to.

    Raises:
        SourceError: With what is wrong; *where* is what it calls the file.
    """
    library = [(function.signature.name, function.node_def) for function in graph.library.function]
    _check_names(where, "functions", [name for name, _ in library])
    for body, nodes in (("nodes", graph.node), *((f"nodes of function {name}", nodes) for name, nodes in library)):
        _check_names(where, body, [node.name for node in nodes])
        _check_names(where, f"ops of {body}", list({node.op for node in nodes}))
        if circle := _ordered({node.name: _inputs(node) for node in nodes})[1]:
            raise _damaged(where, f"node {circle} needs its own result")
    _check_functions(where, graph, dict(library))


def _damaged(where: str, what: str) -> SourceError:
    return SourceError(f"{where}: damaged, or made to do harm: {what}. Fetch or save it again.")


def _check_names(where: str, what: str, names: list[str]) -> None:
    for name in names:
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise _damaged(where, f"{name[:100]!r} is no name (among the {what})")
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise _damaged(where, f"{count} of the {what} are called {name}")


def _inputs(node: Any) -> list[str]:
    """Name what *node* waits for; not what comes around to it in a loop."""
    return [] if node.op in _LOOPS else [op_of(tensor) for tensor in node.input]


def _ordered(needs: Mapping[str, Iterable[str]]) -> tuple[list[str], str]:
    """Put names behind all that they need (Kahn 1962); and give one that is in a circle, or ""."""
    users: dict[str, list[str]] = {name: [] for name in needs}
    waiting = dict.fromkeys(needs, 0)
    for name, wanted in needs.items():
        for other in set(wanted):
            if other in users:
                users[other].append(name)
                waiting[name] += 1
    order = [name for name, count in waiting.items() if not count]
    for name in order:  # grows while it is walked
        for user in users[name]:
            waiting[user] -= 1
            if not waiting[user]:
                order.append(user)
    at = next((name for name, count in waiting.items() if count), "")
    seen = set()
    while at and at not in seen:  # what is left is in a circle, or behind one
        seen.add(at)
        at = next(other for other in needs[at] if waiting.get(other))
    return order, at


def _check_functions(where: str, graph: Any, library: Mapping[str, Any]) -> None:
    calls = {
        name: Counter(called for node in nodes for called in graph_ops.called_functions(node, library))
        for name, nodes in library.items()
    }
    order, circle = _ordered(calls)
    if circle:
        raise _damaged(where, f"function {circle} calls itself")
    nodes: dict[str, int] = {}
    levels: dict[str, int] = {}
    for name in order:
        nodes[name] = len(library[name]) + sum(nodes[called] * count for called, count in calls[name].items())
        levels[name] = 1 + max((levels[called] for called in calls[name]), default=0)
    whole = len(graph.node) + sum(
        nodes[called] for node in graph.node for called in graph_ops.called_functions(node, library)
    )
    largest = max([whole, *nodes.values()])
    if largest > _MOST_NODES:
        raise _damaged(where, f"with its functions put in where they are called, it has {largest:.3g} nodes")
    if max(levels.values(), default=0) > _MOST_LEVELS:
        raise _damaged(where, f"its functions call each other on {max(levels.values())} levels")

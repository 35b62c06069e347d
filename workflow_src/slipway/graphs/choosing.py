"""Which tensors of a graph are the model, as far as its user has not said; from messages alone."""

import re
from collections.abc import Collection, Mapping

from slipway.errors import SourceError
from slipway.graphs.cutting import needed
from slipway.graphs.names import PLACEHOLDERS, near, op_of, placeholder, unused
from slipway.graphs.reading import SourceGraph
from slipway.source_settings import full_name

_SHOWN = 8
# Ends of a training graph that nobody asks for: what steps, measures and saves.
_OPS_OF_TRAINING = ("Apply", "Assign", "Summary", "Assert", "Print", "Scatter")
_NAMES_OF_TRAINING = re.compile(
    r"^(gradients|save|init|zeros_like|ExponentialMovingAverage)|assert|_loss|(^|/)loss|cond.*/switch_"
)
# What people call the answers of a model, at the end of the name.
_LIKELY = re.compile(
    r"(logits|softmax|sigmoid|prob|probs|probabilities|predictions?|outputs?|scores?|argmax)(_\d+)?$", re.IGNORECASE
)


def choose(
    source: SourceGraph, inputs: Mapping[str, str], outputs: Mapping[str, str], frozen: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """
    Fill in inputs and outputs that were not named, where only one answer can be meant.

    Args:
        source: The graph.
        inputs: Name -> tensor; empty: every placeholder that the outputs need and that is not frozen.
        outputs: Name -> tensor; empty: the one tensor that is computed from placeholders and that nothing uses.
        frozen: Tensors that have a value for good.

    Returns:
        Inputs and outputs: name -> tensor. What was not named is called as its op is.

    Raises:
        SourceError: If an output is not there, several could be meant, or an input is what only training feeds.
    """
    where, graph = source.where, source.graph
    nodes = {node.name: node for node in graph.node}
    if lost := [tensor for tensor in outputs.values() if op_of(tensor) not in nodes]:
        close = near(op_of(lost[0]), nodes)
        raise SourceError(f"{where}: no tensor {lost[0]} in the graph; near it: {', '.join(close) or 'none'}.")
    chosen = dict(outputs) or {_only_end(source): ""}
    chosen = {name: full_name(tensor or name) for name, tensor in chosen.items()}
    if inputs:
        return {name: full_name(tensor) for name, tensor in inputs.items()}, chosen
    stops = frozenset(map(full_name, frozen))
    behind = needed(where, graph, chosen.values(), stops)
    fed = [placeholder(graph, node) for node in graph.node if node.name in behind and node.op in PLACEHOLDERS[:2]]
    if alone := [one for one in fed if one.shape == ()]:
        given = " ".join(f"{one.name}={'False' if one.dtype == 'bool' else '1.0'}" for one in alone)
        raise SourceError(
            f"{where}: {', '.join(map(str, alone))}: one value for all rows, as only training feeds it. Give it the value "
            f"that it has when the model is used, such as --freeze {given}; or name all --inputs."
        )
    if not fed:
        raise SourceError(f"{where}: {', '.join(chosen.values())} needs no placeholder. Name the --inputs.")
    return {one.name: full_name(one.name) for one in fed}, chosen


def _only_end(source: SourceGraph) -> str:
    """Name the op that the graph ends in, if it is one; a graph that was trained in ends in its loss."""
    graph = source.graph
    nodes = {node.name: node for node in graph.node}
    computed = [
        name
        for name, node in nodes.items()
        if not _NAMES_OF_TRAINING.search(name) and not any(word in node.op for word in _OPS_OF_TRAINING)
    ]
    is_trained_in = any("Apply" in node.op for node in graph.node)
    ends = [name for name in computed if _LIKELY.search(name)] if is_trained_in else unused(graph)
    fed = [
        name
        for name in ends
        if name in computed and any(nodes[one].op in PLACEHOLDERS for one in needed(source.where, graph, [name]))
    ]
    if len(fed) == 1 and not is_trained_in:
        return fed[0]
    more = f" and {len(fed) - _SHOWN} more" if len(fed) > _SHOWN else ""
    found = f"{', '.join(fed[:_SHOWN])}{more}" if fed else "none"
    wanted = (
        "a graph that was trained in does not say what it is for" if is_trained_in else "expected one tensor at its end"
    )
    raise SourceError(
        f"{source.where}: {wanted}; there are: {found}. Name what the model gives: --outputs NAME=TENSOR."
    )

"""What a source's files say of its graph, before TensorFlow sees them: whether they may be shown to it, and how it is cut."""

from collections.abc import Collection
from pathlib import Path

from slipway import op_policy
from slipway.errors import SourceError
from slipway.graphs.plans import Plan, make_plan
from slipway.graphs.reading import from_meta_graph, is_tf1, read_graph_def, read_meta_graph, read_saved_model
from slipway.graphs.signing import Chosen, choose
from slipway.source_settings import FrozenGraphSource, SavedModelSource, Source, Tf1CheckpointSource


def check(source: Source, directory: Path, allowed: Collection[str]) -> None:
    """
    Judge the graph of *source* from its bytes.

    It is judged as far as TensorFlow is shown it: a graph that is cut down before it is imported by what is left, a
    SavedModel by what the signature and its loader run. Where the user's own code builds the graph, there is nothing
    to judge before the export.

    Args:
        source: What the files are.
        directory: Where copies of them are.
        allowed: Kinds of ops that the policy would refuse, but the contract allows.

    Raises:
        SourceError: With a line for each fault: a file is damaged, names in *source* are not in it, or an op is refused.
    """
    match source:
        case Tf1CheckpointSource() if source.builder is None:
            # Its own Saver reads its files; in any other graph these ops read those of others.
            lines = _refusals(plan_checkpoint(source, directory), {*allowed, *op_policy.OF_THE_SAVER})
        case FrozenGraphSource():
            lines = _refusals(plan_frozen_graph(source, directory), allowed)
        case SavedModelSource():
            meta_graph = read_saved_model(directory, source.tags)
            chosen = choose(source, meta_graph)
            if is_tf1(meta_graph):
                plan_saved_model(source, meta_graph, chosen, directory)
            judged = op_policy.meta_graph_refusals(meta_graph, allowed, [source.signature])
            lines = [f"{source.path.name}: {line}" for found in judged.values() for line in found]
        case _:
            lines = []
    if lines:
        raise SourceError("\n".join(lines))


def _refusals(plan: Plan, allowed: Collection[str]) -> list[str]:
    return op_policy.graph_refusals(plan.original, allowed, plan.source.where)


def prefix_in(source: Tf1CheckpointSource, directory: Path) -> Path:
    """Give the checkpoint among the files that were kept in *directory*."""
    indexes = sorted(directory.glob("*.index"))
    # The latest one may be another by now; a checkpoint of before 2017 has no index.
    return indexes[0].with_suffix("") if indexes else directory / source.prefix.name


def plan_checkpoint(source: Tf1CheckpointSource, directory: Path) -> Plan:
    """Find the model in the `.meta` of a checkpoint."""
    prefix = prefix_in(source, directory)
    graph = read_meta_graph(prefix.with_name(f"{prefix.name}.meta"))
    return make_plan(graph, source.inputs, source.outputs, source.freeze_inputs)


def plan_frozen_graph(source: FrozenGraphSource, directory: Path) -> Plan:
    """Find the model in a frozen graph."""
    graph = read_graph_def(directory / source.path.name)
    return make_plan(graph, source.inputs, source.outputs, source.freeze_inputs)


def plan_saved_model(source: SavedModelSource, meta_graph: object, chosen: Chosen, directory: Path) -> Plan:
    """Find a signature's model in the graph of a SavedModel of TensorFlow 1."""
    signature = chosen.signature
    frozen = {signature.inputs[n].graph_name: v for n, v in source.freeze_inputs.items() if n in chosen.frozen}
    return make_plan(
        from_meta_graph(meta_graph, source.path.name, directory),
        {name: signature.inputs[theirs].graph_name for name, theirs in chosen.inputs.items()},
        {name: signature.outputs[theirs].graph_name for name, theirs in chosen.outputs.items()},
        frozen | dict(chosen.frozen_tensors),
    )

"""Graphs of users as models: checkpoints of TensorFlow 1, frozen graphs, SavedModels."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from slipway.errors import SourceError, one_line
from slipway.graphs import of_source, signing
from slipway.graphs.plans import make_plan
from slipway.graphs.reading import SourceGraph, from_meta_graph, is_tf1, read_saved_model
from slipway.models.builders import build
from slipway.models.graph_model import GraphModel, checkpoint_keys
from slipway.models.model import Model
from slipway.models.resigned import ResignedModel
from slipway.models.session import ServingSession
from slipway.source_settings import FrozenGraphSource, SavedModelSource, Tf1CheckpointSource
from slipway_wire import messages, tensors

Array = npt.NDArray[Any]
# `tf.train.Saver.save(…, global_step)` ends the name with it.
_STEP_IN_NAME = re.compile(r"-(\d+)$")


def load_checkpoint(source: Tf1CheckpointSource, directory: Path) -> Model:
    """Load a checkpoint of TensorFlow 1 and its graph; see `slipway.models.sources.load`."""
    prefix = of_source.prefix_in(source, directory)
    if source.builder is None:
        plan = of_source.plan_checkpoint(source, directory)
    else:
        graph = built_graph(source.builder, prefix)
        plan = make_plan(graph, source.inputs, source.outputs, source.freeze_inputs)
    return GraphModel(plan, directory, prefix, moving_average=source.moving_average, facts=_step(prefix))


def built_graph(builder: str, prefix: Path) -> SourceGraph:
    """Let the user's function build its graph, with a Saver that restores what the checkpoint has."""
    graph = tf.Graph()
    with graph.as_default():
        # Initial values that are drawn at random: nobody sees them, but without a seed TensorFlow refuses here.
        tf.compat.v1.set_random_seed(0)
        build(builder)
        savers = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SAVERS)
        variables = tf.compat.v1.global_variables()
        if savers:
            saver = savers[0]
        elif variables:
            keys = set(checkpoint_keys(prefix))
            saved = _saved(variables, keys)
            if not saved:
                names = ", ".join(variable.op.name for variable in variables[:5])
                there = ", ".join(sorted(keys)[:5])
                raise SourceError(
                    f"{prefix.name}: has none of the variables that {builder} makes ({names}); it has: {there}."
                )
            saver = tf.compat.v1.train.Saver(saved)
        else:
            saver = None
        meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph, saver_def=saver and saver.as_saver_def())
    return from_meta_graph(messages.MetaGraphDef.FromString(meta_graph.SerializeToString()), f"builder {builder}")


def _saved(variables: list[Any], keys: set[str]) -> list[Any]:
    """Choose those of *variables* that the checkpoint has; a Saver asks for all that it is given."""

    def key(variable: Any) -> str:
        part = variable._get_save_slice_info()  # noqa: SLF001 - how Savers tell a part of a variable
        return str(variable.op.name if part is None else part.full_name)

    return [variable for variable in variables if key(variable) in keys]


def _step(prefix: Path) -> dict[str, float]:
    """Read the step of the training at which the checkpoint was written."""
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        if reader.has_tensor("global_step"):
            return {"source_step": float(reader.get_tensor("global_step"))}
    except Exception as error:
        raise SourceError(f"{prefix.name}: not a TensorFlow checkpoint, or damaged: {one_line(error)}") from error
    found = _STEP_IN_NAME.search(prefix.name)
    return {"source_step": float(found[1])} if found else {}


def load_frozen_graph(source: FrozenGraphSource, directory: Path) -> Model:
    """Load a frozen graph; see `slipway.models.sources.load`."""
    return GraphModel(of_source.plan_frozen_graph(source, directory), directory)


def load_saved_model(source: SavedModelSource, directory: Path) -> Model:
    """Load one signature of a SavedModel; see `slipway.models.sources.load`."""
    meta_graph = read_saved_model(directory, source.tags)
    chosen = signing.choose(source, meta_graph)

    def answer(inputs: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {chosen.inputs[name]: array for name, array in inputs.items()}
        feeds |= {name: tensors.from_proto(proto) for name, proto in chosen.frozen.items()}
        advice = "Fetch or copy the SavedModel again."
        with ServingSession(directory, source.tags, advice) as session:
            found = session.run(source.signature, feeds, others)
        return {name: found[theirs] for name, theirs in chosen.outputs.items()}

    if is_tf1(meta_graph):
        plan = of_source.plan_saved_model(source, meta_graph, chosen, directory)
        others = {tensor: tensors.from_proto(proto) for tensor, proto in plan.frozen.items()}
        variables = directory / "variables/variables"
        prefix = variables if variables.with_suffix(".index").is_file() else None
        return GraphModel(plan, directory, prefix, answer=answer)
    if chosen.frozen_tensors:
        name = next(iter(chosen.frozen_tensors))
        raise SourceError(f"{source.path.name}: freeze_inputs: signature {source.signature} has no input {name}; it has: {', '.join(chosen.signature.inputs)}.")  # fmt: skip
    others = {}
    return ResignedModel(directory, source.path.name, source.tags, chosen, meta_graph, answer)

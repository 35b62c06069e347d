"""
What signatures a model's file has or could have: SavedModels without TensorFlow, other files with it.

Nothing of a model runs: its file is read, and its graph is looked at.
"""

from pathlib import Path
from typing import Any

from slipway import graph_ops, op_policy, parsed_examples
from slipway.contract_found import Found, Signature, Tensor
from slipway.errors import SourceError
from slipway.graphs.reading import read_graph_def, read_meta_graph
from slipway.inspect import find_models
from slipway_wire import signatures as wire
from slipway_wire.status import WireError

_KERAS = (".keras", ".h5", ".hdf5")


def read(place: Path) -> Found:
    """
    Find out what the model at *place* takes and gives.

    Args:
        place: A SavedModel, a base path (its newest version counts), a Keras file, a frozen graph (.pb), or a
            checkpoint of TensorFlow 1 with its .meta (the prefix, or the .meta itself).

    Raises:
        SourceError: There is no model, it is damaged, or it does not say what it takes and gives.
    """
    meta = place if place.suffix == ".meta" else place.with_name(f"{place.name}.meta")
    if place.suffix in _KERAS and place.is_file():
        return _keras(place)
    if place.suffix == ".pb" and place.is_file() and place.name != wire.SAVED_MODEL_FILE:
        return _graph(place, {"kind": "frozen_graph", "path": str(place)})
    if meta.is_file():
        return _graph(meta, {"kind": "tf1_checkpoint", "path": str(meta.with_suffix(""))})
    if place.with_name(f"{place.name}.index").is_file():
        raise SourceError(
            f"{place}: a checkpoint holds weights and no signatures. Write the contract by hand (docs/contract.md), or "
            "put the .meta file beside it."
        )
    if not place.exists():
        raise SourceError(f"{place}: there is nothing at this path. Correct it.")
    return saved_model(find_models(place)[-1])


def saved_model(directory: Path) -> Found:
    """
    Read the signatures of the SavedModel in *directory*, without TensorFlow.

    Raises:
        SourceError: It is damaged, or has no meta graph with tag serve.
    """
    try:
        meta_graph = wire.find_meta_graph(wire.read_saved_model(directory))
        found = {k: s for k, s in wire.from_meta_graph(meta_graph).items() if not k.startswith("__")}
    except WireError as error:
        raise SourceError(f"{directory}: {error}") from error
    graph = meta_graph.graph_def

    def tensors(specs: dict[str, wire.TensorSpec]) -> dict[str, Tensor]:
        return {
            name: Tensor(spec.dtype.name, spec.shape, spec.graph_name, graph_ops.maker(graph, spec.graph_name))
            for name, spec in specs.items()
        }

    refused = op_policy.meta_graph_refusals(meta_graph, (), list(found))
    return Found(
        str(directory),
        {"kind": "saved_model", "path": str(directory)},
        {
            key: Signature(
                one.method,
                tensors(dict(one.inputs)),
                tensors(dict(one.outputs)),
                parsed_examples.parsed_features(meta_graph, key),
                _class_names(meta_graph, key, one),
            )
            for key, one in found.items()
        },
        tuple(dict.fromkeys(line for lines in refused.values() for line in lines)),
    )


def _class_names(meta_graph: Any, key: str, signature: wire.Signature) -> tuple[str, ...]:
    scores, classes = (signature.outputs.get(name) for name in ("scores", "classes"))
    count = scores.shape[-1] if scores is not None and scores.shape else None
    if signature.method != wire.CLASSIFY or classes is None or count is None:
        return ()
    return parsed_examples.class_names(meta_graph, key, "classes", count)


def _keras(path: Path) -> Found:
    from slipway.models import outlines  # noqa: PLC0415 - seconds; SavedModels need no TensorFlow

    inputs, outputs = outlines.of_keras(path)
    return Found(
        str(path), {"kind": "keras", "path": str(path)}, {"serving_default": Signature(wire.PREDICT, inputs, outputs)}
    )


def _graph(path: Path, source: dict[str, str]) -> Found:
    graph = (read_meta_graph if path.suffix == ".meta" else read_graph_def)(path).graph
    if lines := op_policy.import_refusals(graph, str(path)):
        raise SourceError("\n".join(lines))
    from slipway.models import outlines  # noqa: PLC0415 - likewise

    inputs, outputs = outlines.of_graph(path)
    signature = Signature(wire.PREDICT, inputs, outputs)
    remark = "inputs are all placeholders, outputs all tensors that nothing uses: take out what is no part of serving"
    return Found(str(path), source, {"serving_default": signature}, (remark,))

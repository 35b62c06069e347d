"""
A contract for a model that has none: what its file says, and rows that are drawn where nobody gave any.

Where only the model's user can know (the values of strings, what training fed), nothing is guessed.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from slipway import contract_draft, contract_sources, golden, local_sources
from slipway.contract import DEFAULT_SIGNATURE, Contract
from slipway.contract_found import Found, Signature
from slipway.errors import SettingsError, SourceError
from slipway.graphs import of_source
from slipway.graphs.choosing import choose
from slipway.graphs.cutting import needed, part
from slipway.graphs.names import op_of
from slipway.graphs.reading import SourceGraph, read_graph_def, read_meta_graph
from slipway.settings import cache_directory
from slipway.source_settings import (
    BuiltinSource,
    CheckpointSource,
    FrozenGraphSource,
    KerasSource,
    SavedModelSource,
    Source,
    Tf1CheckpointSource,
    WeightsSource,
)
from slipway_wire.signatures import PREDICT

# Few enough to read; made-up rows are drawn from them.
_MOST_VALUES = 16


def draft(place: Path, source: Source, scratch: Path, say: Callable[[str], None]) -> tuple[str, Source]:
    """
    Write a contract for *source*.

    Args:
        place: Its files, fetched and unpacked.
        source: As far as its user has said.
        scratch: For a copy of its files.
        say: Told of a download.

    Returns:
        The contract as YAML, and the source with what was found of its inputs and outputs.

    Raises:
        SourceError: The files do not say what the contract needs; the line names the option that does.
    """
    assert not isinstance(source, BuiltinSource)  # nothing on disk is built in
    if isinstance(source, SavedModelSource):
        own = _of_saved_model(place, source, say)
    else:
        with _without_chatter():
            if isinstance(source, Tf1CheckpointSource | FrozenGraphSource):
                own = _of_graph(source, scratch, say)
            else:
                own = _of_keras(place, source)
    for name, tensor in {**own.inputs, **own.outputs}.items():
        if tensor.shape is None:
            raise SourceError(
                f"{source.path}: the shape of {name} is not known: say it in a --contract (docs/contract.md)"
            )
    if whole := [name for name, tensor in own.outputs.items() if not tensor.shape]:
        raise SourceError(
            f"{source.path}: output {whole[0]} is one value for all rows, which no request could be given a row of. Leave it out "
            "(--outputs), or say in a --contract how it is made into rows."
        )
    found = Found(str(source.path), {"kind": source.kind}, {DEFAULT_SIGNATURE: own})
    text, keys = contract_draft.drafted(found)
    if guessed := list(keys.get("freeze_inputs", {})):
        raise SourceError(
            f"{source.path}: input {guessed[0]} is one value for all rows, as only training feeds it. Give it the value that it "
            f"has when the model is used: --freeze {guessed[0]}=…"
        )
    ends: dict[str, Any] = {side: keys[side] for side in ("inputs", "outputs") if side in keys}
    text = text.replace("`slipway contract init`", "`slipway convert`")
    return _with_values(text, source), source.model_copy(update=ends)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep what TensorFlow says of the machine from a terminal where people wait for a result; Python cannot ask it not to."""
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as chatter:
            os.dup2(chatter.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _of_saved_model(place: Path, source: SavedModelSource, say: Callable[[str], None]) -> Signature:
    if source.tags != ["serve"]:
        raise SourceError(
            f"{place}: its tags are {', '.join(source.tags)}: write a --contract, docs/contract.md has one."
        )
    found = dict(contract_sources.saved_model(place).signatures)
    if source.signature not in found:
        there = ", ".join(found) or "none"
        raise SourceError(f"{place}: no signature {source.signature}; there are: {there}. Name one: --signature.")
    own = found.pop(source.signature)
    inputs = source.inputs or {name: name for name in own.inputs if name not in source.freeze_inputs}
    outputs = source.outputs or {name: name for name in own.outputs}
    if lost := [
        n for side, names in ((own.inputs, inputs), (own.outputs, outputs)) for n in names.values() if n not in side
    ]:
        there = ", ".join([*own.inputs, *own.outputs])
        raise SourceError(f"{place}: signature {source.signature} has no {lost[0]}; it has: {there}.")
    if found:
        # What they do is known to the model's file alone: made of this one's outputs, they might answer something else.
        say(f"left out: {', '.join(found)}; a --contract may have more signatures than one")
    return Signature(
        own.method,
        {name: own.inputs[theirs] for name, theirs in inputs.items()},
        {name: own.outputs[theirs] for name, theirs in outputs.items()},
        own.features,
        own.classes,
    )


def _of_keras(place: Path, source: KerasSource | WeightsSource | CheckpointSource) -> Signature:
    from slipway.models import outlines  # noqa: PLC0415 - seconds; what is wrong so far needs no TensorFlow
    from slipway.models.builders import build  # noqa: PLC0415 - likewise

    if isinstance(source, KerasSource):
        inputs, outputs = outlines.of_keras(place, source.loader, unsafe=source.unsafe)
    else:
        try:
            inputs, outputs = outlines.of_model(build(source.builder), f"builder {source.builder}")
        except SourceError as error:
            raise SourceError(str(error).replace("write the contract by hand", "write a --contract")) from error
    return Signature(PREDICT, inputs, outputs)


def _of_graph(source: Tf1CheckpointSource | FrozenGraphSource, scratch: Path, say: Callable[[str], None]) -> Signature:
    files = scratch / "files"
    files.mkdir(parents=True)
    local = local_sources.keep(source, files, cache_directory(os.environ), say)
    graph = _graph(local, files)
    inputs, outputs = choose(graph, source.inputs, source.outputs, source.freeze_inputs)
    # Not before the op policy has seen what TensorFlow is shown.
    of_source.check(local.model_copy(update={"inputs": _fine(inputs), "outputs": _fine(outputs)}), files, ())
    from slipway.models import outlines  # noqa: PLC0415 - seconds; what is wrong so far needs no TensorFlow

    tensors = [*inputs.values(), *outputs.values()]
    cut = part(graph.graph, needed(graph.where, graph.graph, tensors) | {op_of(tensor) for tensor in tensors})
    told = outlines.of_tensors(cut.SerializeToString(), tensors, graph.where)
    return Signature(PREDICT, {n: told[t] for n, t in inputs.items()}, {n: told[t] for n, t in outputs.items()})


def _graph(source: Source, files: Path) -> SourceGraph:
    if isinstance(source, FrozenGraphSource):
        return read_graph_def(files / source.path.name)
    assert isinstance(source, Tf1CheckpointSource)  # there are two kinds
    prefix = of_source.prefix_in(source, files)
    if source.builder is None:
        return read_meta_graph(prefix.with_name(f"{prefix.name}.meta"))
    from slipway.models import graph_sources  # noqa: PLC0415 - the user's function needs TensorFlow

    return graph_sources.built_graph(source.builder, prefix)


def _fine(ends: Mapping[str, str]) -> dict[str, str]:
    """Give any names: those of ops are none that a contract could use."""
    return {f"tensor_{number}": tensor for number, tensor in enumerate(ends.values())}


def _with_values(text: str, source: Source) -> str:
    """Put strings of golden rows in where the contract lacks what strings the model takes."""
    default = Contract.model_validate(yaml.safe_load(text)).default
    unknown = [name for name, tensor in default.inputs.items() if tensor.values == ("fill in",)]
    path: Any = getattr(source, "golden", None)
    features = [
        feature
        for tensor in default.inputs.values()
        for feature, form in (tensor.example or {}).items()
        if form.values == ("fill in",)
    ]
    if features and path is None:
        raise SourceError(
            f"feature {features[0]} of the tf.Examples takes strings, and only you know which: give Examples (--golden "
            f"FILE.npz, an array {', '.join(default.inputs)}), or say in a --contract what they are."
        )
    if not unknown:
        return text
    if path is None:
        raise SourceError(
            f"input {unknown[0]} takes strings, and only you know which: give rows of them (--golden FILE.npz, an array "
            f"{', '.join(default.inputs)}), or say in a --contract what they are."
        )
    arrays = golden.read_arrays(path, "Write it again with numpy.savez.")
    for name in unknown:
        try:
            values = sorted({bytes(value).decode() for value in arrays[name].ravel().tolist()})[:_MOST_VALUES]
        except KeyError:
            raise SourceError(f"{path}: no array {name}; found: {', '.join(arrays)}.") from None
        except (TypeError, UnicodeDecodeError) as error:
            raise SourceError(
                f"{path}: {name}: not strings that a contract could list, such as tf.Examples. Say in a --contract what "
                "they are: docs/contract.md, `example`."
            ) from error
        listed = yaml.safe_dump(values, default_flow_style=True, width=10**6, allow_unicode=True).strip()
        text = re.sub(rf"(\n      {name}: .*)values: \[fill in\]", lambda m: f"{m[1]}values: {listed}", text)  # noqa: B023
    if "values: [fill in]" in text:
        raise SettingsError("the contract lacks values of strings in another signature: write a --contract")
    return text

"""Make or read a checkpoint, and keep golden answers: what the model itself says, before any export."""

import argparse
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from slipway import comparable, files, forms, golden, isolation, local_sources, rows, source_digest
from slipway.answers import derive, derive_others
from slipway.contract import Contract, read_contract
from slipway.errors import SettingsError, SourceError
from slipway.golden import Golden
from slipway.graphs import of_source
from slipway.parity import accuracy
from slipway.provenance import tool_versions
from slipway.records import CheckpointRecord, TrainRecord, TreeManifest
from slipway.settings import cache_directory, fault_lines
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

if TYPE_CHECKING:
    from slipway.models.model import Model

Array = npt.NDArray[Any]
_TOOLS = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "scikit-learn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    add_source_arguments(parser)
    # Without a value where the config gives none.
    parser.add_argument("--digest", nargs="?", metavar="SHA256", help="content that the source must have, if any")
    parser.add_argument("--contract", type=Path, required=True, help="the model's contract (YAML)")
    # Two options without a value where nothing was trained.
    parser.add_argument("--trained", type=Path, nargs="?", metavar="DIR", help="what `slipway train` left, if it ran")
    parser.add_argument("--train-record", type=Path, nargs="?", metavar="FILE", help="its record (JSON)")
    parser.add_argument("--out-source", type=Path, required=True, metavar="DIR", help="gets the source's files")
    parser.add_argument(
        "--golden", type=Path, required=True, metavar="FILE", help="gets golden rows and answers (.npz)"
    )
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="gets the record (JSON)")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which version is meant and what it is made from; the same for all stages that load the model."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--version", type=int, required=True, help="number of the version")
    parser.add_argument("--source", required=True, metavar="JSON", help="`source` of the version")


def parse_source(text: str) -> Source:
    """Read one `source` of the settings from JSON, or raise SettingsError with a line per fault."""
    try:
        source: Source = TypeAdapter(Source).validate_json(text)
    except ValidationError as error:
        raise SettingsError("\n".join(fault_lines(error, "--source"))) from error
    return source


def run(arguments: argparse.Namespace) -> None:
    """Fill the source directory, compute golden answers, and write both down; files that crash TensorFlow are a line, too."""
    isolation.run(
        lambda: _run(arguments),
        f"{arguments.model} {arguments.version}",
        [arguments.out_source, arguments.golden, arguments.record],
        isolation.timeout_s(os.environ),
    )


def _run(arguments: argparse.Namespace) -> None:
    source, contract = parse_source(arguments.source), read_contract(arguments.contract)
    training = TrainRecord.read(arguments.train_record) if arguments.train_record else None
    if training and arguments.trained:
        training.tree.verify(arguments.trained)
    with files.new_directory(arguments.out_source) as directory:
        try:
            if arguments.digest:
                source_digest.verify(source, arguments.digest)
            answered, model = _fill(source, contract, directory)
        except SourceError as error:
            # TensorFlow tells where it found a file; the place is gone when this is read.
            lines = str(error).replace(f"{directory}/", "").splitlines()
            raise SourceError("\n".join(f"{arguments.model} {arguments.version}: {line}" for line in lines)) from error
        tree = TreeManifest.of(directory)
    golden.write(arguments.golden, answered)
    CheckpointRecord(
        model=arguments.model,
        version=arguments.version,
        kind=source.kind,
        description=describe(source, answered, model.facts) + (f" Made by {training.script}." if training else ""),
        tree=tree,
        golden_digest=files.sha256_file(arguments.golden),
        golden_rows=answered.rows,
        metrics=metrics(contract, answered) | model.facts,
        # Constants of a frozen graph are none.
        parameters=sum(math.prod(variable.shape) for variable in model.variables),
        tools={name: version for name, version in tool_versions(*_TOOLS).items() if version != "absent"},
    ).write(arguments.record)


def _fill(source: Source, contract: Contract, directory: Path) -> tuple[Golden, "Model"]:
    source = local_sources.keep(source, directory, cache_directory(os.environ), say)
    # A graph of somebody else's is judged from its bytes, before TensorFlow is shown it.
    of_source.check(source, directory, contract.allow_ops)
    # TensorFlow takes seconds to import: after the checks that need none.
    from slipway.models import digits, sources  # noqa: PLC0415

    if isinstance(source, BuiltinSource):
        digits.train(source, directory)
        _, (images, labels) = digits.split()
        inputs: dict[str, Array] = rows.fit(
            "builtin digits", contract.default.inputs, _under_any_name(contract, images)
        )
        known: Array | None = labels
    else:
        digits.compute_reproducibly(draws=comparable.draws_by_chance(contract))
        inputs, known = _golden_inputs(source.golden, contract)
    inputs = forms.carried_by_all(contract, inputs)
    model = sources.load(source, directory)
    _refuse_chance(model, contract)
    outputs, others = _answers(model, contract, inputs)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and (wrong := int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum())):
            raise SourceError(f"{name}: {wrong} of {len(array)} answers are NaN or infinite: the weights are damaged.")
    return Golden(inputs, outputs, known, others), model


def _answers(
    model: "Model", contract: Contract, inputs: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """Let the model answer all rows, as many at once as it takes: outputs of its own form, and those of other signatures."""
    own, others = [], []
    for part in comparable.parts(contract, len(next(iter(inputs.values())))):
        asked = {name: array[part] for name, array in inputs.items()}
        raw = model.answer(asked)
        own.append(derive(contract.default, raw, asked))
        others.append(derive_others(contract, raw, asked))
    if len(own) == 1:
        return own[0], others[0]
    # What has no rows is the same for all of them.
    has_rows = {name: getattr(signature, "batched", True) for name, signature in contract.signatures.items()}
    joined = {
        name: {
            key: np.concatenate([part[name][key] for part in others]) if has_rows[name] else others[0][name][key]
            for key in others[0][name]
        }
        for name in others[0]
    }
    return {name: np.concatenate([part[name] for part in own]) for name in own[0]}, joined


def _refuse_chance(model: "Model", contract: Contract) -> None:
    """Raise SourceError if random numbers are drawn that the contract does not tell of."""
    if comparable.draws_by_chance(contract):
        return
    forbidden = [op for op in contract.forbid_ops if op not in contract.allow_ops]
    if live := [f"{op} (node {node})" for op, node in model.ops.items() if op in forbidden]:
        raise SourceError(
            f"the graph still draws on {', '.join(live)}: answers depend on chance. Give what says that it is training, such "
            "as a rate of dropout, the value it has when the model is used: `freeze_inputs`. If answers are meant to be "
            "drawn, the contract says `deterministic: false`."
        )


def say(line: str) -> None:
    """Tell of what takes its time, on standard error: the log of a job."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _under_any_name(contract: Contract, images: Array) -> dict[str, Array]:
    return dict.fromkeys(contract.default.inputs, images)


def _golden_inputs(path: Path | None, contract: Contract) -> tuple[dict[str, Array], Array | None]:
    if path is None:
        return rows.draw(contract, contract.default, contract.golden.rows), None
    arrays = golden.read_arrays(path, "Write it again with numpy.savez.")
    inputs = rows.fit(str(path), contract.default.inputs, arrays)
    labels = arrays.get("labels")
    count = len(next(iter(inputs.values())))
    if labels is not None and labels.shape != (count,):
        raise SourceError(f"{path}: labels: expected shape [{count}], one for each row, found {list(labels.shape)}.")
    return inputs, labels


def metrics(contract: Contract, answered: Golden) -> dict[str, float]:
    """Measure what the contract says can be measured: the accuracy (0..1) on rows whose label is known."""
    label = contract.golden.label
    if label is None or answered.labels is None:
        return {}
    return {"accuracy": accuracy(answered.outputs[label], answered.labels)}


def describe(source: Source, answered: Golden, facts: Mapping[str, float] | None = None) -> str:
    """Say in one sentence for the report what this is and where it comes from; *facts* are what it says of itself."""
    if isinstance(source, BuiltinSource):
        return (
            f"A small CNN, trained for {source.epochs} epochs (seed {source.seed}) on handwritten digits from "
            f"scikit-learn; golden rows are {answered.rows} digits of writers that the training has not seen."
        )
    whence = f"rows from {source.golden.name}" if source.golden else "rows drawn at random within the contract's ranges"
    golden_rows = f"golden rows are {answered.rows} {whence}"
    match source:
        case KerasSource():
            return f"A model saved by Keras, {source.path.name}; {golden_rows}."
        case WeightsSource():
            return f"Weights from {source.path.name} in the model of {source.builder}; {golden_rows}."
        case CheckpointSource():
            return f"The TensorFlow checkpoint {source.path.name} in the model of {source.builder}; {golden_rows}."
        case Tf1CheckpointSource():
            graph = f"the graph of {source.builder}" if source.builder else "the graph of its .meta file"
            average = ", with the moving averages of its weights" if source.moving_average else ""
            step = f" of step {facts['source_step']:.0f}" if facts and "source_step" in facts else ""
            return f"The TensorFlow 1 checkpoint {source.prefix.name}{step} in {graph}{average}; {golden_rows}."
        case FrozenGraphSource():
            return f"The frozen graph {source.path.name}; {golden_rows}."
        case SavedModelSource():
            return f"Signature {source.signature} of the SavedModel {source.path.name}; {golden_rows}."

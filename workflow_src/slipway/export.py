"""Export a checkpoint as a SavedModel with the signatures of its contract: the same bytes each time."""

import argparse
import os
from pathlib import Path

from slipway import files, isolation, local_sources, op_policy
from slipway.checkpoint import add_source_arguments, parse_source
from slipway.contract import Contract, read_contract
from slipway.errors import SourceError
from slipway.graphs import of_source
from slipway.provenance import tool_versions
from slipway.records import CheckpointRecord, ExportRecord, TreeManifest
from slipway_wire import signatures

_TOOLS = ("tensorflow-cpu", "tensorflow", "keras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    add_source_arguments(parser)
    parser.add_argument(
        "--from",
        type=Path,
        required=True,
        metavar="DIR",
        dest="source_directory",
        help="what `slipway checkpoint` kept",
    )
    parser.add_argument("--checkpoint-record", type=Path, required=True, metavar="FILE", help="its record (JSON)")
    parser.add_argument("--contract", type=Path, required=True, help="the model's contract (YAML)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the SavedModel")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="gets the record (JSON)")


def run(arguments: argparse.Namespace) -> None:
    """Load the model and write it; one export per process, which is a fork of its own, or the bytes differ."""
    isolation.run(
        lambda: _run(arguments),
        f"{arguments.model} {arguments.version}",
        [arguments.out, arguments.record],
        isolation.timeout_s(os.environ),
    )


def _run(arguments: argparse.Namespace) -> None:
    source, contract = parse_source(arguments.source), read_contract(arguments.contract)
    CheckpointRecord.read(arguments.checkpoint_record).tree.verify(arguments.source_directory)
    from slipway.models import saved_model, sources  # noqa: PLC0415 - seconds; the contract's faults come first

    with files.new_directory(arguments.out) as directory:
        try:
            local = local_sources.kept(source, arguments.source_directory)
            of_source.check(local, arguments.source_directory, contract.allow_ops)
            saved_model.write(sources.load(local, arguments.source_directory), contract, directory)
            _check_ops(directory, contract)
        except SourceError as error:
            what = f"{arguments.model} {arguments.version}"
            raise SourceError("\n".join(f"{what}: {line}" for line in str(error).splitlines())) from error
        tree = TreeManifest.of(directory)
    ExportRecord(
        model=arguments.model,
        version=arguments.version,
        tree=tree,
        signatures=list(contract.signatures),
        tools={name: version for name, version in tool_versions(*_TOOLS).items() if version != "absent"},
    ).write(arguments.record)


def _check_ops(directory: Path, contract: Contract) -> None:
    """Raise SourceError for what the user's code was traced to and no server may run: nobody could judge it before."""
    meta_graph = signatures.find_meta_graph(signatures.read_saved_model(directory))
    judged = op_policy.meta_graph_refusals(meta_graph, contract.allow_ops, list(contract.signatures))
    if lines := list(dict.fromkeys(line for found in judged.values() for line in found)):
        raise SourceError("\n".join(lines))

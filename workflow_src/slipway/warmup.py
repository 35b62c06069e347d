"""Write warm-up records, every signature in every batch size that the server may run, and replay them as proof."""

import argparse
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from slipway import files, golden, rows
from slipway.contract import Contract, read_contract
from slipway.errors import ContractViolation, SettingsError, SourceError
from slipway.golden import Golden
from slipway.records import ExportRecord, WarmupEntry, WarmupRecord
from slipway.validate import add_export_arguments
from slipway_wire import inference, predict, tfrecord, warmup_log

Array = npt.NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    add_export_arguments(parser)
    parser.add_argument("--batch-sizes", required=True, metavar="N,N,…", help="rows to warm, e.g. 1,2,4")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="gets the records (TFRecord)")
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="gets what was written (JSON)")


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read `1,2,4`, or raise SettingsError."""
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise SettingsError(f"--batch-sizes: expected numbers from 1 on, as in 1,2,4, got {text!r}")
    return sizes


def run(arguments: argparse.Namespace) -> None:
    """Write the records; none are kept that do not run."""
    sizes = parse_sizes(arguments.batch_sizes)
    contract = read_contract(arguments.contract)
    answered = golden.read(arguments.golden)
    ExportRecord.read(arguments.export_record).tree.verify(arguments.export)
    written = list(records(arguments.model, contract, answered, sizes))
    content = tfrecord.frame_all(record for _, record in written)
    from slipway.models.session import ServingSession  # noqa: PLC0415 - seconds; faults above come first

    with ServingSession(arguments.export) as session:
        replayed = replay(content, session.run)
    files.write_bytes(arguments.out, content)
    WarmupRecord(
        model=arguments.model,
        version=arguments.version,
        digest=files.sha256_bytes(content),
        bytes=len(content),
        entries=[entry for entry, _ in written],
        replayed=replayed,
    ).write(arguments.record)


def records(
    model: str, contract: Contract, answered: Golden, sizes: Sequence[int]
) -> Iterator[tuple[WarmupEntry, bytes]]:
    """
    Make a PredictionLog for every signature and batch size; equal arguments, equal bytes.

    Each new batch size costs again at its first call (tens to hundreds of milliseconds), so every one is warmed.

    Raises:
        SettingsError: If there are more than a server accepts.
    """
    count = len(contract.signatures) * len(sizes)
    if count > warmup_log.MAX_RECORDS:
        raise SettingsError(
            f"{len(contract.signatures)} signatures in {len(sizes)} batch sizes make {count} warm-up records, a server "
            f"takes {warmup_log.MAX_RECORDS}. Shorten server.batching.allowed_batch_sizes."
        )
    for name, signature in contract.signatures.items():
        for size in sizes:
            inputs = rows.rows_for(contract, name, size, answered)
            if signature.method == "predict":
                request = predict.encode_request(model, inputs, signature_name=name)
            else:
                request = inference.encode_request(model, inputs["inputs"].tolist(), signature_name=name)
            record = warmup_log.encode(signature.method, request)
            yield WarmupEntry(signature=name, method=signature.method, rows=size, bytes=len(record)), record


def replay(content: bytes, call: Callable[[str, Mapping[str, Array]], object]) -> int:
    """
    Run all records in *content*, as a server does before it reports AVAILABLE.

    Args:
        content: The whole TFRecord file.
        call: Runs a signature with inputs; SourceError if it fails.

    Returns:
        How many were run.

    Raises:
        ContractViolation: At the first record that fails; a server would not load the model.
    """
    number = -1
    for number, record in enumerate(tfrecord.read(io.BytesIO(content))):
        decoded = warmup_log.decode(record)
        assert decoded is not None  # as written above
        match decoded.request:
            case predict.PredictRequest(spec=spec, inputs=inputs):
                name = spec.signature_key
            case inference.ExamplesRequest(spec=spec) as request:
                name, inputs = spec.signature_key, {inference.INPUTS: request.tensor()}
            case _:
                raise AssertionError(f"a {decoded.method} record, as none is written above")
        try:
            call(name, inputs)
        except SourceError as error:
            rows_sent = len(next(iter(inputs.values())))
            msg = f"warm-up record {number} ({name}, {rows_sent} rows): expected an answer, found: {error}"
            raise ContractViolation(msg) from error
    return number + 1

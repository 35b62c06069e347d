"""Write warm-up records, every signature in every batch size that the server may run, and let a server replay them."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from slipway import files, golden
from slipway.arguments import section
from slipway.contract import Contract, read_contract
from slipway.errors import SettingsError, SourceError
from slipway.records import ExportRecord, RequestLogReading, WarmupEntry, WarmupOmission, WarmupRecord
from slipway.settings import WarmupSettings
from slipway.validate import add_export_arguments
from slipway.warmup import requests
from slipway.warmup.budget import Form, Wanted, choose
from slipway.warmup.recorded import read_log
from slipway.warmup.replay import replay
from slipway.warmup.sources import GoldenRows, RecordedRows, RowSource, SyntheticRows
from slipway_wire import signatures, tfrecord, warmup_log
from slipway_wire.status import WireError

_READY_TIMEOUT_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    add_export_arguments(parser)
    parser.add_argument("--batch-sizes", required=True, metavar="N,N,…", help="rows to warm, e.g. 1,2,4")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="section `warmup` of the settings")
    parser.add_argument(
        "--ready-timeout-s",
        type=float,
        default=_READY_TIMEOUT_S,
        metavar="S",
        help="patience with the server, in seconds",
    )
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
    """Write the records; none are kept that a server does not replay."""
    sizes = parse_sizes(arguments.batch_sizes)
    settings = section(WarmupSettings, arguments.settings, "warmup")
    contract = read_contract(arguments.contract)
    check_count(contract, sizes)
    answered = golden.read(arguments.golden)
    ExportRecord.read(arguments.export_record).tree.verify(arguments.export)
    source, log = row_source(settings, arguments.model, contract, answered, arguments.export, max(sizes))
    written, left_out = records(arguments.model, contract, source, sizes, settings.max_bytes)
    content = tfrecord.frame_all(record for _, record in written)
    entries = [entry for entry, _ in written]
    replayed = replay(
        arguments.model,
        arguments.version,
        arguments.export,
        content,
        entries,
        ready_timeout_s=arguments.ready_timeout_s,
        log=arguments.record.with_suffix(".server.log"),
    )
    files.write_bytes(arguments.out, content)
    WarmupRecord(
        model=arguments.model,
        version=arguments.version,
        digest=files.sha256_bytes(content),
        bytes=len(content),
        entries=entries,
        replayed=replayed,
        max_bytes=settings.max_bytes,
        left_out=left_out,
        log=log,
    ).write(arguments.record)


def check_count(contract: Contract, sizes: Sequence[int]) -> None:
    """Raise SettingsError if there would be more records than a server takes."""
    count = len(contract.signatures) * len(sizes)
    if count > warmup_log.MAX_RECORDS:
        raise SettingsError(
            f"{len(contract.signatures)} signatures in {len(sizes)} batch sizes make {count} warm-up records, a server "
            f"takes {warmup_log.MAX_RECORDS}. Shorten server.batching.allowed_batch_sizes."
        )


def row_source(
    settings: WarmupSettings, model: str, contract: Contract, answered: golden.Golden, export: Path, most_rows: int
) -> tuple[RowSource, RequestLogReading | None]:
    """
    Find the rows that *settings* ask for.

    Args:
        settings: Say which.
        model: Name of the model.
        contract: What they must fit.
        answered: Golden data.
        export: The SavedModel; its signatures tell the dtypes of logged JSON.
        most_rows: Rows of the largest request.

    Returns:
        Rows, and what was found in a log of requests, if there was one to read.

    Raises:
        SourceError: If the log cannot be used.
    """
    synthetic = SyntheticRows(contract, settings.seed)
    if settings.recorded is not None:
        try:
            known = signatures.read_signatures(export)
        except WireError as error:
            raise SourceError(error.message) from error
        kept, log = read_log(settings.recorded, model, contract, known, most_rows)
        return RecordedRows(kept, synthetic), log
    if settings.source == "golden":
        return GoldenRows(contract, answered, synthetic), None
    return synthetic, None


def records(
    model: str, contract: Contract, source: RowSource, sizes: Sequence[int], max_bytes: int
) -> tuple[list[tuple[WarmupEntry, bytes]], list[WarmupOmission]]:
    """
    Make a PredictionLog for every signature and batch size; equal arguments, equal bytes.

    Each new batch size costs again at its first call (tens to hundreds of milliseconds), so every one is warmed.

    Returns:
        The records, in the order of signatures and sizes; and what *max_bytes* had no room for.

    Raises:
        SettingsError: If there is room for none at all.
    """
    wanted = list(_wanted(model, contract, source, sizes, max_bytes))
    forms = choose(wanted, max_bytes)
    written = [
        _record(model, contract, source, one, form) for one, form in zip(wanted, forms, strict=True) if form is not None
    ]
    left_out = [
        WarmupOmission(signature=one.signature, rows=one.rows, bytes=one.least_bytes)
        for one, form in zip(wanted, forms, strict=True)
        if form is None
    ]
    if not written:
        least = min(left_out, key=lambda one: one.bytes)
        raise SettingsError(
            f"warmup.max_bytes: {max_bytes} bytes hold no warm-up record; the smallest ({least.signature}, "
            f"{least.rows} rows) takes {least.bytes}. Allow more."
        )
    return written, left_out


def _wanted(
    model: str, contract: Contract, source: RowSource, sizes: Sequence[int], max_bytes: int
) -> Iterator[Wanted]:
    for name, signature in contract.signatures.items():
        one_row = source.rows(name, 1).inputs
        for size in sizes:
            # What cannot fit is not made, either: the rows of a large batch of images take more memory than they need.
            values = requests.values_bytes(one_row, size)
            if values <= max_bytes:
                inputs = source.rows(name, size).inputs
                values = _framed(requests.with_values(model, name, signature.method, inputs))
            small = requests.filled(model, name, signature.method, one_row, size)
            yield Wanted(name, size, values, None if small is None else _framed(small))


def _framed(record: bytes) -> int:
    return len(tfrecord.frame(record))


def _record(model: str, contract: Contract, source: RowSource, chosen: Wanted, form: Form) -> tuple[WarmupEntry, bytes]:
    name, method = chosen.signature, contract.signatures[chosen.signature].method
    rows = source.rows(name, chosen.rows if form == "values" else 1)
    if form == "values":
        record: bytes | None = requests.with_values(model, name, method, rows.inputs)
    else:
        record = requests.filled(model, name, method, rows.inputs, chosen.rows)
    assert record is not None  # it was made before
    entry = WarmupEntry(
        signature=name,
        method=method,
        rows=chosen.rows,
        bytes=len(record),
        source=rows.source,
        synthetic_rows=rows.synthetic if form == "values" else rows.synthetic * chosen.rows,
        form=form,
    )
    return entry, record

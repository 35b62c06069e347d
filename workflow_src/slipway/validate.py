"""Check a SavedModel against its contract: what its file says, how it behaves, and whether it answers as the checkpoint does."""

import argparse
import math
import os
from pathlib import Path

from slipway import baseline, files, golden, isolation
from slipway.checks.behaviour import check_behaviour, check_golden
from slipway.checks.structure import can_be_called, check_structure, is_safe_to_run
from slipway.contract import Contract, read_contract
from slipway.errors import ContractViolation, SourceError
from slipway.golden import Golden
from slipway.records import Check, ExportRecord, Parity, ValidationRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the stage reads and writes."""
    add_export_arguments(parser)
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="the contract that callers know")
    parser.add_argument(
        "--published", type=Path, metavar="DIR", help="without it: where the last published one is found"
    )
    parser.add_argument("--allow-breaking", metavar="WHY", help="why the contract may break callers")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="gets the report (JSON) if all is well")


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the SavedModel and what it is held against; the same for all stages that run it."""
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--version", type=int, required=True, help="number of the version")
    parser.add_argument("--contract", type=Path, required=True, help="the model's contract (YAML)")
    parser.add_argument("--golden", type=Path, required=True, help="golden rows and answers (.npz)")
    parser.add_argument("--export", type=Path, required=True, metavar="DIR", help="the SavedModel")
    parser.add_argument("--export-record", type=Path, required=True, metavar="FILE", help="its record (JSON)")


def run(arguments: argparse.Namespace) -> None:
    """Check, write the report, and fail if anything departs from the contract."""
    what = f"{arguments.model} {arguments.version}"
    contract = read_contract(arguments.contract)
    answered = golden.read(arguments.golden)
    ExportRecord.read(arguments.export_record).tree.verify(arguments.export)
    # Snakemake removes the outputs of a failed job; this name is not one of them.
    failed = arguments.out.with_suffix(".failed.json")
    for old in (arguments.out, failed):
        old.unlink(missing_ok=True)

    def work() -> None:
        record = _judged(arguments, contract, answered)
        record.write(arguments.out if record.ok else failed)

    # A graph may compute for ever, eat the memory, or end the process: none of it is an answer.
    limit_s = isolation.timeout_s(os.environ)
    isolation.run(work, what, [arguments.out, failed], limit_s, doing="running the model")
    if failed.exists():
        lines = violations(ValidationRecord.read(failed))
        raise ContractViolation("\n".join([*(f"{what}: {line}" for line in lines), f"{what}: all checks: {failed}"]))


def _judged(arguments: argparse.Namespace, contract: Contract, answered: Golden) -> ValidationRecord:
    old = arguments.baseline
    if old is None and arguments.published is not None:
        old = baseline.published(arguments.published, arguments.model)
    checks = baseline.check(contract, old, arguments.allow_breaking)
    parity: list[Parity] = []
    accuracy = None
    if all(check.ok for check in checks):
        found, parity, accuracy = inspect(contract, answered, arguments.export)
        checks += found
    return ValidationRecord(
        model=arguments.model,
        version=arguments.version,
        contract_digest=_digest(contract, arguments.contract),
        contract=contract.published(),
        signatures=contract.signature_records(),
        checks=checks,
        parity=parity,
        accuracy=accuracy,
    )


def _digest(contract: Contract, path: Path) -> str:
    """Digest the contract at *path*, together with the text files that it names."""
    named = {os.path.relpath(file, path.parent): files.sha256_file(file) for file in contract.word_files()}
    own = files.sha256_file(path)
    return files.digest_of_digests({path.name: own} | named) if named else own


def inspect(contract: Contract, answered: Golden, directory: Path) -> tuple[list[Check], list[Parity], float | None]:
    """
    Run every check on the SavedModel in *directory*.

    Returns:
        Checks, distances to the golden answers, and the accuracy (0..1) if labels are known. Signatures whose
        names or inputs are not as promised are not run; nothing is, where the op policy refuses an op.
    """
    checks = check_structure(contract, directory)
    if not is_safe_to_run(checks):
        return checks, [], None
    from slipway.models import session  # noqa: PLC0415 - seconds; the structure needs no TensorFlow

    try:
        session.load_eagerly(directory)
        checks.append(Check(kind="behaviour", subject="tf.saved_model.load", ok=True, expected="loads", found="loads"))
    except SourceError as error:
        checks.append(
            Check(kind="behaviour", subject="tf.saved_model.load", ok=False, expected="loads", found=str(error))
        )
    try:
        with session.ServingSession(directory) as model:
            runnable = [name for name in contract.signatures if can_be_called(name, checks)]
            for name in runnable:
                checks += check_behaviour(contract, name, answered, model.run)
            golden_checks, parity, accuracy = check_golden(contract, runnable, answered, model.run)
    except SourceError as error:
        found = Check(kind="behaviour", subject="v1.loader", ok=False, expected="loads", found=str(error))
        return [*checks, found], [], None
    return [*checks, *golden_checks], parity, accuracy


def violations(record: ValidationRecord) -> list[str]:
    """Tell every failed check and every distance beyond its tolerance, one line each."""
    distances = [
        f"{parity.signature}.{parity.output}: {parity.path}: expected differences up to "
        f"{parity.atol:g} + {parity.rtol:g}·|answer|, found {parity.max_abs:.3g} over {parity.rows} rows"
        for parity in record.parity
        # What has no distance is told by a check of its own.
        if not parity.ok and math.isfinite(parity.max_abs)
    ]
    # What the file promises and what the model does may be wrong in the same way.
    return list(dict.fromkeys([*(check.line() for check in record.checks if not check.ok), *distances]))

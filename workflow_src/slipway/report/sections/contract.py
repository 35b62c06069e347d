"""What the model promises whoever calls it, and whether it keeps it."""

from collections.abc import Sequence

from slipway.records import (
    ModelResult,
    TensorRecord,
)
from slipway.report import numbers
from slipway.report.blocks import (
    Block,
    Heading,
    Items,
    Section,
    Table,
    TableCell,
    heads,
)
from slipway.report.sections.figures import model_identifier, newest_version


def contract(model: ModelResult) -> Section:
    """Write the signatures and how many of the contract's demands hold, version by version."""
    newest = newest_version(model)
    signatures = Table(
        "Signatures",
        heads("Signature", "Method", "Inputs", "Outputs", numbers_from=4),
        tuple(
            (
                TableCell(signature.name),
                TableCell(signature.method),
                TableCell("\n".join(map(_tensor, signature.inputs)), "d"),
                TableCell("\n".join(map(_tensor, signature.outputs)), "d"),
            )
            for signature in newest.validation.signatures
        ),
    )
    return Section(
        id=model_identifier(model, "contract"),
        title="Contract",
        short="Contract",
        lead=f"What version {newest.version} promises whoever calls it. N is the number of rows of a request.",
        blocks=(signatures, Heading("Does it keep its promises?"), _checks(model), *_failed_checks(model)),
    )


def _tensor(tensor: TensorRecord) -> str:
    shape = ", ".join("?" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} [{shape}]" + (f"  {tensor.note}" if tensor.note else "")


_CHECK_KINDS = {
    "structure": "Structure: names, dtypes and shapes in the SavedModel",
    "behaviour": "Behaviour: what it does with rows, ranges and odd batches",
    "golden": "Golden data: answers on rows that were kept",
    "compatibility": "Callers: the contract keeps what the one before promised",
}


def _checks(model: ModelResult) -> Table:
    rows = []
    for kind, name in _CHECK_KINDS.items():
        by_version = [[c for c in v.validation.checks if c.kind == kind] for v in model.versions]
        if any(by_version):
            rows.append((TableCell(name), *(_held([check.ok for check in checks]) for checks in by_version)))
    parity = [[p.ok for p in v.validation.parity] for v in model.versions]
    rows.append((TableCell("Parity: same answers as the checkpoint"), *map(_held, parity)))
    versions = (TableCell(f"version {version.version}", "c") for version in model.versions)
    return Table("Checks by version", (TableCell("Demand"), *versions), tuple(rows))


def _held(outcomes: Sequence[bool]) -> TableCell:
    if not outcomes:
        return TableCell(numbers.NOT_MEASURED, "c")
    sign = "✓" if all(outcomes) else "✕"
    return TableCell(f"{sign} {sum(outcomes)} of {len(outcomes)}", "c", "ok" if all(outcomes) else "bad")


def _failed_checks(model: ModelResult) -> tuple[Block, ...]:
    lines = [
        (f"version {v.version}", check.line()) for v in model.versions for check in v.validation.checks if not check.ok
    ]
    return (Items(tuple(lines)),) if lines else ()

"""
What of golden answers can be held against other answers, by what a contract promises; and how near they must come.

Answers that are drawn by chance (`deterministic: false`) have a form that can be compared, and no values. Where rows see
each other (`row_independent: false`) values can be compared if the same rows are asked together.
"""

from slipway.contract import Contract
from slipway_wire.tolerances import Tolerance, Tolerances

_BY_CHANCE = "deterministic: false"
_OTHER_BATCH = "row_independent: false, and other rows were asked together"


def draws_by_chance(contract: Contract) -> bool:
    """Say whether any signature's answers are drawn by chance, so that its graph may hold ops that draw."""
    return any(contract.determinism_of(name) is False for name in contract.signatures)


def parts(contract: Contract, rows: int) -> list[slice]:
    """Cut *rows* golden rows into the batches in which the model answers them: as many at once as it takes."""
    most = contract.max_rows or rows
    return [slice(start, min(start + most, rows)) for start in range(0, rows, most)]


def why_not(contract: Contract, name: str, *, same_batches: bool = True) -> str:
    """
    Say why values that signature *name* answers cannot be compared with golden ones; empty if they can.

    Args:
        contract: What is promised.
        name: Key of the signature.
        same_batches: Whether the rows are asked together as `parts` has them.
    """
    if contract.determinism_of(name) is False:
        return _BY_CHANCE
    return "" if same_batches or contract.rows_are_apart(name) else _OTHER_BATCH


def tolerance(contract: Contract, name: str, output: str, reason: str = "") -> Tolerance:
    """Give how near *output* of signature *name* must come; any value will do where *reason* says that none is known."""
    atol, rtol = contract.tolerance(name, output)
    return Tolerance(atol, rtol, any_value=bool(reason))


def why_not_under_load(contract: Contract, name: str, golden_rows: int, rows: int) -> str:
    """Say the same of answers to requests of *rows* golden rows each, of which there are *golden_rows*."""
    return why_not(contract, name, same_batches=parts(contract, golden_rows) == [slice(0, rows)])


def under_load(contract: Contract, golden_rows: int, rows: int) -> Tolerances:
    """Give how near answers must come to requests of *rows* golden rows each, of which there are *golden_rows*."""
    return Tolerances(
        Tolerance(contract.golden.atol, contract.golden.rtol),
        {
            name: {
                output: tolerance(contract, name, output, why_not_under_load(contract, name, golden_rows, rows))
                for output in contract.outputs_of(name)
            }
            for name in contract.signatures
        },
    )

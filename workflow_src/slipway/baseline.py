"""
The contract that callers know already, and whether a new one keeps it.

The newest published contract counts, or the file that the config names. What is published last is looked up when the
check runs, and is no input of it: publishing a report makes no check run again.
"""

from pathlib import Path

from slipway.contract import Contract, read_contract
from slipway.contract.changes import breaking, changes
from slipway.errors import SettingsError
from slipway.records import Check

# Below a published run's folder: one file for each model.
CONTRACTS = "contracts"


def published(directory: Path, model: str) -> Path | None:
    """Find the contract of *model* that was published last in *directory*; None where there is none."""
    # Run ids begin with the time of the run: their order is that of time.
    return max(directory.glob(f"*/{CONTRACTS}/{model}.json"), default=None, key=lambda path: path.parts[-3])


def word_files(path: Path) -> list[Path]:
    """List the text files that the contract at *path* names; none where it cannot be read, which `check` then tells."""
    try:
        return read_contract(path, known=True).word_files()
    except SettingsError:
        return []


def check(contract: Contract, baseline: Path | None, allowed: str | None) -> list[Check]:
    """
    Hold *contract* against the one that callers know.

    Args:
        contract: The new one.
        baseline: The file of the old one; None where nothing was published.
        allowed: Why a break is wanted; None where it is not.

    Returns:
        One check for each change that breaks callers; a single one where nothing does, or where it is allowed; none
        without a baseline.
    """
    if baseline is None:
        return []
    try:
        broken = [
            change.line().removeprefix("breaking: ")
            for change in breaking(changes(read_contract(baseline, known=True), contract))
        ]
    except SettingsError as error:
        broken = [f"{str(error).splitlines()[0]}; name another in models.<name>.contract_baseline"]
    if not broken:
        return [_check("contract", ok=True, found="no change that breaks callers")]
    if allowed:
        return [_check("contract", ok=True, found=f"{len(broken)} allowed ({allowed}): {'; '.join(broken)}")]
    advice = f"(compared with {baseline}; if it is wanted, say why in models.<name>.allow_breaking)"
    return [_check("contract", ok=False, found=f"{line} {advice}") for line in broken]


def _check(subject: str, *, ok: bool, found: str) -> Check:
    return Check(kind="compatibility", subject=subject, ok=ok, expected="nothing that breaks callers", found=found)

"""The line's own stages, one after the other, each in a process of its own: nothing of them is done twice here."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from slipway import procs
from slipway.errors import ContractViolation, SlipwayError, SourceError

# Stage, arguments -> seconds it took; raises what the stage said.
Run = Callable[[str, Sequence[str]], float]
_TAIL_LINES = 20


class Folder:
    """
    Where the files of one version stand while it is made: as below `results/`, so that whatever reads those reads this.

    Args:
        root: An empty directory.
        model: Name of the model.
        version: Its number.
    """

    def __init__(self, root: Path, model: str, version: int) -> None:
        self.root, self.model, self.version = root, model, version
        checkpoint = root / "checkpoints" / model / str(version)
        self.source = checkpoint / "source"
        self.golden = checkpoint / "golden.npz"
        self.checkpoint_record = checkpoint / "checkpoint.json"
        self.export_record = root / "exports" / model / f"{version}.json"
        self.validation_record = root / "validation" / model / f"{version}.json"


def commands(folder: Folder, source: str, contract: Path, export: Path) -> dict[str, list[str]]:
    """
    Give the arguments of every stage, as the rules do.

    Args:
        folder: Where their files stand.
        source: `source` of the version, as JSON.
        contract: The contract.
        export: Gets the SavedModel.
    """
    version = ["--model", folder.model, "--version", str(folder.version), "--contract", str(contract)]
    of_checkpoint = ["--checkpoint-record", str(folder.checkpoint_record)]
    made = ["--export-record", str(folder.export_record), "--golden", str(folder.golden)]
    return {
        "checkpoint": [
            *(*version, "--source", source, "--out-source", str(folder.source)),
            *("--golden", str(folder.golden), "--record", str(folder.checkpoint_record)),
        ],
        "export": [
            *(*version, "--source", source, "--from", str(folder.source), *of_checkpoint),
            *("--out", str(export), "--record", str(folder.export_record)),
        ],
        "validate": [*version, *made, "--export", str(export), "--out", str(folder.validation_record)],
    }


def run(stage: str, arguments: Sequence[str]) -> float:
    """
    Run one stage to its end in a fresh process; it ends with us.

    Returns:
        Seconds from the start of the process to its end.

    Raises:
        SourceError: The stage said so; its words, or the end of what it wrote if it broke.
        ContractViolation: The SavedModel is not what the contract says.
    """
    began = time.monotonic()
    # Not -m alone, which puts the working directory in front of all packages.
    argv = [sys.executable, "-P", "-m", "slipway", stage, *arguments]
    status, output = procs.run_owned(argv, env=os.environ | {"PYTHONHASHSEED": "0"})
    if status:
        raise fault(stage, status, output)
    return time.monotonic() - began


def fault(stage: str, status: int, output: str) -> SlipwayError:
    """Read what a stage that failed said: its errors without the command's name, or the end of its output."""
    start = f"slipway {stage}: error: "
    said = [line.removeprefix(start) for line in output.splitlines() if line.startswith(start)]
    if not said:
        tail = "\n".join(f"  {line}" for line in output.splitlines()[-_TAIL_LINES:])
        return SourceError(f"{stage} broke (exit status {status}); the end of what it wrote:\n{tail}")
    # The report of a failed validation goes with everything else that was half-made.
    lines = [line for line in said if not line.rpartition(": ")[2].endswith(".failed.json")]
    kind = ContractViolation if status == ContractViolation.exit_code else SourceError
    return kind("\n".join(lines))

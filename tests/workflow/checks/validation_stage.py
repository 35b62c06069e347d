"""`slipway validate` on models that were made for it, in a process that has TensorFlow."""

import contextlib
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.workflow.checks import broken_graphs, broken_models  # noqa: F401 - they register
from tests.workflow.checks.broken_registry import BROKEN
from tests.workflow.checks.sound_models import NAMES, PROMISED, SOUND, rows

from slipway import cli, golden, isolation
from slipway.records import ExportRecord, TreeManifest


@dataclass(frozen=True)
class Judged:
    """What `slipway validate` did."""

    code: int
    lines: list[str]
    left: set[str]


def prepare(name, directory):
    """Make a model, one of SOUND or BROKEN, and all that the stage reads."""
    promised = yaml.safe_load(yaml.safe_dump(PROMISED))
    (directory / "labels.txt").write_text("\n".join(NAMES) + "\n")
    golden.write(directory / "golden.npz", rows())
    export = directory / "export"
    (SOUND[name] if name in SOUND else BROKEN[name].build)(export, promised)
    (directory / "contract.yaml").write_text(yaml.safe_dump(promised, sort_keys=False))
    # As if the exporter itself had written it so: what changes afterwards is for the manifest to find.
    tree = TreeManifest.of(export)
    ExportRecord(model="digits", version=1, tree=tree, signatures=[*promised["signatures"]], tools={}).write(
        directory / "export.json"
    )


def run_stage(directory, limit_s=60):
    """Run `slipway validate` as the line does."""
    os.environ[isolation.TIMEOUT] = str(limit_s)
    before = {path.name for path in directory.iterdir()}
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        code = cli.main([
            "validate", "--model", "digits", "--version", "1",
            "--contract", str(directory / "contract.yaml"), "--golden", str(directory / "golden.npz"),
            "--export", str(directory / "export"), "--export-record", str(directory / "export.json"),
            "--out", str(directory / "validation.json"),
        ])  # fmt: skip
    lines = [line.split(": error: ", 1)[-1] for line in told.getvalue().splitlines()]
    return Judged(code, lines, {path.name for path in directory.iterdir()} - before)


def judge(name):
    """
    Make a model and run the stage on it, here.

    The stage forks, and a process whose TensorFlow has run something must not: here it goes on without.
    """
    isolation.run = lambda work, *_, **__: work()
    with tempfile.TemporaryDirectory() as made:
        prepare(name, Path(made))
        return run_stage(Path(made))

"""
The real Snakefile, run by the real Snakemake, with a stand-in for the `slipway` command.

The stand-in writes each stage's outputs in no time, so that these tests show the DAG alone: what reruns and
what does not, what a killed run leaves, what a user sees. What the stages do is shown by their own tests and
by tests/end_to_end.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "stand_in.py"


@dataclass(frozen=True)
class Workflow:
    """A working directory with a copy of the workflow."""

    directory: Path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [Path(sys.executable).with_name("snakemake"), "--cores", "2", *arguments],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=500)
        return process.returncode, output

    def take_jobs(self) -> list[str]:
        """List the stage jobs that ran since the last call, as `command model/version`, sorted."""
        journal = self.directory / "journal"
        jobs = sorted(journal.read_text().splitlines()) if journal.exists() else []
        journal.unlink(missing_ok=True)
        return jobs

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.directory / name
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def command(tmp_path_factory) -> Path:
    """The stand-in, at one place for all: a command that has moved would make stages run again."""
    path = tmp_path_factory.mktemp("bin") / "slipway"
    path.write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
    path.chmod(0o755)
    return path


def copied_line(directory: Path, command: Path) -> Workflow:
    for name in ("Snakefile", "rules", "profiles", "config", "deploy"):
        source = ROOT / name
        shutil.copytree(source, directory / name) if source.is_dir() else shutil.copy(source, directory / name)
    made = Workflow(directory)
    made.edit("rules/common.smk", "export PATH=", f"export PATH={command.parent}:")
    return made


@pytest.fixture
def workflow(tmp_path, command) -> Workflow:
    """A line in which nothing has run."""
    return copied_line(tmp_path, command)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory, command) -> Path:
    made = copied_line(tmp_path_factory.mktemp("finished"), command)
    code, output = made.run()
    assert code == 0, output
    made.take_jobs()
    return made.directory


@pytest.fixture
def finished(tmp_path, finished_once) -> Workflow:
    """A line that has run whole: a copy, with the times of its files."""
    shutil.copytree(finished_once, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Workflow(tmp_path)

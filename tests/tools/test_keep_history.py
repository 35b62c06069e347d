"""The branch of published runs, with a real repository and a real remote."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.workflow import result_factory as factory

from slipway import files, report

SCRIPT = Path(__file__).parents[2] / "deploy" / "keep-history"


def git(directory, *arguments):
    argv = ["git", "-C", str(directory), "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def keep(tmp_path):
    """Start keeping the run of a day, from a clone of its own, on the branch of one remote."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    slipway = tmp_path / "slipway"
    slipway.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m slipway "$@"\n')
    slipway.chmod(0o755)

    def start(day: int) -> subprocess.Popen:
        clone = tmp_path / f"clone-{day}"
        if not clone.exists():
            subprocess.run(["git", "init", "-q", clone], check=True)
            git(clone, "remote", "add", "origin", str(remote))
            git(clone, "commit", "-q", "--allow-empty", "-m", "sources")
            model = factory.model_result(repetitions=2, concurrency=(1,), cold_starts=0)
            made = factory.result([model], run_id=f"run-{day}", created=f"2031-05-0{day}T07:12:00Z")
            with files.new_directory(clone / "results/report") as directory:
                report.write_report(made, directory, tmp_path / "api")
        # Run inside a repository's hook, git would talk to that one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.Popen(
            [SCRIPT, "history"],
            cwd=clone,
            env=environment | {"SLIPWAY": str(slipway)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def test_runs_add_up_on_the_branch_whoever_is_first(keep, tmp_path):
    both = [keep(1), keep(2)]
    told = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert all(one.endswith(f"Kept run-{day} on history.\n") for day, one in enumerate(told, start=1))
    assert keep(2).communicate(timeout=400)[0].endswith("Nothing new: run-2 is on history already.\n")

    remote = tmp_path / "remote.git"
    assert git(remote, "rev-list", "--count", "history") == "2"
    listed = json.loads(git(remote, "show", "history:runs.json"))["runs"]
    assert [run["run_id"] for run in listed] == ["run-2", "run-1"]
    there = git(remote, "ls-tree", "--name-only", "history").splitlines()
    assert {"index.html", "runs.csv", "runs.json", "badge.svg", "run-1"} <= set(there)
    assert ".lock" not in there
    # Nothing of it stays behind in the clone.
    for clone in (tmp_path / "clone-1", tmp_path / "clone-2"):
        assert git(clone, "worktree", "list").count("\n") == 0
        assert git(clone, "branch", "--list", "keep-history*") == ""


def test_a_remote_that_is_not_there_is_told_and_nothing_is_kept(keep, tmp_path):
    shutil.rmtree(tmp_path / "remote.git")
    process = keep(1)
    told = process.communicate(timeout=400)[0]

    assert process.returncode != 0
    assert "remote.git" in told

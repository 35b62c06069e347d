"""What CI runs of ours, step by step as it stands in the files, with a real shell and a real repository; `make check` holds them against their schemas."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.tools import test_comment
from tests.tools.test_comment import forge, github, gitlab  # noqa: F401 - fixtures
from tests.workflow import compare_factory as factory

from slipway.compare import outputs

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / ".github/actions/compare/action.yml").read_text())
GITLAB = yaml.safe_load((ROOT / "deploy/gitlab-ci.yml").read_text())["slipway-compare"]


def step(name):
    [found] = [one for one in ACTION["runs"]["steps"] if one.get("name") == name]
    return found["run"]


def bash(script, directory, **environment):
    # As GitHub Actions and GitLab CI start it: the first failure ends it.
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path):
    """A directory with the scripts and a comparison in it, whose head is one commit after its base."""
    directory = tmp_path / "checkout"
    (directory / "results/comparison").mkdir(parents=True)
    (directory / "deploy").symlink_to(ROOT / "deploy")
    (directory / "locks").mkdir()
    pairs = [factory.pair(i, head={"server_cpu_us_per_request": 120.0}) for i in range(14)]
    outputs.write(factory.comparison([factory.cell(pairs)]), directory / "results/comparison")
    (directory / "locks/dev.txt").write_text("numpy==1\n")
    git = ["git", "-C", str(directory), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (
        ["init", "-q"],
        ["add", "locks"],
        ["commit", "-qm", "base"],
        ["commit", "-qm", "head", "--allow-empty"],
    ):
        subprocess.run([*git, *words], check=True)
    return directory


def test_the_action_puts_out_the_verdict(checkout, tmp_path):
    files = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    done = bash(step("Summary"), checkout, **files)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text() == "verdict=fail\n"
    assert "❌ FAIL" in (tmp_path / "summary").read_text()


def test_the_action_sets_a_base_up_by_itself_only_where_its_packages_are_others(checkout, tmp_path):
    environment = {"GITHUB_ENV": str(tmp_path / "env"), "BASE": "HEAD~1"}
    assert bash(step("Base"), checkout, **environment).returncode == 0
    assert (tmp_path / "env").read_text() == "SLIPWAY_BASE=HEAD~1\n"

    (checkout / "locks/dev.txt").write_text("numpy==2\n")
    done = bash(step("Base"), checkout, **environment)
    assert done.returncode != 0
    assert "make" in done.stderr  # the base has no Makefile here: it got as far as that
    [base] = tmp_path.glob("base-*")
    assert (base / "locks/dev.txt").read_text() == "numpy==1\n"


def test_the_action_is_used_twice_in_a_job(checkout, tmp_path):
    """For two models: a base that the first use set up is there for the second, which may have another base as well."""
    (checkout / "Makefile").write_text("setup:\n\tinstall -D snakemake .venv/bin/snakemake\n")
    (checkout / "snakemake").write_text('#!/bin/sh\necho "$@" >> made\n')
    git = ["git", "-C", str(checkout), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (
        ["add", "Makefile", "snakemake"],
        ["commit", "-qm", "one"],
        ["commit", "-qm", "two", "--allow-empty"],
    ):
        subprocess.run([*git, *words], check=True)
    (checkout / "locks/dev.txt").write_text("numpy==2\n")

    def use(base):
        done = bash(step("Base"), checkout, GITHUB_ENV=str(tmp_path / "env"), BASE=base)
        assert done.returncode == 0, done.stderr
        *_, told = (tmp_path / "env").read_text().splitlines()
        return (checkout / told.removeprefix("SLIPWAY_BASE=")).resolve()

    first = use("HEAD~1")
    assert use("HEAD~1") == first
    assert use("HEAD") != first
    assert (first / "made").read_text() == "--cores all images\n" * 2

    # As an earlier job leaves it on a runner that is kept: its repository is gone.
    (first / ".git").write_text("gitdir: /nowhere\n")
    assert use("HEAD~1") == first
    assert (first / "made").read_text() == "--cores all images\n"


def test_what_an_earlier_use_left_is_never_told_as_of_this_one(checkout, tmp_path, forge, github):  # noqa: F811
    """The second use fails before it compares anything; the first one's files are still there."""
    begin = ACTION["runs"]["steps"][0]
    assert "if" not in begin
    assert bash(begin["run"], checkout).returncode == 0
    files = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    assert bash(step("Summary"), checkout, **files).returncode == 0
    inputs = {"AUTHOR": "github-actions[bot]", "KEY": "second", "LINK": ""}
    assert bash(step("Comment"), checkout, **github, **inputs).returncode == 0

    assert not (tmp_path / "output").exists()
    assert (tmp_path / "summary").read_text().startswith("No comparison")
    assert "FAIL" not in forge.comments[0]["body"]


def test_the_actions_arguments_are_words_and_nothing_in_them_is_run(checkout, tmp_path):
    (checkout / ".venv/bin").mkdir(parents=True)
    slipway = checkout / ".venv/bin/slipway"
    slipway.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\n')
    slipway.chmod(0o755)
    environment = {
        "SLIPWAY_BASE": "main",
        "TITLE": "a b",
        "ARGUMENTS": "--strict $(touch harm) `touch harm`;touch harm",
    }

    assert bash(step("Compare"), checkout, **environment).returncode == 0
    words = (tmp_path / "words").read_text().split("\n")
    assert words[:6] == ["compare", "--base", "main", "--title", "a b", "--strict"]
    assert not (checkout / "harm").exists()


def test_the_actions_comment_is_on_the_pull_request(checkout, forge, github):  # noqa: F811
    inputs = {"AUTHOR": "github-actions[bot]", "KEY": "comparison", "LINK": "https://forge.example/artifact"}
    done = bash(step("Comment"), checkout, **github, **inputs)

    assert done.returncode == 0, done.stderr
    assert forge.comments[0]["body"].startswith(f"{test_comment.MARKER}\n<!-- slipway-compare:digits -->\n### ❌ FAIL")
    assert "https://forge.example/artifact" in forge.comments[0]["body"]


def test_gitlabs_note_is_on_the_merge_request(checkout, forge, gitlab):  # noqa: F811
    done = bash("\n".join(GITLAB["after_script"]), checkout, **gitlab)

    assert done.returncode == 0, done.stderr
    assert "/-/jobs/77/artifacts/file/results/comparison/index.html)" in forge.comments[0]["body"]


def test_gitlabs_job_compares_with_where_the_merge_request_began(checkout, tmp_path):
    (checkout / ".venv/bin").mkdir(parents=True)
    slipway = checkout / ".venv/bin/slipway"
    slipway.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\n')
    slipway.chmod(0o755)
    base = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD~1"], capture_output=True, text=True, check=True)
    environment = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base.stdout.strip(), "COMPARE_ARGUMENTS": "--strict"}

    done = bash(GITLAB["script"][-1], checkout, **environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "words").read_text().split() == ["compare", "--base", base.stdout.strip(), "--strict"]

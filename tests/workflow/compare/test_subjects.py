import argparse
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.workflow import result_factory as factory
from tests.workflow.compare_factory import DIGEST

from slipway import compare, golden
from slipway.compare import subjects
from slipway.compare.subjects import check_comparable, commit_of, locate, read_side
from slipway.errors import SettingsError, SourceError
from slipway.golden import Golden
from slipway.records import ImageRecord, ServableRecord, TreeManifest

TESTDATA = Path(__file__).parents[2] / "testdata"
ROWS = np.random.default_rng(1).random((20, 1), np.float32)
CONFIG = """
format: 1
models:
  m:
    contract: contract.yaml
    versions:
      1: {source: {kind: builtin, name: digits}}
      2: {source: {kind: builtin, name: digits}}
"""
CONTRACT = """
format: 1
signatures:
  serving_default:
    method: predict
    inputs: {x: {shape: [N, 1]}}
    outputs: {y: {shape: [N, 1]}}
"""


def make_project(directory, rows=ROWS):
    (directory / "config").mkdir(parents=True)
    (directory / "config/config.yaml").write_text(CONFIG)
    (directory / "contract.yaml").write_text(CONTRACT)
    results = directory / "results"
    for version in ("1", "2"):
        shutil.copytree(TESTDATA / "saved_model_half_plus_two_cpu/00000123", results / "servables/m" / version)
        (results / "checkpoints/m" / version).mkdir(parents=True)
        golden.write(results / "checkpoints/m" / version / "golden.npz", Golden({"x": rows}, {"y": rows / 2 + 2}, None))
        (results / "manifests/m").mkdir(parents=True, exist_ok=True)
        ServableRecord(
            model="m",
            version=int(version),
            tree=TreeManifest(digest=DIGEST, files={}),
            checkpoint_digest=DIGEST,
            export_digest=DIGEST,
            warmup_digest=DIGEST,
        ).write(results / f"manifests/m/{version}.json")
    (results / "images/m").mkdir(parents=True)
    ImageRecord(
        model="m",
        versions=[1, 2],
        reference="m:1",
        image_id=DIGEST,
        manifest_digest=DIGEST,
        layers=[],
        compression="none",
        base="",
        packages={},
        created="",
    ).write(results / "images/m/image.json")
    return directory


def read(directory, **changes):
    values = {"model": None, "version": None, "signature": "serving_default", "rows": 1} | changes
    return read_side("here", directory, **values)


def test_a_project_directory_is_taken_as_it_is(tmp_path):
    project = make_project(tmp_path / "p")

    assert locate(str(project), tmp_path) == project
    side = read(project)
    assert (side.record.model, side.record.version) == ("m", 2)
    assert side.spec.servable_root == project / "results/servables/m"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "n"}, "no model n Name one with --model; there are: m"),
        ({"version": 7}, "m has no version 7; there are: 1, 2"),
        ({"signature": "other"}, "no signature other"),
    ],
)
def test_what_is_not_there_is_told_with_what_there_is(tmp_path, change, message):
    with pytest.raises(SettingsError, match=message):
        read(make_project(tmp_path / "p"), **change)


def test_a_project_whose_image_was_not_made_says_how_to_make_it(tmp_path):
    project = make_project(tmp_path / "p")
    (project / "results/images/m/image.json").unlink()

    with pytest.raises(SourceError, match=r"image.json: not there. Run the stage that writes it"):
        read(project)


def test_what_is_neither_directory_nor_revision_is_told(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)

    with pytest.raises(SettingsError, match=r"nowhere: expected a directory with config/config.yaml, a revision"):
        locate("nowhere", tmp_path)


def test_a_revision_with_other_packages_is_not_built_with_these(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    make_project(tmp_path / "x")
    shutil.copytree(tmp_path / "x/config", tmp_path / "config")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/dev.txt").write_text("numpy==1\n")
    subprocess.run([*git, "add", "config", "locks"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (tmp_path / "locks/dev.txt").write_text("numpy==2\n")

    with pytest.raises(SourceError, match=r"HEAD: its locks/dev.txt is not this project's.*make setup"):
        locate("HEAD", tmp_path)
    assert (tmp_path / ".slipway/revisions").is_dir()


@pytest.fixture
def repository(tmp_path):
    """A git repository with one commit, and a way to talk to it."""

    def run(*arguments):
        environment = os.environ | {"GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z"}
        argv = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    run("init", "-q")
    run("commit", "-q", "--allow-empty", "-m", "first")
    return run


def test_a_result_stands_for_the_revision_that_it_was_measured_at(tmp_path, repository, monkeypatch):
    head = repository("rev-parse", "HEAD")
    built = []
    monkeypatch.setattr(subjects, "_built", lambda commit, place, _: built.append((commit, place)))
    path = tmp_path / "result.json"
    where = factory.environment().model_copy(update={"commit": head})
    factory.result(environment=where).write(path)

    locate(str(path), tmp_path)
    assert built == [(head, str(path))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dirty": True}, "was measured at .* and changes that are in no commit, so it cannot be made again"),
        ({"commit": None}, "was measured at no commit, so it cannot be made again"),
        ({"commit": "f" * 40}, "which the git repository at .* does not have. Fetch it first"),
    ],
)
def test_a_result_that_cannot_be_made_again_says_why(tmp_path, repository, changes, message):
    where = {"commit": repository("rev-parse", "HEAD"), "dirty": False} | changes
    path = tmp_path / "result.json"
    factory.result(environment=factory.environment().model_copy(update=where)).write(path)

    with pytest.raises(SourceError, match=message):
        locate(str(path), tmp_path)


def test_an_image_is_of_the_commit_of_the_time_that_its_label_names(tmp_path, repository):
    head = repository("rev-parse", "HEAD")

    assert commit_of("2026-01-02T03:04:05Z", tmp_path) == head
    assert commit_of("2026-01-02T03:04:06Z", tmp_path) is None
    assert commit_of("", tmp_path) is None
    repository("commit", "-q", "--allow-empty", "-m", "of the same second")
    assert commit_of("2026-01-02T03:04:05Z", tmp_path) is None


def test_both_sides_must_be_asked_the_same(tmp_path):
    base, same = read(make_project(tmp_path / "a")), read(make_project(tmp_path / "b"))
    check_comparable(base, same)

    other = read(make_project(tmp_path / "c", rows=ROWS + 1))
    with pytest.raises(
        SourceError, match=r"cannot be compared: golden inputs: sha256:\w+… in base, sha256:\w+… in head"
    ):
        check_comparable(base, other)
    with pytest.raises(SourceError, match="cannot be compared: rows in a request: 1 in base, 2 in head"):
        check_comparable(base, read(tmp_path / "b", rows=2))


def test_a_directory_is_read_before_the_other_side_is_built(tmp_path, monkeypatch):
    """What is wrong with it is told at once, not after minutes."""
    monkeypatch.chdir(make_project(tmp_path / "x"))
    (tmp_path / "x/results/images/m/image.json").unlink()
    monkeypatch.setattr(subjects, "_built", lambda *_: pytest.fail("it built the base"))
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)

    with pytest.raises(SourceError, match=r"image\.json: not there\. Run the stage that writes it"):
        compare.read_sides(parser.parse_args(["--base", "a-revision"]))

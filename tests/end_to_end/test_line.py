"""The whole line for real: TensorFlow, an image, a container, Locust; on a small load."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from slipway.compare.records import Comparison
from slipway.compare.verdict import EXIT_CODES
from slipway.records import Result, ServableRecord

ROOT = Path(__file__).parents[2]
CONTRACT = "config/contracts/digits.yaml"

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1500)]


def snakemake(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            Path(sys.executable).with_name("snakemake"),
            *("--snakefile", ROOT / "Snakefile", "--directory", directory, "--cores", "all"),
            *("--configfile", directory / "config/smoke.yaml"),
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
    )


def servers() -> set[int]:
    return {p.pid for p in psutil.process_iter(["cmdline"]) if "slipway_server" in " ".join(p.info["cmdline"] or [])}


@pytest.fixture(scope="module")
def others() -> set[int]:
    """Servers that were there before and are none of ours."""
    return servers()


def git(directory: Path, *arguments: str, **more: str) -> str:
    argv = ["git", "-C", directory, "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | more
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def commit_twice(directory: Path) -> None:
    """Make *directory* a repository of this project, in whose first commit the model has one version, hardly trained."""
    for name in (
        "Snakefile",
        "rules",
        "profiles",
        "workflow_src",
        "server",
        "loadtests",
        "locks",
        "deploy",
        ".gitignore",
    ):
        source, copy = ROOT / name, directory / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, copy)
    kept = {path: path.read_text() for path in (directory / "config/config.yaml", directory / CONTRACT)}
    config, contract = map(yaml.safe_load, kept.values())
    config["models"]["digits"]["versions"] = {1: {"source": {"kind": "builtin", "name": "digits", "epochs": 1}}}
    contract["golden"]["min_accuracy"] = 0.3
    for path, content in zip(kept, (config, contract), strict=True):
        path.write_text(yaml.safe_dump(content))
    git(directory, "init", "-q")
    git(directory, "add", ".")
    # Of different times: an image tells by them what it was made of.
    git(directory, "commit", "-qm", "first", GIT_COMMITTER_DATE="2026-01-02T03:04:05Z")
    for path, text in kept.items():
        path.write_text(text)
    git(directory, "commit", "-qam", "second", GIT_COMMITTER_DATE="2026-01-02T04:04:05Z")


@pytest.fixture(scope="module")
def line(tmp_path_factory, others) -> Path:
    """A project directory in which the line has run once."""
    directory = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "config", directory / "config")
    commit_twice(directory)
    done = snakemake(directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def result(line) -> Result:
    return Result.model_validate_json((line / "results/report/result.json").read_bytes())


def test_it_ends_with_a_published_report(line):
    index = (line / "published/index.html").read_text()

    assert "digits" in index
    runs = json.loads((line / "published/runs.json").read_text())
    assert len(list((line / "published").glob("*/index.html"))) == 1
    assert runs


def test_every_version_was_served_from_the_image_and_answered_as_its_checkpoint(result):
    (model,) = result.models

    assert model.launch.versions == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert model.launch.ok
    assert {(a.protocol, a.version) for a in model.launch.answers} == {(p, v) for p in ("rest", "grpc") for v in (1, 2)}
    offline = {v.version: v.checkpoint.metrics["accuracy"] for v in model.versions}
    assert all(answer.accuracy == pytest.approx(offline[answer.version]) for answer in model.launch.answers)


def test_the_image_ran_in_a_container(result):
    assert result.models[0].launch.engine.isolated, result.models[0].launch.engine.rejected


def test_both_protocols_were_measured_with_the_same_values_and_right_answers(result):
    (benchmark,) = result.models[0].benchmarks
    repetitions = [r for cell in benchmark.cells for r in cell.repetitions]

    assert {cell.protocol for cell in benchmark.cells} == {"rest", "grpc"}
    assert {cell.load.kind for cell in benchmark.cells} == {"closed", "open"}
    assert all(r.completed > 0 and not r.errors and r.wrong_answers == 0 and r.checked_answers > 0 for r in repetitions)
    assert all(r.server_cpu_us_per_request and r.batch_sizes for r in repetitions)


def test_servables_are_a_tf_serving_base_path_as_they_stand(line):
    base = line / "results/servables/digits"

    assert sorted(path.name for path in base.iterdir()) == ["1", "2"]
    assert (base / "2/assets.extra/tf_serving_warmup_requests").stat().st_size > 0
    for version in (1, 2):
        ServableRecord.read(line / f"results/manifests/digits/{version}.json").tree.verify(base / str(version))


def test_then_there_is_nothing_to_do(line):
    done = snakemake(line)

    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_exporting_again_gives_the_same_bytes_and_reruns_nothing_behind_them(line):
    before = {v: (line / f"results/manifests/digits/{v}.json").read_bytes() for v in (1, 2)}
    done = snakemake(line, "--forcerun", "export")

    assert done.returncode == 0, done.stdout + done.stderr
    assert {v: (line / f"results/manifests/digits/{v}.json").read_bytes() for v in (1, 2)} == before
    assert not any(f"rule {stage}:" in done.stdout + done.stderr for stage in ("image", "launch", "benchmark"))


def test_a_stored_result_is_made_again_and_measured_beside_what_is_here(line, result):
    """Its commit is checked out and built by Snakemake; then both servers are loaded in turns."""
    first, second = git(line, "rev-parse", "HEAD~1"), git(line, "rev-parse", "HEAD")
    assert (result.environment.commit, result.environment.dirty) == (second, False)
    # As if the report had been published a commit earlier.
    where = result.environment.model_copy(update={"commit": first})
    result.model_copy(update={"environment": where}).write(line / "earlier.json")

    done = subprocess.run(
        [
            Path(sys.executable).with_name("slipway"),
            *("compare", "--base", "earlier.json", "--protocols", "grpc", "--users", "4"),
            *("--no-latency", "--window", "0.3"),
        ],
        cwd=line,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (line / "results/comparison/comparison.json").exists(), done.stdout + done.stderr
    made = Comparison.read(line / "results/comparison/comparison.json")
    assert done.returncode == EXIT_CODES[made.verdict], done.stdout + done.stderr
    assert not made.cut_short
    assert (made.base.commit, made.base.image_commit, made.base.version) == (first, first, 1)
    assert (made.head.commit, made.head.image_commit, made.head.version) == (second, second, 2)
    assert made.base.engine == made.head.engine
    assert made.base.image_id != made.head.image_id
    assert made.base.servable_digest != made.head.servable_digest
    assert [ceiling.protocol for ceiling in made.ceilings] == ["grpc"]
    (cell,) = made.cells
    assert len(cell.pairs) >= 6
    # Each side is held against the answers of its own checkpoint.
    assert all(side.checked_answers > 0 == side.wrong_answers for pair in cell.pairs for side in (pair.base, pair.head))
    assert "<!doctype html>" in (line / "results/comparison/index.html").read_text().lower()
    assert done.stdout.startswith(f"{made.verdict.upper()}: digits: . against earlier.json\n")


def test_nothing_is_left_running(line, others):
    assert servers() <= others

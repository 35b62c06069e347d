"""The whole line for real: TensorFlow, an image, a container, Locust; on a small load."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from slipway.records import Result, ServableRecord

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


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


@pytest.fixture(scope="module")
def line(tmp_path_factory, others) -> Path:
    """A project directory in which the line has run once."""
    directory = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "config", directory / "config")
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


def test_nothing_is_left_running(line, others):
    assert servers() <= others

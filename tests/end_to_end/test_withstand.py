"""What a user meets on a bad day, for real: a damaged checkpoint, a broken contract, no engine, a full disk, signals."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from slipway.records import LaunchRecord, ValidationRecord

ROOT = Path(__file__).parents[2]
EXPORT = "results/exports/digits/1.json"
VALIDATION = "results/validation/digits/1.json"
LAUNCH = "results/launch/digits.json"
CONTRACT = "config/contracts/digits.yaml"

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


def start(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the real workflow as the leader of a process group, as a shell does for a command at a terminal."""
    with (directory / "said.log").open("w") as log:
        return subprocess.Popen(
            [
                Path(sys.executable).with_name("snakemake"),
                *("--snakefile", ROOT / "Snakefile", "--directory", directory, "--cores", "2", *arguments),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | environment,
        )


def run(directory: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    code = start(directory, *arguments, **environment).wait()
    return code, (directory / "said.log").read_text()


def told(output: str) -> list[str]:
    """List the errors that stand together at the end of a run, without the logs they come from."""
    assert "Traceback" not in output
    _, _, tail = output.partition("\nWhat went wrong:\n")
    return [line.strip().partition("  [")[0] for line in tail.splitlines() if ": error: " in line]


def edit(directory: Path, name: str, change) -> None:
    path = directory / name
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> Path:
    """A project with one version, trained for one epoch, as far as a proven image."""
    directory = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "config", directory / "config")

    def small(config):
        config["models"]["digits"]["versions"] = {1: {"source": {"kind": "builtin", "epochs": 1}}}

    edit(directory, "config/config.yaml", small)
    edit(directory, CONTRACT, lambda contract: contract["golden"].update(min_accuracy=0.3))
    code, output = run(directory, LAUNCH)
    assert code == 0, output
    return directory


@pytest.fixture
def project(launched, tmp_path) -> Path:
    """A copy of it that a test may break; Snakemake's memory goes with it."""
    directory = tmp_path / "project"
    subprocess.run(["cp", "--archive", launched, directory], check=True)
    return directory


def processes_of(directory: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(directory):
                found.append(" ".join(process.cmdline()))
    return found


def eventually(condition, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_a_checkpoint_that_is_cut_off_is_told_in_one_line(project):
    with zipfile.ZipFile(project / "mine.zip", "w") as archive:
        archive.write(project / "results/checkpoints/digits/1/source/digits.weights.h5", "model.weights.h5")
    data = (project / "mine.zip").read_bytes()
    (project / "mine.keras").write_bytes(data[: len(data) // 2])

    def mine(config):
        config["models"]["digits"]["versions"] = {1: {"source": {"kind": "keras", "path": "mine.keras"}}}

    edit(project, "config/config.yaml", mine)
    code, output = run(project, LAUNCH)

    assert code == 1
    (line,) = told(output)
    assert "mine.keras: cut off or damaged" in line
    assert "save the file again" in line


def test_a_missing_checkpoint_is_told_before_anything_runs(project):
    def mine(config):
        config["models"]["digits"]["versions"] = {1: {"source": {"kind": "keras", "path": "nowhere.keras"}}}

    edit(project, "config/config.yaml", mine)
    code, output = run(project, LAUNCH)

    assert code == 1
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith(
        "slipway: error: config: models.digits.versions.1.source: no file nowhere"
    )


def test_a_broken_contract_keeps_its_report_until_it_is_kept_again(project):
    failed = project / "results/validation/digits/1.failed.json"
    before = (project / CONTRACT).read_text()
    edit(project, CONTRACT, lambda contract: contract["golden"].update(min_accuracy=0.999))
    code, output = run(project, VALIDATION)

    assert code == 1
    lines = told(output)
    assert any("golden.accuracy: expected at least 0.999, found 0." in line for line in lines)
    assert len(lines) == 2  # the check, and where all checks are
    assert not ValidationRecord.read(failed).ok

    (project / CONTRACT).write_text(before)
    code, output = run(project, VALIDATION)
    assert code == 0, output
    assert not failed.exists()


@pytest.fixture
def path_without_engines(tmp_path) -> str:
    directory = tmp_path / "bin"
    directory.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith(("docker", "podman")):
            (directory / program.name).symlink_to(program)
    return str(directory)


def test_without_an_engine_a_process_serves_and_everybody_is_told(project, path_without_engines):
    code, output = run(project, "--forcerun", "launch", "--", LAUNCH, PATH=path_without_engines)

    assert code == 0, output
    engine = LaunchRecord.read(project / LAUNCH).engine
    assert (engine.name, engine.isolated) == ("process", False)
    assert set(engine.rejected.values()) == {"not installed"}
    assert "WARNING: no container engine" in (project / "results/logs/launch/digits.log").read_text()


def test_an_engine_that_the_config_names_and_the_host_lacks_is_an_error(project, path_without_engines):
    edit(project, "config/config.yaml", lambda config: config.update(launch={"engine": "docker"}))
    code, output = run(project, LAUNCH, PATH=path_without_engines)

    assert code == 1
    (line,) = told(output)
    assert "launch.engine: docker does not run the image here (docker: not installed" in line
    assert "slipway doctor" in line


@pytest.fixture
def full_disk(project) -> Iterator[Path]:
    """Exports lie on a disk that holds less than a SavedModel."""
    exports = project / "results/exports"
    shutil.rmtree(exports)
    exports.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "slipway-test", exports]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield exports
    subprocess.run(["umount", "--lazy", exports], check=False)


def test_a_full_disk_is_told_in_one_line_and_holds_nothing_half_written(project, full_disk):
    code, output = run(project, "--forcerun", "export", "--", EXPORT)

    assert code == 1
    (line,) = told(output)
    assert "results/exports/digits/1: no space left on its disk" in line
    assert "Free some space and run again" in line
    assert [path for path in full_disk.rglob("*") if path.is_file()] == []

    subprocess.run(["umount", full_disk], check=True)
    code, output = run(project, EXPORT)
    assert code == 0, output
    assert json.loads((project / EXPORT).read_text())["tree"]["digest"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
@pytest.mark.parametrize(("stage", "target"), [("export", EXPORT), ("launch", LAUNCH)])
def test_a_run_that_is_cut_short_leaves_nothing_and_the_next_one_finishes(project, stage, target, number):
    (project / target).unlink()
    workflow = start(project, "--forcerun", stage, "--", target)
    log = project / "results/logs" / stage
    started = time.time()

    def at_work():
        assert workflow.poll() is None, (project / "said.log").read_text()
        if stage == "launch":
            return any("slipway_server" in words or "conmon" in words for words in processes_of(project))
        return any(path.stat().st_mtime > started and path.stat().st_size for path in log.rglob("*.log"))

    eventually(at_work, 200)
    os.killpg(workflow.pid, number)
    assert workflow.wait(120) != 0
    eventually(lambda: not processes_of(project), 60)

    output = (project / "said.log").read_text()
    if number == signal.SIGINT:
        assert any(f"slipway {stage}: error: stopped by SIGINT" in line for line in told(output)), output
    assert not (project / target).exists()
    code, output = run(project, target)
    assert code == 0, output
    assert list((project / "results").rglob("*.partial")) == []


def test_a_second_run_in_the_same_directory_is_refused(project):
    first = start(project, "--forcerun", "export", "--", EXPORT)
    lock = project / ".slipway/run.lock"
    eventually(lambda: lock.exists() and lock.read_text() == str(first.pid), 200)
    done = subprocess.run(
        [*first.args[:4], project, "--cores", "2", "--forcerun", "export", "--", EXPORT],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert f"{project}: another run (process {first.pid}) works in this directory" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert first.wait(200) == 0

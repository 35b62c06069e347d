import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.workflow import result_factory as factory

from slipway import baseline, cli, files, publish, report
from slipway.errors import SourceError, StorageError
from slipway.records import Result


@pytest.fixture(autouse=True)
def quiet_signals(monkeypatch):
    monkeypatch.setattr(cli.procs, "exit_on_signals", lambda: None)
    monkeypatch.setattr(cli.procs, "die_with_snakemake", lambda: None)


def made(day: int = 1, *, seed: int = 1, **changes) -> Result:
    model = factory.model_result(repetitions=2, concurrency=(1,), cold_starts=0)
    record = factory.benchmark("digits", 2, repetitions=2, concurrency=(1,), cold_starts=0, seed=seed)
    return factory.result(
        [model.model_copy(update={"benchmarks": [record]})],
        run_id=f"2031050{day}T071200Z-0000000{day}",
        created=f"2031-05-0{day}T07:12:00Z",
        **changes,
    )


class Project:
    """A directory with one report and its samples."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.samples = root / "results" / "benchmarks" / "digits" / "2" / "samples"
        self.samples.mkdir(parents=True)
        (self.samples / "grpc-closed-1-0.npz").write_bytes(b"samples")
        (self.samples / files.SNAKEMAKE_TIMESTAMP).touch()
        self.published = root / "published"

    def draw(self, result: Result) -> Path:
        with files.new_directory(self.root / "report") as directory:
            report.write_report(result, directory, self.root / "api")
        return self.root / "report"

    def arguments(self) -> list[str]:
        return [
            "publish",
            "--report",
            str(self.root / "report"),
            "--samples",
            str(self.samples),
            "--directory",
            str(self.published),
        ]

    def publish(self, result: Result) -> int:
        self.draw(result)
        return cli.main(self.arguments())

    def runs(self) -> list[str]:
        return [run["run_id"] for run in json.loads((self.published / "runs.json").read_text())["runs"]]

    def content(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in files.tree_files(self.published).items() if name != ".lock"}


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def test_a_run_is_kept_whole_under_its_id(project):
    result = made()

    assert project.publish(result) == 0
    kept = files.tree_files(project.published / result.run_id)
    assert set(kept) == {*publish.REPORT_FILES, "samples/digits/2/grpc-closed-1-0.npz"}
    assert kept["index.html"].read_bytes() == (project.root / "report" / "index.html").read_bytes()
    assert project.runs() == [result.run_id]
    assert "REST" in (project.published / "index.html").read_text()
    assert f"{result.run_id},2031-05-01T07:12:00Z" in (project.published / "runs.csv").read_text()


def test_how_it_is_called_is_kept_with_the_run(project):
    result = made()
    model = result.models[0].model_copy(update={"api": factory.api("digits", 2)})
    factory.write_api_files(project.root / "api" / "digits")

    assert project.publish(result.model_copy(update={"models": [model]})) == 0
    assert (project.published / result.run_id / "api/digits/openapi.json").read_bytes() == b"{}\n"


def test_the_contract_of_each_model_is_kept_for_the_next_to_be_compared_with(project):
    result = made()
    (model,) = result.models
    contract = {"format": 1, "signatures": {}}
    versions = [
        version.model_copy(update={"validation": version.validation.model_copy(update={"contract": contract})})
        for version in model.versions
    ]
    result = result.model_copy(update={"models": [model.model_copy(update={"versions": versions})]})

    for _ in range(2):
        assert project.publish(result) == 0
        kept = project.published / result.run_id / "contracts/digits.json"
        assert json.loads(kept.read_text()) == contract
    assert baseline.published(project.published, "digits") == kept


def test_publishing_twice_changes_nothing_but_the_time_of_the_index(project):
    """Snakemake goes by the index's time: it must be newer than the report, or the next run publishes again."""
    result = made()
    project.publish(result)
    before = project.content()
    os.utime(project.published / "index.html", (0, 0))
    inode = (project.published / result.run_id).stat().st_ino

    assert project.publish(result) == 0
    assert project.content() == before
    assert (project.published / result.run_id).stat().st_ino == inode
    assert (project.published / "index.html").stat().st_mtime > 1


def test_runs_add_up_newest_first_in_whatever_order_they_come(project):
    for day in (2, 3, 1):
        project.publish(made(day))

    assert project.runs() == [made(day).run_id for day in (3, 2, 1)]
    assert f'href="{made(3).run_id}/index.html">Read the full report' in (project.published / "index.html").read_text()


def test_a_report_drawn_anew_replaces_the_drawing_of_the_same_run(project):
    project.publish(made())
    project.publish(made(title="A better title"))

    assert "A better title" in (project.published / made().run_id / "index.html").read_text()
    assert len(project.runs()) == 1


def test_other_measurements_under_the_same_id_are_refused(project, capsys):
    project.publish(made())
    before = project.content()

    assert project.publish(made(seed=2)) == 2
    assert "holds other measurements under this run id. Move it away" in capsys.readouterr().err
    assert project.content() == before


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_other_samples_under_the_same_id_are_refused(project, change):
    project.publish(made())
    sample = project.samples / "grpc-closed-1-0.npz"
    if change == "changed":
        sample.write_bytes(b"others")
    elif change == "added":
        (project.samples / "more.npz").write_bytes(b"")
    else:
        sample.unlink()

    with pytest.raises(StorageError, match=r"samples/digits/2/.* under this run id"):
        publish.keep(made(), project.root / "report", [project.samples], project.published / made().run_id)


def test_a_missing_file_is_named_and_nothing_is_kept(project, capsys):
    project.draw(made())
    (project.root / "report" / "summary.md").unlink()

    assert cli.main(project.arguments()) == 2
    assert "summary.md: not there. Run `slipway report`" in capsys.readouterr().err
    assert not list(project.published.glob("2031*"))


def test_missing_samples_are_named(project):
    with pytest.raises(SourceError, match="no directory of samples"):
        publish.keep(made(), project.draw(made()), [project.root / "nowhere"], project.published / "x")


def test_samples_given_twice_are_refused(project):
    with pytest.raises(SourceError, match="samples of digits/2 are given twice"):
        publish.keep(made(), project.draw(made()), [project.samples, project.samples], project.published / "x")


def test_a_removed_run_leaves_the_index(project):
    for day in (1, 2):
        project.publish(made(day))
    publish.shutil.rmtree(project.published / made(1).run_id)
    publish.write_index(project.published)

    assert project.runs() == [made(2).run_id]


@pytest.mark.parametrize("damage", ["{", '{"format": 1, "runs": []}', ""])
def test_a_damaged_list_is_made_anew_from_the_runs(project, damage):
    for day in (1, 2):
        project.publish(made(day))
    before = project.content()
    (project.published / "runs.json").write_text(damage)
    publish.write_index(project.published)

    assert project.content() == before


def test_a_damaged_old_run_does_not_keep_new_ones_out(project, capsys):
    project.publish(made(1))
    (project.published / made(1).run_id / "result.json").write_text("{")

    assert project.publish(made(2)) == 0
    assert project.runs() == [made(2).run_id]
    assert "left out of the index" in capsys.readouterr().err


def test_two_publishes_at_once_lose_no_run(tmp_path):
    """Each reads the list, adds itself and writes it: without the lock one would undo the other."""
    started = []
    for day in range(1, 5):
        project = Project(tmp_path / str(day))
        project.draw(made(day))
        arguments = [*project.arguments()[:-1], str(tmp_path / "published")]
        started.append(subprocess.Popen([sys.executable, "-m", "slipway", *arguments], stderr=subprocess.PIPE))
    told = [process.communicate(timeout=400)[1].decode() for process in started]

    assert [process.returncode for process in started] == [0] * 4, told
    listed = json.loads((tmp_path / "published" / "runs.json").read_text())["runs"]
    assert {run["run_id"] for run in listed} == {made(day).run_id for day in range(1, 5)}


def test_a_kill_in_the_middle_leaves_no_half_run_and_the_next_publish_cleans_up(project, tmp_path):
    """Kill -9 between copying and renaming: the run is not there, and what was copied goes with the next publish."""
    project.draw(made(2))
    script = (
        "import pathlib, signal, sys; from slipway import cli, files\n"
        f"files.sync_tree = lambda directory: (pathlib.Path({str(tmp_path / 'copied')!r}).touch(), signal.pause())\n"
        f"cli.main({project.arguments()!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 200
    while not (tmp_path / "copied").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert [p.name for p in project.published.iterdir() if p.name.endswith(".partial")]
    assert not (project.published / made(2).run_id).exists()
    assert project.publish(made(2)) == 0
    assert not [p.name for p in project.published.iterdir() if p.name.endswith(".partial")]
    assert project.runs() == [made(2).run_id]

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from slipway.contract import read_contract

EVERYTHING = sorted(
    [f"{stage} digits/{v}" for stage in ("checkpoint", "export", "validate", "warmup", "servable") for v in (1, 2)]
    + ["image digits", "launch digits", "benchmark digits/2", "api digits/2", "report", "publish"]
)


def test_the_whole_line_runs_once_and_then_there_is_nothing_to_do(workflow):
    code, output = workflow.run()
    assert code == 0, output
    assert workflow.take_jobs() == EVERYTHING

    code, output = workflow.run()
    assert code == 0
    assert "Nothing to be done" in output
    assert workflow.take_jobs() == []


def test_a_dry_run_runs_nothing_and_needs_no_lock(workflow):
    code, output = workflow.run("--dry-run")

    assert code == 0, output
    assert workflow.take_jobs() == []
    assert not (workflow.directory / ".slipway").exists()


def test_the_real_commands_take_what_the_rules_give_them(workflow):
    """The stand-in takes anything; Snakemake writes nothing at all for an empty value."""
    from slipway import cli

    _, output = workflow.run("--dry-run", "--printshellcmds")
    told = [line.removeprefix("Shell command: ") for line in output.splitlines()]
    commands = [line.split(" > ")[0] for line in told if line.startswith("slipway ")]

    assert len(commands) == len(EVERYTHING)
    for command in commands:
        words = shlex.split(command)[1:]
        assert cli.build_parser(only=words[0]).parse_args(words).command == words[0]


class TestEarlyCutOff:
    """Only changed content reruns what is behind the servable."""

    def test_an_export_with_the_same_bytes_reruns_no_image_and_no_benchmark(self, finished):
        code, output = finished.run("--forcerun", "export")

        assert code == 0, output
        ran = {job.split()[0] for job in finished.take_jobs()}
        assert {"export", "validate", "warmup", "servable"} <= ran
        assert not ran & {"checkpoint", "image", "launch", "benchmark"}

    def test_changed_bytes_of_one_version_rerun_the_image_and_what_measures_it(self, finished):
        (finished.directory / "content").mkdir()
        (finished.directory / "content" / "2").write_text("other weights")
        code, output = finished.run("--forcerun", "servable")

        assert code == 0, output
        assert {"image digits", "launch digits", "benchmark digits/2"} <= set(finished.take_jobs())


def test_a_changed_contract_reruns_validation_but_no_training(finished):
    finished.edit("config/contracts/digits.yaml", "min_accuracy: 0.85", "min_accuracy: 0.5")
    code, output = finished.run()

    assert code == 0, output
    jobs = finished.take_jobs()
    assert {"validate digits/1", "validate digits/2"} <= set(jobs)
    assert not any(job.startswith(("checkpoint", "image", "benchmark")) for job in jobs)


def test_a_touched_but_equal_contract_reruns_nothing(finished):
    os.utime(finished.directory / "config/contracts/digits.yaml")
    finished.run()

    assert finished.take_jobs() == []


TRAINED = """
models:
  flowers:
    contract: config/contracts/digits.yaml
    versions:
      1: {source: {kind: keras, path: flowers.keras, train: {script: mine/train.py, options: {seed: 1}, inputs: [rows.csv]}}}
"""


def test_a_source_is_trained_again_when_what_its_training_stands_on_changes_and_only_then(workflow):
    (workflow.directory / "mine").mkdir()
    (workflow.directory / "mine/train.py").write_text("import network\n")
    (workflow.directory / "mine/network.py").write_text("WIDTH = 8\n")
    (workflow.directory / "rows.csv").write_text("1,2\n")
    (workflow.directory / "mine/config.yaml").write_text(TRAINED)

    def run() -> list[str]:
        code, output = workflow.run("servables", "--configfile", "mine/config.yaml")
        assert code == 0, output
        return [job for job in workflow.take_jobs() if job.startswith(("train", "checkpoint"))]

    assert run() == ["checkpoint flowers/1", "train flowers/1"]
    for file, old, new in [
        ("mine/network.py", "8", "16"),
        ("rows.csv", "1,2", "3,4"),
        ("mine/config.yaml", "seed: 1", "seed: 2"),
    ]:
        workflow.edit(file, old, new)
        assert run() == ["checkpoint flowers/1", "train flowers/1"], file
    workflow.edit("mine/config.yaml", "path: flowers.keras", "path: flowers.h5")
    assert run() == ["checkpoint flowers/1"]


def test_a_config_with_models_of_its_own_builds_no_others_and_one_without_runs_those_of_the_default(workflow):
    mine = workflow.directory / "mine.yaml"
    mine.write_text(
        "models: {mine: {contract: config/contracts/digits.yaml, versions: {7: {source: {kind: builtin, epochs: 1}}}}}\n"
        "benchmark: {rows: 2}\n"
    )
    workflow.edit("config/config.yaml", "  rows: 1\n", "  versions: {digits: [1]}\n  rows: 1\n")

    code, output = workflow.run("servables", "--configfile", str(mine))
    assert code == 0, output
    assert {job.split()[1] for job in workflow.take_jobs()} == {"mine/7"}

    code, output = workflow.run("servables", "--configfile", "config/smoke.yaml")
    assert code == 0, output
    assert {job.split()[1] for job in workflow.take_jobs()} == {"digits/1", "digits/2"}


def publish_contract(workflow, run_id):
    """Publish the contract of digits as it stands, under another run."""
    path = workflow.directory / "published" / run_id / "contracts/digits.json"
    path.parent.mkdir(parents=True)
    contract = read_contract(workflow.directory / "config/contracts/digits.yaml")
    path.write_text(json.dumps(contract.model_dump(mode="json", by_alias=True, exclude_none=True)))


def test_a_contract_that_is_published_reruns_nothing(finished):
    """The line publishes the very contract that its validation looks for: an input of it would make a circle."""
    publish_contract(finished, "20310101T000000Z-00000001")
    code, output = finished.run()

    assert code == 0
    assert "Nothing to be done" in output


def test_a_contract_before_that_the_config_names_is_an_input(workflow):
    before = workflow.directory / "before.yaml"
    shutil.copy(workflow.directory / "config/contracts/digits.yaml", before)
    named = "    contract: config/contracts/digits.yaml\n"
    workflow.edit(
        "config/config.yaml", named, f"{named}    contract_baseline: before.yaml\n    allow_breaking: it is wanted\n"
    )
    workflow.run("--until", "validate")
    said = (workflow.directory / "arguments").read_text()
    assert "--baseline=before.yaml" in said
    assert "--allow-breaking=it is wanted" in said
    assert "--published" not in said
    workflow.take_jobs()
    workflow.run("--until", "validate")
    assert workflow.take_jobs() == []

    before.write_text(before.read_text() + "\n# other words\n")
    workflow.run("--until", "validate")
    assert workflow.take_jobs() == ["validate digits/1", "validate digits/2"]


def test_a_model_that_must_not_be_batched_is_refused_before_anything_is_made(workflow):
    workflow.edit("config/contracts/digits.yaml", "format: 1\n", "format: 1\nrow_independent: false\n")
    code, output = workflow.run()

    assert code == 1
    assert (
        "server.batching: must be null (for this model alone: models.digits.server): digits's signature serving_default is row_independent: false"
        in output
    )
    assert "Traceback" not in output
    assert workflow.take_jobs() == []


def test_a_server_without_tensorflow_has_a_stage_of_its_own(workflow):
    """Of the default line there is nothing in it; the real commands take what the rules give them, as above."""
    from slipway import cli

    with_classify = (workflow.directory / "config/contracts/digits.yaml").read_text()
    workflow.edit("config/config.yaml", "server:\n", "server:\n  backend: stablehlo\n")
    code, output = workflow.run("--dry-run")
    assert code == 1
    assert "server.backend: stablehlo: digits's signature classify has the method classify, whose tf.Examples" in output

    contract = yaml.safe_load(with_classify)
    del contract["signatures"]["classify"]
    (workflow.directory / "config/contracts/digits.yaml").write_text(yaml.safe_dump(contract))
    code, output = workflow.run("--dry-run", "--printshellcmds")

    assert code == 0, output
    told = [line.removeprefix("Shell command: ").split(" > ")[0] for line in output.splitlines()]
    parsed = [
        cli.build_parser(only=words[0]).parse_args(words)
        for words in (
            shlex.split(line)[1:] for line in told if line.startswith(("slipway stablehlo", "slipway servable"))
        )
    ]
    lowered = {arguments.version: arguments for arguments in parsed if arguments.command == "stablehlo"}
    assert {arguments.batch_sizes for arguments in lowered.values()} == {"1,2,4,8,16,32"}
    given = {a.version: (a.stablehlo, a.stablehlo_record) for a in parsed if a.command == "servable"}
    assert given == {version: (a.out, a.record) for version, a in lowered.items()}
    assert len(given) == 2


def test_a_new_version_leaves_the_others_alone(finished):
    finished.edit(
        "config/config.yaml",
        "      2: {source: {kind: builtin, name: digits, seed: 0, epochs: 15}}\n",
        "      2: {source: {kind: builtin, name: digits, seed: 0, epochs: 15}}\n"
        "      3: {source: {kind: builtin, name: digits, seed: 0, epochs: 20}}\n",
    )
    code, output = finished.run()

    assert code == 0, output
    jobs = finished.take_jobs()
    assert {"checkpoint digits/3", "image digits", "benchmark digits/3"} <= set(jobs)
    assert not any(job.endswith(("digits/1", "digits/2")) for job in jobs)


SHEET = """\
model,version,kind,source.epochs,contract
cats,1,builtin,1,config/contracts/digits.yaml
dogs,1,builtin,2,config/contracts/digits.yaml
dogs,4,builtin,3,
"""


def test_a_sheet_of_three_rows_gives_three_servables_in_one_run(workflow):
    (workflow.directory / "models.csv").write_text(SHEET)
    code, output = workflow.run("servables", "--config", "sheet=models.csv")

    assert code == 0, output
    rows = ("cats/1", "dogs/1", "dogs/4")
    assert workflow.take_jobs() == sorted(
        f"{stage} {row}" for stage in ("checkpoint", "export", "validate", "warmup", "servable") for row in rows
    )
    assert all((workflow.directory / "results/servables" / row).is_dir() for row in rows)

    (workflow.directory / "models.csv").write_text(SHEET.replace("dogs,4,builtin,3", "dogs,4,builtin,9"))
    workflow.run("servables", "--config", "sheet=models.csv")
    assert {job.split()[1] for job in workflow.take_jobs()} == {"dogs/4"}


def test_a_fault_in_the_sheet_is_told_with_its_line(workflow):
    (workflow.directory / "models.csv").write_text(SHEET.replace("builtin,2", "builtin,two"))
    code, output = workflow.run("--dry-run", "--config", "sheet=models.csv")

    assert code == 1
    assert "slipway: error: models.csv: line 3, column source.epochs: " in output
    assert "Traceback" not in output


def test_a_contract_is_read_once_for_all_its_versions(workflow):
    """With a thousand models, reading it for each job was a third of the time of a dry run."""
    rows = [f"m{number},{version},builtin" for number in range(10) for version in (1, 2)]
    (workflow.directory / "models.csv").write_text("\n".join(["model,version,kind", *rows]))
    workflow.edit("config/config.yaml", "publish:\n", "sheet: models.csv\npublish:\n")
    (workflow.directory / "config/contracts/m0.yaml").write_text(
        (workflow.directory / "config/contracts/digits.yaml").read_text()
    )
    for number in range(1, 10):
        (workflow.directory / f"config/contracts/m{number}.yaml").symlink_to("m0.yaml")
    workflow.edit(
        "rules/common.smk", "    return read_contract(path)\n",
        "    print(f'reads {path}', file=open('reads', 'a'))\n    return read_contract(path)\n",
    )  # fmt: skip
    code, output = workflow.run("--dry-run", "--quiet")

    assert code == 0, output
    reads = (workflow.directory / "reads").read_text().splitlines()
    assert len(reads) == len(set(reads)) == 11


def test_a_rollback_makes_the_image_again_and_its_log_makes_nothing(finished):
    slipway = Path(sys.executable).with_name("slipway")

    subprocess.run([slipway, "rollback", "digits", "--reason", "why"], cwd=finished.directory, check=True)
    code, output = finished.run()
    assert code == 0, output
    jobs = finished.take_jobs()
    assert {"image digits", "launch digits", "benchmark digits/1"} <= set(jobs)
    assert not any(job.startswith(("checkpoint", "export", "servable")) for job in jobs)

    config = finished.directory / "config/config.yaml"
    config.write_text(config.read_text().replace("reason: why", "reason: because it erred"))
    finished.run()
    assert finished.take_jobs() == []


def test_a_lost_report_is_made_and_published_again(finished):
    shutil.rmtree(finished.directory / "results/report")
    finished.run()

    assert finished.take_jobs() == ["publish", "report"]


def test_publishing_adds_to_what_is_published(workflow):
    workflow.run()
    workflow.run("--forcerun", "report")

    assert (workflow.directory / "published/index.html").read_text() == "run\nrun\n"


@pytest.mark.parametrize("stage", ["checkpoint", "image", "publish"])
def test_a_failure_is_the_last_thing_said_and_the_next_run_goes_on_from_there(workflow, stage):
    code, output = workflow.run(FAIL=stage)
    done = workflow.take_jobs()

    assert code == 1
    tail = output[output.index("What went wrong:") :]
    assert f"slipway {stage}: error: " in tail
    assert "broken on purpose" in tail

    code, output = workflow.run()
    assert code == 0, output
    assert sorted(done + workflow.take_jobs()) == EVERYTHING


@pytest.mark.parametrize("stage", ["servable"])
def test_a_stage_that_fails_when_it_is_forced_is_made_good_by_the_next_run(finished, stage):
    code, _ = finished.run("--forcerun", stage, FAIL=stage)
    assert code == 1
    finished.take_jobs()

    # The report does not need what was lost, until something asks for it.
    code, output = finished.run("--forcerun", "image")

    assert code == 0, output
    assert {f"{stage} digits/1", f"{stage} digits/2"} <= set(finished.take_jobs())
    assert (finished.directory / "results/manifests/digits/2.json").exists()


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_damaged_manifest_is_told_in_one_line_that_names_it(finished, content):
    manifest = finished.directory / "results/manifests/digits/1.json"
    manifest.write_text(content)

    code, output = finished.run("--forcerun", "image")

    assert code == 1
    assert "slipway: error: results/manifests/digits/1.json: " in output
    assert "delete it and run again" in output
    assert "Traceback" not in output

    manifest.unlink()
    code, output = finished.run("--forcerun", "image")
    assert code == 0, output
    assert "servable digits/1" in finished.take_jobs()


@pytest.mark.parametrize("stage", ["servable", "publish"])
def test_after_kill_9_the_same_command_finishes_the_job(workflow, stage):
    process = workflow.start(HANG=stage)
    hanging = workflow.directory / "hanging"
    deadline = time.monotonic() + 300
    while not hanging.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    # The real commands end by themselves when their Snakemake is gone (tests/workflow/test_procs.py); these are stand-ins.
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = workflow.take_jobs()

    code, output = workflow.run()

    assert code == 0, output
    assert "LockException" not in output
    assert set(done + workflow.take_jobs()) == set(EVERYTHING)


def test_a_second_run_in_the_same_directory_is_refused_in_one_line(workflow):
    first = workflow.start(HANG="export")
    hanging = workflow.directory / "hanging"
    deadline = time.monotonic() + 300
    while not hanging.exists() and time.monotonic() < deadline:
        time.sleep(0.02)

    code, output = workflow.run()

    assert code == 1
    assert output.splitlines()[-1].startswith(
        f"slipway: error: {workflow.directory}: another run (process {first.pid})"
    )
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("config/config.yaml", "  rows: 1", "  rowz: 1"), "slipway: error: config: benchmark.rowz: unknown key"),
        (
            ("config/config.yaml", "contracts/digits.yaml", "contracts/dig.yaml"),
            "slipway: error: config: models.digits.contract: no file config/contracts/dig.yaml",
        ),
        (
            ("config/contracts/digits.yaml", "signatures:", "signaturez:"),
            "slipway: error: config/contracts/digits.yaml: ",
        ),
    ],
    ids=["unknown key", "missing contract", "broken contract"],
)
def test_a_fault_in_a_file_is_told_without_a_traceback(workflow, change, line):
    workflow.edit(*change)
    code, output = workflow.run()

    assert code == 1
    assert any(said.startswith(line) for said in output.splitlines()), output
    assert "Traceback" not in output
    assert workflow.take_jobs() == []


def test_the_graph_of_rules_can_be_drawn_without_graphviz(workflow):
    code, output = workflow.run("--rulegraph", "mermaid-js")

    assert code == 0
    assert "servable" in output


def test_every_stage_has_a_rule_file_a_command_and_a_module_of_one_name():
    from slipway import cli

    root = Path(__file__).parents[2]
    rule_files = {path.stem for path in (root / "rules").glob("*.smk")} - {"common"}

    assert rule_files == set(cli.STAGES)
    assert all(
        (root / "workflow_src/slipway" / f"{s}.py").exists() or (root / "workflow_src/slipway" / s).is_dir()
        for s in cli.STAGES
    )

import os

import pytest

from slipway import cli, files
from slipway.errors import SettingsError, SourceError
from slipway.files import SNAKEMAKE_TIMESTAMP
from slipway.records import (
    CheckpointRecord,
    ExportRecord,
    FileEntry,
    ServableRecord,
    StableHloRecord,
    TreeManifest,
    WarmupEntry,
    WarmupRecord,
)
from slipway_wire import manifest
from slipway_wire.manifest import MANIFEST_FILE
from slipway_wire.warmup_log import WARMUP_FILE

DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture
def parts(tmp_path):
    """An export and its records, as the stages before leave them; what is in the files does not matter here."""
    export = tmp_path / "export"
    (export / "variables").mkdir(parents=True, mode=0o700)
    for name in ("saved_model.pb", "variables/variables.index"):
        (export / name).write_text(name)
        (export / name).chmod(0o600)
    (tmp_path / "warm").write_bytes(b"records")
    tree = TreeManifest.of(export)
    ExportRecord(model="m", version=3, tree=tree, signatures=["serving_default"], tools={}).write(
        tmp_path / "export.json"
    )
    entry = WarmupEntry(signature="serving_default", method="predict", rows=1, bytes=7)
    WarmupRecord(
        model="m", version=3, digest=files.sha256_bytes(b"records"), bytes=7, entries=[entry], replayed=1
    ).write(tmp_path / "warmup.json")
    CheckpointRecord(
        model="m",
        version=3,
        kind="keras",
        description="",
        tree=TreeManifest(digest=DIGEST, files={"m.keras": FileEntry(digest=DIGEST, bytes=1)}),
        golden_digest=DIGEST,
        golden_rows=1,
        metrics={},
        tools={},
    ).write(tmp_path / "checkpoint.json")
    return tmp_path


def servable(parts, **more):
    """Run the command; signal handlers and the watch over ancestors belong to a process of its own."""
    options = {
        "export": "export",
        "export-record": "export.json",
        "warmup": "warm",
        "warmup-record": "warmup.json",
        "checkpoint-record": "checkpoint.json",
        "out": "servable/3",
        "record": "servable.json",
    } | more
    words = [word for key, name in options.items() for word in (f"--{key}", str(parts / name))]
    arguments = cli.build_parser("servable").parse_args(["servable", "--model", "m", "--version", "3", *words])
    arguments.run(arguments)


def test_export_and_records_become_a_version_directory(parts):
    servable(parts)

    out = parts / "servable/3"
    assert sorted(files.tree_files(out)) == [
        MANIFEST_FILE,
        WARMUP_FILE,
        "saved_model.pb",
        "variables/variables.index",
    ]
    listed = manifest.decode((out / MANIFEST_FILE).read_bytes())
    assert listed == {
        name: files.sha256_file(path).removeprefix("sha256:")
        for name, path in files.tree_files(out).items()
        if name != MANIFEST_FILE
    }
    record = ServableRecord.read(parts / "servable.json")
    record.tree.verify(out)
    assert record.checkpoint_digest == DIGEST
    assert record.export_digest == TreeManifest.of(parts / "export").digest
    assert record.warmup_digest == files.sha256_bytes(b"records")


def test_modes_do_not_depend_on_those_of_the_parts_or_on_the_umask(parts):
    before = os.umask(0o077)
    try:
        servable(parts)
    finally:
        os.umask(before)

    modes = {path.is_dir(): set() for path in (parts / "servable/3").rglob("*")}
    for path in [parts / "servable/3", *(parts / "servable/3").rglob("*")]:
        modes[path.is_dir()].add(path.stat().st_mode & 0o777)
    assert modes == {True: {0o755}, False: {0o644}}


def test_what_snakemake_leaves_in_a_directory_is_not_content(parts):
    (parts / "export" / SNAKEMAKE_TIMESTAMP).touch()

    servable(parts)

    assert not (parts / "servable/3" / SNAKEMAKE_TIMESTAMP).exists()


def change(path):
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda parts: change(parts / "export/saved_model.pb"), "saved_model.pb: changed after it was written"),
        (lambda parts: (parts / "export/variables/variables.index").unlink(), "variables.index: missing"),
        (lambda parts: change(parts / "warm"), "warm: changed after it was written"),
        (lambda parts: (parts / "warm").unlink(), "warm: not there. Run `slipway warmup`"),
        (lambda parts: (parts / "checkpoint.json").unlink(), "checkpoint.json: not there"),
    ],
)
def test_a_part_that_changed_is_refused_and_nothing_is_left(harm, expected, parts):
    from slipway.errors import SourceError

    harm(parts)

    with pytest.raises(SourceError) as caught:
        servable(parts)

    assert expected in str(caught.value)
    assert not (parts / "servable").exists() or not list((parts / "servable").iterdir())
    assert not (parts / "servable.json").exists()


def lowered(parts):
    """Add what the stage stablehlo leaves."""
    directory = parts / "hlo"
    directory.mkdir()
    (directory / "manifest.json").write_text("{}")
    tree = TreeManifest.of(directory)
    StableHloRecord(
        model="m", version=3, tree=tree, stablehlo="1.0.0", batch_sizes=[1], signatures=[], parity=[], tools={}
    ).write(parts / "hlo.json")
    return directory


def test_stablehlo_goes_beside_the_saved_model(parts):
    directory = lowered(parts)

    servable(parts, **{"stablehlo": "hlo", "stablehlo-record": "hlo.json"})

    out = parts / "servable/3"
    assert {"saved_model.pb", "stablehlo/manifest.json"} <= files.tree_files(out).keys()
    assert "stablehlo/manifest.json" in manifest.decode((out / MANIFEST_FILE).read_bytes())
    assert ServableRecord.read(parts / "servable.json").stablehlo_digest == TreeManifest.of(directory).digest


def test_stablehlo_that_changed_or_has_no_record_is_refused(parts):
    directory = lowered(parts)

    with pytest.raises(SettingsError, match="go together"):
        servable(parts, stablehlo="hlo")
    (directory / "manifest.json").write_text("{ }")
    with pytest.raises(SourceError, match="changed after it was written"):
        servable(parts, **{"stablehlo": "hlo", "stablehlo-record": "hlo.json"})

import json
import os
import shutil
import subprocess
from argparse import ArgumentParser

import pytest

from slipway import files, image
from slipway.errors import BuildError, SettingsError, SourceError, StorageError
from slipway.image import servables, source_date_epoch
from slipway.oci import archive, layout, wheels
from slipway.oci.layout import blob_path
from slipway.records import ImageRecord, ServableRecord, TreeManifest


@pytest.fixture
def servable(tmp_path):
    """A servable of one version and its record."""
    directory = tmp_path / "servables/half/1"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    (directory / "variables/variables.index").write_bytes(b"index")
    tree = TreeManifest.of(directory)
    ServableRecord(
        model="half",
        version=1,
        tree=tree,
        checkpoint_digest=tree.digest,
        export_digest=tree.digest,
        warmup_digest=tree.digest,
    ).write(tmp_path / "servable.json")
    return directory


@pytest.fixture
def run_stage(small_world, base_tar, servable, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")

    def run(name="out", server="{}", **settings):
        parser = ArgumentParser()
        image.add_arguments(parser)
        chosen = {"base": str(base_tar)} | settings
        words = ["--model", "half", "--settings", json.dumps(chosen), "--server-settings", server]
        words += ["--version-dir", f"1={servable}", "--servable-record", f"1={tmp_path / 'servable.json'}"]
        words += [
            "--cache",
            small_world,
            "--out-layout",
            tmp_path / name / "layout",
            "--record",
            tmp_path / name / "image.json",
        ]
        image.run(parser.parse_args([str(word) for word in words]))
        return ImageRecord.read(tmp_path / name / "image.json"), tmp_path / name / "layout"

    return run


@pytest.mark.behaviour("2-ports-and-environment", "2-names")
def test_the_config_keeps_tf_servings_contract(run_stage):
    record, place = run_stage()
    config = json.loads(blob_path(place, record.image_id).read_bytes())

    assert config["created"] == record.created == "2001-09-09T01:46:40Z"
    assert config["config"]["ExposedPorts"] == {"8500/tcp": {}, "8501/tcp": {}}
    assert {"MODEL_NAME=half", "MODEL_BASE_PATH=/models"} <= set(config["config"]["Env"])
    assert config["config"]["Entrypoint"] == ["/usr/bin/tini", "--", "/usr/bin/tf_serving_entrypoint.sh"]
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["StopSignal"] == "SIGTERM"
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in record.layers]


def test_an_image_without_tensorflow_needs_what_it_can_serve(run_stage, servable, tmp_path, small_world, monkeypatch):
    with pytest.raises(
        SettingsError, match=r"/1: no stablehlo/manifest\.json, and with server\.backend: stablehlo the image"
    ):
        run_stage(server='{"backend": "stablehlo"}')

    (servable / "stablehlo").mkdir()
    (servable / "stablehlo/manifest.json").write_text("{}")
    record = ServableRecord.read(tmp_path / "servable.json")
    record.model_copy(update={"tree": TreeManifest.of(servable)}).write(tmp_path / "servable.json")
    monkeypatch.setattr(wheels, "STABLEHLO_LOCK", small_world.parent / "none.lock")
    (small_world.parent / "none.lock").write_text("")
    made, place = run_stage(server='{"backend": "stablehlo"}')

    assert [layer.name for layer in made.layers] == ["base", "jax", "packages", "server", "model", "config"]
    config = layout.read_layer_files(place, made, "config", "/etc/slipway")
    assert "--prefer_stablehlo=true" in config["flags"].decode().splitlines()


def test_labels_lead_from_the_image_to_the_servable(run_stage, servable):
    record, place = run_stage()
    labels = json.loads(blob_path(place, record.image_id).read_bytes())["config"]["Labels"]

    assert labels["io.slipway.servable.1.digest"] == TreeManifest.of(servable).digest
    assert labels["io.slipway.model.versions"] == "1"
    assert labels["io.slipway.layer.model.digest"] == next(x.diff_id for x in record.layers if x.name == "model")


def test_two_builds_are_one_image(run_stage, small_world):
    first, _ = run_stage("first")
    for entry in (small_world / "layers").iterdir():
        shutil.rmtree(entry)
    second, _ = run_stage("second")

    assert second == first
    assert [layer.name for layer in first.layers] == ["base", "tensorflow", "packages", "server", "model", "config"]
    assert first.packages == {"orjson": "3.13.0", "tensorflow-cpu": "2.21.0"}


def test_compression_changes_the_manifest_and_not_the_image(run_stage):
    gzip, _ = run_stage("gzip")
    zstd, _ = run_stage("zstd", compression="zstd")

    assert gzip.image_id == zstd.image_id
    assert gzip.manifest_digest != zstd.manifest_digest


@pytest.mark.parametrize("tamper", ["change", "add", "remove", "link"])
def test_a_servable_that_was_tampered_with_is_refused_before_anything_is_written(run_stage, servable, tmp_path, tamper):
    graph = servable / "saved_model.pb"
    match tamper:
        case "change":
            graph.write_bytes(b"other")
        case "add":
            (servable / "extra").write_bytes(b"")
        case "remove":
            graph.unlink()
        case "link":
            graph.rename(tmp_path / "elsewhere")
            graph.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SourceError, match=r"servables/half/1.*Delete .* and run again"):
        run_stage()

    assert not (tmp_path / "out").exists()


def test_a_build_that_fails_leaves_the_old_image_alone(run_stage, tmp_path, monkeypatch):
    run_stage()
    before = {name: path.read_bytes() for name, path in files.tree_files(tmp_path / "out").items()}

    def full(*_, **__):
        raise BuildError("no luck")

    monkeypatch.setattr(image.layout, "write_image", full)
    with pytest.raises(BuildError, match="no luck"):
        run_stage()

    assert {name: path.read_bytes() for name, path in files.tree_files(tmp_path / "out").items()} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_line_and_leaves_nothing(run_stage, tmp_path, servable):
    disk = tmp_path / "out"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with pytest.raises(StorageError, match=r"no space left on its disk .* run again") as caught:
            run_stage()
        assert "\n" not in str(caught.value)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_cache_that_cannot_be_written_is_named(small_world, tmp_path, run_stage):
    shutil.rmtree(small_world)
    small_world.symlink_to("/sys")  # which lets not even root make a file

    with pytest.raises(StorageError, match=f"{small_world}: cannot be written .*Choose a directory"):
        run_stage()


def test_another_architecture_is_told(run_stage, monkeypatch):
    monkeypatch.setattr(image.platform, "machine", lambda: "aarch64")

    with pytest.raises(BuildError, match=r"x86_64.*this machine: aarch64"):
        run_stage()


def test_versions_and_records_must_be_the_same(tmp_path):
    with pytest.raises(SettingsError, match="version 2: --version-dir and --servable-record"):
        servables({1: tmp_path}, {1: tmp_path, 2: tmp_path})


def test_time_is_given_or_of_the_last_commit_or_constant(tmp_path):
    assert source_date_epoch({"SOURCE_DATE_EPOCH": "5"}, tmp_path) == 5
    assert source_date_epoch({}, tmp_path) == archive.MTIME
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert source_date_epoch({}, tmp_path) == archive.MTIME
    commit = [*git, "commit", "--quiet", "--allow-empty", "--message=m"]
    subprocess.run(commit, check=True, env=os.environ | {"GIT_COMMITTER_DATE": "1234567890 +0000"})
    assert source_date_epoch({}, tmp_path) == 1234567890
    with pytest.raises(SettingsError, match="SOURCE_DATE_EPOCH: must be seconds since 1970, got 'now'"):
        source_date_epoch({"SOURCE_DATE_EPOCH": "now"}, tmp_path)

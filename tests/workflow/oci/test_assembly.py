import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from slipway import files
from slipway.errors import BuildError, SettingsError
from slipway.oci import base, wheels
from slipway.oci.assembly import ENTRYPOINT, Assembly, server_sources
from slipway.oci.layout import open_layer
from slipway.oci.wheels import SITE_PACKAGES
from slipway.settings import ImageSettings, ServerSettings


@pytest.fixture
def servable(tmp_path):
    directory = tmp_path / "servable/1"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    (directory / "variables/variables.index").write_bytes(b"index")
    return directory


@pytest.fixture
def assemble(small_world, base_tar, tmp_path, servable):
    """Make all six layers in a new layout; give the records and the layout."""

    def make(name="layout", cache=small_world, model=servable, said=None, backend="saved_model", **settings):
        place = tmp_path / name
        chosen = ImageSettings(base=base_tar, **settings)
        with Assembly(place, cache, chosen, (said if said is not None else []).append, backend) as assembly:
            layers = [
                assembly.base(),
                assembly.framework(),
                assembly.packages(),
                assembly.server(),
                assembly.model("half", {1: model}),
                assembly.config("half", ServerSettings()),
            ]
        return layers, place

    return make


def members(place, layer):
    with open_layer(place / "blobs/sha256" / layer.digest.removeprefix("sha256:"), "gzip") as packed:
        return {m.name: packed.extractfile(m).read() if m.isfile() else None for m in packed}


def test_two_clean_builds_give_the_same_blobs_whatever_the_surroundings(
    assemble, small_world, tmp_path, servable, monkeypatch
):
    """Other cache, directory, umask, times and time zone: none of it may show."""
    layers, place = assemble()
    moved = tmp_path / "elsewhere/1"
    shutil.copytree(servable, moved)
    for path in moved.rglob("*"):
        os.utime(path, (10**9, 10**9))
        path.chmod(0o700)
    other_cache = tmp_path / "other-cache"
    shutil.copytree(small_world / "wheels", other_cache / "wheels")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o077)
    try:
        again, other_place = assemble("other", cache=other_cache, model=moved)
    finally:
        os.umask(umask)

    assert again == layers
    assert files.tree_files(other_place).keys() == files.tree_files(place).keys()
    assert not any(layer.cached for layer in again)


def test_an_image_of_stablehlo_has_jax_in_tensorflows_place(assemble, small_world, make_wheel, monkeypatch, tmp_path):
    jaxlib = make_wheel("jaxlib", "0.10.2", {"jaxlib/xla.so": b"\x7fELF"}, directory=small_world / "wheels")
    jax = make_wheel("jax", "0.10.2", {"jax/__init__.py": b""}, directory=small_world / "wheels")
    numpy = make_wheel("numpy", "2.4.6", {"numpy/__init__.py": b""}, directory=small_world / "wheels")
    lock = tmp_path / "wheels-stablehlo.lock"
    lock.write_text("".join(f"{w.name}=={w.version} \\\n    --hash=sha256:{w.sha256}\n" for w in (jax, jaxlib, numpy)))
    monkeypatch.setattr(wheels, "STABLEHLO_LOCK", lock)

    layers, place = assemble(backend="stablehlo")

    assert [layer.name for layer in layers] == ["base", "jax", "packages", "server", "model", "config"]
    assert f"{SITE_PACKAGES}/jaxlib/xla.so" in members(place, layers[1])
    assert f"{SITE_PACKAGES}/jax/__init__.py" in members(place, layers[1])
    names = members(place, layers[2])
    assert f"{SITE_PACKAGES}/numpy/__init__.py" in names
    assert not any("tensorflow" in name or "orjson" in name for name in names)


def test_a_new_model_makes_only_its_own_layer(assemble, tmp_path, servable):
    layers, _ = assemble()
    (servable / "saved_model.pb").write_bytes(b"another graph")
    again, _ = assemble("again")

    assert [layer.cached for layer in again] == [True, True, True, True, False, False]
    assert [a.digest == b.digest for a, b in zip(layers, again, strict=True)] == [True, True, True, True, False, True]


def test_each_layer_holds_what_its_name_says(assemble):
    layers, place = assemble()
    base, tensorflow, packages, server, model, config = (members(place, layer) for layer in layers)

    assert "usr/bin/tini" in base
    assert f"{SITE_PACKAGES}/tensorflow/__init__.py" in tensorflow
    assert f"{SITE_PACKAGES}/tensorflow/include/a.h" not in tensorflow
    assert f"{SITE_PACKAGES}/orjson/orjson.so" in packages
    assert {
        f"{SITE_PACKAGES}/slipway_server/__main__.py",
        f"{SITE_PACKAGES}/slipway_wire/dtypes.py",
        ENTRYPOINT,
    } <= server.keys()
    assert model["models/half/1/variables/variables.index"] == b"index"
    assert b"models.config" not in config["etc/slipway/flags"]
    assert config["etc/slipway/model"] == b"half\n"


def test_scripts_run_under_the_images_interpreter(assemble):
    layers, place = assemble()
    server = members(place, layers[3])

    assert server["usr/bin/tensorflow_model_server"].startswith(b"#!/usr/bin/python3.11 -I\n")
    with open_layer(place / "blobs/sha256" / layers[3].digest.removeprefix("sha256:"), "gzip") as packed:
        modes = {m.name: m.mode for m in packed}
    assert modes[ENTRYPOINT] == 0o755


def test_nothing_of_this_machine_is_in_a_layer(assemble, tmp_path):
    layers, place = assemble()
    leaks = [
        os.uname().nodename.encode(),
        str(tmp_path).encode(),
        os.fsencode(sys.prefix),
        b"mirror.invalid",
        b"build-host",
    ]

    for layer in layers:
        with open_layer(place / "blobs/sha256" / layer.digest.removeprefix("sha256:"), "gzip") as packed:
            for member in packed:
                content = packed.extractfile(member).read() if member.isfile() else b""
                # A short host name may be part of any word.
                assert not [leak for leak in leaks if len(leak) > 4 and leak in content], member.name
                assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


def test_our_own_code_goes_in_without_leftovers():
    sources = server_sources()

    assert f"{SITE_PACKAGES}/slipway_server/entrypoint.py" in sources
    assert not [path for path in sources if "__pycache__" in path or path.endswith(".pyc")]


def test_our_own_code_is_found_without_importing_it():
    """The server's imports are the image's business; here they may be missing."""
    script = (
        "import sys; from slipway.oci.assembly import server_sources; server_sources(); "
        "print('slipway_server' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_a_base_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"image\.base: .*none\.tar: no such file"):
        Assembly(tmp_path / "layout", tmp_path / "cache", ImageSettings(base=tmp_path / "none.tar"), print)


def test_the_tar_of_the_base_does_not_stay_behind(assemble, base_tar):
    _, place = assemble()

    assert base_tar.exists()
    assert {path.name for path in place.iterdir()} == {"blobs"}
    assert tarfile.is_tarfile(base_tar)


@pytest.fixture
def mirror_that_moved_on(small_world, base_tar, monkeypatch):
    """A mirror on which a security update has replaced one locked package."""
    locked = base.read_lock(base.lock_path("bookworm"))
    updated = [base.LockedPackage(locked[0].name, "99", "0" * 64), *locked[1:]]

    def bootstrap(_suite, wanted, tar):
        if list(wanted) == locked:
            raise base.StaleLockError("base-files is not on the mirror any more.")
        shutil.copy(base_tar, tar)

    monkeypatch.setattr(base, "bootstrap", bootstrap)
    monkeypatch.setattr(base, "newest", lambda _suite: updated)


@pytest.mark.usefixtures("mirror_that_moved_on")
def test_a_package_that_left_the_mirror_is_replaced_and_the_record_says_so(tmp_path):
    said = []
    with Assembly(tmp_path / "layout", tmp_path / "cache", ImageSettings(), said.append) as assembly:
        assembly.base()

        assert assembly.base_description.endswith("1 of them not as locked")
    assert any(line.startswith("warning: base-files is not on the mirror any more.") for line in said)


@pytest.mark.usefixtures("mirror_that_moved_on")
def test_a_strict_build_refuses_what_is_not_locked(tmp_path):
    with (
        Assembly(tmp_path / "layout", tmp_path / "cache", ImageSettings(strict=True), str) as assembly,
        pytest.raises(BuildError, match="not on the mirror any more"),
    ):
        assembly.base()

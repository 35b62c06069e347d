"""TensorFlow's own in-memory file system, ram://, is remote enough: it is reached by a URI and through its file layer only."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from slipway_server.config_files import ModelConfig
from slipway_server.servables.diagnosis import diagnose_error
from slipway_server.servables.loader import Call
from slipway_server.servables.source import BasePath, Clock
from slipway_wire.status import Unavailable

NUMBERS = itertools.count()


@pytest.fixture
def remote():
    from slipway_server.backends.remote_storage import RemoteStorage

    return RemoteStorage()


@pytest.fixture
def base():
    """A place of its own for each test: the file system lasts as long as the process."""
    return f"ram://bucket{next(NUMBERS)}/model"


@pytest.fixture
def upload(testdata):
    import tensorflow as tf

    source = testdata / "saved_model_half_plus_two_2_versions" / "00000123"

    def put(to, but=()):
        for path in source.rglob("*"):
            if path.is_file() and path.name not in but:
                target = f"{to}/{path.relative_to(source).as_posix()}"
                tf.io.gfile.makedirs(target.rpartition("/")[0])
                tf.io.gfile.copy(str(path), target, overwrite=True)

    return put


def test_names_trees_and_contents(remote, base, upload, testdata):
    upload(f"{base}/1")
    source = testdata / "saved_model_half_plus_two_2_versions" / "00000123"

    assert remote.names(base) == ["1"]
    assert remote.is_directory(f"{base}/1")
    assert not remote.is_directory(f"{base}/1/saved_model.pb")
    tree = remote.tree(f"{base}/1")
    assert {name: file.size_bytes for name, file in tree.items()} == {
        path.relative_to(source).as_posix(): path.stat().st_size for path in source.rglob("*") if path.is_file()
    }
    assert remote.read(f"{base}/1/saved_model.pb", 10) == (source / "saved_model.pb").read_bytes()[:10]
    assert remote.device(base) is None


def test_what_is_not_there_is_an_os_error_as_everywhere(remote, base):
    for ask in (remote.names, remote.tree):
        with pytest.raises(FileNotFoundError):
            ask(base)
    with pytest.raises(FileNotFoundError):
        remote.read(f"{base}/1", 10)


def test_a_file_system_that_is_not_there_is_named(remote):
    with pytest.raises(OSError, match=r"has no file system for nope:// here, only for .*ram.*tensorflow_io") as error:
        remote.names("nope://bucket/model")

    assert "nope://" in diagnose_error(remote, ModelConfig("m", "nope://bucket/model"), error.value)


def test_versions_are_found_once_they_are_whole(remote, base, upload):
    now = [0.0]
    look = BasePath(remote, 2.0, Clock(lambda: now[0], lambda: 0.0, lambda _: None)).look
    model = ModelConfig("m", base)
    assert "No such file" in look(model)[0].problem
    upload(f"{base}/1")
    assert look(model)[0].versions == {1: f"{base}/1"}

    upload(f"{base}/2", but=["variables.index"])
    finding, _ = look(model)
    assert (finding.versions, finding.arriving) == ({1: f"{base}/1"}, {2})
    upload(f"{base}/2")
    assert look(model)[0].arriving == {2}
    now[0] += 2.0
    assert look(model)[0].versions == {2: f"{base}/2"}


def test_a_version_is_fetched_loaded_and_its_copy_goes_with_it(base, upload):
    from slipway_server.backends.remote_storage import FetchedLoader, LocalCopies
    from slipway_server.backends.saved_model import SavedModelLoader
    from slipway_server.load_options import LoadOptions
    from slipway_server.metrics import Metrics

    upload(f"{base}/1")
    seen = []

    def make(directory):
        seen.append(directory)
        return SavedModelLoader(directory, LoadOptions(), Metrics())

    copies = LocalCopies()
    servable = FetchedLoader(f"{base}/1", copies, make).load()
    answer = servable.run(Call("serving_default", {"x": np.float32([2.0])}, ["y"]))
    assert answer["y"].tolist() == [3.0]
    assert seen[0].is_dir()
    servable.close()

    assert not seen[0].exists()
    copies.remove()
    assert not seen[0].parent.exists()


def test_what_cannot_be_fetched_or_loaded_leaves_nothing_behind(base, upload):
    from slipway_server.backends.remote_storage import FetchedLoader, LocalCopies

    copies = LocalCopies()
    with pytest.raises(Unavailable, match=rf"^{base}/1: cannot be fetched to .*: No such file or directory$"):
        FetchedLoader(f"{base}/1", copies, lambda _: pytest.fail("loaded")).load()
    upload(f"{base}/1")
    seen = []

    def fail(directory):
        seen.append(directory)
        raise ValueError(directory)

    with pytest.raises(ValueError, match="ram"):
        FetchedLoader(f"{base}/1", copies, fail).load()
    assert not seen[0].exists()
    copies.remove()


def test_local_paths_need_no_tensorflow():
    """The import costs seconds; what lists local paths must not drag it in."""
    import subprocess
    import sys

    code = "import sys, slipway_server.servables.source; sys.exit('tensorflow' in sys.modules)"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root / "server")

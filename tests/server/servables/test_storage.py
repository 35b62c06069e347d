import os

import pytest

from slipway_server.servables.storage import FileState, LocalStorage, join


@pytest.fixture
def storage():
    return LocalStorage()


def test_names_are_in_order_and_errors_are_told(storage, tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()

    assert storage.names(str(tmp_path)) == ["a", "b", "file"]
    with pytest.raises(FileNotFoundError):
        storage.names(str(tmp_path / "none"))
    with pytest.raises(NotADirectoryError):
        storage.names(str(tmp_path / "file"))


def test_a_tree_is_all_files_with_what_changes_when_they_are_written(storage, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(b"12345")
    (tmp_path / "nowhere").symlink_to("missing")

    tree = storage.tree(str(tmp_path))

    status = (tmp_path / "deep" / "er" / "file").stat()
    assert tree == {"deep/er/file": FileState(5, status.st_ctime), "nowhere": FileState(-1, 0.0)}


def test_a_time_that_was_copied_along_does_not_hide_a_change(storage, tmp_path):
    """Cp -p and rsync carry the time of modification over."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = storage.tree(str(tmp_path))
    other = tmp_path.parent / "two"
    other.write_bytes(b"two")
    os.utime(other, (1, 1))
    other.replace(path)

    assert storage.tree(str(tmp_path)) != before


def test_links_are_followed_and_loops_end(storage, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "loop").symlink_to(".")

    assert {"real/file", "link/file"} <= storage.tree(str(tmp_path)).keys()


def test_a_tree_of_a_file_or_of_nothing_is_an_error(storage, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        storage.tree(str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError):
        storage.tree(str(tmp_path / "none"))


def test_only_so_much_is_read(storage, tmp_path):
    (tmp_path / "file").write_bytes(b"12345")

    assert storage.read(str(tmp_path / "file"), 3) == b"123"
    assert storage.is_directory(str(tmp_path))
    assert not storage.is_directory(str(tmp_path / "file"))
    assert storage.device(str(tmp_path)) == tmp_path.stat().st_dev


def test_paths_are_put_together_with_their_scheme():
    assert join("gs://bucket/model/", "1") == "gs://bucket/model/1"
    assert join("/models/m", "1", "saved_model.pb") == "/models/m/1/saved_model.pb"

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway import files
from slipway.errors import StorageError


def left_over(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if ".partial" in path.name]


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "deep" / "record.json"

    files.write_bytes(target, b"first")
    files.write_bytes(target, b"second")

    assert target.read_bytes() == b"second"
    assert left_over(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "record.json"
    files.write_bytes(target, b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"record\.json: no space left on its disk \(\d+ MB free\)"):
        files.write_bytes(target, b"new")

    assert target.read_bytes() == b"old"
    assert left_over(tmp_path) == []


def test_a_full_disk_that_only_a_librarys_words_tell_of_is_told_the_same(tmp_path):
    """As TensorFlow's ResourceExhaustedError, which is no OSError."""
    told = "variables.data-00000-of-00001; No space left on device [Op:SaveV2]"
    with (
        pytest.raises(StorageError, match=r"export: no space left on its disk \(\d+ MB free\)"),
        files.new_directory(tmp_path / "export"),
    ):
        raise RuntimeError(told)

    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_half_written_goes_however_deep_it_lies(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    (deep / f".r.json.{gone.pid}-0.partial").write_text("half")
    (deep / f".source.{gone.pid}-0.partial").mkdir()
    mine = deep / f".r.json.{os.getpid()}-0.partial"
    mine.write_text("half")
    files.remove_partials(tmp_path, deep=True)

    assert list(deep.iterdir()) == [mine]


def test_a_directory_is_replaced_only_if_the_block_ends_well(tmp_path):
    target = tmp_path / "export"
    with files.new_directory(target) as new:
        (new / "a").write_text("1")

    def fail() -> None:
        with files.new_directory(target) as new:
            (new / "a").write_text("2")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own
        fail()

    assert (target / "a").read_text() == "1"
    assert left_over(tmp_path) == []


FILL_AND_WAIT = """
import signal, sys
from pathlib import Path
from slipway import files
with files.new_directory(Path(sys.argv[1])) as new:
    (new / "half").write_text("x")
    print("begun", flush=True)
    signal.pause()
"""


def test_what_a_killed_process_left_is_removed_and_a_living_ones_work_is_not(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", FILL_AND_WAIT, tmp_path / "export"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"

    files.remove_partials(tmp_path)
    assert len([p for p in tmp_path.iterdir() if p.name.endswith(".partial")]) == 1

    process.kill()
    process.communicate()
    files.remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, min_size=2, max_size=5))
def test_equal_values_give_equal_json_whatever_the_order_of_keys(value):
    turned = dict(reversed(value.items()))

    assert files.canonical_json(value) == files.canonical_json(turned)


def test_a_trees_digest_sees_names_and_contents_but_no_times_and_nothing_of_snakemakes(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")

    def digest() -> str:
        return files.digest_of_digests({n: files.sha256_file(p) for n, p in files.tree_files(tmp_path).items()})

    before = digest()
    os.utime(tmp_path / "sub" / "a", (0, 0))
    (tmp_path / files.SNAKEMAKE_TIMESTAMP).write_text("now")
    assert digest() == before

    (tmp_path / "sub" / "a").rename(tmp_path / "sub" / "b")
    assert digest() != before

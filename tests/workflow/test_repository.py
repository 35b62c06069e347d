import shutil
import threading
from pathlib import Path

import pytest

from slipway import repository
from slipway.errors import SourceError
from slipway_wire import manifest

TESTDATA = Path(__file__).parents[1] / "testdata"
HALF_PLUS_TWO = TESTDATA / "saved_model_half_plus_two_cpu/00000123"
HALF_PLUS_THREE = TESTDATA / "saved_model_half_plus_three/00000123"


def saved_model(directory, content):
    """Something with the shape of a SavedModel: nothing here reads it."""
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(content)
    (directory / "variables/variables.index").write_bytes(content * 1000)
    return directory


def is_whole(version):
    expected = manifest.decode((version / manifest.MANIFEST_FILE).read_bytes())
    return expected == repository._digests(version)


def test_the_next_number_is_one_more_than_the_highest_and_foreign_names_are_let_be(tmp_path):
    base = tmp_path / "base"
    for name in ("00000123", "tmp", "5", "1.0", "v200"):
        (base / name).mkdir(parents=True)
    (base / ".DS_Store").write_text("x")

    assert repository.publish(HALF_PLUS_TWO, base) == (124, True)

    assert {path.name for path in base.iterdir()} == {
        "00000123", "tmp", "5", "1.0", "v200", ".DS_Store", repository.LOCK, "124",
    }  # fmt: skip
    assert is_whole(base / "124")
    assert (base / "124/variables/variables.index").read_bytes() == (
        HALF_PLUS_TWO / "variables/variables.index"
    ).read_bytes()


def test_the_same_content_is_the_same_version(tmp_path):
    numbers = [repository.publish(model, tmp_path)[0] for model in (HALF_PLUS_TWO, HALF_PLUS_THREE, HALF_PLUS_TWO)]

    assert numbers == [1, 2, 1]
    assert repository.publish(tmp_path / "2", tmp_path) == (2, False), "a published one, with its manifest"


def test_a_version_without_a_manifest_is_known_by_its_files(tmp_path):
    shutil.copytree(HALF_PLUS_TWO, tmp_path / "7")

    assert repository.publish(HALF_PLUS_TWO, tmp_path) == (7, False)
    assert repository.publish(HALF_PLUS_THREE, tmp_path) == (8, True)


def test_a_damaged_version_is_told_instead_of_taken_for_good(tmp_path):
    repository.publish(HALF_PLUS_TWO, tmp_path)
    (tmp_path / "1/saved_model.pb").write_bytes(b"cut off")

    with pytest.raises(SourceError, match=r"1/saved_model\.pb: not as .*so this version is damaged"):
        repository.publish(HALF_PLUS_TWO, tmp_path)


@pytest.mark.parametrize("damage", ["no model", "wrong manifest"])
def test_what_a_server_would_refuse_is_not_published(tmp_path, damage):
    model = saved_model(tmp_path / "model", b"x")
    if damage == "no model":
        (model / "saved_model.pb").unlink()
    else:
        (model / "assets.extra").mkdir()
        (model / manifest.MANIFEST_FILE).write_bytes(manifest.encode({"saved_model.pb": "0" * 64}))

    with pytest.raises(SourceError):
        repository.publish(model, tmp_path / "base")

    assert not (tmp_path / "base").exists()


def test_a_number_that_somebody_else_takes_meanwhile_is_left_to_them(tmp_path, monkeypatch):
    base = tmp_path / "base"
    rename = Path.rename

    def race(path, target):
        if target.name == "1":
            (base / "1").mkdir()
            (base / "1/saved_model.pb").write_text("theirs")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", race)

    assert repository.publish(HALF_PLUS_TWO, base) == (2, True)
    assert (base / "1/saved_model.pb").read_text() == "theirs"


def test_there_is_no_version_after_the_highest(tmp_path):
    (tmp_path / str(2**63 - 1)).mkdir()

    with pytest.raises(SourceError, match="there is none after it"):
        repository.publish(HALF_PLUS_TWO, tmp_path)


def test_who_watches_sees_whole_versions_only(tmp_path):
    """Twelve versions come from three threads while two others look all the time."""
    base = tmp_path / "base"
    base.mkdir()
    models = [saved_model(tmp_path / f"model-{number}", b"%d" % number) for number in range(12)]
    stop, seen, broken = threading.Event(), set(), []

    def watch():
        while not stop.is_set():
            for path in base.iterdir():
                if path.name.isdigit() and path not in seen:
                    broken.extend([] if is_whole(path) else [path])
                    seen.add(path)

    def add(some):
        numbers.extend(repository.publish(model, base)[0] for model in some)

    numbers = []
    watchers = [threading.Thread(target=watch) for _ in range(2)]
    adders = [threading.Thread(target=add, args=(models[start::3],)) for start in range(3)]
    for thread in (*watchers, *adders):
        thread.start()
    for thread in adders:
        thread.join()
    stop.set()
    for thread in watchers:
        thread.join()

    assert sorted(numbers) == list(range(1, 13))
    assert broken == []
    assert not list(base.glob(".*.partial"))

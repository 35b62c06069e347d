import math

import pytest

from slipway.errors import SourceError
from slipway.records import Parity, TreeManifest, WarmupRecord


@pytest.fixture
def tree(tmp_path):
    directory = tmp_path / "tree"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    (directory / "variables" / "variables.index").write_bytes(b"index")
    return directory


def test_an_untouched_tree_verifies(tree):
    manifest = TreeManifest.of(tree)

    manifest.verify(tree)

    assert manifest.bytes == len(b"graphindex")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda t: (t / "saved_model.pb").write_bytes(b"grapf"),
            r"saved_model\.pb: changed after it was written: expected sha256",
        ),
        (lambda t: (t / "saved_model.pb").unlink(), r"saved_model\.pb: missing"),
        (lambda t: (t / "extra").write_bytes(b""), r"extra: not in the manifest"),
    ],
    ids=["changed", "missing", "extra"],
)
def test_a_changed_tree_is_refused_by_the_name_of_the_file(tree, damage, message):
    manifest = TreeManifest.of(tree)
    damage(tree)

    with pytest.raises(SourceError, match=message):
        manifest.verify(tree)


def test_a_record_survives_the_way_to_disk_and_back(tmp_path):
    record = WarmupRecord(model="m", version=1, digest=f"sha256:{'0' * 64}", bytes=3, entries=[], replayed=0)

    record.write(tmp_path / "r.json")

    assert WarmupRecord.read(tmp_path / "r.json") == record


def test_infinite_distances_survive_too(tmp_path):
    """A wrong label, where 0 is right, is infinitely wrong: that is no reason for a traceback instead of the fault."""
    far = Parity(path="a→b", signature="f", output="y", rows=1, max_abs=8, max_rel=math.inf, atol=0, rtol=0, ok=False)

    far.write(tmp_path / "r.json")

    assert Parity.read(tmp_path / "r.json") == far


@pytest.mark.parametrize("text", ["", "{", '{"model": 1}', "[]"])
def test_a_damaged_record_is_one_line_that_says_what_to_do(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)

    with pytest.raises(SourceError, match=r"r\.json: .*delete it and run again") as caught:
        WarmupRecord.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_record_names_the_way_to_make_it(tmp_path):
    with pytest.raises(SourceError, match=r"not there\. Run the stage that writes it"):
        WarmupRecord.read(tmp_path / "none.json")

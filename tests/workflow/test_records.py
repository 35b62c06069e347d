import json
import math

import html5lib
import pytest
from pydantic import BaseModel
from tests.workflow import result_factory as factory

from slipway.errors import SourceError
from slipway.records import Parity, Result, TreeManifest, WarmupRecord
from slipway.report.page import render_report


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


# --- results of other versions ---------------------------------------------------------------------


def required_only(value):
    """What the very first result of this schema had: nothing that has been added since, for that has a default."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {n: required_only(getattr(value, n)) for n, field in fields.items() if field.is_required()}
    if isinstance(value, dict):
        return {str(key): required_only(item) for key, item in value.items()}
    return [required_only(item) for item in value] if isinstance(value, list) else value


def test_a_result_of_the_oldest_slipway_is_read_and_drawn(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(required_only(factory.result())))
    old = Result.read(path)

    assert old.models[0].benchmarks[0].ceilings == []
    assert html5lib.HTMLParser(strict=True).parse(render_report(old)) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schema": "slipway.result/2"},
            r"it is slipway.result/2, and Slipway .* reads up to slipway.result/1\. Use the ",
        ),
        (
            {"later_field": 1, "environment.slipway": "99.1.0"},
            r"written by Slipway 99\.1\.0, and this is .*\(99\.1\.0\)",
        ),
        ({"later_field": 1}, "later_field: Extra inputs are not permitted.*damaged or from another version"),
        (
            {"schema": "slipway.comparison/2"},
            r"expected slipway.result/1, found slipway.comparison/2: it is another file",
        ),
        ({"environment": 3}, "environment: Input should be"),
    ],
)
def test_a_result_that_cannot_be_read_says_in_a_line_whether_it_is_newer(tmp_path, changes, message):
    path = tmp_path / "result.json"
    content = factory.result().model_dump(mode="json")
    for name, value in changes.items():
        first, _, second = name.partition(".")
        content[first] = {**content[first], second: value} if second else value
    path.write_text(json.dumps(content))

    with pytest.raises(SourceError, match=message) as caught:
        Result.read(path)
    assert "\n" not in str(caught.value)

import shutil

import pytest
from pydantic import TypeAdapter

from slipway.errors import SourceError
from slipway.source_digest import content_digest, verify
from slipway.source_settings import Source


def source(**given):
    return TypeAdapter(Source).validate_python(given)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A checkpoint of two files and the module of its builder, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.index", "a.data-00000-of-00001"):
        (tmp_path / name).write_text(name)
    (tmp_path / "net.py").write_text("def build(): ...")
    return {"kind": "checkpoint", "builder": "net:build"}


def test_the_same_content_under_another_name_has_the_same_digest(weights, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for ending in ("index", "data-00000-of-00001"):
        shutil.copy(tmp_path / f"a.{ending}", tmp_path / f"elsewhere/b.{ending}")

    assert content_digest(source(path="a", **weights)) == content_digest(source(path="elsewhere/b", **weights))


def test_everything_that_makes_another_model_makes_another_digest(weights, tmp_path):
    digests = {content_digest(source(path="a", **weights)), content_digest(source(path="a", root="net", **weights))}
    for name in ("a.index", "net.py"):
        (tmp_path / name).write_text("other")
        digests.add(content_digest(source(path="a", **weights)))

    assert len(digests) == 4


def test_a_default_that_is_written_out_is_no_other_content():
    assert content_digest(source(kind="builtin", epochs=15)) == content_digest(source(kind="builtin"))
    assert content_digest(source(kind="builtin", epochs=16)) != content_digest(source(kind="builtin"))


def test_what_is_fetched_is_known_by_its_sha256():
    def fetched(place, sha256):
        return content_digest(source(kind="keras", path=f"https://{place}/m.keras", sha256=sha256 * 64))

    assert fetched("a", "0") == fetched("b", "0") != fetched("a", "1")


def test_files_that_changed_after_the_version_was_added_are_refused(weights, tmp_path):
    made = source(path="a", **weights)
    digest = content_digest(made)
    verify(made, digest)
    (tmp_path / "a.index").write_text("trained again")

    with pytest.raises(SourceError, match="have changed since this version was added"):
        verify(made, digest)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.keras: cannot be read"):
        content_digest(source(kind="keras", path=str(tmp_path / "gone.keras")))

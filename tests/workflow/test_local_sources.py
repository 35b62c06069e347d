import hashlib
import tarfile
import zipfile

import pytest
from pydantic import TypeAdapter
from tests.workflow import index_factory

from slipway.errors import SourceError
from slipway.local_sources import keep, kept
from slipway.source_settings import Source

KIND = {"kind": "checkpoint", "builder": "mine:model"}


def parse(**keys):
    return TypeAdapter(Source).validate_python(KIND | {key: str(v) if key == "path" else v for key, v in keys.items()})


def packed(directory, *prefixes, name="a.tar.gz"):
    for prefix in prefixes:
        index_factory.checkpoint(directory / "in" / prefix, index_factory.OBJECTS)
    path = directory / name
    with tarfile.open(path, "w:gz") as archive:
        archive.add(directory / "in", "mine")
    return path


def refused(source, directory):
    out = directory / "out"
    out.mkdir()
    with pytest.raises(SourceError) as caught:
        keep(source, out, directory / "cache", lambda _: None)
    assert list(out.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("more", [{}, {"inside": "mine/b/m-1"}])
def test_the_source_in_an_archive_is_kept_without_it(more, tmp_path, out):
    source = parse(path=packed(tmp_path, "b/m-1"), **more)

    local = keep(source, out, tmp_path / "cache", lambda _: None)

    assert local.path == kept(source, out).path == out / "m-1"
    assert sorted(path.name for path in out.iterdir()) == ["m-1.data-00000-of-00001", "m-1.index"]


def test_what_is_fetched_comes_from_the_cache_by_its_digest(tmp_path, out):
    path = packed(tmp_path, "m-1")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "cache/sources").mkdir(parents=True)
    path.rename(tmp_path / "cache/sources" / digest)
    source = parse(path="https://nowhere.invalid/a.tar.gz", sha256=digest)

    local = keep(source, out, tmp_path / "cache", lambda _: None)

    assert local.path == kept(source, out).path == out / "m-1"
    assert local.url is None


def test_an_archive_with_another_digest_is_not_unpacked(tmp_path):
    assert "expected SHA-256" in refused(parse(path=packed(tmp_path, "m-1"), sha256="0" * 64), tmp_path)


def test_several_sources_need_a_choice(tmp_path):
    message = refused(parse(path=packed(tmp_path, "m-1", "m-2")), tmp_path)

    assert message == "a.tar.gz: holds 2 sources of this kind: mine/m-1, mine/m-2. Name one as `inside`."


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"inside": "mine/x"}, "a.tar.gz: holds no mine/x; it holds: mine/m-1."),
        ({"inside": "mine/../../x"}, "leads out of the archive"),
        (
            {"kind": "tf1_checkpoint"},
            "expected a source of kind: tf1_checkpoint in it; found mine/m-1: a TF2 checkpoint",
        ),
    ],
)
def test_what_an_archive_does_not_hold_is_told_with_what_it_does(more, expected, tmp_path):
    assert expected in refused(parse(path=packed(tmp_path, "m-1"), **more), tmp_path)


def test_a_hostile_archive_leaves_nothing(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../m-1.index", "x")

    assert f"{path}: '../m-1.index' leads out of the archive (..): the archive is refused." in refused(
        parse(path=path), tmp_path
    )
    assert not (tmp_path / "m-1.index").exists()

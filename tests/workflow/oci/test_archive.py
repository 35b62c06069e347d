import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.oci import archive

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..")
)
trees = st.dictionaries(names.map(lambda name: f"d/{name}"), st.binary(max_size=2000), max_size=8)


def written(entries) -> bytes:
    sink = io.BytesIO()
    archive.write_archive(entries, sink)
    return sink.getvalue()


def read(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        return {
            member.name: (member, packed.extractfile(member).read() if member.isfile() else None) for member in packed
        }


@given(trees, st.randoms())
def test_what_is_read_back_is_what_was_given_in_whatever_order(tree, random):
    entries = [archive.file(path, content) for path, content in tree.items()]
    data = written(entries)
    random.shuffle(entries)

    assert written(entries) == data
    assert {name: content for name, (member, content) in read(data).items() if member.isfile()} == tree


def test_times_owners_and_modes_are_fixed_and_parents_come_before_children(tmp_path):
    """What a file has on this machine must not show: its time, owner, permissions."""
    source = tmp_path / "secret"
    source.write_bytes(b"x")
    source.chmod(0o600)
    os.utime(source, (1, 1))

    members = [member for member, _ in read(written([archive.file("a/b/c", source), archive.link("l", "a")])).values()]

    assert [member.name for member in members] == ["a", "a/b", "a/b/c", "l"]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (archive.MTIME, 0, 0, "", "")
    }
    assert [oct(member.mode) for member in members] == ["0o755", "0o755", "0o644", "0o777"]
    assert members[3].linkname == "a"


def test_a_later_entry_replaces_an_earlier_one():
    data = written([archive.file("a", b"1"), archive.file("a", b"2", executable=True)])

    ((member, content),) = read(data).values()
    assert content == b"2"
    assert member.mode == 0o755


def test_a_file_may_turn_out_not_to_be():
    assert read(written([archive.lazy_file("a", lambda: None)])) == {}


@pytest.mark.parametrize("path", ["", "/a", "a/../b", "..", "a//b", "a/", "./a", "a\0b"])
def test_paths_that_leave_the_image_are_refused(path):
    with pytest.raises(ValueError, match="not a path inside an image"):
        archive.file(path, b"")

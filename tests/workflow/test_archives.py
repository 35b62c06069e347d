import gzip
import io
import shutil
import stat
import tarfile
import zipfile

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.archives import Limits, kind_of_archive, unpack
from slipway.errors import SourceError

CONTENT = {"m/saved_model.pb": b"graph" * 100, "m/variables/variables.index": b"index", "m/empty": b""}
SUFFIXES = ("tar", "tar.gz", "tar.zst", "zip")


def tar(members):
    """A tar of (name, content) pairs, or of TarInfos for what is no plain file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return packed.getvalue()


def zipped(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return packed.getvalue()


def pack(suffix, members):
    if suffix == "zip":
        return zipped(members)
    compress = {"tar": bytes, "tar.gz": gzip.compress, "tar.zst": zstandard.compress}[suffix]
    return compress(tar(members))


def written(directory, data, name="a"):
    path = directory / name
    path.write_bytes(data)
    out = directory / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return path, out


def refusal(directory, data, limits=None):
    path, out = written(directory, data)
    with pytest.raises(SourceError) as caught:
        unpack(path, out, *([limits] if limits else []))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert sorted(found.name for found in directory.iterdir()) == ["a", "out"]  # nothing beside its place
    return str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_packed_comes_out(suffix, tmp_path):
    path, out = written(tmp_path, pack(suffix, CONTENT.items()))

    unpack(path, out)

    assert kind_of_archive(path) == suffix
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()} == CONTENT
    assert not any(p.stat().st_mode & 0o111 for p in out.rglob("*") if p.is_file())


def test_directories_and_what_macos_adds_do_no_harm(tmp_path):
    folder = tarfile.TarInfo("./m")
    folder.type = tarfile.DIRTYPE
    path, out = written(tmp_path, tar([folder, folder, ("./m/a", b"1"), ("m/._a", b"2"), ("__MACOSX/m/a", b"3")]))

    unpack(path, out)

    assert [p.name for p in out.rglob("*")] == ["m", "a"]


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def special(name, kind):
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


HOSTILE_TARS = {
    "a way out": ([("m/../../x", b"1")], "leads out of the archive (..)"),
    "an absolute name": ([("/tmp/x", b"1")], "is an absolute name"),
    "a drive": ([("C:/x", b"1")], "is an absolute name"),
    "a backslash": ([("..\\x", b"1")], "has characters"),
    "a line break": ([("a\nb", b"1")], "has characters"),
    "a link out": ([link("m", "/etc"), ("m/passwd", b"1")], "is a link to '/etc', and not a plain file"),
    "a link inside": ([("a", b"1"), link("b", "a")], "is a link to 'a'"),
    "a hard link": ([link("b", "../../a", tarfile.LNKTYPE)], "is a link to '../../a'"),
    "a device": ([special("null", tarfile.CHRTYPE)], "is a device or a pipe"),
    "a pipe": ([special("pipe", tarfile.FIFOTYPE)], "is a device or a pipe"),
    "one name twice": ([("a", b"1"), ("./a", b"2")], "is in it twice"),
    "a file as a directory": ([("a", b"1"), ("a/b", b"2")], "lies in a, which is a file in it"),
    "a directory as a file": ([("a/b", b"1"), ("a", b"2")], "is in it twice"),
    "a long name": ([("a" * 300, b"1")], "is too long a name"),
}


@pytest.mark.parametrize(("members", "expected"), HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_a_hostile_tar_is_refused(members, expected, tmp_path):
    assert expected in refusal(tmp_path, tar(members))


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x"])
def test_a_hostile_zip_is_refused(name, tmp_path):
    assert ": the archive is refused." in refusal(tmp_path, zipped([(name, b"1")]))


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("m")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16

    assert "is a link or a device" in refusal(tmp_path, zipped([(info, "/etc")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip_is_refused(tmp_path):
    assert "is in it twice" in refusal(tmp_path, zipped([("a", b"1"), ("a", b"2")]))


SMALL = Limits(total_bytes=1 << 20, ratio=10, floor_bytes=1 << 12, count=10)


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_a_bomb_is_refused_before_it_goes_off(suffix, tmp_path):
    message = refusal(tmp_path, pack(suffix, [("zeros", bytes(1 << 19))]), SMALL)

    assert "unpacks to more than" in message
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= SMALL.total_bytes


def test_many_files_that_are_small_alone_are_a_bomb_too(tmp_path):
    assert "holds more than 10 files" in refusal(tmp_path, tar([(f"f{n}", b"") for n in range(11)]), SMALL)
    parts = [(f"f{n}", bytes(1000)) for n in range(9)]
    assert "unpacks to more than" in refusal(tmp_path, gzip.compress(tar(parts)), SMALL)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    """Attributes are read (pax headers) whole by tarfile; a gigabyte of them packs to a megabyte."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30

    assert "a header of 1073741824 bytes" in refusal(tmp_path, gzip.compress(info.tobuf() + bytes(1 << 20)))


def test_a_chain_of_headers_does_not_exhaust_the_stack(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    header = info.tobuf() + b"n".ljust(512, b"\0")

    assert "cut off or damaged" in refusal(tmp_path, gzip.compress(header * 3000))


def test_a_file_with_holes_is_refused(tmp_path):
    info = tarfile.TarInfo("x")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    info.size = 512
    packed = info.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n0\n".ljust(512, b"\0") + bytes(1024)

    assert "refused" in refusal(tmp_path, packed) or "damaged" in refusal(tmp_path, packed)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_cut_is_noticed(suffix, tmp_path):
    data = pack(suffix, CONTENT.items())
    content = len(data) if suffix != "tar" else len(data.rstrip(b"\0")) + 400
    for length in sorted({*range(9, content, max(1, content // 40)), content - 1}):
        assert "cut off or damaged" in refusal(tmp_path, data[:length]) or length < 265, length


@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_an_error_or_does_not_matter(data, suffix, tmp_path_factory):
    """Whatever is damaged: one line, or what comes out is of the same names and no larger."""
    directory = tmp_path_factory.mktemp("flip")
    packed = bytearray(pack(suffix, CONTENT.items()))
    at = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[at // 8] ^= 1 << at % 8
    path, out = written(directory, bytes(packed))
    told = ""
    try:
        unpack(path, out)
    except SourceError as error:
        told = str(error)
    assert "\n" not in told
    assert [found.name for found in directory.iterdir() if found.name not in {"a", "out"}] == []


def test_a_zip_whose_members_begin_before_the_file_is_damaged(tmp_path):
    packed = bytearray(pack("zip", CONTENT.items()))
    end = packed.rindex(b"PK\5\6")
    packed[end + 18] ^= 1  # the directory of members is said to begin 64 KiB later than it does

    assert "cut off or damaged" in refusal(tmp_path, bytes(packed))


def test_what_is_no_archive_is_told_so(tmp_path):
    assert "expected an archive (.tar, .tar.gz, .tgz, .tar.zst, .zip), found none" in refusal(tmp_path, b"x" * 600)

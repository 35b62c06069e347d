import io
import re
import tarfile

import pytest

from slipway.errors import BuildError
from slipway.oci import archive, base


def packed(entries):
    sink = io.BytesIO()
    archive.write_archive(entries, sink)
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as opened:
        return {m.name: opened.extractfile(m).read() if m.isfile() else m.linkname for m in opened}, sink.getvalue()


def test_nothing_of_the_host_and_no_shell_gets_into_the_layer(base_tar, compiler):
    members, data = packed(base.base_entries(base_tar, 10001, compiler))

    assert not [leak for leak in (b"build-host", b"192.0.2.53", b"mirror.invalid", b"shell", b"manual") if leak in data]
    assert not {"etc/hostname", "etc/resolv.conf", "usr/bin/bash", "slipway.lock"} & members.keys()


def test_the_layer_has_interpreter_libraries_and_bytecode_below_usr(base_tar, compiler):
    members, _ = packed(base.base_entries(base_tar, 10001, compiler))

    assert members["lib64"] == "usr/lib64"
    assert members["usr/lib64/ld-linux-x86-64.so.2"] == "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    assert members["usr/lib/x86_64-linux-gnu/libc.so.6"] == b"libc"
    assert "usr/lib/python3.11/__pycache__/os.cpython-311.pyc" in members
    assert "usr/lib/python3.11/test/test_os.py" not in members
    assert "slipway:x:10001:10001" in members["etc/passwd"].decode()


def test_scanners_find_the_packages_whose_files_are_there(base_tar, compiler):
    members, _ = packed(base.base_entries(base_tar, 10001, compiler))

    assert b"Status: install ok installed" in members["var/lib/dpkg/status.d/tini"]
    assert "var/lib/dpkg/status.d/dpkg" not in members
    assert "usr/share/doc/dpkg/copyright" not in members


def test_the_interpreter_is_unpacked_from_a_tar_as_it_is(base_tar, tmp_path):
    with tarfile.open(base_tar) as opened, base.interpreter_root(opened, tmp_path) as root:
        assert (root / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").read_bytes() == b"loader"
        assert (root / "usr/lib/python3.11/os.py").exists()
    assert not root.exists()


def test_a_base_without_the_interpreter_is_refused(tmp_path):
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass

    with (
        tarfile.open(tmp_path / "empty.tar") as opened,
        pytest.raises(BuildError, match=r"no /usr/bin/python3\.11"),
        base.interpreter_root(opened, tmp_path),
    ):
        pass


def test_the_lock_names_every_package_by_version_and_hash():
    lock = base.read_lock(base.lock_path("bookworm"))

    assert set(base.PACKAGES) <= {package.name for package in lock}
    assert all(re.fullmatch(r"[0-9a-f]{64}", package.sha256) for package in lock)


def test_a_release_without_a_lock_is_told_with_those_that_have_one():
    with pytest.raises(BuildError, match=r"image\.suite: sid: no lock .* there are: bookworm"):
        base.lock_path("sid")


def test_without_mmdebstrap_the_way_to_get_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BuildError, match="sudo apt-get install mmdebstrap"):
        base.bootstrap("bookworm", [], tmp_path / "root.tar")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "E: Version '2.5.0-1' for 'libexpat1' was not found\nE: apt-get failed",
            "libexpat1=2.5.0-1 is not on the mirror any more",
        ),
        ("W: Failed: Temporary failure resolving 'deb'\nE: x", "mirror cannot be reached"),
        ("W: GPG error: http://x InRelease: NO_PUBKEY 0E98\nE: update failed", "install debian-archive-keyring"),
        ("dd: No space left on device\n", "No space left"),
        ("E: invalid mode: /etc/subuid does not have an entry for user\n", "as root"),
        ("I: info\nE: something else\n", "mmdebstrap failed: E: something else"),
        ("", "no reason given"),
    ],
)
def test_a_wall_of_text_becomes_one_line(output, said):
    complaint = base.bootstrap_complaint(output, "bookworm")

    assert said in complaint
    assert "\n" not in complaint

"""A root file system and wheels of a few bytes each: everything of an image but its size."""

import base64
import hashlib
import io
import sys
import tarfile
import zipfile

import pytest

from slipway.oci import assembly, wheels
from slipway.oci.bytecode import Compiler


@pytest.fixture
def make_wheel(tmp_path):
    """Write a wheel: name, version, file -> content; `recorded` overrides what its RECORD says."""

    def make(name, version, content, recorded=None, directory=tmp_path):
        info = f"{name}-{version}.dist-info"
        all_files = {f"{info}/METADATA": f"Name: {name}\n".encode()} | content
        rows = []
        for path, data in (all_files | (recorded or {})).items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(data)}")
        path = directory / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as container:
            for member, data in all_files.items():
                container.writestr(member, data)
            container.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return wheels.Wheel(path, name, version, digest)

    return make


@pytest.fixture
def compiler():
    with Compiler([sys.executable]) as compiler:
        yield compiler


@pytest.fixture
def base_tar(tmp_path):
    """A root file system as mmdebstrap leaves it, with what a host leaks into it."""
    content = {
        "./usr/bin/python3.11": b"interpreter",
        "./usr/bin/tini": b"tini",
        "./usr/bin/bash": b"shell",
        "./lib/x86_64-linux-gnu/libc.so.6": b"libc",
        "./lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": b"loader",
        "./usr/lib/python3.11/os.py": b"name = 'posix'\n",
        "./usr/lib/python3.11/test/test_os.py": b"assert 1\n",
        "./usr/share/doc/tini/copyright": b"MIT",
        "./usr/share/doc/dpkg/copyright": b"GPL",
        "./usr/share/man/man1/tini.1": b"manual",
        "./etc/hostname": b"build-host\n",
        "./etc/resolv.conf": b"nameserver 192.0.2.53\n",
        "./etc/apt/sources.list": b"deb http://mirror.invalid/debian bookworm main\n",
        "./etc/services": b"http 80/tcp\n",
        "./var/lib/dpkg/status.d/tini": b"Package: tini\nArchitecture: amd64\n",
        "./var/lib/dpkg/status.d/dpkg": b"Package: dpkg\nArchitecture: amd64\n",
        "./slipway.lock": b"tini 0.19 0\n",
    }
    path = tmp_path / "base.tar"
    with tarfile.open(path, "w") as packed:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid = len(data), 0o755 if "/bin/" in name else 0o600, 1234
            packed.addfile(member, io.BytesIO(data))
        lib = tarfile.TarInfo("./lib64/ld-linux-x86-64.so.2")
        lib.type, lib.linkname = tarfile.SYMTYPE, "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
        packed.addfile(lib)
    return path


@pytest.fixture
def small_world(monkeypatch, tmp_path, make_wheel):
    """Lock two small wheels, held by the cache; compile with the interpreter that runs the tests."""
    cache = tmp_path / "cache"
    (cache / "wheels").mkdir(parents=True)
    tensorflow = make_wheel(
        "tensorflow_cpu",
        "2.21.0",
        {"tensorflow/__init__.py": b"x = {'a', 'b', 'c'}\n", "tensorflow/include/a.h": b"h"},
        directory=cache / "wheels",
    )
    other = make_wheel(
        "orjson", "3.13.0", {"orjson/__init__.py": b"", "orjson/orjson.so": b"\x7fELF"}, directory=cache / "wheels"
    )
    lock = tmp_path / "wheels.lock"
    lock.write_text(
        f"orjson==3.13.0 \\\n    --hash=sha256:{other.sha256}\n"
        f"tensorflow-cpu==2.21.0 \\\n    --hash=sha256:{tensorflow.sha256}\n"
    )
    monkeypatch.setattr(wheels, "LOCK", lock)
    monkeypatch.setattr(assembly, "compiler_of", lambda _root: Compiler([sys.executable]))
    return cache

"""
Fresh processes with TensorFlow in them, for less than a second each, and the models that tests share.

A fork server imports TensorFlow once and runs nothing; every command gets a fork of it: as fresh as a process
that Snakemake starts, without the seconds of the import. `tests/workflow/models/test_saved_model.py` shows that
both give the same bytes.
"""

import base64
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from slipway.oci import assembly, wheels
from slipway.oci.bytecode import Compiler

ROOT = Path(__file__).parents[2]
DIGITS_CONTRACT = ROOT / "config/contracts/digits.yaml"
USER_MODELS = Path(__file__).parent / "models/user_models.py"
DIGITS_SOURCE = {"kind": "builtin", "name": "digits", "seed": 0, "epochs": 1}

# Runs in the fork before its one command.
_ENTER = """
import os
os.chdir({directory!r})
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(log, 1)
os.dup2(log, 2)
"""


@dataclass(frozen=True)
class Finished:
    code: int
    output: str

    @property
    def errors(self):
        """What the user is told, a line per fault, without the command's name."""
        marks = [line.split(": error: ", 1) for line in self.output.splitlines() if ": error: " in line]
        return [mark[1] for mark in marks]


@dataclass(frozen=True)
class Fresh:
    """Runs functions and commands in processes that nothing ran in before."""

    logs: Path
    context: multiprocessing.context.ForkServerContext = field(
        default_factory=lambda: multiprocessing.get_context("forkserver")
    )

    def test_function(self, function, *arguments):
        """Call a function of a test module, which no other process can import by name."""
        names = {"file": function.__code__.co_filename, "name": function.__name__, "arguments": arguments}
        answer, _ = self.call(eval, "__import__('runpy').run_path(file)[name](*arguments)", names)
        return answer

    def call(self, function, *arguments, directory=ROOT):
        log = self.logs / f"{len(list(self.logs.iterdir()))}.log"
        enter = _ENTER.format(directory=str(directory), log=str(log))
        with ProcessPoolExecutor(1, self.context, exec, (enter,)) as process:
            return process.submit(function, *arguments).result(), log.read_text()

    def slipway(self, *words, directory=ROOT):
        from slipway import cli

        return Finished(*self.call(cli.main, [str(word) for word in words], directory=directory))


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["slipway.cli", "slipway.models.digits", "slipway.models.saved_model", "slipway.models.session"]
    )
    return Fresh(tmp_path_factory.mktemp("logs"), context)


@dataclass(frozen=True)
class Version:
    """Where the stages of one version of a model write."""

    directory: Path
    source: dict
    contract: Path
    model: str = "digits"

    def __getattr__(self, name):
        names = {"golden": "golden.npz", "warmup": "tf_serving_warmup_requests", "servable": "servable/1"}
        names |= {f"{stage}_record": f"{stage}.json" for stage in ("checkpoint", "export", "warmup", "servable")}
        names |= {"validation": "validation.json", "source_directory": "source", "export": "export"}
        if name not in names:
            raise AttributeError(name)
        return self.directory / names[name]

    def words(self, stage):
        common = [stage, "--model", self.model, "--version", "1"]
        source = ["--source", json.dumps(self.source), "--contract", self.contract]
        export = ["--export", self.export, "--export-record", self.export_record]
        held = ["--contract", self.contract, "--golden", self.golden, *export]
        match stage:
            case "checkpoint":
                out = [
                    "--out-source",
                    self.source_directory,
                    "--golden",
                    self.golden,
                    "--record",
                    self.checkpoint_record,
                ]
                return [*common, *source, *out]
            case "export":
                return [
                    *common,
                    *source,
                    "--from",
                    self.source_directory,
                    "--checkpoint-record",
                    self.checkpoint_record,
                    "--out",
                    self.export,
                    "--record",
                    self.export_record,
                ]
            case "validate":
                return [*common, *held, "--out", self.validation]
            case "warmup":
                return [*common, *held, "--batch-sizes", "1,4", "--out", self.warmup, "--record", self.warmup_record]
            case "servable":
                parts = ["--warmup", self.warmup, "--warmup-record", self.warmup_record]
                whole = [
                    "--checkpoint-record",
                    self.checkpoint_record,
                    "--out",
                    self.servable,
                    "--record",
                    self.servable_record,
                ]
                return [*common, *export, *parts, *whole]

    def run(self, fresh, *stages, directory=None):
        """Run stages in order, up to the first that fails, and give what the last one said."""
        finished = Finished(0, "")
        for stage in stages:
            finished = fresh.slipway(*self.words(stage), directory=directory or self.directory)
            if finished.code:
                break
        return finished

    def copy(self, directory):
        """Copy everything made so far, so that a test may break it."""
        shutil.copytree(self.directory, directory)
        return Version(directory, self.source, self.contract, self.model)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, fresh):
    """The built-in digits after one epoch: checkpoint and golden data."""
    directory = tmp_path_factory.mktemp("digits")
    contract = yaml.safe_load(DIGITS_CONTRACT.read_text())
    contract["golden"]["min_accuracy"] = 0.3
    (directory / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
    version = Version(directory / "one", DIGITS_SOURCE, directory / "contract.yaml")
    version.directory.mkdir()
    finished = version.run(fresh, "checkpoint")
    assert finished.code == 0, finished.output
    return version


@pytest.fixture(scope="session")
def exported(trained, fresh):
    """The same, with its SavedModel. Copy it before you break it."""
    finished = trained.run(fresh, "export")
    assert finished.code == 0, finished.output
    return trained


@pytest.fixture(scope="session")
def user_files(tmp_path_factory):
    """A user's working directory: files as Keras and TensorFlow write them, and the module that builds the models."""
    directory = tmp_path_factory.mktemp("user")
    shutil.copyfile(USER_MODELS, directory / "user_models.py")
    subprocess.run([sys.executable, "user_models.py", "."], cwd=directory, check=True, capture_output=True)
    return directory


@pytest.fixture(scope="session")
def foreign_files(tmp_path_factory, fresh):
    """What is on other people's disks: files of TensorFlow 1, of Keras 2, and of Keras 3 with code in them."""
    from tests.workflow.models import foreign_models

    directory = tmp_path_factory.mktemp("foreign")
    fresh.test_function(foreign_models.write, str(directory))
    shutil.copyfile(foreign_models.__file__, directory / "foreign_models.py")
    return directory


@pytest.fixture
def user_version(user_files, tmp_path):
    """Make a version from a user's source and contract, given as dictionaries."""

    def make(source, contract):
        (tmp_path / "contract.yaml").write_text(yaml.safe_dump({"format": 1} | contract, sort_keys=False))
        directory = tmp_path / "version"
        directory.mkdir()
        path = os.path.relpath(user_files / source["path"], user_files)
        return Version(directory, source | {"path": path}, tmp_path / "contract.yaml", "mine")

    return make


# --- images: a root file system and wheels of a few bytes each: everything of an image but its size ---


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

import subprocess
import sys
from pathlib import Path

import pytest

from slipway import provenance
from slipway.provenance import code_digest, environment, tool_versions


def sources(*names: str) -> set[str]:
    return set(provenance._sources(names))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of ours somewhere else: `slipway_wire` with modules that import each other."""
    root = tmp_path / "slipway_wire"
    (root / "codecs" / "tables").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "alone.py": "import json\n",
        "lazy.py": "def f():\n    from slipway_wire.codecs import json_codec\n    return json_codec\n",
        "codecs/__init__.py": "",
        "codecs/json_codec.py": "from .names import NAMES\nfrom .. import alone\n",
        "codecs/names.py": "NAMES = ()\n",
        "codecs/words.txt": "one",
        "codecs/tables/deep.csv": "1",
    }.items():
        (root / name).write_text(text)
    monkeypatch.setattr(provenance, "_root", lambda _name: tmp_path)
    return root


def test_a_module_counts_with_everything_of_ours_that_it_imports(package):
    """Imports inside functions and relative ones too: a stage must rerun when any of its code changed."""
    assert sources("slipway_wire.lazy") == {
        "slipway_wire/__init__.py",
        "slipway_wire/lazy.py",
        "slipway_wire/alone.py",
        "slipway_wire/codecs/__init__.py",
        "slipway_wire/codecs/json_codec.py",
        "slipway_wire/codecs/names.py",
        "slipway_wire/codecs/words.txt",
    }
    assert sources("slipway_wire.codecs") >= {"slipway_wire/codecs/tables/deep.csv", "slipway_wire/alone.py"}


@pytest.mark.parametrize("changed", ["lazy.py", "alone.py", "codecs/names.py", "codecs/words.txt"])
def test_any_changed_byte_changes_the_digest(package, changed):
    before = code_digest("slipway_wire.lazy")
    (package / changed).write_bytes((package / changed).read_bytes() + b"\n# more\n")

    assert code_digest("slipway_wire.lazy") != before


def test_what_is_not_imported_does_not_change_the_digest(package):
    before = code_digest("slipway_wire.alone")
    (package / "lazy.py").write_text("# rewritten\n")
    (package / "codecs" / "__pycache__").mkdir()
    (package / "codecs" / "__pycache__" / "names.pyc").write_bytes(b"x")

    assert code_digest("slipway_wire.alone") == before


def test_the_digest_does_not_depend_on_the_place(package, tmp_path, monkeypatch):
    before = code_digest("slipway_wire.codecs")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    package.rename(elsewhere / "slipway_wire")
    monkeypatch.setattr(provenance, "_root", lambda _name: elsewhere)

    assert code_digest("slipway_wire.codecs") == before


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"slipway\.nowhere"):
        code_digest("slipway.nowhere")
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        code_digest("numpy")


def test_the_real_stages_are_digested_without_importing_tensorflow():
    """Rules ask for digests while Snakemake parses: that must stay fast."""
    script = (
        "import sys; from slipway.provenance import code_digest, tool_versions;"
        "code_digest('slipway.report'); tool_versions('tensorflow-cpu', 'locust');"
        "print(sorted({'tensorflow', 'locust', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
    assert {"slipway/report/__init__.py", "slipway/files.py", "slipway/report/templates/report.css"} <= sources(
        "slipway.report"
    )


def test_versions_are_those_installed_and_absence_is_said():
    versions = tool_versions("pydantic", "no-such-package-anywhere")

    assert versions["pydantic"][0].isdigit()
    assert versions["no-such-package-anywhere"] == "absent"


def git(directory: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(directory), *settings, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_environment_knows_the_commit_and_whether_files_differ_from_it(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")

    clean = environment(tmp_path)
    (tmp_path / "a").write_text("2")
    dirty = environment(tmp_path)

    assert (clean.commit, clean.dirty) == (git(tmp_path, "rev-parse", "HEAD"), False)
    assert (dirty.commit, dirty.dirty) == (clean.commit, True)


def test_outside_a_repository_the_commit_is_unknown_not_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = environment(tmp_path)

    assert (found.commit, found.dirty) == (None, None)
    assert found.logical_cpus >= 1
    assert found.memory_bytes > 2**20
    assert found.cpu


def test_gpus_are_listed_with_their_driver(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.86.15'\necho 'NVIDIA H200, 570.86.15'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert provenance._gpus() == ["NVIDIA H200 (driver 570.86.15)"] * 2


@pytest.mark.parametrize("script", ["echo 'No devices were found'; exit 6", "echo 'No devices were found'"])
def test_a_driver_without_a_gpu_is_no_gpu(tmp_path, monkeypatch, script):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert provenance._gpus() == []

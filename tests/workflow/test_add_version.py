import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slipway import cli

CONFIG = """\
format: 1                # kept
models:
  a:
    contract: c.yaml
    versions:
      1: {source: {kind: keras, path: one.keras}}

server: {}
"""

# Twenty processes at once, forked so that they need no second import each.
MANY = """
import os, sys
from slipway import add_version, cli
children = []
for number in range(20):
    pid = os.fork()
    if not pid:
        sys.stdout = open(f"out-{number}", "w")
        code = cli.main(["add-version", "a", "--config", "config.yaml", "--source", "{kind: builtin, seed: %d}" % (number // 2)])
        sys.stdout.flush()
        os._exit(code)
    children.append(pid)
sys.exit(max(os.waitpid(pid, 0)[1] for pid in children) and 1)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    Path("one.keras").write_text("1")
    Path("two.keras").write_text("2")
    return tmp_path


@pytest.fixture
def add(project, capsys):
    """Run the command and give exit code, stdout and stderr."""

    def run(*words):
        where = [] if "--servable" in words else ["--config", "config.yaml"]
        code = cli.main(["add-version", *where, *map(str, words)])
        return code, *capsys.readouterr()

    return run


def versions(model="a"):
    return yaml.safe_load(Path("config.yaml").read_text())["models"][model]["versions"]


def test_the_next_number_is_claimed_and_the_config_keeps_its_form(add):
    code, out, _ = add("a", "--source", "two.keras")

    assert (code, out) == (0, "2\n")
    assert versions()[2]["source"] == {"kind": "keras", "path": "two.keras"}
    lines = Path("config.yaml").read_text().splitlines()
    assert [*lines[:6], *lines[7:]] == CONFIG.splitlines()


def test_the_same_content_is_the_same_version(add):
    """Also where the version was written by hand, and where the file lies elsewhere."""
    Path("copy.keras").write_text("1")
    assert add("a", "--source", "two.keras")[1] == "2\n"
    before = Path("config.yaml").read_text()

    assert add("a", "--source", "two.keras")[1:] == (
        "2\n",
        "config.yaml: version 2 of a has this content already; nothing to do\n",
    )
    assert add("a", "--source", "copy.keras")[1] == "1\n"
    assert Path("config.yaml").read_text() == before


def test_twenty_processes_get_a_number_each_and_equal_content_the_same(project):
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    numbers = [int(Path(f"out-{number}").read_text()) for number in range(20)]
    assert numbers[::2] == numbers[1::2]
    assert sorted(numbers[::2]) == list(range(2, 12))
    assert {made["source"]["seed"]: number for number, made in versions().items() if number > 1} == dict(
        enumerate(numbers[::2])
    )


def test_numbers_that_a_server_has_are_taken(add, project):
    for name in ("00000123", "tmp", "7"):
        (project / "base" / name).mkdir(parents=True)

    assert add("a", "--source", "two.keras", "--repository", "base")[1] == "124\n"


@pytest.mark.parametrize(
    "given",
    [
        "{kind: keras, path: two.keras}",
        '{"kind": "keras", "path": "two.keras"}',
        "kind: keras\npath: two.keras",
        "s.yaml",
    ],
)
def test_a_source_may_be_written_out(add, given):
    Path("s.yaml").write_text("kind: keras\npath: two.keras\n")

    assert add("a", "--source", given)[1] == "2\n"
    assert versions()[2]["source"] == {"kind": "keras", "path": "two.keras"}


def test_a_new_model_comes_with_its_contract(add):
    Path("c.yaml").touch()

    assert add("b", "--source", "one.keras", "--contract", "c.yaml")[1] == "1\n"
    assert yaml.safe_load(Path("config.yaml").read_text())["models"]["b"]["contract"] == "c.yaml"


def test_a_model_of_the_sheet_gets_its_next_version_in_the_config(add):
    Path("m.csv").write_text("model,version,kind,contract\nb,4,builtin,c.yaml\n")
    Path("config.yaml").write_text(f"{CONFIG}sheet: m.csv\n")

    assert add("b", "--source", "one.keras")[1] == "5\n"
    assert add("b", "--source", "{kind: builtin}")[1] == "4\n"
    assert list(versions("b")) == [5]


def test_a_version_that_nobody_would_see_is_told(add):
    Path("config.yaml").write_text(CONFIG.replace("\n\nserver", "\n    serving: {policy: {specific: [1]}}\n\nserver"))

    code, out, said = add("a", "--source", "two.keras")

    assert (code, out) == (0, "2\n")
    assert "slipway rollback a --to 2" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("b", "--source", "one.keras"), "no model b; there are: a"),
        (("a", "--source", "gone.keras"), "gone.keras: cannot be read (No such file or directory)"),
        (("a", "--source", "gone"), "--source: gone is not there"),
        (("a", "--source", "{kind: magic}"), "--source: tag 'magic'"),
        (("a", "--source", "{kind: keras"), "--source: not YAML"),
        (("a", "--source", "two.keras", "--contract", "other.yaml"), "a has the contract c.yaml"),
        (("b", "--source", "two.keras", "--contract", "gone.yaml"), "--contract: no file gone.yaml"),
        (("B", "--source", "two.keras", "--contract", "one.keras"), "models.B: String should match pattern"),
        (("--source", "two.keras"), "MODEL: the name of a model"),
        (("--servable", "x"), "give one --repository"),
        (("--servable", "x", "--repository", "base"), "x: expected a SavedModel"),
    ],
)
def test_what_cannot_be_added_is_told_and_changes_nothing(add, words, told):
    code, out, said = add(*words)

    assert (code, out) == (2, "")
    assert told in said
    assert len(said.splitlines()) == 1
    assert Path("config.yaml").read_text() == CONFIG
    assert not Path("base").exists()


def test_files_of_an_older_version_are_not_to_be_written_over(add):
    """Else version 2 would silently become what version 3 is."""
    add("a", "--source", "two.keras")
    Path("two.keras").write_text("trained again")

    code, _, said = add("a", "--source", "two.keras")

    assert code == 2
    assert "two.keras: version 2 of a is made from it, too" in said
    assert list(versions()) == [1, 2]


def test_a_number_that_was_withdrawn_is_not_given_again(add):
    log = {"model": "a", "from": 5, "to": 1, "reason": "", "by": "", "at": "", "was": {}}
    Path("config.yaml").write_text(f"{CONFIG}rollbacks: [{json.dumps(log)}]\n")

    assert add("a", "--source", "two.keras")[1] == "6\n"


def test_a_disk_that_cannot_be_written_leaves_the_config_as_it_was(add, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    code, _, said = add("a", "--source", "two.keras")

    assert code == 2
    assert "no space left" in said
    assert Path("config.yaml").read_text() == CONFIG
    assert sorted(path.name for path in Path().iterdir()) == [
        ".config.yaml.lock",
        "config.yaml",
        "one.keras",
        "two.keras",
    ]


def test_a_saved_model_is_published_into_a_base_path(add):
    model = Path(__file__).parents[1] / "testdata/saved_model_half_plus_two_cpu/00000123"

    assert add("--servable", model, "--repository", "base")[:2] == (0, "1\n")
    assert add("--servable", model, "--repository", "base")[1:] == (
        "1\n",
        "base/1: has this content already; nothing to do\n",
    )

from pathlib import Path

import pytest
import yaml

from slipway import config_file
from slipway.errors import SettingsError

DEFAULT = (Path(__file__).parents[2] / "config/config.yaml").read_text()
VERSION = {"source": {"kind": "builtin", "epochs": 3}}

# A config in every shape that people write.
FLOW = "{format: 1, models: {digits: {contract: c.yaml, versions: {1: {source: {kind: builtin}}}}}}"
JSON = '{"format": 1,\n "models": {"digits": {"contract": "c.yaml",\n  "versions": {"1": {"source": {"kind": "builtin"}}}}}\n}'
BLOCK = """\
# at the top
format: 1
models:
    'digits':   # quoted, four spaces
        versions:

            1:
                source:
                    kind:   builtin     # spaces that nobody else would keep
                    name: >-
                        digits

            # between
        contract: "c.yaml"


# at the end, without a newline"""
SHAPES = [DEFAULT, FLOW, JSON, BLOCK, BLOCK.replace("\n", "\r\n"), DEFAULT.rstrip("\n")]


@pytest.fixture
def make(tmp_path):
    def write(text):
        path = tmp_path / "config.yaml"
        path.write_bytes(text.encode())
        return config_file.read(path)

    return write


@pytest.mark.parametrize("text", SHAPES, ids=["default", "flow", "json", "block", "crlf", "no newline"])
def test_an_edit_adds_what_it_says_and_touches_nothing_else(make, text):
    config = make(text)

    new = config_file.set_value(config, ("models", "digits", "versions", 3), VERSION)
    new = config_file.set_value(new, ("models", "digits", "serving", "policy"), "latest")
    new = config_file.append_value(new, "rollbacks", {"reason": "it's: a #1"})
    new = config_file.append_value(new, "rollbacks", {"reason": "ü"})

    expected = yaml.safe_load(text)
    expected["models"]["digits"]["versions"][3] = VERSION
    expected["models"]["digits"]["serving"] = {"policy": "latest"}
    expected["rollbacks"] = [{"reason": "it's: a #1"}, {"reason": "ü"}]
    assert yaml.safe_load(new.text) == expected
    left = iter(new.text)
    assert all(character in left for character in text), "something of the old text is gone"
    assert [line for line in text.splitlines() if "#" in line] == [
        line for line in new.text.splitlines() if "#" in line and "it''s" not in line
    ]
    assert new.text.count("\r\n") in {0, new.text.count("\n")}


def test_a_new_version_stands_below_the_last_one_and_above_the_blank_line(make):
    new = config_file.set_value(make(DEFAULT), ("models", "digits", "versions", 3), VERSION)

    lines = new.text.splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("      3: {source:")]
    assert lines[place - 1].startswith("      2: {source:")
    assert lines[place + 1 : place + 3] == ["", "server:"]


def test_a_value_is_replaced_in_its_place(make):
    new = config_file.set_value(make(DEFAULT), ("benchmark", "rows"), 8)

    assert new.text == DEFAULT.replace("  rows: 1\n", "  rows: 8\n")


@pytest.mark.parametrize(
    "text",
    [
        "format: 1\nmodels: {a: {contract: c, versions: &v {1: {source: {kind: builtin}}}}, digits: {contract: c, versions: *v}}",
        "format: 1\nmodels: {a: &a {contract: c, versions: {1: {source: {kind: builtin}}}}, digits: {<<: *a}}",
    ],
    ids=["alias", "merge key"],
)
def test_what_cannot_be_edited_in_place_is_refused_with_the_line_to_write(make, text):
    config = make(text)

    with pytest.raises(SettingsError, match=r"versions\.3: cannot be edited.*write it by hand: 3: \{source:"):
        config_file.set_value(config, ("models", "digits", "versions", 3), VERSION)


def test_a_config_that_would_not_be_valid_is_not_written(make):
    config = make(DEFAULT)
    broken = config_file.set_value(config, ("models", "digits", "versions", 3), {"source": {"kind": "magic"}})

    with pytest.raises(SettingsError, match=r"models\.digits\.versions\.3\.source"):
        config_file.write(config, broken.text)

    assert config.path.read_text() == DEFAULT


def test_permissions_and_a_link_to_the_file_stay(make, tmp_path):
    make(DEFAULT).path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to("config.yaml")
    config = config_file.read(link)

    config_file.write(config, config_file.set_value(config, ("benchmark", "rows"), 8).text)

    assert link.is_symlink()
    assert link.stat().st_mode & 0o777 == 0o640
    assert "rows: 8" in link.read_text()


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\xff", "not UTF-8 text"), (b"a: [", "not YAML"), (b"- 1", "expected a mapping"), (None, "no config there")],
)
def test_what_is_no_config_is_told_in_one_line(tmp_path, content, told):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=told) as caught:
        config_file.read(path)

    assert len(str(caught.value).splitlines()) == 1

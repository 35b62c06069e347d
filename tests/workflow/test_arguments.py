from pathlib import Path

import pytest

from slipway.arguments import by_version, section
from slipway.errors import SettingsError
from slipway.settings import LaunchSettings


def test_versions_come_in_order():
    assert list(by_version(["10=b", "2=a=c"]).items()) == [(2, Path("a=c")), (10, Path("b"))]


@pytest.mark.parametrize("word", ["a", "=a", "x=a", "1="])
def test_a_word_that_names_no_version_is_quoted(word):
    with pytest.raises(SettingsError, match=f"VERSION=PATH .*{word!r}"):
        by_version([word])


def test_a_version_cannot_be_two_things():
    with pytest.raises(SettingsError, match="version 1 is given twice: a and b"):
        by_version(["1=a", "1=b"])


def test_a_section_is_read_or_every_fault_is_told():
    assert section(LaunchSettings, '{"memory": "1g"}', "launch").memory == "1g"
    with pytest.raises(SettingsError) as caught:
        section(LaunchSettings, '{"memory": "much", "pids": 0}', "launch")

    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["launch", "launch"]
    assert "launch: memory: " in str(caught.value)

import json
import re

import pytest
from tests.workflow import result_factory as factory

from slipway import cli, files
from slipway.errors import SettingsError
from slipway.publish import REPORT_FILES
from slipway.report import parse_versions


@pytest.fixture(autouse=True)
def quiet_signals(monkeypatch):
    monkeypatch.setattr(cli.procs, "exit_on_signals", lambda: None)
    monkeypatch.setattr(cli.procs, "die_with_snakemake", lambda: None)


def report(*arguments: object) -> int:
    return cli.main(["report", *map(str, arguments)])


def test_records_become_a_report(results, tmp_path):
    usage = tmp_path / "usage" / "export" / "digits"
    usage.mkdir(parents=True)
    (usage / "1.tsv").write_text("s\n2.5\n")
    out = tmp_path / "report"
    code = report(
        *("--title", "Digits", "--records", results, "--model", "digits=1,2", "--benchmarked", "digits=2"),
        *("--usage", tmp_path / "usage", "--out", out),
    )

    assert code == 0
    assert {path.name for path in out.iterdir()} == set(REPORT_FILES)
    written = json.loads((out / "result.json").read_text())
    assert written["schema"] == "slipway.result/1"
    assert written["title"] == "Digits"
    assert written["stage_times"] == [{"stage": "export", "job": "digits/1", "seconds": 2.5}]
    assert "export" in (out / "index.html").read_text()


def test_what_computing_costs_is_kept_and_told(results, tmp_path):
    prices = {"currency": "EUR", "core_hour": 0.05, "machine_hour": None}
    out = tmp_path / "report"
    made = ("--records", results, "--model", "digits=1,2", "--benchmarked", "digits=2", "--out", out)

    assert report(*made, "--prices", json.dumps(prices)) == 0
    assert json.loads((out / "result.json").read_text())["prices"] == prices
    assert "at 0.05 EUR per core and hour" in (out / "index.html").read_text()


def test_prices_that_are_none_are_one_line(results, tmp_path, capsys):
    made = ("--records", results, "--model", "digits=1,2", "--benchmarked", "digits=2", "--out", tmp_path / "report")

    assert report(*made, "--prices", '{"currency": "EUR"}') == 2
    assert "report.prices: give core_hour, machine_hour or both" in capsys.readouterr().err


def test_a_result_is_drawn_again_to_the_same_bytes(results, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    report("--records", results, "--model", "digits=1,2", "--benchmarked", "digits=2", "--out", first)
    report("--from", first / "result.json", "--out", second)

    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}


class TestHowItIsCalled:
    """The page links files, so they go where the page goes."""

    @pytest.fixture
    def called(self, tmp_path):
        factory.write_records(factory.model_result(api=factory.api("digits", 2)), tmp_path / "called")
        return tmp_path / "called"

    def draw(self, called, out):
        return report("--records", called, "--model", "digits=1,2", "--benchmarked", "digits=2", "--out", out)

    def test_the_files_lie_where_the_page_links_them(self, called, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        assert self.draw(called, first) == 0
        assert report("--from", first / "result.json", "--out", second) == 0

        targets = re.findall(r'href="(api/[^"]+)"', (first / "index.html").read_text())
        assert len(targets) == 4
        assert all((first / target).is_file() for target in targets)
        written = [{n: p.read_bytes() for n, p in files.tree_files(out).items()} for out in (first, second)]
        assert written[0] == written[1]

    def test_files_that_changed_are_refused(self, called, tmp_path, capsys):
        (called / "api/digits/openapi.json").write_text("other")

        assert self.draw(called, tmp_path / "out") == 2
        assert "openapi.json: changed after it was written" in capsys.readouterr().err

    def test_those_of_an_older_version_are_refused(self, called, tmp_path, capsys):
        factory.api("digits", 1).write(called / "api/digits.json")

        assert self.draw(called, tmp_path / "out") == 2
        assert "api/digits.json: shows version 1, but the newest of digits is 2" in capsys.readouterr().err


def test_a_report_that_fails_leaves_the_old_one(results, tmp_path, capsys):
    out = tmp_path / "report"
    assert report("--records", results, "--model", "digits=1,2", "--benchmarked", "digits=2", "--out", out) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    (results / "launch" / "digits.json").write_text("{")

    assert report("--records", results, "--model", "digits=1,2", "--benchmarked", "digits=2", "--out", out) == 2
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert "launch/digits.json" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".partial")] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to draw: give --model"),
        (["--model", "digits"], "--model: expected NAME=V1,V2 such as digits=1,2, got 'digits'"),
        (["--model", "digits=1", "--benchmarked", "other=1"], "--benchmarked: no model other; there are: digits"),
        (["--from", "no/result.json"], "no/result.json: not there"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, tmp_path, capsys):
    assert report(*arguments, "--out", tmp_path / "report") == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("slipway report: error: ")
    assert message in line


def test_versions_of_a_model_add_up():
    assert parse_versions(["a=1,2", "b=3", "a=4"], "--model") == {"a": [1, 2, 4], "b": [3]}


@pytest.mark.parametrize("word", ["=1", "a=", "a=1,", "a=x", "a=-1", "a=²"])
def test_anything_else_is_no_list_of_versions(word):
    with pytest.raises(SettingsError, match="expected NAME=V1,V2"):
        parse_versions([word], "--model")

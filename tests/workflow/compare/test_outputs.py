import xml.etree.ElementTree as ET

import pytest
from tests.workflow.compare_factory import cell, comparison, pair

from slipway import repetitions
from slipway.compare import outputs
from slipway.compare.records import Comparison

WORSE = [pair(i, head={"server_cpu_us_per_request": 120.0}) for i in range(14)]
NOISY = [pair(i, invalid=[repetitions.DISTURBED]) for i in range(6)]


@pytest.fixture
def failed():
    return comparison([cell(WORSE), cell(NOISY, protocol="grpc")], title="digits: a|b <script> *x*")


def test_every_form_is_written(tmp_path, failed):
    outputs.write(failed, tmp_path)

    assert Comparison.read(tmp_path / "comparison.json") == failed
    assert {path.name for path in tmp_path.iterdir()} == {"comparison.json", "summary.md", "junit.xml", "index.html"}


def test_the_summary_names_verdict_reason_and_every_metric(failed):
    lines = outputs.summary(failed).splitlines()

    assert lines[0] == "<!-- slipway-compare:digits -->"
    assert lines[1].startswith("### ❌ FAIL: digits: a\\|b \\<script\\> \\*x\\*")
    assert lines[2].startswith("- server CPU per prediction, REST")
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 1 + len(failed.metrics) + len(failed.fixed)
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert any("does not decide" in line for line in table)


def test_a_terminal_gets_words_without_markup(failed):
    lines = outputs.plain(failed).splitlines()

    assert lines[0] == "FAIL: digits: a|b <script> *x*"
    assert lines[1].startswith("- server CPU per prediction, REST (rest-closed): +20.0 % [")
    assert len(lines) == 3 + len(failed.metrics) + len(failed.fixed)
    assert any(line.endswith("does not decide, 6 of 6 pairs were disturbed: the host was not quiet") for line in lines)


def test_junit_counts_what_it_lists(failed):
    suite = ET.fromstring(outputs.junit(failed))
    cases = suite.findall("testcase")

    assert int(suite.get("tests")) == len(cases) == len(failed.metrics) + len(failed.fixed)
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 1
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped")) == 1
    assert suite.get("errors") == "0"


def test_an_invalid_comparison_is_an_error_in_junit_not_a_failure():
    suite = ET.fromstring(outputs.junit(comparison([cell([])], cut_short="the server died")))

    assert suite.get("failures") == "0"
    assert suite.get("errors") == "1"
    assert suite.find("testcase[@name='validity']/error").get("message") == "cut short: the server died"


def test_annotations_are_for_github_alone(failed):
    assert outputs.annotations(failed, {}) == ""
    [line] = outputs.annotations(failed, {"GITHUB_ACTIONS": "true"}).splitlines()
    assert line.startswith("::error title=slipway compare%3A fail::server CPU per prediction")
    assert "margin 3%25" in line

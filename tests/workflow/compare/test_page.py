import html5lib
import pytest
from tests.workflow.compare_factory import cell, comparison, pair

from slipway import repetitions
from slipway.compare.page import render
from slipway.compare.records import Comparison

PAIRS = {
    "pass": [pair(i) for i in range(6)],
    "fail": [pair(i, head={"server_cpu_us_per_request": 120.0}) for i in range(14)],
    "inconclusive": [pair(i, head={"server_cpu_us_per_request": 140.0 if i % 2 else 70.0}) for i in range(16)],
    "invalid": [pair(i, invalid=[repetitions.MISCOUNTED]) for i in range(6)],
}


@pytest.mark.parametrize("verdict", list(PAIRS))
def test_the_page_is_valid_html_and_says_the_verdict(verdict):
    made = comparison([cell(PAIRS[verdict]), cell(PAIRS[verdict], "open", "grpc")], title="<b>digits</b>")
    assert made.verdict == verdict
    page = render(made)

    html5lib.HTMLParser(strict=True).parse(page)
    assert "&lt;b&gt;digits&lt;/b&gt;" in page
    word = {"pass": "Not worse", "fail": "Worse", "inconclusive": "Inconclusive", "invalid": "Measurement invalid"}
    assert f"</span> {word[verdict]}</p>" in page
    assert "https://" not in page


def test_the_same_comparison_gives_the_same_bytes():
    made = comparison([cell(PAIRS["pass"])])

    assert render(made) == render(Comparison.model_validate_json(made.model_dump_json()))


def test_a_comparison_that_measured_nothing_has_a_page_too():
    page = render(comparison([], cut_short="The server died with exit code 134"))

    html5lib.HTMLParser(strict=True).parse(page)
    assert "It was cut short: The server died with exit code 134." in page

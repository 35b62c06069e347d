import re
from pathlib import Path

from tests.workflow.compare_factory import cell, comparison, latency, pair, subject

from slipway import repetitions
from slipway.compare import verdict
from slipway.errors import ContractViolation, SettingsError


def cpu(head, count=14):
    return [pair(i, head={"server_cpu_us_per_request": head + i % 3 / 10}) for i in range(count)]


def test_within_all_margins_it_passes():
    judged = comparison([cell(cpu(100.0)), cell([pair(i) for i in range(6)], "open")])

    assert judged.verdict == "pass"
    assert judged.reasons == ["4 metrics within their margins"]


def test_one_metric_beyond_its_margin_fails_it_and_is_told_with_its_numbers():
    judged = comparison([cell(cpu(110.0))])

    assert judged.verdict == "fail"
    [reason] = judged.reasons
    assert reason.startswith("server CPU per prediction, REST (rest-closed): +10.")
    assert "from 100 µs to 110 µs; 14 pairs, margin 3%" in reason


def test_a_larger_image_fails_it_without_statistics():
    judged = comparison([cell(cpu(100.0))], head=subject("head", image_bytes=310_000_000))

    assert judged.verdict == "fail"
    assert judged.reasons == ["size of the image: +3.3 %, from 300 MB to 310 MB; margin 1%"]


def test_more_bytes_on_the_wire_fail_it():
    pairs = [pair(i, head={"bytes_received_per_request": 210.0}) for i in range(6)]

    assert "bytes per request over REST: +1.2 %" in comparison([cell(pairs)]).reasons[0]


def test_headers_that_fewer_requests_share_are_no_more_bytes():
    """A server half as fast answers half as many requests in a window, on as many connections."""
    base = {"completed": 400, "bytes_received_per_request": 204.0}
    slower = [pair(i, base=base, head={"completed": 200, "bytes_received_per_request": 208.0}) for i in range(6)]
    equally_fast = [pair(i, base=base, head={"completed": 400, "bytes_received_per_request": 208.5}) for i in range(6)]

    assert [result.state for result in comparison([cell(slower)]).fixed] == ["pass", "pass"]
    assert [result.state for result in comparison([cell(equally_fast)]).fixed] == ["pass", "fail"]


def test_what_cannot_be_decided_is_inconclusive_and_passes_unless_strict():
    pairs = [pair(i, head={"server_cpu_us_per_request": 140.0 if i % 2 else 70.0}) for i in range(16)]
    judged = comparison([cell(pairs)])

    assert judged.verdict == "inconclusive"
    assert verdict.EXIT_CODES["inconclusive"] == 0


def test_exit_codes_are_those_that_the_manual_lists():
    manual = (Path(__file__).parents[3] / "docs/benchmarking.md").read_text()
    listed = {int(code) for code in re.findall(r"^\| (\d) \| ", manual, re.MULTILINE)}
    graded = {*verdict.EXIT_CODES.values(), verdict.STRICT_INCONCLUSIVE, ContractViolation.exit_code}

    assert listed == graded == {0, 1, 2, 3, 6}
    assert SettingsError.exit_code == verdict.EXIT_CODES["invalid"]


def test_without_cpu_time_nothing_was_shown():
    judged = comparison([cell([pair(i, base={"server_cpu_us_per_request": None}) for i in range(6)])])

    assert judged.verdict == "invalid"
    assert "only 0 pairs of windows can be used" in judged.reasons[0]


def test_a_host_that_is_not_quiet_is_the_reason_where_only_latency_was_asked_for():
    judged = comparison([cell([pair(i, invalid=[repetitions.DISTURBED]) for i in range(6)], "open")])

    assert judged.verdict == "invalid"
    assert judged.reasons == [
        "nothing was measured that could decide: 6 of 6 pairs were disturbed: the host was not quiet"
    ]


def test_a_latency_that_could_not_be_judged_is_no_pass():
    few = {"latency": latency(500.0).model_copy(update={"p99_us": None})}
    slow = cell([pair(i, base=few, head=few) for i in range(6)], "open")
    judged = comparison([cell(cpu(100.0)), slow])

    assert judged.verdict == "inconclusive"
    [reason] = judged.reasons
    assert reason.startswith(
        "p99 response latency, REST (rest-open) could not be judged: 6 of 6 pairs had too few requests"
    )
    assert comparison([cell(cpu(120.0)), slow]).verdict == "fail"


def test_a_busy_host_or_a_load_generator_at_its_limit_leaves_the_verdict_to_cpu_time():
    busy = [pair(i, invalid=[repetitions.DISTURBED]) for i in range(6)]
    fast = [pair(i, invalid=[repetitions.NEAR_CEILING]) for i in range(6)]
    judged = comparison([cell(fast), cell(busy, "open")])

    assert judged.verdict == "pass"
    assert judged.reasons == [
        "1 metric within their margins",
        "1 metric told but not judged: 6 of 6 pairs came near to the most that the load generator can do: it may be what was measured",
        "2 metrics told but not judged: 6 of 6 pairs were disturbed: the host was not quiet",
    ]


def test_cut_short_it_is_invalid_unless_something_had_already_failed():
    assert comparison([cell(cpu(100.0))], cut_short="stopped by SIGTERM").verdict == "invalid"
    failed = comparison([cell(cpu(120.0))], cut_short="stopped by SIGTERM")
    assert failed.verdict == "fail"
    assert failed.reasons[-1] == "cut short: stopped by SIGTERM"

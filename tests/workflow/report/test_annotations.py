import re

from tests.workflow import result_factory as factory

from slipway.records import ScenarioRecord
from slipway.report import annotations


def test_a_proven_result_is_a_notice_with_its_headline():
    (line,) = annotations.of_result(factory.result()).splitlines()

    assert re.match(r"::notice title=slipway%3A digits%2C version 2%3A Proven::gRPC answers 1\.\d+×", line)


def test_what_is_invalid_is_a_warning_and_a_wrong_answer_an_error():
    record = factory.benchmark("digits", 2, repetitions=2, concurrency=(1,), cold_starts=0)
    invalid = factory.with_repetitions(record, lambda _c, r: r.model_copy(update={"invalid": ["x"]}))
    wrong = factory.with_repetitions(record, lambda _c, r: r.model_copy(update={"wrong_answers": 1}))

    assert annotations.of_result(factory.with_benchmark(factory.result(), invalid)).startswith("::warning title=")
    assert annotations.of_result(factory.with_benchmark(factory.result(), wrong)).startswith("::error title=")


def test_a_fault_that_a_scenario_found_is_an_error():
    known = {"name": "soak", "kind": "soak", "settings": {}, "duration_s": 1.0, "values": [], "windows": []}
    faulty = factory.benchmark("digits", 2, repetitions=2, concurrency=(1,), cold_starts=0).model_copy(
        update={"scenarios": [ScenarioRecord(**known, faults=["memory grows"])]}
    )
    (line,) = annotations.of_result(factory.with_benchmark(factory.result(), faulty)).splitlines()

    assert line.startswith("::error title=slipway%3A digits%2C version 2%3A The server is at fault::")


def test_nothing_in_a_text_ends_the_command():
    line = annotations.annotation("error", "a: b, c", "50 %\nnext::error::line")

    assert line == "::error title=a%3A b%2C c::50 %25%0Anext::error::line\n"


def test_elsewhere_nothing_is_written():
    assert annotations.is_github({"GITHUB_ACTIONS": "true"})
    assert not annotations.is_github({})

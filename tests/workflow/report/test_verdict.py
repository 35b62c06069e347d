import pytest
from tests.workflow import result_factory as factory

from slipway import repetitions
from slipway.records import EngineRecord, ScenarioRecord, ScenarioWindow
from slipway.report.content import measurements
from slipway.report.verdict import STATES, Verdict, inverse, judge, worst
from slipway.statistics import Estimate


def judged(record=None, **launched) -> Verdict:
    made = factory.result()
    made = factory.with_benchmark(made, record) if record else made
    if launched:
        model = made.models[0].model_copy(update={"launch": factory.launch("digits", [1, 2], **launched)})
        made = made.model_copy(update={"models": [model]})
    return judge(measurements(made)[0])


def changed(change, **more):
    return factory.with_repetitions(factory.benchmark("digits", 2, **more), change)


def test_a_proven_ratio_is_the_headline():
    verdict = judged()

    assert verdict.state == "proven"
    assert verdict.headline.startswith("gRPC answers 1.8")
    assert "as many predictions per second as REST [1." in verdict.headline
    assert "at 64 in flight; every checked answer matched the checkpoint" in verdict.headline
    assert any("the difference is work, not waiting" in sentence for sentence in verdict.sentences)
    assert verdict.warnings == ()


def costing(made, high: float, low: float, *, swapped: bool) -> str:
    """What is said of the cause where REST's CPU time per request, at 64 in flight, is gRPC's times *low* to *high*."""
    slower, faster = ("grpc", "rest") if swapped else ("rest", "grpc")
    speed = {slower: 1000.0, faster: 2000.0}

    def cost(cell, r):
        used = 100.0 * ((low, high, (low + high) / 2)[r.index % 3] if cell.protocol == slower else 1.0)
        return r.model_copy(update={"predictions_per_s": speed[cell.protocol], "server_cpu_us_per_request": used})

    record = factory.with_repetitions(made.models[0].benchmarks[0], cost)
    verdict = judge(measurements(factory.with_benchmark(made, record))[0])
    [told] = [s for s in verdict.sentences if s.startswith("The server spends")]
    assert ("on a gRPC request" in told) == swapped
    return told.partition(": ")[2]


@pytest.mark.parametrize("swapped", [False, True])
def test_work_or_waiting_is_told_only_where_the_whole_interval_says_it(swapped):
    """The slower one answers half as fast: what costs 1.5 times the CPU time is half work."""
    said = {
        (2.0, 1.6): "the difference is work, not waiting.",
        (1.8, 1.2): "some of the difference is work; how much is waiting, these repetitions cannot tell.",
        (1.7, 0.9): "whether the difference is work or waiting, these repetitions cannot tell.",
        (1.3, 1.1): "most of the difference is waiting, not work.",
        (1.1, 0.9): "the difference is waiting, not work.",
        (0.8, 0.6): "the difference is waiting, not work.",
    }

    made = factory.result([factory.model_result(concurrency=(64,), cold_starts=0, rate=None)])

    assert {limits: costing(made, *limits, swapped=swapped) for limits in said} == said


def test_a_generator_that_is_too_small_is_not_told_to_leave_the_machine_alone():
    verdict = judged(changed(lambda _c, r: r.model_copy(update={"invalid": [repetitions.SATURATED]})))

    assert verdict.state == "invalid"
    assert verdict.sentences[-1].startswith("The load generator is too small for this server")


def test_the_faster_protocol_is_named_first():
    """With the speeds of the two swapped, so is the sentence."""
    record = factory.benchmark("digits", 2)
    swap = {"rest": "grpc", "grpc": "rest"}
    verdict = judged(
        record.model_copy(update={"cells": [c.model_copy(update={"protocol": swap[c.protocol]}) for c in record.cells]})
    )

    assert verdict.headline.startswith("REST answers 1.8")


def test_protocols_that_cannot_be_told_apart_are_called_equal():
    rest = {r.index: r for c in factory.benchmark("digits", 2).cells if c.id == "rest-closed-64" for r in c.repetitions}
    verdict = judged(
        changed(
            lambda _c, r: r.model_copy(
                update={
                    "predictions_per_s": rest[r.index].predictions_per_s
                    * (1.01 if (r.index + (_c.protocol == "rest")) % 2 else 0.99)
                }
            )
        )
    )

    assert verdict.headline.startswith("REST and gRPC answer about equally many predictions per second")


def test_one_repetition_proves_nothing_and_says_so():
    verdict = judged(factory.benchmark("digits", 2, repetitions=1))

    assert verdict.state == "unproven"
    assert "[no interval from 1 repetition]" in verdict.headline
    assert any("at least 6 are needed" in sentence for sentence in verdict.sentences)


def test_a_measurement_that_broke_rules_names_the_rule():
    verdict = judged(
        changed(lambda _c, r: r.model_copy(update={"invalid": ["the generator was saturated"]}) if r.index < 2 else r)
    )

    assert verdict.state == "invalid"
    assert "20 of 60 repetitions broke a rule, 20 of them this one: the generator was saturated" in verdict.headline


def test_everything_invalid_leaves_nothing_to_compare():
    verdict = judged(changed(lambda _c, r: r.model_copy(update={"invalid": ["x"]})))

    assert verdict.state == "invalid"
    assert "No load was measured validly on both." in verdict.sentences


def test_a_few_broken_repetitions_do_not_spoil_the_rest():
    verdict = judged(changed(lambda _c, r: r.model_copy(update={"invalid": ["x"]}) if r.order == 0 else r))

    assert verdict.state == "proven"


def test_a_wrong_answer_under_load_comes_before_all_speed():
    verdict = judged(
        changed(lambda _c, r: r.model_copy(update={"wrong_answers": 1 if r.order == 5 else 0, "invalid": ["x"]}))
    )

    assert verdict.state == "wrong"
    assert verdict.headline.startswith("Wrong answers: 1 of ")


def test_a_served_answer_that_departs_names_the_output_and_the_distance():
    answers = factory.launch("digits", [2]).answers
    broken = answers[1].model_copy(update={"parity": [factory.parity("checkpoint→gRPC", ok=False, max_abs=0.25)]})
    verdict = judged(answers=[answers[0], broken])

    assert verdict.state == "wrong"
    assert "over gRPC, serving_default.probabilities is up to 0.25 away" in verdict.headline


def test_a_process_instead_of_a_container_is_said_loudly():
    engine = EngineRecord(
        name="process", version="", isolated=False, network="host", rejected={"podman": "not installed"}
    )
    verdict = judged(factory.benchmark("digits", 2).model_copy(update={"engine": engine}))

    assert verdict.state == "unisolated"
    assert verdict.headline.startswith("Served without isolation: gRPC answers")
    assert "podman: not installed" in verdict.warnings[0]


def test_a_bad_end_errors_and_another_image_are_warnings():
    record = changed(lambda _c, r: r.model_copy(update={"errors": {"timeout": 2} if r.order == 3 else {}}))
    verdict = judged(record.model_copy(update={"image_id": factory.digest("other")}), exit_code=137)

    assert [w.split(":")[0] for w in verdict.warnings] == [
        "The server did not stop as it should after SIGTERM",
        "Requests failed under load",
        "The benchmark ran another image than the one this report describes",
    ]


def test_a_report_is_as_good_as_its_worst_measurement():
    verdicts = [Verdict(state, "", (), ()) for state in ("proven", "wrong", "unproven")]

    assert worst(verdicts) == "wrong"
    assert worst([]) == "unproven"
    assert STATES.index("wrong") == len(STATES) - 1


@pytest.mark.parametrize("estimate", [Estimate(2.0, 1.6, 2.5, 6, 0.97), Estimate(2.0, None, None, 2, None)])
def test_turning_a_ratio_round_twice_gives_it_back(estimate):
    once = inverse(estimate)

    assert once.value == 0.5
    assert inverse(once) == estimate
    assert once.low is None or once.low < once.value < once.high


def ran(name="hot_reload", **changes):
    """A scenario that was measured."""
    known = {"name": name, "kind": name, "settings": {}, "duration_s": 1.0, "values": [], "windows": []}
    return ScenarioRecord(**(known | changes))


def with_scenarios(*scenarios, cells=None):
    record = factory.benchmark("digits", 2)
    changes = {"scenarios": list(scenarios)} | ({} if cells is None else {"cells": cells})
    return judged(record.model_copy(update=changes))


def test_a_fault_that_a_scenario_found_is_the_headline_before_any_speed():
    """A server that drops requests while versions change is no good at any rate."""
    verdict = with_scenarios(
        ran(faults=["REST: requests failed while versions changed: 3 × HTTP 503", "gRPC: so did 2"])
    )

    assert (verdict.state, verdict.sign) == ("faulty", "✕")
    assert verdict.headline.startswith("The server is at fault: hot_reload: REST: requests failed")
    assert verdict.sentences[0] == "hot_reload: gRPC: so did 2."
    assert "gRPC answers 1.8" in verdict.sentences[1]


def test_a_fault_is_told_even_where_windows_broke_rules_and_a_wrong_answer_before_it():
    spoiled = changed(lambda _c, r: r.model_copy(update={"invalid": ["x"]}))
    wrong = changed(lambda _c, r: r.model_copy(update={"wrong_answers": 1}))

    assert judged(spoiled.model_copy(update={"scenarios": [ran(faults=["a"])]})).state == "faulty"
    assert judged(wrong.model_copy(update={"scenarios": [ran(faults=["a"])]})).state == "wrong"


def test_a_wrong_answer_in_a_window_of_a_scenario_counts():
    cell = factory.benchmark("digits", 2).cells[0]
    repetition = cell.repetitions[0].model_copy(update={"wrong_answers": 2})
    window = ScenarioWindow(label="", protocol="rest", rows=1, load=cell.load, repetition=repetition)

    assert with_scenarios(ran(windows=[window])).headline.startswith("Wrong answers: 2 of ")


def test_a_scenario_without_a_finding_is_a_warning_beside_what_was_proven():
    verdict = with_scenarios(ran(invalid=["not measured: the image serves no other version"]))

    assert verdict.state == "proven"
    assert verdict.warnings == ("Without a finding: hot_reload: not measured: the image serves no other version.",)


@pytest.mark.parametrize(
    ("scenarios", "state"),
    [
        ([ran("soak")], "proven"),
        ([ran("soak"), ran("overload", invalid=["REST: disturbed"])], "unproven"),
        ([ran("soak", invalid=["REST: disturbed"])], "invalid"),
        ([ran("soak", faults=["memory grows"])], "faulty"),
    ],
)
def test_scenarios_alone_have_a_verdict_of_their_own(scenarios, state):
    """`only: [soak]` compares no protocols, and its verdict is not that there was nothing to compare."""
    verdict = with_scenarios(*scenarios, cells=[])

    assert verdict.state == state
    assert "compare" not in verdict.headline


def test_on_a_busy_machine_cpu_time_still_says_something():
    """A shared runner disturbs every window; what a request costs the server it hardly changes."""
    disturbed = judged(changed(lambda _c, r: r.model_copy(update={"invalid": [repetitions.DISTURBED]})))
    miscounted = judged(changed(lambda _c, r: r.model_copy(update={"invalid": [repetitions.MISCOUNTED]})))

    assert disturbed.state == "invalid"
    (told,) = [sentence for sentence in disturbed.sentences if sentence.startswith("CPU time still counts")]
    assert "at 64 in flight the server spends 1.8" in told
    assert told.endswith("as much on a request over REST.")
    assert not any("CPU" in sentence for sentence in miscounted.sentences)

import xml.etree.ElementTree as ET

from tests.workflow import result_factory as factory

from slipway.records import ScenarioRecord
from slipway.report.junit import junit_xml


def cases(made):
    root = ET.fromstring(junit_xml(made))
    found = {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}
    assert len(found) == int(root.get("tests"))
    return root, found


def test_all_is_well():
    root, found = cases(factory.result())

    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("0", "0", "1")
    assert found["slipway.digits.1", "benchmark"].find("skipped").get("message") == "this version was not measured"
    assert ("slipway.digits.2", "golden answers over REST") in found
    assert ("slipway.digits.2", "validity") in found


def test_a_wrong_answer_over_one_protocol_is_a_failure_that_names_it():
    model = factory.model_result()
    answers = [
        answer.model_copy(update={"parity": [factory.parity("SavedModel→gRPC", ok=False, max_abs=0.5)]})
        if answer.protocol == "grpc"
        else answer
        for answer in model.launch.answers
    ]
    launch = model.launch.model_copy(update={"answers": answers})
    root, found = cases(factory.result([model.model_copy(update={"launch": launch})]))

    assert root.get("failures") == "1"
    failure = found["slipway.digits.2", "golden answers over gRPC"].find("failure")
    assert "is off by 0.5" in failure.get("message")
    assert found["slipway.digits.2", "golden answers over REST"].find("failure") is None


def test_repetitions_that_broke_a_rule_make_the_measurement_an_error():
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _cell, r: r.model_copy(update={"invalid": ["generator saturated"]})
    )
    root, found = cases(factory.with_benchmark(factory.result(), record))

    assert root.get("errors") == "1"
    assert "generator saturated" in found["slipway.digits.2", "validity"].find("error").get("message")


def test_a_broken_promise_is_a_failure_of_its_version():
    model = factory.model_result()
    first = model.versions[0]
    check = first.validation.checks[0].model_copy(update={"ok": False})
    validation = first.validation.model_copy(update={"checks": [check, *first.validation.checks[1:]]})
    version = first.model_copy(update={"validation": validation})
    root, _ = cases(factory.result([model.model_copy(update={"versions": [version, *model.versions[1:]]})]))

    assert root.get("failures") == "1"


def test_each_scenario_is_a_case_whose_fault_is_a_failure():
    known = {"kind": "soak", "settings": {}, "duration_s": 1.0, "values": [], "windows": []}
    told = {"soak": {"faults": ["memory grows"]}, "slo": {"invalid": ["REST: disturbed"]}, "good": {}}
    told["reload"] = {"invalid": ["not measured: the image serves no other version"]}
    scenarios = [ScenarioRecord(name=name, **known, **more) for name, more in told.items()]
    record = factory.benchmark("digits", 2).model_copy(update={"scenarios": scenarios})
    _, found = cases(factory.with_benchmark(factory.result(), record))

    outcomes = {name: [child.tag for child in found["slipway.digits.2", f"scenario {name}"]] for name in told}
    assert outcomes == {"soak": ["failure"], "slo": ["error"], "good": [], "reload": ["skipped"]}

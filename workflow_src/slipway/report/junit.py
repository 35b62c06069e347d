"""junit.xml: what a report has checked, as test cases for CI systems that show such files."""

import xml.etree.ElementTree as ET  # only written, never parsed
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from slipway.records import Parity, Result, ScenarioRecord, VersionResult
from slipway.report import numbers
from slipway.report.content import PROTOCOL_NAMES, Measurement, measurements
from slipway.report.verdict import judge, wrong_lines


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    outcome: Literal["failure", "error", "skipped"] | None = None
    message: str = ""


def junit_xml(result: Result) -> str:
    """
    Write one suite for each model version: validation, answers over each protocol, scenarios, and whether the numbers count.

    A wrong answer, a broken promise or a fault that a scenario found is a failure; a measurement that does not count is an
    error; what was not measured is skipped.
    """
    root = ET.Element("testsuites", name=result.title)
    measured = {(m.model.model, m.version.version): m for m in measurements(result)}
    for model in result.models:
        for version in model.versions:
            name = f"slipway.{model.model}.{version.version}"
            cases = [_validation(version), *_measured(measured.get((model.model, version.version)))]
            _suite(root, name, cases)
    for kind in ("tests", "failures", "errors", "skipped"):
        root.set(kind, str(sum(int(suite.get(kind, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(root: ET.Element, name: str, cases: list[_Case]) -> None:
    outcomes = [case.outcome for case in cases]
    suite = ET.SubElement(
        root,
        "testsuite",
        name=name,
        tests=str(len(cases)),
        failures=str(outcomes.count("failure")),
        errors=str(outcomes.count("error")),
        skipped=str(outcomes.count("skipped")),
    )
    for case in cases:
        written = ET.SubElement(suite, "testcase", classname=name, name=case.name)
        if case.outcome:
            ET.SubElement(written, case.outcome, message=case.message)


def _validation(version: VersionResult) -> _Case:
    record = version.validation
    broken = [*(check.line() for check in record.checks if not check.ok), *_off(record.parity)]
    checks, outputs = numbers.counted(len(record.checks), "check"), numbers.counted(len(record.parity), "output")
    return _Case(f"contract: {checks}, {outputs} compared", "failure" if broken else None, "; ".join(broken))


def _off(parities: list[Parity]) -> list[str]:
    return [f"{p.path}: {p.signature}.{p.output} is off by {numbers.number(p.max_abs)}" for p in parities if not p.ok]


def _measured(measurement: Measurement | None) -> Iterator[_Case]:
    if measurement is None:
        yield _Case("benchmark", "skipped", "this version was not measured")
        return
    for answer in measurement.answers:
        wrong = _off(answer.parity)
        name = f"golden answers over {PROTOCOL_NAMES[answer.protocol]}"
        yield _Case(name, "failure" if wrong else None, "; ".join(wrong))
    wrong_under_load = measurement.wrong_answers > 0
    message = wrong_lines(measurement)[0] if wrong_under_load else ""
    yield _Case("answers under load", "failure" if wrong_under_load else None, message)
    yield from map(_scenario, measurement.record.scenarios)
    verdict = judge(measurement)
    yield _Case("validity", "error" if verdict.state == "invalid" else None, verdict.headline)


def _scenario(record: ScenarioRecord) -> _Case:
    name = f"scenario {record.name}"
    if record.faults:
        return _Case(name, "failure", "; ".join(record.faults))
    if record.invalid:
        return _Case(name, "skipped" if record.is_untried else "error", "; ".join(record.invalid))
    return _Case(name)

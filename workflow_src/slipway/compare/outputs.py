"""Comparison -> comparison.json, summary.md, junit.xml, annotations and a page; all pure functions of it."""

import xml.etree.ElementTree as ET  # only written, never parsed
from collections.abc import Mapping
from pathlib import Path

from slipway import files
from slipway.compare.described import made_at
from slipway.compare.page import render
from slipway.compare.records import Comparison, Verdict
from slipway.compare.verdict import change, describe, number, told, told_fixed
from slipway.report import annotations as annotations_of_ci
from slipway.report import numbers

_EMOJI: dict[Verdict, str] = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "invalid": "⚠️", "wrong": "❌"}
_STATES = {"pass": "✅ pass", "fail": "❌ worse", "inconclusive": "❔ inconclusive", "open": "– not decided"}


def write(comparison: Comparison, directory: Path) -> None:
    """Write every form into *directory*."""
    comparison.write(directory / "comparison.json")
    files.write_text(directory / "summary.md", summary(comparison))
    files.write_text(directory / "junit.xml", junit(comparison))
    files.write_text(directory / "index.html", render(comparison))


def summary(comparison: Comparison) -> str:
    """
    Write the summary for a pull request's comment.

    Returns:
        Markdown. Its first line is a hidden marker by which the next run finds the comment that it replaces.
    """
    head = comparison.head
    lines = [
        f"<!-- slipway-compare:{head.model} -->",
        f"### {_EMOJI[comparison.verdict]} {comparison.verdict.upper()}: {_text(comparison.title)}",
        *(f"- {_text(reason)}" for reason in comparison.reasons),
        "",
        "| metric | base | head | change [95 %] | margin | pairs | |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for metric in comparison.metrics:
        state = _STATES[metric.state] if metric.gates else f"does not decide: {metric.why_not}"
        lines.append(
            f"| {describe(metric)} | {number(metric.base, metric.unit)} | {number(metric.head, metric.unit)} | "
            f"{change(metric)} | {numbers.percent(metric.margin)} | {metric.pairs} | {state} |"
        )
    lines += [
        f"| {result.name} | {numbers.size(result.base)} | {numbers.size(result.head)} | "
        f"{numbers.change(result.head / result.base)} | {numbers.percent(result.margin)} | – | {_STATES[result.state]} |"
        for result in comparison.fixed
    ]
    where = comparison.environment
    subjects = (
        f"Base: image `{comparison.base.image_id[7:19]}`, made at {made_at(comparison.base)}. Head: image "
        f"`{head.image_id[7:19]}`, made at {made_at(head)}. On {_text(where.cpu)}, "
        f"{numbers.counted(where.logical_cpus, 'CPU')}. Redo it: `{comparison.command}`"
    )
    lines += ["", subjects]
    return "\n".join(lines) + "\n"


def plain(comparison: Comparison) -> str:
    """Write the verdict, its reasons and every metric for a terminal."""
    lines = [f"{comparison.verdict.upper()}: {comparison.title}", *(f"- {reason}" for reason in comparison.reasons), ""]
    for metric in comparison.metrics:
        state = metric.state if metric.gates else f"does not decide, {metric.why_not}"
        lines.append(f"{told(metric) if metric.ratio else describe(metric)}: {state}")
    lines += [f"{told_fixed(result)}: {result.state}" for result in comparison.fixed]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Keep Markdown from seeing structure in *text*."""
    for character in "\\`*_{}[]<>#|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def junit(comparison: Comparison) -> str:
    """Write every metric as a test case, for CI systems that show such files. A metric that does not decide is skipped."""
    suite = ET.Element("testsuite", name=f"slipway compare {comparison.head.model}")
    failures = skipped = 0
    for metric in comparison.metrics:
        case = ET.SubElement(suite, "testcase", classname=f"slipway.compare.{metric.cell}", name=metric.name)
        if metric.state == "fail" and metric.gates:
            failures += 1
            ET.SubElement(case, "failure", message=told(metric))
        elif metric.state != "pass" or not metric.gates:
            skipped += 1
            ET.SubElement(case, "skipped", message=f"{metric.why_not or metric.state}: {told(metric)}")
    for result in comparison.fixed:
        case = ET.SubElement(suite, "testcase", classname="slipway.compare", name=result.name)
        if result.state == "fail":
            failures += 1
            ET.SubElement(case, "failure", message=numbers.change(result.head / result.base))
    is_error = comparison.verdict in {"invalid", "wrong"}
    if is_error:
        case = ET.SubElement(
            suite,
            "testcase",
            classname="slipway.compare",
            name="answers" if comparison.verdict == "wrong" else "validity",
        )
        ET.SubElement(case, "error", message="; ".join(comparison.reasons))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    suite.set("errors", str(int(is_error)))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def annotations(comparison: Comparison, environment: Mapping[str, str] | None = None) -> str:
    """Write GitHub's workflow commands, one per finding; "" anywhere else."""
    if not annotations_of_ci.is_github(environment):
        return ""
    levels: dict[Verdict, annotations_of_ci.Level] = {
        "pass": "notice",
        "fail": "error",
        "inconclusive": "warning",
        "invalid": "warning",
        "wrong": "error",
    }
    title = f"slipway compare: {comparison.verdict}"
    return "".join(
        annotations_of_ci.annotation(levels[comparison.verdict], title, reason) for reason in comparison.reasons
    )

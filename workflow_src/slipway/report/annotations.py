"""What CI systems show beside a change: GitHub's workflow commands, one line each. Pure, but for the look at the environment."""

import os
from collections.abc import Mapping
from typing import Literal

from slipway.records import Result
from slipway.report.content import measurements
from slipway.report.verdict import State, judge

Level = Literal["notice", "warning", "error"]
_LEVELS: dict[State, Level] = {
    "proven": "notice",
    "unproven": "warning",
    "unisolated": "warning",
    "invalid": "warning",
    "faulty": "error",
    "wrong": "error",
}


def is_github(environment: Mapping[str, str] | None = None) -> bool:
    """Say whether this runs in GitHub Actions."""
    return (os.environ if environment is None else environment).get("GITHUB_ACTIONS") == "true"


def annotation(level: Level, title: str, text: str) -> str:
    """
    Write one workflow command.

    Source: actions/toolkit, packages/core/src/command.ts, for what is escaped: more in a title than in a text.
    """
    return f"::{level} title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(text)}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def of_result(result: Result) -> str:
    """Write the verdict on every measurement, and what to be warned of."""
    lines = []
    for measurement in measurements(result):
        verdict = judge(measurement)
        title = f"slipway: {measurement.model.model}, version {measurement.version.version}: {verdict.word}"
        lines.append(annotation(_LEVELS[verdict.state], title, f"{verdict.headline}."))
        lines += [annotation("warning", title, warning) for warning in verdict.warnings]
    return "".join(lines)

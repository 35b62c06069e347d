"""Every broken model is stopped by the stage itself, with a line that names the fault, and leaves nothing to build on."""

import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from tests.workflow.checks import validation_stage
from tests.workflow.checks.broken_registry import BROKEN
from tests.workflow.checks.sound_models import SOUND

PAGE = Path(__file__).parents[3] / "docs/validation.md"
# How many the study had that the checks began with.
STUDY = 22


@pytest.fixture(scope="module")
def call(fresh):
    """Call a function of `validation_stage` in one process that has TensorFlow: its import is most of what a stage costs."""
    with ProcessPoolExecutor(1, fresh.context) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_passes(name, call):
    """Else every broken one would be caught for the wrong reason, and a sound one never served."""
    judged = call(validation_stage.judge, name)

    assert judged.lines == []
    assert (judged.code, judged.left) == (0, {"validation.json"})


@pytest.mark.parametrize("name", [name for name, broken in BROKEN.items() if broken.limit_s is None])
def test_a_broken_model_is_stopped_with_a_line_that_names_the_fault(name, call):
    judged = call(validation_stage.judge, name)

    assert judged.code == 3, judged.lines
    assert judged.left == {"validation.failed.json"}
    _check_lines(judged, name)


@pytest.mark.parametrize("name", [name for name, broken in BROKEN.items() if broken.limit_s])
def test_a_model_that_ends_the_process_or_none_is_one_line(name, call, fresh, tmp_path):
    call(validation_stage.prepare, name, tmp_path)

    judged, _ = fresh.call(validation_stage.run_stage, tmp_path, BROKEN[name].limit_s)

    assert (judged.code, judged.left, len(judged.lines)) == (2, set(), 1), judged.lines
    _check_lines(judged, name)


def _check_lines(judged, name):
    assert all(line.startswith("digits 1: ") for line in judged.lines), judged.lines
    for expected in BROKEN[name].lines:
        assert any(line.startswith(f"digits 1: {expected}") for line in judged.lines), "\n".join(judged.lines)


def test_the_table_in_the_docs_has_each_of_them_with_its_line():
    """A user who is told a line finds there what it means, and what to do next."""
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \| (.+?) \| `(.+?)` \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {name: line for name, _, line, _ in rows}

    assert sorted(told) == sorted(BROKEN)
    assert len(BROKEN) >= STUDY + 10
    for name, line in told.items():
        # What stands in place of … depends on the model, or is told once above the table.
        shown = [part.strip() for part in line.split("…") if part.strip()]
        assert any(all(part in expected for part in shown) for expected in BROKEN[name].lines), (name, line)

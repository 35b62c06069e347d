"""Every broken model is stopped by the stage itself, with a line that names the fault, and leaves nothing to build on."""

from concurrent.futures import ProcessPoolExecutor

import pytest
from tests.workflow.checks import broken_models

STUDY = 22


@pytest.fixture(scope="module")
def judge(fresh):
    """Run the stage in one process that has TensorFlow: the import is most of what a stage costs."""
    with ProcessPoolExecutor(1, fresh.context) as process:
        yield lambda name: process.submit(broken_models.judge, name).result()


def test_the_sound_model_passes(judge):
    """Else every broken one would be caught for the wrong reason."""
    judged = judge("sound")

    assert judged.lines == []
    assert (judged.code, judged.left) == (0, {"validation.json"})


@pytest.mark.parametrize("name", broken_models.BROKEN)
def test_a_broken_model_is_stopped_with_a_line_that_names_the_fault(name, judge):
    judged = judge(name)

    assert judged.code == 3, judged.lines
    assert judged.left == {"validation.failed.json"}
    assert all(line.startswith("digits 1: ") for line in judged.lines), judged.lines
    for expected in broken_models.BROKEN[name].lines:
        assert any(line.startswith(f"digits 1: {expected}") for line in judged.lines), "\n".join(judged.lines)

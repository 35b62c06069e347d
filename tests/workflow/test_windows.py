"""What a window is held against; whole windows are measured in tests/workflow/test_benchmark.py."""

from types import SimpleNamespace

import pytest
from tests.workflow import result_factory as factory

from slipway.windows import Windows


@pytest.mark.parametrize(("calibrated", "took_part", "share"), [(1, 1, 1), (4, 4, 1), (4, 1, 0.25), (1, 4, 1)])
def test_a_ceiling_is_that_of_the_processes_that_took_part(calibrated, took_part, share):
    """One user of four processes' generator is held against what one of them can do."""
    ceiling = factory.benchmark("m", 1).ceilings[0].model_copy(update={"processes": calibrated})
    windows = Windows("m", "m", None, None, None, None, [], ceilings={ceiling.protocol: ceiling})
    window = SimpleNamespace(outcome=SimpleNamespace(generators=took_part))

    assert windows.ceiling_of(window, ceiling.protocol, 1000.0) == 1000 * share
    assert windows.ceiling_of(window, ceiling.protocol, None) is None

"""What a window is held against; whole windows are measured in tests/workflow/test_benchmark.py."""

from types import SimpleNamespace

import pytest
from tests.workflow import result_factory as factory

from slipway import repetitions
from slipway.errors import InvalidMeasurement
from slipway.load_plan import closed_cells, open_cells
from slipway.progress import Steps
from slipway.settings import BenchmarkSettings
from slipway.windows import Windows
from slipway_wire.loads import LoadOrder


@pytest.mark.parametrize(("calibrated", "took_part", "share"), [(1, 1, 1), (4, 4, 1), (4, 1, 0.25), (1, 4, 1)])
def test_a_ceiling_is_that_of_the_processes_that_took_part(calibrated, took_part, share):
    """One user of four processes' generator is held against what one of them can do."""
    ceiling = factory.benchmark("m", 1).ceilings[0].model_copy(update={"processes": calibrated})
    windows = Windows("m", "m", None, None, None, None, [], ceilings={ceiling.protocol: ceiling})
    window = SimpleNamespace(outcome=SimpleNamespace(generators=took_part))

    assert windows.ceiling_of(window, ceiling.protocol, 1000.0) == 1000 * share
    assert windows.ceiling_of(window, ceiling.protocol, None) is None


class Refusing(Windows):
    """Windows of a server that refuses some requests."""

    def ordered(self, *_, **__):
        return LoadOrder(protocol="rest", host="", port=0, users=1, warmup_s=0, window_s=1, samples="")

    def load(self, *_):
        outcome = SimpleNamespace(errors={"HTTP 503": 3}, requests=9, wrong_answers=0, first_error="full")
        return SimpleNamespace(outcome=outcome)

    def repetition(self, *_, **__):
        return SimpleNamespace(invalid=[repetitions.FAILED_REQUESTS])


@pytest.mark.parametrize(
    ("share", "cell", "ends"), [(0.5, "open", True), ([0.5, 0.9], "open", False), ([0.5, 0.9], "closed", True)]
)
def test_one_of_several_rates_may_be_too_much_and_does_not_count(share, cell, ends):
    """An hour of measuring does not end because nine tenths of the peak filled a queue; half of it, or a closed loop, must not."""
    settings = BenchmarkSettings(open_loop_share=share, repetitions=1)
    windows = Refusing("m", "m", None, None, None, settings, ["rest"])
    (planned,) = open_cells(100.0, ["rest"]) if cell == "open" else closed_cells([1], ["rest"])
    told = Steps(0.0, 0, None)
    if ends:
        with pytest.raises(InvalidMeasurement, match="requests failed"):
            windows.sweep(None, [planned], told)
    else:
        windows.sweep(None, [planned], told)

    assert [r.invalid for r in windows.cells[planned]] == [[repetitions.FAILED_REQUESTS]]

import dataclasses

import numpy as np

from slipway_server.servables import plan_timing
from slipway_server.servables.loader import Call, JointCall
from slipway_server.servables.thread_plans import MIN_ROUNDS


def test_measuring_gives_times_of_both_plans(fakes, monkeypatch):
    """The real one: so many threads at once, every call a call."""
    monkeypatch.setattr(plan_timing, "WINDOW_S", 0.0)
    one, other = fakes.HalfPlusTwo(), fakes.HalfPlusTwo()
    call = Call("serving_default", {"x": np.float32([1.0])}, ("y",))
    large = Call("serving_default", {"x": np.float32([1.0] * 3)}, ("y",))

    rounds = list(plan_timing.measured(one, other, (call, large), 2))

    assert len(rounds) >= MIN_ROUNDS
    assert all(
        number > 0
        for one in rounds
        for timing in (one.one_batch, one.batch_per_core)
        for number in dataclasses.astuple(timing)
    )
    # Of either size, one alone and two at once, in each round.
    assert sorted(one.rows) == sorted(other.rows) == [1] * 3 * len(rounds) + [3] * 3 * len(rounds)
    joint = JointCall((call, call))
    assert len(list(plan_timing.measured(one, other, (joint, joint), 1))) == len(rounds)
    assert len(one.rows) == (6 + 2 * 2) * len(rounds)

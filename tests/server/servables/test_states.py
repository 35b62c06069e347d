import itertools
from typing import get_args

import pytest

from slipway_server.servables.states import NEXT, advance
from slipway_wire.model_status import State

ALLOWED = {
    ("START", "LOADING"),
    ("START", "END"),
    ("LOADING", "AVAILABLE"),
    ("LOADING", "END"),
    ("AVAILABLE", "UNLOADING"),
    ("UNLOADING", "END"),
}


@pytest.mark.parametrize(("current", "following"), itertools.product(NEXT, NEXT))
def test_states_only_move_forward(current, following):
    if (current, following) in ALLOWED:
        assert advance(current, following) == following
    else:
        with pytest.raises(AssertionError):
            advance(current, following)


def test_the_table_has_every_state_of_the_wire():
    assert NEXT.keys() == set(get_args(State)) - {"UNKNOWN"}

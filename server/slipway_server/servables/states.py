"""The life of one version as a table; states only move forward. Their names and numbers are those on the wire."""

from slipway_wire.model_status import State

NEXT: dict[State, frozenset[State]] = {
    "START": frozenset({"LOADING", "END"}),
    "LOADING": frozenset({"AVAILABLE", "END"}),
    "AVAILABLE": frozenset({"UNLOADING"}),
    "UNLOADING": frozenset({"END"}),
    "END": frozenset(),
}


def advance(current: State, following: State) -> State:
    """Return *following* if a version may go there from *current*; anything else is a bug of ours."""
    if following not in NEXT[current]:
        raise AssertionError(f"a version cannot go from {current} to {following}")
    return following

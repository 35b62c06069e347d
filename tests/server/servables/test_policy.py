import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.servables.policy import (
    POLICIES,
    Load,
    Unload,
    VersionSnapshot,
    availability_preserving,
    resource_preserving,
)
from slipway_server.servables.states import NEXT


def versions(*rows):
    return [VersionSnapshot(version, state, is_aspired) for version, state, is_aspired in rows]


YES, NO = True, False


@pytest.mark.parametrize(
    ("what", "snapshot", "action"),
    [
        ("nothing there", [], None),
        ("first version", [(1, "START", YES)], Load(1)),
        ("highest first", [(1, "START", YES), (3, "START", YES), (2, "START", YES)], Load(3)),
        ("then the next", [(1, "START", YES), (3, "AVAILABLE", YES)], Load(1)),
        ("one at a time", [(1, "START", YES), (2, "LOADING", YES)], None),
        ("one at a time, out", [(1, "UNLOADING", NO), (2, "START", YES)], None),
        ("all is well", [(1, "AVAILABLE", YES), (2, "AVAILABLE", YES)], None),
        ("new one loads beside the old", [(1, "AVAILABLE", NO), (2, "START", YES)], Load(2)),
        ("old one serves meanwhile", [(1, "AVAILABLE", NO), (2, "LOADING", YES)], None),
        ("then the old one goes", [(1, "AVAILABLE", NO), (2, "AVAILABLE", YES)], Unload(1)),
        ("unload comes before load", [(1, "AVAILABLE", NO), (2, "AVAILABLE", YES), (3, "START", YES)], Unload(1)),
        ("old one stays if the new one failed", [(1, "AVAILABLE", NO), (2, "END", YES)], None),
        ("a failed one is not tried again", [(2, "END", YES)], None),
        ("nothing wanted", [(1, "AVAILABLE", NO), (2, "AVAILABLE", NO)], Unload(1)),
        ("nothing wanted, last one", [(1, "AVAILABLE", NO)], Unload(1)),
        ("one unwanted is enough to serve", [(1, "AVAILABLE", NO), (2, "AVAILABLE", NO), (3, "START", YES)], Unload(1)),
        ("unwanted ones are not loaded", [(1, "START", NO)], None),
        ("what ended is over", [(1, "END", NO), (2, "AVAILABLE", YES)], None),
    ],
)
def test_truth_table(what, snapshot, action):
    assert availability_preserving(versions(*snapshot)) == action


@pytest.mark.parametrize(
    ("what", "snapshot", "action"),
    [
        ("highest first", [(1, "START", YES), (3, "START", YES)], Load(3)),
        ("the old one goes before the new one comes", [(1, "AVAILABLE", NO), (2, "START", YES)], Unload(1)),
        ("and is waited for", [(1, "UNLOADING", NO), (2, "START", YES)], None),
        ("and then it comes", [(1, "END", NO), (2, "START", YES)], Load(2)),
        ("one that fails leaves nothing", [(1, "END", NO), (2, "END", YES)], None),
        ("what is wanted stays", [(1, "AVAILABLE", YES), (2, "START", YES)], Load(2)),
    ],
)
def test_truth_table_of_the_frugal_one(what, snapshot, action):
    assert resource_preserving(versions(*snapshot)) == action


snapshots = st.lists(
    st.builds(VersionSnapshot, st.integers(0, 5), st.sampled_from(["START", "AVAILABLE", "END"]), st.booleans()),
    max_size=6,
    unique_by=lambda one: one.version,
)


@given(snapshots, st.data())
def test_a_model_that_serves_goes_on_serving_until_all_is_as_wanted(start, data):
    """Follow the policy to its end, loads failing at random: there is an end, and no gap on the way."""
    state = {one.version: one for one in start}
    wanted = {version for version, one in state.items() if one.is_aspired}
    served = any(one.state == "AVAILABLE" for one in start)
    for _ in range(4 * len(start) + 1):
        action = availability_preserving(list(state.values()))
        if action is None:
            break
        before = state[action.version]
        if isinstance(action, Load):
            after = data.draw(st.sampled_from(["AVAILABLE", "END"]))
            assert before.state == "START"
            assert before.is_aspired
        else:
            after = "END"
            assert before.state == "AVAILABLE"
            assert not before.is_aspired
        state[action.version] = VersionSnapshot(action.version, after, before.is_aspired)
        available = {version for version, one in state.items() if one.state == "AVAILABLE"}
        assert available or not served or not wanted
    else:
        pytest.fail("the policy never comes to rest")

    available = {version for version, one in state.items() if one.state == "AVAILABLE"}
    assert not any(one.state == "START" and one.is_aspired for one in state.values())
    assert available <= wanted or (len(available) == 1 and not available & wanted)


@given(snapshots, st.data())
def test_the_frugal_policy_never_loads_beside_what_is_not_wanted(start, data):
    """No more is ever in memory than was there before or is wanted: a model that fits once, fits."""
    state = {one.version: one for one in start}
    for _ in range(4 * len(start) + 1):
        action = resource_preserving(list(state.values()))
        if action is None:
            break
        before = state[action.version]
        unwanted = [one for one in state.values() if one.state == "AVAILABLE" and not one.is_aspired]
        if isinstance(action, Load):
            assert not unwanted
            assert (before.state, before.is_aspired) == ("START", True)
            after = data.draw(st.sampled_from(["AVAILABLE", "END"]))
        else:
            assert before in unwanted
            after = "END"
        state[action.version] = VersionSnapshot(action.version, after, before.is_aspired)
    else:
        pytest.fail("the policy never comes to rest")

    assert not any(one.state == "AVAILABLE" and not one.is_aspired for one in state.values())
    assert not any(one.state == "START" and one.is_aspired for one in state.values())


def test_the_policies_know_every_state():
    for state in NEXT:
        for policy in POLICIES.values():
            policy(versions((1, state, YES), (2, state, NO)))

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from slipway.serving_settings import Rollback, ServingSettings, labelled, restored, rolled_back

THERE = [1, 2, 10]


def serving(policy="all", **labels):
    return ServingSettings(policy=policy, labels=labels)


def entry(source, to, was):
    return Rollback(model="m", **{"from": source}, to=to, reason="", by="", at="", was=was)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("all", [1, 2, 10]),
        ("latest", [10]),
        ({"latest": 2}, [2, 10]),
        ({"latest": 5}, [1, 2, 10]),
        ({"specific": [2, 1]}, [1, 2]),
    ],
)
def test_a_policy_chooses_by_number(policy, served):
    assert serving(policy).served([10, 1, 2]) == served


@pytest.mark.parametrize(
    "policy", ["newest", {"latest": 0}, {"specific": []}, {"specific": [0]}, {}, None, {"latest": 1, "specific": [1]}]
)
def test_what_is_no_policy_is_refused_with_one_fault(policy):
    with pytest.raises(ValidationError) as caught:
        serving(policy)

    assert caught.value.error_count() == 1


def test_what_a_server_would_refuse_is_told_with_what_there_is():
    assert serving({"specific": [3]}).faults(THERE) == ["serving.policy.specific: no version 3; there are: 1, 2, 10"]
    assert serving("latest", stable=2).faults(THERE) == [
        "serving.labels.stable: version 2 is not among those that are served: 10"
    ]
    assert serving("all", stable=2).faults(THERE) == []


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("all", [1, 2]),
        ("latest", [2]),
        ({"latest": 2}, [1, 2]),
        ({"specific": [1, 10]}, [1, 2]),
        ({"specific": [10]}, [2]),
    ],
)
def test_a_rollback_serves_the_version_as_its_policy_would_have(policy, kept):
    assert rolled_back(serving(policy), THERE, 2).served(THERE) == kept


def test_a_label_of_what_is_withdrawn_means_the_version_that_answers():
    """Else who asks by label would be refused, and the configuration with it."""
    assert rolled_back(serving("all", canary=10, stable=1), THERE, 2).labels == {"canary": 2, "stable": 1}


def test_the_way_back_restores_policy_and_labels():
    before = serving("latest", canary=10)
    now = rolled_back(before, THERE, 2)

    assert restored(now, THERE, 10, [entry(10, 2, before)]) == before


def test_the_way_back_is_not_to_serve_what_came_meanwhile():
    before = serving("all")
    now = rolled_back(before, THERE, 2)

    assert restored(now, [*THERE, 11], 10, [entry(10, 2, before)]) is None
    assert restored(now, THERE, 1, [entry(10, 2, before)]) is None


def test_a_label_that_moves_has_its_version_served():
    assert labelled(serving("latest"), THERE, "stable", 2) == serving({"specific": [2, 10]}, stable=2)
    assert labelled(serving("all", stable=1), THERE, "stable", 2) == serving("all", stable=2)


@st.composite
def situations(draw):
    there = draw(st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True))
    some = st.lists(st.sampled_from(there), min_size=1, unique=True)
    policy = draw(
        st.sampled_from(["all", "latest"])
        | st.builds(lambda n: {"latest": n}, st.integers(1, 9))
        | st.builds(lambda s: {"specific": s}, some)
    )
    served = serving(policy).served(there)
    labels = draw(st.dictionaries(st.sampled_from(["stable", "canary"]), st.sampled_from(served)))
    return serving(policy, **labels), there, draw(st.sampled_from(there))


@given(situations())
def test_after_any_rollback_the_chosen_version_answers_and_a_server_takes_it(situation):
    before, there, to = situation

    after = rolled_back(before, there, to)

    assert max(after.served(there)) == to
    assert after.faults(there) == []
    assert after.labels.keys() == before.labels.keys()

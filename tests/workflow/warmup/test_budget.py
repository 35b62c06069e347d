from hypothesis import given
from hypothesis import strategies as st

from slipway.warmup.budget import Wanted, choose


@st.composite
def wishes(draw):
    """Records as they come: a filled one may weigh nothing, more than its values, or be impossible."""
    small = st.integers(1, 50)
    one = st.builds(Wanted, st.sampled_from("abc"), st.integers(1, 64), st.integers(1, 1000), st.none() | small)
    return draw(st.lists(one, max_size=12))


def weight(wanted, forms):
    return sum(one.bytes_as(form) for one, form in zip(wanted, forms, strict=True))


@given(wishes(), st.integers(0, 3000))
def test_the_budget_is_kept(wanted, max_bytes):
    assert weight(wanted, choose(wanted, max_bytes)) <= max_bytes


@given(wishes(), st.integers(0, 3000))
def test_only_what_must_be_is_given_up(wanted, max_bytes):
    """Nothing is filled or left out for which there would have been room as it was."""
    forms = choose(wanted, max_bytes)
    used = weight(wanted, forms)

    for one, form in zip(wanted, forms, strict=True):
        if form == "filled":
            assert one.filled_bytes is not None
            assert one.filled_bytes < one.values_bytes
            assert used - one.filled_bytes + one.values_bytes > max_bytes
    if sum(one.values_bytes for one in wanted) <= max_bytes:
        assert set(forms) <= {"values"}
    if sum(one.least_bytes for one in wanted) <= max_bytes:
        assert None not in forms


@given(wishes(), st.integers(0, 3000))
def test_a_signature_loses_its_last_record_only_if_every_other_has_one_left_at_most(wanted, max_bytes):
    forms = choose(wanted, max_bytes)
    kept = [one.signature for one, form in zip(wanted, forms, strict=True) if form is not None]

    if {one.signature for one in wanted} - set(kept):
        assert len(kept) == len(set(kept))


def test_the_largest_batches_go_first():
    wanted = [Wanted("a", rows, rows * 100, rows * 10) for rows in (1, 2, 4, 8)]

    assert choose(wanted, 1500) == ["values"] * 4
    assert choose(wanted, 800) == ["values", "values", "values", "filled"]
    assert choose(wanted, 100) == ["filled", "filled", "filled", None]
    assert choose(wanted, 9) == [None] * 4

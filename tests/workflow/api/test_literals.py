from hypothesis import given
from hypothesis import strategies as st

from slipway.api.literals import WIDTH, literal

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=9), inner), max_leaves=60
)


@given(VALUES)
def test_source_evaluates_to_the_value(value):
    assert eval(literal(value)) == value


@given(st.lists(st.lists(st.floats(0, 1, width=32), max_size=30), max_size=30), st.integers(0, 5))
def test_numbers_keep_to_the_width_of_a_line(value, level):
    assert all(len(line) <= WIDTH for line in literal(value, "    " * level).splitlines())


def test_short_things_stand_side_by_side_and_long_ones_below_each_other():
    row = [0.25] * 12

    assert literal(row) == str(row)
    assert literal([row, row]).splitlines() == ["[", f"    {row},", f"    {row},", "]"]
    assert literal(list(range(40)), "  ").splitlines()[0] == "["
    assert len(literal(list(range(40))).splitlines()) == 4

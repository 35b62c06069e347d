import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.report import numbers
from slipway.statistics import Estimate

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e18, max_value=1e18)
PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def read_back(text: str) -> float:
    """Read a number as a person would."""
    plain = text.replace("\u202f", "").replace("−", "-")
    return float(plain[:-1]) * PREFIXES[plain[-1]] if plain[-1] in PREFIXES else float(plain)


@given(finite)
def test_a_number_reads_back_within_half_a_unit_of_its_third_digit(value):
    shown = read_back(numbers.number(value))

    assert math.isclose(shown, value, rel_tol=0.00501, abs_tol=0)


@given(finite.filter(bool))
def test_what_is_not_zero_never_reads_as_zero(value):
    assert read_back(numbers.number(value)) != 0


@given(finite, finite)
def test_larger_never_reads_smaller(one, other):
    small, large = sorted((one, other))

    assert read_back(numbers.number(small)) <= read_back(numbers.number(large))


@given(finite)
def test_nothing_is_longer_than_a_table_cell(value):
    assert len(numbers.number(value)) <= 10


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.00123, "0.00123"),
        (1e-9, "1e−9"),
        (12.0, "12"),
        (999.6, "1\u202f000"),
        (9994, "9\u202f990"),
        (9999, "10k"),
        (123456, "123k"),
        (-3.5, "−3.5"),
        (4.56e6, "4.56M"),
        (1e16, "1e16"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_as_people_write_them(value, shown):
    assert numbers.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (2.5e-10, "0.00025 µs"),
        (85e-6, "85 µs"),
        (0.0009996, "1 ms"),
        (0.00321, "3.21 ms"),
        (59.96, "60 s"),
        (125, "2 min 5 s"),
        (120, "2 min"),
        (math.inf, "∞"),
        (None, "–"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds, shown):
    assert numbers.duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(195, "195 B"), (999.7, "1 kB"), (3183, "3.18 kB"), (2.12e8, "212 MB"), (0, "0 B"), (None, "–")],
)
def test_sizes_are_decimal(value, shown):
    assert numbers.size(value) == shown


@given(st.floats(min_value=0, max_value=1))
def test_only_everything_is_a_hundred_percent(share):
    assert (numbers.percent(share) == "100%") == (share == 1)


@pytest.mark.parametrize(
    ("ratio", "shown"), [(1.8, "1.80×"), (1.0, "1.00×"), (12.34, "12.3×"), (160.2, "160×"), (None, "–")]
)
def test_ratios_keep_their_zeros_so_that_columns_agree(ratio, shown):
    assert numbers.times(ratio) == shown


def test_an_interval_is_shown_or_its_absence_explained():
    known = Estimate(1.8, 1.7, 1.9, 6, 0.97)
    unknown = Estimate(1.8, None, None, 1, None)

    assert numbers.with_interval(known, numbers.times) == "1.80× [1.70×, 1.90×]"
    assert numbers.interval(unknown) == "[no interval from 1 repetition]"
    assert numbers.with_interval(unknown) == "1.8"
    assert numbers.with_interval(None) == "–"


def test_counts_agree_with_their_noun():
    assert numbers.counted(1, "repetition") == "1 repetition"
    assert numbers.counted(1200, "query", "queries") == "1\u202f200 queries"


def test_a_digest_is_shortened_and_anything_else_left_alone():
    assert numbers.short_digest("sha256:" + "ab" * 32) == "sha256:abababababab…"
    assert numbers.short_digest("v1") == "v1"


@pytest.mark.parametrize(("ratio", "text"), [(1.034, "+3.4 %"), (0.9, "−10.0 %"), (1.0001, "0.0 %"), (0.9999, "0.0 %")])
def test_changes_are_written_with_their_sign(ratio, text):
    assert numbers.change(ratio) == text

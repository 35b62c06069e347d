from tests.dropin import matrix


def test_every_must_is_shown_by_a_test_or_told_to_be_missing():
    shown = matrix.shown_by()
    open_ = [
        one.id for one in matrix.read_behaviours() if one.mark == "must" and one.id not in shown and not one.not_yet
    ]

    assert open_ == []


def test_what_is_shown_is_not_told_to_be_missing():
    shown = matrix.shown_by()

    assert [one.id for one in matrix.read_behaviours() if one.not_yet and one.id in shown] == []


def test_marks_name_behaviours_that_exist():
    known = [one.id for one in matrix.read_behaviours()]

    assert len(known) == len(set(known))
    assert set(matrix.shown_by()) <= set(known)


def test_the_page_is_true():
    """`python tests/dropin/matrix.py` writes it."""
    assert matrix.PAGE.read_text() == matrix.page()

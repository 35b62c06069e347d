"""Which version may answer when, on made-up requests around made-up changes."""

import numpy as np
import pytest

from slipway.scenarios.switching import Change, longest_silence_us, permitted, while_changing, wrong_versions
from slipway_wire.samples import Samples

NEW, OLD = 0, 1
# Version 2 leaves from 100 to 200 and version 1 answers; version 2 comes from 500 to 600.
CHANGES = (Change(100, 200, OLD), Change(500, 600, NEW))


def requests(*rows):
    """Requests by when they were sent, when they were answered and by whom (bits; 0: not looked at)."""
    sent, done, fits = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Samples(0, 0, 1000, sent, sent * 0, done - sent, np.zeros(len(sent), bool), fits.astype(np.uint8))


@pytest.mark.parametrize(
    ("sent", "done", "may"),
    [
        *((0, 50, {NEW}), (0, 99, {NEW}), (0, 100, {NEW, OLD}), (150, 160, {NEW, OLD}), (200, 300, {NEW, OLD})),
        *((201, 300, {OLD}), (201, 499, {OLD}), (300, 500, {OLD, NEW}), (600, 700, {OLD, NEW}), (601, 700, {NEW})),
        # Under way all the while.
        (0, 900, {OLD, NEW}),
    ],
)
def test_before_a_change_only_the_first_may_answer_and_after_it_only_the_second(sent, done, may):
    (bits,) = permitted(requests((sent, done, 0)), CHANGES)

    assert {place for place in (NEW, OLD) if bits & 1 << place} == may


def test_an_answer_of_the_version_that_has_left_is_wrong():
    """It is right for somebody, which no other check can see through."""
    new, old, both, unseen = 1, 2, 3, 0
    found = requests(
        *((10, 20, new), (10, 20, old), (300, 310, old), (300, 310, new), (700, 710, new), (700, 710, old)),
        *((300, 310, both), (300, 310, unseen), (150, 160, old), (150, 160, new)),
    )

    assert wrong_versions(found, CHANGES).tolist() == [False, True, False, True, False, True, *[False] * 4]


def test_a_change_that_no_request_could_see_permits_one_version_throughout():
    assert set(permitted(requests((0, 1, 1), (999, 1000, 1)), ())) == {1}


def test_silence_is_told_apart_by_what_was_under_way():
    found = requests((0, 10, 1), (0, 20, 1), (120, 180, 1), (120, 190, 1), (210, 400, 1), (410, 450, 1), (560, 570, 1))

    # From 20 to 180 nobody was answered, over the begin of the change; from 190 to 400 likewise over its end.
    assert longest_silence_us(found, CHANGES) == (210.0, 50.0)
    assert longest_silence_us(requests((0, 10, 1)), CHANGES) == (None, None)
    assert while_changing(found, CHANGES).tolist() == [False, False, True, True, False, False, True]

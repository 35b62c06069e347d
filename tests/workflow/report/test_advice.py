from slipway import repetitions as rules
from slipway.report.advice import ADVICE, advice


def test_every_rule_has_its_advice():
    assert set(ADVICE) == set(rules.SHORT)


def test_a_generator_that_is_too_small_is_not_told_to_wait_for_a_quiet_machine():
    told = advice({rules.NEAR_CEILING: 30, rules.SATURATED: 12, rules.DISTURBED: 1}, 6)

    assert told == (ADVICE[rules.SATURATED],)
    assert "alone" not in told[0]


def test_each_cause_that_would_spoil_it_by_itself_has_its_own():
    assert advice({rules.DISTURBED: 20, rules.UNSTEADY: 7}, 6) == (ADVICE[rules.DISTURBED], ADVICE[rules.UNSTEADY])


def test_of_many_small_causes_the_first_is_answered_and_of_an_unknown_one_nothing_is_said():
    assert advice({rules.OFF_RATE: 3, rules.STOLEN: 2}, 6) == (ADVICE[rules.OFF_RATE],)
    assert advice({"a rule of another Slipway": 9}, 6) == ()

import pytest

from slipway.errors import ContractViolation
from slipway.records import WarmupEntry
from slipway.warmup.replay import failure

ENTRIES = [WarmupEntry(signature=name, method="predict", rows=2, bytes=1) for name in ("a", "b")]
LOG = """\
I server: servable {name: m version: 1}: warm-up record 0 (predict, signature a) took 62.3 ms
E server: servable {name: m version: 1} is END: /p/m/1/assets.extra/tf_serving_warmup_requests: %s
Failed to start server. Error: 1 servable(s) did not become available
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'warm-up record 1 (predict, signature b): key "b" (or what) not found.',
            'warm-up record 1 (b, 2 rows): expected an answer, found: key "b" (or what) not found.',
        ),
        ("warm-up record 0: damaged", "warm-up record 0 (a, 2 rows): expected an answer, found: damaged"),
    ],
)
def test_a_record_that_fails_is_named(line, said):
    found = failure(LOG % line, ENTRIES)

    assert isinstance(found, ContractViolation)
    assert str(found) == said


@pytest.mark.parametrize("line", ["not there", "warm-up record 7 (predict, signature x): never written"])
def test_other_failures_are_left_alone(line):
    assert failure(LOG % line, ENTRIES) is None

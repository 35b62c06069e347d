import pytest

from slipway_server import memory
from slipway_server.transports.held import Held, default_limit_bytes
from slipway_wire.status import ResourceExhausted


def test_a_quarter_of_what_the_container_has_may_be_held(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("268435456\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (limit,))

    assert default_limit_bytes() == 2**26


def test_the_account_says_what_is_left_and_refuses_what_is_too_much():
    held = Held(100)
    held.now += 100
    assert (held.free, held.is_full) == (0, False)
    held.now += 1
    assert (held.free, held.is_full) == (-1, True)
    with pytest.raises(ResourceExhausted, match="holds 101 bytes of calls that have not ended, 100 are allowed"):
        raise held.refusal()

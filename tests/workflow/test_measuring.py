import pytest

from slipway.errors import ContractViolation, InvalidMeasurement
from slipway.measuring import Machine, is_loopback, stop_at_faults
from slipway_wire.loads import LoadOutcome


def outcome(**changes):
    values = {
        "requests": 100,
        "checked_answers": 100,
        "wrong_answers": 0,
        "connections": 1,
        "bytes_sent": None,
        "bytes_received": None,
        "cpu_ns": 0,
        "cpu_from_ns": 0,
        "cpu_to_ns": 0,
        "lag_p99_us": 0.0,
        "lag_max_us": 0.0,
    }
    return LoadOutcome(**(values | changes))


def test_one_cpu_is_shared_and_nothing_is_pinned():
    machine = Machine([0])

    assert machine.server_cpus == machine.generator_cpus == [0]
    assert not machine.pinned
    assert machine.placement().server_cpus == "0"


def test_servers_and_generators_are_kept_apart():
    machine = Machine([0, 1, 2, 3])

    assert not set(machine.server_cpus) & set(machine.generator_cpus)
    assert machine.pinned


def test_each_cpu_of_the_generators_has_a_process_unless_it_is_said_how_many():
    assert [Machine(range(count)).generator_processes for count in (1, 2, 7, 8, 16)] == [1, 1, 1, 2, 4]
    assert Machine([0, 1], 3).placement().generator_processes == 3


def test_a_wrong_answer_or_a_failed_request_ends_a_measurement():
    stop_at_faults(outcome(), "m")
    with pytest.raises(ContractViolation, match=r"m: 2 of 100 answers under load are wrong: y is off"):
        stop_at_faults(outcome(wrong_answers=2, first_wrong="y is off"), "m")
    with pytest.raises(InvalidMeasurement, match=r"m: 3 of 100 requests failed \(503: 3\); the first: full"):
        stop_at_faults(outcome(errors={"503": 3}, first_error="full"), "m")
    stop_at_faults(outcome(errors={"503": 3}, first_error="full"), "m", may_fail=True)
    with pytest.raises(ContractViolation):
        stop_at_faults(outcome(wrong_answers=2, first_wrong="y is off", errors={"503": 3}), "m", may_fail=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.7", False), ("example.test", False)],
)
def test_this_machine_is_known_by_its_names(host, expected):
    assert is_loopback(host) == expected

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.batching.execution import run_batch
from slipway_server.config_files import BatchingPolicy
from slipway_wire.status import Code, FailedPrecondition, InvalidArgument, ResourceExhausted, error_of

ANY_SIZE = BatchingPolicy()


class Model:
    """Doubles x; fails where *fails* says so of a run's x, with *code*."""

    def __init__(self, fails=lambda _: False, code=Code.INVALID_ARGUMENT):
        self.fails = fails
        self.code = code
        self.runs = []

    def __call__(self, inputs):
        self.runs.append(len(inputs["x"]))
        if self.fails(inputs["x"]):
            raise error_of(self.code, "no")
        return {"y": inputs["x"] * 2}


def execute(model, values, policy=ANY_SIZE, still_wanted=lambda parts: parts):
    """Run one-row tasks with these values together; return value -> what came of it."""
    outcomes = {}

    def on_outcome(ran):
        for number, (value, _, _) in enumerate(ran.parts):
            assert value not in outcomes
            is_error = isinstance(ran.outcome, Exception)
            outcomes[value] = ran.outcome if is_error else ran.outcome[number]["y"].tolist()

    parts = [(value, 0, 1) for value in values]
    run_batch(
        model,
        parts,
        policy,
        lambda value: {"x": np.array([value])},
        on_run=lambda _: None,
        on_outcome=on_outcome,
        still_wanted=still_wanted,
    )
    return outcomes


def test_what_succeeds_runs_once():
    model = Model()

    assert execute(model, range(5)) == {value: [value * 2] for value in range(5)}
    assert model.runs == [5]


@given(st.integers(1, 40), st.data())
def test_only_the_guilty_get_the_error(tasks, data):
    guilty = data.draw(st.sets(st.integers(0, tasks - 1), max_size=5))
    model = Model(lambda x: any(value in guilty for value in x))

    outcomes = execute(model, range(tasks))

    assert outcomes.keys() == set(range(tasks))
    for value, outcome in outcomes.items():
        assert isinstance(outcome, InvalidArgument) if value in guilty else outcome == [value * 2]
    assert len(model.runs) <= 1 + 2 * len(guilty) * math.ceil(math.log2(max(tasks, 2)))


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION])
def test_a_broken_model_is_not_asked_for_every_task(code):
    """Else an outage would multiply its own load."""
    model = Model(lambda _: True, code)

    outcomes = execute(model, range(64))

    assert {outcome.code for outcome in outcomes.values()} == {code}
    assert len(outcomes) == 64
    assert model.runs == [64, 32, 32, 16, 16, 16, 16]


def test_one_task_that_makes_the_model_fail_in_any_way_is_found():
    model = Model(lambda x: 37 in x, Code.INTERNAL)

    outcomes = execute(model, range(64))

    assert [value for value, outcome in outcomes.items() if isinstance(outcome, Exception)] == [37]
    assert len(model.runs) == 1 + 2 * 6


def test_a_batch_that_does_not_fit_into_memory_runs_in_pieces():
    def fits_not(x):
        if len(x) > 4:
            raise MemoryError
        return False

    model = Model(fits_not)

    assert execute(model, range(16)) == {value: [value * 2] for value in range(16)}
    assert max(model.runs[3:]) == 4


def test_a_task_that_alone_is_too_much_for_the_memory_is_told_so():
    def is_too_large(x):
        raise MemoryError

    assert isinstance(execute(Model(is_too_large), [1])[1], ResourceExhausted)


def test_outputs_without_a_row_for_each_input_are_nobodys_fault_and_not_tried_again():
    model = Model()

    def run(inputs):
        return {"y": model(inputs)["y"].sum()}

    outcomes = execute(run, range(8))

    assert all(isinstance(outcome, FailedPrecondition) for outcome in outcomes.values())
    assert model.runs == [8]


def test_whoever_has_left_is_not_run_again():
    model = Model(lambda x: 0 in x)
    gone = {2, 3}

    outcomes = execute(model, range(4), still_wanted=lambda parts: [part for part in parts if part[0] not in gone])

    assert outcomes.keys() == {0, 1}
    assert model.runs == [4, 2, 1, 1]


def test_pieces_of_a_batch_are_padded_as_it_was():
    model = Model(lambda x: 3 in x)

    execute(model, range(1, 6), BatchingPolicy(max_batch_size=8, allowed_batch_sizes=(2, 4, 8)))

    # All five; 1 2 and 3 4 5; 3 and 4 5.
    assert model.runs == [8, 2, 4, 2, 2]


def test_an_empty_tensor_among_others_fails_nobody():
    """It cannot be padded to the others' shape; by itself it needs no padding."""
    shapes = {0: (1, 2), 1: (1, 0), 2: (1, 3), 3: (1, 2)}
    outcomes = {}

    def on_outcome(ran):
        for number, (task, _, _) in enumerate(ran.parts):
            outcomes[task] = ran.outcome[number]["y"].shape

    run_batch(
        lambda merged: {"y": merged["x"]},
        [(task, 0, 1) for task in shapes],
        BatchingPolicy(pad_variable_length_inputs=True),
        lambda task: {"x": np.ones(shapes[task])},
        on_run=lambda _: None,
        on_outcome=on_outcome,
        still_wanted=lambda parts: parts,
    )

    assert outcomes == {0: (1, 2), 1: (1, 0), 2: (1, 3), 3: (1, 3)}

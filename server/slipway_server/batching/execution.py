"""Run one batch: merge, run, split; when it fails, find out whose fault it is. Owns no queue and no thread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from slipway_server.batching.queue import Part
from slipway_server.batching.tensors import Tensors, cut, merge, split
from slipway_server.config_files import BatchingPolicy
from slipway_server.errors import forget
from slipway_wire.status import Code, ResourceExhausted, WireError

T = TypeVar("T")

# What a request can be to blame for. With any other code the server or the model is in trouble, and trying every
# task by itself would multiply the trouble.
_OF_INPUT = frozenset({Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.NOT_FOUND, Code.UNIMPLEMENTED})
# Halving a batch so often without any success means that it is not one task's fault.
_VAIN_LEVELS = 2


@dataclass(slots=True)
class Ran(Generic[T]):
    """What one run gave to all parts in it."""

    parts: Sequence[Part[T]]
    outcome: Sequence[Tensors] | Exception
    """Outputs for each part; or why there are none."""
    began: float
    ended: float
    rows: int
    """Rows that were asked for."""
    padding: int
    """Rows that were added."""
    is_rerun: bool
    is_decided: bool
    """Whether running fewer of the parts together could not change the outcome."""


def run_batch(
    run: Callable[[Tensors], Tensors],
    parts: Sequence[Part[T]],
    policy: BatchingPolicy,
    inputs_of: Callable[[T], Tensors],
    *,
    on_run: Callable[[Ran[T]], None],
    on_outcome: Callable[[Ran[T]], None],
    still_wanted: Callable[[Sequence[Part[T]]], Sequence[Part[T]]],
) -> None:
    """
    Run *parts* together, once if all goes well.

    A batch that fails is halved again and again, so that only who is to blame gets the error: of n tasks one guilty
    one costs 2 log2 n further runs. If the error is not of a kind that a request can cause, and the halves and quarters
    fail as well, all get it: a model that is broken, or out of memory, is not asked once for each task.

    Args:
        run: Inputs of shape [rows, …] -> outputs of shape [rows, …].
        parts: At least one, and no more rows than a batch may have.
        policy: Says how to pad.
        inputs_of: The inputs of a task, all rows of them.
        on_run: Told of every run.
        on_outcome: Told of every run whose outcome is final for its parts.
        still_wanted: Called before each further run with its parts; returns those that somebody waits for.
    """
    groups = [parts]
    level = vain = 0
    while groups:
        failed = []
        has_succeeded = False
        for group in groups:
            wanted = still_wanted(group) if level else group
            if not wanted:
                continue
            ran = _run_once(run, wanted, policy, inputs_of, is_rerun=level > 0)
            on_run(ran)
            if not ran.is_decided:
                failed.append(ran)
                continue
            has_succeeded = has_succeeded or not isinstance(ran.outcome, Exception)
            on_outcome(ran)
        if level:
            vain = 0 if has_succeeded else vain + 1
        groups = []
        for ran in failed:
            if vain >= _VAIN_LEVELS and not _is_of_input(ran.outcome):
                on_outcome(ran)
            else:
                if isinstance(ran.outcome, Exception):
                    # It is told to nobody, and its frames hold the batch.
                    forget(ran.outcome)
                middle = len(ran.parts) // 2
                groups += [ran.parts[:middle], ran.parts[middle:]]
        level += 1


def _run_once(
    run: Callable[[Tensors], Tensors],
    parts: Sequence[Part[T]],
    policy: BatchingPolicy,
    inputs_of: Callable[[T], Tensors],
    *,
    is_rerun: bool,
) -> Ran[T]:
    inputs = [cut(inputs_of(task), start, stop) for task, start, stop in parts]
    sizes = [len(next(iter(of_part.values()))) for of_part in inputs]
    rows = sum(sizes)
    padded = policy.padded(rows) if rows else 0
    began = time.monotonic()
    outcome: Sequence[Tensors] | Exception
    is_decided = len(parts) == 1
    try:
        outputs = run(merge(inputs, padded, pads_shapes=policy.pad_variable_length_inputs))
        # Outputs that do not have a row for each row of the batch are the model's way, and nobody's fault.
        is_decided = True
        outcome = split(outputs, sizes, padded)
    except MemoryError:
        outcome = ResourceExhausted(f"Out of memory while a batch of {padded} rows ran")
    except Exception as error:  # of TensorFlow, the model or the merge
        outcome = error
    except BaseException as error:  # a model's Python op may ask to exit; other models need this thread
        outcome = RuntimeError(f"the model raised {error!r}")
    return Ran(parts, outcome, began, time.monotonic(), rows, padded - rows, is_rerun, is_decided)


def _is_of_input(error: object) -> bool:
    return isinstance(error, WireError) and error.code in _OF_INPUT

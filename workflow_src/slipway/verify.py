"""
Measure how often a served model is wrong, on labelled rows, at any address with TensorFlow Serving's interface.

Exit code 0: measured, and within --max-error-rate if one is given; 1: above it; 2: nothing could be measured.
"""

import argparse
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway import comparable, labelled_rows, progress, targets
from slipway.contract import DEFAULT_SIGNATURE, read_contract
from slipway.error_rate import ErrorRate
from slipway.errors import SettingsError
from slipway.labelled_rows import LabelledRows
from slipway.model_clients import ModelClient
from slipway.targets import Target

Array = npt.NDArray[Any]
Wrong = npt.NDArray[np.bool_]
Inputs = Mapping[str, Array]
_MOST_CONCURRENT = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare whom to ask, what, and how wrong it may be."""
    parser.add_argument(
        "target", nargs="+", metavar="TARGET", help="HOST:PORT, or http://, https://, grpc://, grpcs://…"
    )
    parser.add_argument("--contract", type=Path, required=True, metavar="FILE", help="the model's contract (YAML)")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="rows and their `labels` (.npz)")
    parser.add_argument("--model", metavar="NAME", help="its name at the server; else that of the contract's file")
    parser.add_argument(
        "--signature", default=DEFAULT_SIGNATURE, metavar="NAME", help="a predict or classify signature (%(default)s)"
    )
    parser.add_argument("--output", metavar="NAME", help="output that labels are compared with; else golden.label")
    parser.add_argument("--num-tests", type=int, default=1000, metavar="N", help="rows to try (%(default)s)")
    parser.add_argument("--protocol", choices=["rest", "grpc", "both"], help="of a target without a scheme (rest)")
    parser.add_argument("--concurrency", type=int, default=4, metavar="N", help="requests in flight (%(default)s)")
    parser.add_argument("--rows", type=int, default=1, metavar="N", help="rows in each request (%(default)s)")
    parser.add_argument("--max-error-rate", type=float, metavar="SHARE", help="exit with 1 above it, such as 0.05")
    parser.add_argument("--json", action="store_true", help="print JSON, with the numbers of the wrong rows")
    targets.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, count, print, and say by the exit code whether it is good enough."""
    _check_numbers(arguments)
    addresses = [target for word in arguments.target for target in targets.parse(word, arguments.protocol)]
    contract = read_contract(arguments.contract)
    if contract.max_rows is not None and arguments.rows > contract.max_rows:
        raise SettingsError(f"--rows: the contract's max_rows is {contract.max_rows}, got {arguments.rows}")
    known = labelled_rows.read(arguments.data, contract, arguments.signature, arguments.output)
    tested = min(arguments.num_tests, known.data.rows)
    if tested < arguments.num_tests:
        sys.stderr.write(f"{arguments.data} has {tested:,} rows; each is tried once.\n")
    found = [_verify(target, known, tested, arguments) for target in addresses]
    offline = known.wrong_offline(tested)
    asked = [slice(start, min(start + arguments.rows, tested)) for start in range(0, tested, arguments.rows)]
    alike = asked == comparable.parts(contract, known.data.rows)
    why_not = comparable.why_not(contract, arguments.signature, same_batches=alike)
    written = as_json if arguments.json else as_text
    sys.stdout.write(written(found, offline, why_not))
    gate = arguments.max_error_rate
    above = [one for one in found if gate is not None and one.rate.rate > gate]
    for one in above:
        sys.stderr.write(f"slipway verify: {one.target}: {100 * one.rate.rate:.4g} % is above {100 * gate:.4g} %\n")
    return 1 if above else 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    for option, most in (("num_tests", sys.maxsize), ("concurrency", _MOST_CONCURRENT), ("rows", sys.maxsize)):
        given = getattr(arguments, option)
        if not 1 <= given <= most:
            limit = f"1 to {most}" if most < sys.maxsize else "1 or more"
            raise SettingsError(f"--{option.replace('_', '-')}: expected {limit}, got {given}")
    gate = arguments.max_error_rate
    if gate is not None and not 0 <= gate <= 1:
        raise SettingsError(f"--max-error-rate: expected a share between 0 and 1, got {gate:g}")


@dataclass(frozen=True, slots=True)
class Found:
    """Which of the tested rows a server got wrong; [rows]."""

    target: Target
    wrong: Wrong

    @property
    def rate(self) -> ErrorRate:
        """Counted."""
        return count(self.wrong)


def count(wrong: Wrong) -> ErrorRate:
    """Count."""
    return ErrorRate(int(wrong.sum()), len(wrong))


def _verify(target: Target, known: LabelledRows, tested: int, arguments: argparse.Namespace) -> Found:
    model = arguments.model or arguments.contract.stem

    def connect() -> ModelClient:
        return targets.connect(target, model, arguments)

    with connect() as client:
        served = known.check(client.signatures(), f"{target}: model {model}")
    with progress.counter(f"{target}", tested) as advance:
        answers = ask_all(
            known.parts(tested, arguments.rows),
            connect,
            lambda client, inputs: known.ask(client, served, inputs),
            concurrency=arguments.concurrency,
            advance=advance,
        )
    return Found(target, known.are_wrong(np.concatenate(answers)))


def ask_all(
    parts: Iterator[Inputs],
    connect: Callable[[], ModelClient],
    ask: Callable[[ModelClient, Inputs], Array],
    *,
    concurrency: int,
    advance: Callable[[int], None],
) -> list[Array]:
    """
    Send every part, at most *concurrency* at a time, each of these on a connection of its own.

    Args:
        parts: Inputs of requests; each is made when its turn comes.
        connect: Opens a connection.
        ask: Sends one part and gives an answer for each of its rows.
        concurrency: Connections.
        advance: Is told of rows as they are answered, by one thread at a time.

    Returns:
        The answers, in the order of *parts*.

    Raises:
        SlipwayError: Of the first request that failed; no further one is begun.
    """
    turn = threading.Lock()
    numbered = enumerate(parts)
    answers: dict[int, Array] = {}
    has_failed = threading.Event()

    def work() -> None:
        try:
            with connect() as client:
                while not has_failed.is_set():
                    with turn:
                        number, part = next(numbered, (-1, {}))
                    if number < 0:
                        return
                    answer = ask(client, part)
                    with turn:
                        answers[number] = answer
                        advance(len(answer))
        except BaseException:
            has_failed.set()
            raise

    with ThreadPoolExecutor(concurrency, thread_name_prefix="verify") as pool:
        try:
            for worker in [pool.submit(work) for _ in range(concurrency)]:
                worker.result()
        finally:
            # Also on Ctrl-C, so that leaving the block waits for no more than one answer each.
            has_failed.set()
    return [answers[number] for number in range(len(answers))]


def as_text(found: Sequence[Found], offline: Wrong | None, why_not: str = "") -> str:
    """
    Write a line for each server and, where golden answers are known, one for the model before it was exported.

    Args:
        found: What was measured.
        offline: Which rows the golden answers have wrong, if they are known.
        why_not: Why served and golden answers cannot be compared row by row (`slipway.comparable`).
    """
    lines = []
    for one in found:
        where = f"{targets.NAMES[one.target.protocol]}: " if len(found) > 1 else ""
        lines.append(f"{where}Inference error rate: {one.rate}")
    if offline is not None:
        same = all(np.array_equal(one.wrong, offline) for one in found)
        wrong_too = "the same rows are wrong" if same else _difference(found, offline)
        if why_not:
            wrong_too = f"not compared row by row: {why_not}"
        lines.append(f"Offline, by the golden answers to these rows: {count(offline)}; {wrong_too}")
    return "".join(f"{line}\n" for line in lines)


def _difference(found: Sequence[Found], offline: Wrong) -> str:
    told = []
    for one in found:
        rows = np.flatnonzero(one.wrong != offline).tolist()
        if rows:
            listed = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
            told.append(f"{len(rows):,} rows differ over {targets.NAMES[one.target.protocol]}: {listed}")
    return "; ".join(told)


def as_json(found: Sequence[Found], offline: Wrong | None, why_not: str = "") -> str:
    """Write the same as JSON."""

    def told(wrong: Wrong) -> dict[str, Any]:
        rate = count(wrong)
        low, high = rate.interval()
        counted = {"wrong": rate.wrong, "tested": rate.tested, "error_rate": rate.rate, "interval_95": [low, high]}
        return counted | {"wrong_rows": np.flatnonzero(wrong).tolist()}

    document = {
        "served": [{"target": str(one.target), "protocol": one.target.protocol} | told(one.wrong) for one in found],
        "offline": None if offline is None else told(offline),
        "why_not_compared": why_not or None,
    }
    return json.dumps(document, indent=2) + "\n"

"""
One load of several Locust workers: raw times go to the master with Locust's own reports, and are put together there.

Workers of one host share a clock; those of several are as far apart as their wall clocks, which only moves when a
request was due, never how long it took.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from slipway_loadtests.answers import Verdict
from slipway_loadtests.session import Session
from slipway_wire.samples import Samples

# Our part of a worker's report.
KEY = "slipway"
# What a master tells its workers beside the options of the command line. Locust sends along whatever stands among them.
_SENDERS, _TEST = "slipway_senders", "slipway_test"


def is_master(environment: Environment) -> bool:
    """Say whether others send the load, and this process only hears of it."""
    return isinstance(environment.runner, MasterRunner)


def begin_test(environment: Environment) -> int:
    """
    Begin a test: nothing has been heard of it yet.

    Returns:
        How many processes send its load together: those that are connected as the master begins it, which tells the others
        with the options; 1 without a master. Of workers that come or go meanwhile Locust moves users from one to another, and the
        load stays what it is. 0: the master has called it off.
    """
    runner, options = environment.runner, environment.parsed_options
    environment.collected = defaultdict(Collected)
    if isinstance(runner, WorkerRunner):
        return int(getattr(options, _SENDERS, 1))
    count = max(int(runner.worker_count), 1)
    setattr(options, _SENDERS, count)
    setattr(options, _TEST, test_number(environment) + 1)
    return count


def call_off(environment: Environment) -> None:
    """Let workers know that there will be no load."""
    setattr(environment.parsed_options, _SENDERS, 0)


def test_number(environment: Environment) -> int:
    """Give the number of the test under way, which a master and its workers agree on; 0 before the first."""
    return int(getattr(environment.parsed_options, _TEST, 0))


def seed(environment: Environment, base: object) -> str:
    """Give a worker its own arrivals; alone it has those of the plain seed."""
    runner = environment.runner
    return f"{base}/worker{runner.worker_index}" if isinstance(runner, WorkerRunner) else str(base)


@dataclass
class Reporting:
    """
    What a worker tells its master of one session: everything since the last time.

    Attributes:
        session: Of one protocol.
        test: Number of the test.
        wall_ns: When it began, by the wall clock.
    """

    session: Session
    test: int
    wall_ns: int = field(default_factory=time.time_ns)
    _told: int = 0

    def news(self) -> dict[str, Any] | None:
        """Give what is new as msgpack can carry it; None if nothing is."""
        found = self.session.recorder.samples(
            self.session.origin_ns, self.session.origin_ns, time.monotonic_ns(), self._told
        )
        verdict = self.session.answers.judge() if self.session.is_abandoned else Verdict(0, 0, None)
        if not len(found.planned_us) and not verdict.checked:
            return None
        self._told += len(found.planned_us)
        return {
            "test": self.test,
            "wall_ns": self.wall_ns,
            "planned_us": found.planned_us.tobytes(),
            "slip_us": found.slip_us.tobytes(),
            "service_us": found.service_us.tobytes(),
            "failed": found.failed.tobytes(),
            "checked": verdict.checked,
            "wrong": verdict.wrong,
            "first_wrong": verdict.first_wrong,
        }


@dataclass
class Collected:
    """What a master has heard of one protocol."""

    parts: list[dict[str, Any]] = field(default_factory=list)

    def take(self, news: dict[str, Any]) -> None:
        """Keep a worker's report."""
        self.parts.append(news)

    def samples(self) -> Samples:
        """Put everything on one clock, whose zero is when the first worker began."""
        zero_ns = min(part["wall_ns"] for part in self.parts)
        shifts_us = [(part["wall_ns"] - zero_ns) // 1000 for part in self.parts]
        planned_us = np.concatenate(
            [_column(part["planned_us"]) + shift for part, shift in zip(self.parts, shifts_us, strict=True)]
        )
        slip_us, service_us = (
            np.concatenate([_column(part[name]) for part in self.parts]) for name in ("slip_us", "service_us")
        )
        failed = np.concatenate([np.frombuffer(part["failed"], bool) for part in self.parts])
        order = np.argsort(planned_us, kind="stable")
        end_us = int((planned_us + slip_us + service_us).max(initial=0))
        return Samples(0, 0, end_us, planned_us[order], slip_us[order], service_us[order], failed[order])

    def verdict(self) -> Verdict:
        """Add up what the workers found of answers."""
        first = next((part["first_wrong"] for part in self.parts if part["first_wrong"]), None)
        return Verdict(sum(p["checked"] for p in self.parts), sum(p["wrong"] for p in self.parts), first)


def _column(data: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(data, np.int64)


def collect(environment: Environment, data: dict[str, Any]) -> None:
    """Take in what a worker's report says of its sessions; one that is about an earlier test comes too late."""
    for protocol, news in data.get(KEY, {}).items():
        if news["test"] == test_number(environment):
            environment.collected[protocol].take(news)

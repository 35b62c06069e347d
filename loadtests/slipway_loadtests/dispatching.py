"""
Which users send a load made by hand, and which worker gets them: settled when a test begins, by the options it begins with.

Every process knows all users. What is chosen among them is known to the process that hands them out alone: a worker has no
options of its own, it hears its master's when it gets its first users, and in the web UI they are others from test to test.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from locust import User
from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.runners import WorkerNode

from slipway_loadtests.sessions import CLOSED_LOOP, OPEN_LOOP
from slipway_loadtests.users import LoadUser
from slipway_wire.loads import Protocol
from slipway_wire.status import InvalidArgument

PROTOCOLS: dict[str, list[Protocol]] = {"rest": ["rest"], "grpc": ["grpc"], "both": ["rest", "grpc"]}


@dataclass(frozen=True, slots=True)
class Choice:
    """
    The users of one test.

    Attributes:
        users: One class for each protocol.
        each: Open loop: so many of each class, one for each process that sends, all at once; None: as many as Locust is told.
    """

    users: Sequence[type[LoadUser]]
    each: int | None

    @property
    def count(self) -> int | None:
        """All users of an open loop; None: as many as Locust is told."""
        return None if self.each is None else len(self.users) * self.each


def choose(options: Any, senders: int) -> Choice | None:
    """
    Choose the users that *options* ask for.

    Args:
        options: Of the command line or, since then, of the web UI.
        senders: Processes that will send.

    Returns:
        The choice; None: classes are named on the command line or picked in the web UI, and Locust has them already.

    Raises:
        InvalidArgument: If there is no such protocol or rate, as the web UI's interface may ask for.
    """
    if options.protocol not in PROTOCOLS:
        raise InvalidArgument(f"--protocol: no {options.protocol}; there are {', '.join(sorted(PROTOCOLS))}")
    if not 0 <= options.rate < math.inf:
        raise InvalidArgument(f"--rate: {options.rate:g} requests/s cannot be offered; 0 is a closed loop")
    if options.user_classes:
        return None
    users = OPEN_LOOP if options.rate else CLOSED_LOOP
    return Choice([users[protocol] for protocol in PROTOCOLS[options.protocol]], senders if options.rate else None)


class Dispatcher(UsersDispatcher):  # type: ignore[misc]  # Locust ships types for its callers, not for strict subclasses
    """Locust's own, for the users that `environment.choice` names; of an open loop every worker gets one of each class."""

    def __init__(
        self, environment: Environment, worker_nodes: list[WorkerNode], user_classes: list[type[User]]
    ) -> None:
        super().__init__(worker_nodes=worker_nodes, user_classes=user_classes)
        self._environment = environment

    def new_dispatch(
        self, target_user_count: int, spawn_rate: float, user_classes: list[type[User]] | None = None
    ) -> None:
        """Begin to hand out users, or more or fewer of them; how many an open loop has is not for Locust to say."""
        choice: Choice | None = self._environment.choice
        if choice is not None:
            user_classes = list(choice.users)
            if choice.count is not None:
                target_user_count = choice.count if target_user_count else 0
                spawn_rate = choice.count
        super().new_dispatch(target_user_count, spawn_rate, user_classes)

    def _user_gen(self) -> Iterator[str | None]:
        choice: Choice | None = self._environment.choice
        if choice is None or choice.each is None:
            yield from super()._user_gen()
            return
        # Class by class, for they go to one worker after the other: by turns, two workers would get one protocol each.
        for user in sorted(choice.users, key=lambda user: user.__name__):
            yield from [user.__name__] * choice.each
        while True:
            yield None

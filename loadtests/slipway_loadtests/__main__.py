"""
The load generator of the benchmark: orders in, outcomes out, a line of JSON each (`slipway_wire.loads`).

To load a server by hand use `locust -f loadtests/locustfile.py`; see loadtests/README.md.
"""

# Locust first: it patches the standard library for gevent.
import locust  # noqa: F401  # isort: skip

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from slipway_loadtests import native, runner
from slipway_loadtests.answers import Answers
from slipway_loadtests.session import Arrivals
from slipway_loadtests.sessions import answers_for, session_for
from slipway_wire import payloads
from slipway_wire.loads import LoadOrder, LoadWindow, Protocol
from slipway_wire.payloads import Payload
from slipway_wire.tolerances import Tolerances


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _announce(window: LoadWindow) -> LoadWindow:
    _say(window.to_line())
    return window


def _agree(window: LoadWindow) -> LoadWindow:
    """Say when this generator could begin, and wait to be told when all of them do."""
    _say(window.to_line())
    # This holds up everything here for the moment that the others need to connect; nothing is under way yet.
    line = sys.stdin.buffer.readline()
    if not line:
        # Whoever ordered the load is gone, or another generator is.
        sys.exit()
    return LoadWindow.from_line(line)


class Known:
    """Payload files that were read before, and the judges of the answers to them."""

    def __init__(self, tolerances: Tolerances) -> None:
        self._tolerances = tolerances
        self._files: dict[tuple[Path, ...], tuple[list[Payload], dict[Protocol, Answers]]] = {}

    def get(self, path: Path, alternatives: Sequence[Path] = ()) -> tuple[list[Payload], dict[Protocol, Answers]]:
        """
        Give the payloads of *path* and their judges, one for each protocol.

        Raises:
            ValueError: *alternatives* are not the answers to as many requests.
        """
        if (path, *alternatives) not in self._files:
            sent, *others = (payloads.read(file) for file in (path, *alternatives))
            if any(len(other) != len(sent) for other in others):
                raise ValueError(f"{path}: {len(sent)} requests, and other numbers of answers that are right, too")
            protocols: tuple[Protocol, ...] = ("rest", "grpc")
            judges = {p: answers_for(p, sent, self._tolerances, others) for p in protocols}
            self._files[path, *alternatives] = sent, judges
        return self._files[path, *alternatives]


def arrivals_of(order: LoadOrder) -> Arrivals | None:
    """Give the schedule that *order* asks for; None for a closed loop."""
    if order.rate is None:
        return None
    steps = tuple((rate, seconds) for rate, seconds in order.steps)
    return Arrivals(order.rate, order.seed, order.users, steps, order.generators)


def main() -> None:
    """Serve orders until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m slipway_loadtests", description=__doc__)
    parser.add_argument("--payloads", type=Path, required=True, metavar="FILE", help="TFRecord of PredictionLog")
    parser.add_argument(
        "--tolerances", type=Path, required=True, metavar="FILE", help="how near answers must come (JSON)"
    )
    arguments = parser.parse_args()
    known = Known(Tolerances.read(arguments.tolerances))
    known.get(arguments.payloads)
    while line := sys.stdin.buffer.readline():
        order = LoadOrder.from_line(line)
        path = Path(order.payloads) if order.payloads else arguments.payloads
        sent, answers = known.get(path, [Path(other) for other in order.alternatives])
        if order.tier == "native":
            _say(native.run(order, sent[0], answers[order.protocol], _announce).to_line())
            continue
        session = session_for(
            order.protocol,
            sent,
            order.host,
            order.port,
            answers[order.protocol],
            arrivals=arrivals_of(order),
            limit=order.requests,
            encoding=order.encoding,
            tls=order.tls,
            tier=order.tier,
            first_user=order.first_user,
            numbered=order.numbered,
        )
        _say(runner.run(order, session, _announce if order.generators == 1 else _agree).to_line())


if __name__ == "__main__":
    main()

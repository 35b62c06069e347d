"""
The load generator of the benchmark: orders in, outcomes out, a line of JSON each (`slipway_wire.loads`).

To load a server by hand use `locust -f loadtests/locustfile.py`; see loadtests/README.md.
"""

# Locust first: it patches the standard library for gevent.
import locust  # noqa: F401  # isort: skip

import argparse
import sys
from pathlib import Path

from slipway_loadtests import runner
from slipway_loadtests.session import Arrivals
from slipway_loadtests.sessions import answers_for, session_for
from slipway_wire import payloads
from slipway_wire.loads import LoadOrder, LoadWindow, Protocol
from slipway_wire.tolerances import Tolerances


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _announce(window: LoadWindow) -> None:
    _say(window.to_line())


def main() -> None:
    """Serve orders until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m slipway_loadtests", description=__doc__)
    parser.add_argument("--payloads", type=Path, required=True, metavar="FILE", help="TFRecord of PredictionLog")
    parser.add_argument(
        "--tolerances", type=Path, required=True, metavar="FILE", help="how near answers must come (JSON)"
    )
    arguments = parser.parse_args()
    sent = payloads.read(arguments.payloads)
    protocols: tuple[Protocol, ...] = ("rest", "grpc")
    tolerances = Tolerances.read(arguments.tolerances)
    answers = {p: answers_for(p, sent, tolerances) for p in protocols}
    for line in sys.stdin.buffer:
        order = LoadOrder.from_line(line)
        session = session_for(
            order.protocol,
            sent,
            order.host,
            order.port,
            answers[order.protocol],
            arrivals=None if order.rate is None else Arrivals(order.rate, order.seed, order.users),
            limit=order.requests,
        )
        _say(runner.run(order, session, _announce).to_line())


if __name__ == "__main__":
    main()

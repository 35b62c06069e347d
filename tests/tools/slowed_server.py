"""
Our server, with some CPU time burnt for every request: `slowed_server.py rest=31.5,grpc=17 FLAGS…` (µs). For compare_series.py.

What is burnt is CPU time of the thread that takes the request, before it is looked at: a slower decoder, say.
"""

import sys
import time
from typing import Any

from slipway_server import __main__ as program
from slipway_server.serving import Serving


def burn(seconds: float) -> None:
    """Use *seconds* of this thread's CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def slow_down(extra_s: dict[str, float]) -> None:
    """Let every request over a protocol in *extra_s* cost so much more, warm-up excepted."""
    exchange = Serving.exchange

    def slowed(self: Serving, protocol: Any, *arguments: Any, **more: Any) -> Any:
        burn(extra_s.get(protocol, 0.0))
        return exchange(self, protocol, *arguments, **more)

    Serving.exchange = slowed  # type: ignore[method-assign]


if __name__ == "__main__":
    given = sys.argv.pop(1)
    slow_down({name: float(us) / 1e6 for name, us in (part.split("=") for part in given.split(",") if part)})
    program.main()

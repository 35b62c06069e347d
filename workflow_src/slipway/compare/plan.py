"""How two servers are compared: loads, lengths of windows, when to look; and what of that was asked for. Pure."""

import argparse
import math
from dataclasses import dataclass

from slipway.compare.gate import CONFIRMING, LOOKS
from slipway.errors import SettingsError
from slipway.load_plan import PROTOCOLS
from slipway.records import Load, Protocol
from slipway.statistics import samples_needed

# Load in front of a window: no more than this, and no more than that share of the window.
_MOST_WARMUP_S = 0.4
_WARMUP_SHARE = 0.4
# The rarest percentile that is compared, and how long a window may get for it by itself: 24 windows, which is a first look
# over both protocols, then take 12 minutes.
RAREST = 0.99
MOST_OPEN_WINDOW_S = 30.0
# Arrivals are drawn: how many there are in a window varies by its square root. So many of these must still leave enough.
_SPREADS = 3


def warmup_s(window_s: float) -> float:
    """Give the seconds of load that do not count in front of a window of *window_s*: enough to connect all users."""
    return min(_MOST_WARMUP_S, _WARMUP_SHARE * window_s)


def enough_s(quantile: float, rate: float) -> float:
    """
    Say how long a window must be to hold the requests that a percentile needs.

    Args:
        quantile: 0..1, e.g. 0.99.
        rate: Offered requests per second, more than 0; arrivals are random (Poisson).

    Returns:
        Seconds, rounded up to a tenth. One window in a thousand has fewer requests all the same.
    """
    # n - 3 * sqrt(n) is to be what is needed.
    root = (_SPREADS + math.sqrt(_SPREADS**2 + 4 * samples_needed(quantile))) / 2
    return math.ceil(root**2 / rate * 10) / 10


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How to compare.

    Attributes:
        protocols: Which are measured.
        closed: Whether the closed loop is measured; without it only latency is compared.
        users: Closed loop: connections with one request in flight each.
        open_share: Open loop: offered rate as a share of base's peak in its slower protocol; None: no open loop.
        window_s: Length of a window.
        open_window_s: Length of one of the open loop; None: *window_s*, or what a p99 needs at the rate.
        warmup_s: Load in front of each window that does not count.
        calibrates: Whether what the load generator can do at most is found out, where it matters.
        looks: Numbers of pairs at which to decide.
        seed: Of orders and arrivals.
    """

    protocols: tuple[Protocol, ...] = PROTOCOLS
    closed: bool = True
    users: int = 16
    open_share: float | None = 0.5
    window_s: float = 2.0
    open_window_s: float | None = None
    warmup_s: float = _MOST_WARMUP_S
    calibrates: bool = True
    looks: tuple[int, ...] = LOOKS
    seed: int = 1

    @property
    def most_pairs(self) -> int:
        """Pairs of a cell after which it is left as it is: all looks, a confirmation, and as many again for void ones."""
        return self.looks[-1] + CONFIRMING + self.looks[0]

    @property
    def calibrated(self) -> tuple[Protocol, ...]:
        """Protocols over which the load generator is calibrated. Half of a peak that it drove itself cannot be near its limit."""
        return self.protocols if self.closed and self.calibrates else ()

    def length_s(self, load: Load) -> float:
        """Give the seconds of a window under *load*. What would take too long for a p99 is not lengthened at all."""
        if load.rate is None:
            return self.window_s
        if self.open_window_s is not None:
            return self.open_window_s
        enough = enough_s(RAREST, load.rate)
        return max(enough, self.window_s) if enough <= MOST_OPEN_WINDOW_S else self.window_s


def plan_of(arguments: argparse.Namespace) -> Plan:
    """
    Read what was asked for.

    Raises:
        SettingsError: With a line for each option that cannot be, before anything was built for it.
    """
    asked = [word.strip() for word in arguments.protocols.split(",")]
    faults = []
    if not set(PROTOCOLS).issuperset(asked):
        faults.append(
            f"--protocols: expected {', '.join(PROTOCOLS)}, or both with a comma between, found {arguments.protocols!r}"
        )
    faults += [
        f"--{option.replace('_', '-')}: expected a whole number from 1 on, found {count}"
        for option in ("rows", "users", "threads", "generator_processes")
        if (count := getattr(arguments, option)) is not None and count < 1
    ]
    for option in ("window", "open_window"):
        seconds = getattr(arguments, option)
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            faults.append(f"--{option.replace('_', '-')}: expected seconds, more than 0, found {seconds:g}")
    if faults:
        raise SettingsError("\n".join(faults))
    return Plan(
        protocols=tuple(protocol for protocol in PROTOCOLS if protocol in asked),
        closed=not arguments.no_throughput,
        users=arguments.users,
        open_share=None if arguments.no_latency else Plan().open_share,
        window_s=arguments.window,
        open_window_s=arguments.open_window,
        warmup_s=warmup_s(arguments.window),
        calibrates=not arguments.no_calibration,
        seed=arguments.seed,
    )

"""A machine that nothing disturbs, as the validity rules see it: for tests in which a busy one is not the question."""

import math

from slipway import repetitions, steady


def undisturb(patch):
    """
    Have no limit broken by this machine for as long as *patch* (a MonkeyPatch) lasts.

    Whatever limits there are, also those that are still to come; but for the one that says what a server cannot keep up with.
    """
    limits = [name for name in vars(repetitions) if name.startswith(("MOST_", "LEAST_"))]
    for name in limits:
        if name != "MOST_RATE_ERROR":
            patch.setattr(repetitions, name, math.inf if name.startswith("MOST_") else 0.0)
    patch.setattr(steady, "LEAST_VALUES", math.inf)

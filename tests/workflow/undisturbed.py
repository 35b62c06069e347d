"""A machine that nothing disturbs, as the validity rules see it: for tests in which a busy one is not the question."""

import math

from slipway import repetitions, steady


def undisturb(patch):
    """Have no limit broken by this machine for as long as *patch* (a MonkeyPatch) lasts."""
    for name in ("GENERATOR_UTILISATION", "OF_CEILING", "SLIP_US", "LAG_P99_US", "LAG_US", "FOREIGN_CORES"):
        patch.setattr(repetitions, f"MOST_{name}", math.inf)
    for name in ("SLOT_FOREIGN_CORES", "STOLEN", "THROTTLED", "SENT_AGAIN"):
        patch.setattr(repetitions, f"MOST_{name}", math.inf)
    for name in ("CLOCK", "IN_FLIGHT"):
        patch.setattr(repetitions, f"LEAST_{name}", 0.0)
    patch.setattr(steady, "LEAST_VALUES", math.inf)

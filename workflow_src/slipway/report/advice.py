"""What to do where a rule of measuring was broken: a quieter machine helps against some of them, and not against others. Pure."""

from collections.abc import Mapping

from slipway import repetitions as rules

_MACHINE = "Leave the machine to the benchmark alone, and run it again."
_GENERATOR = (
    "The load generator is too small for this server, however quiet the machine is: give it more CPUs (generator_processes), "
    "offer less (concurrency, open_loop_rate), or leave the server more to do for each request (rows)."
)
_LOG = "The server's log says more."
ADVICE: dict[str, str] = {
    rules.NOTHING_ANSWERED: "Make a window several times as long as what one request takes (window_s).",
    rules.FAILED_REQUESTS: _LOG,
    rules.WRONG_ANSWERS: _LOG,
    rules.SATURATED: _GENERATOR,
    rules.NEAR_CEILING: _GENERATOR,
    rules.IDLE: _GENERATOR,
    rules.LATE: _MACHINE,
    rules.LAGGING: _MACHINE,
    rules.DISTURBED: _MACHINE,
    rules.SENT_AGAIN: _MACHINE,
    rules.OFF_RATE: "Where nothing disturbed the machine, the server does not keep this rate: offer less (open_loop_rate, open_loop_share).",
    rules.MISCOUNTED: "Let nobody else send requests to this server meanwhile.",
    rules.UNSTEADY: "What had not settled needs more time: a longer warm-up (warmup_s), or longer windows (window_s).",
    rules.STOLEN: "Run it at another hour, or on a host that this machine shares with no other.",
    rules.SLOWED: "Run it where clocks are set and cooling lasts: these CPUs do not keep theirs under this load.",
    rules.GPU_SLOWED: "See to the GPU's power and cooling, and to its memory if that erred.",
    rules.THROTTLED: "Raise the CPU quota that server and load generator run under.",
    rules.KILLED: "Give it more memory.",
    rules.RECONNECTED: f"Something closes connections under load, the server or what is in front of it. {_LOG}",
    rules.UNDECLARED: "Make the settings that are declared and those that the server runs with the same.",
}


def advice(broken: Mapping[str, int], few: float) -> tuple[str, ...]:
    """
    Say what to do about a measurement that does not count.

    Args:
        broken: Rule -> repetitions that broke it, the most frequent first.
        few: A rule that no more repetitions broke is left out, unless it is the first.

    Returns:
        A sentence or two for each cause; none for rules of another Slipway.
    """
    grave = [rule for place, (rule, count) in enumerate(broken.items()) if place == 0 or count > few]
    return tuple(dict.fromkeys(ADVICE[rule] for rule in grave if rule in ADVICE))

"""
One load that several generators make: the share of each, and what they did put together. Pure.

A closed loop has its users divided. An open loop has its rate divided: Poisson processes with seeds of their own, which
add up to one of the whole rate, drawn alike whenever the same number of generators draws it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow


def shares(order: LoadOrder, generators: int) -> list[LoadOrder]:
    """
    Divide *order* among so many generators.

    Returns:
        An order for each that takes part, with a sample file of its own; the order itself where it is one generator's: h2load
        makes a whole load, so many requests are counted by one, and a lone user is not divided.
    """
    if order.rate is None:
        generators = min(generators, order.users)
    if generators == 1 or order.tier == "native" or order.requests is not None:
        return [order]
    users = divided(order.users, generators)
    return [
        replace(
            order,
            generators=generators,
            # In an open loop they are connections, and each generator has at least one.
            users=users[number] if order.rate is None else max(users[number], 1),
            first_user=sum(users[:number]) if order.rate is None else number,
            rate=None if order.rate is None else order.rate / generators,
            steps=[(rate / generators, seconds) for rate, seconds in order.steps],
            samples=str(Path(order.samples).with_suffix(f".{number}.npz")),
        )
        for number in range(generators)
    ]


def divided(whole: int, parts: int) -> list[int]:
    """Divide *whole* into *parts* that differ by 1 at most, the larger ones first."""
    least, more = divmod(whole, parts)
    return [least + (number < more) for number in range(parts)]


def common_window(proposed: Iterable[LoadWindow]) -> LoadWindow:
    """Choose the window that all can keep: the latest."""
    return max(proposed, key=lambda window: window.origin_ns)


def together(outcomes: Sequence[LoadOutcome]) -> LoadOutcome:
    """Put together what generators that made one load say: sums; of what tells a generator at its limit, the worst."""
    if len(outcomes) == 1:
        return outcomes[0]
    return LoadOutcome(
        requests=sum(one.requests for one in outcomes),
        errors=dict(sum((Counter(one.errors) for one in outcomes), Counter())),
        first_error=_first(one.first_error for one in outcomes),
        checked_answers=sum(one.checked_answers for one in outcomes),
        wrong_answers=sum(one.wrong_answers for one in outcomes),
        first_wrong=_first(one.first_wrong for one in outcomes),
        connections=sum(one.connections for one in outcomes),
        bytes_sent=_sum(one.bytes_sent for one in outcomes),
        bytes_received=_sum(one.bytes_received for one in outcomes),
        bytes_sent_again=_sum(one.bytes_sent_again for one in outcomes),
        reconnects=sum(one.reconnects for one in outcomes),
        cpu_ns=sum(one.cpu_ns for one in outcomes),
        # All were read at the begin of one window and at its end, as soon as each came to it.
        cpu_from_ns=min(one.cpu_from_ns for one in outcomes),
        cpu_to_ns=max(one.cpu_to_ns for one in outcomes),
        lag_p99_us=max(one.lag_p99_us for one in outcomes),
        lag_max_us=max(one.lag_max_us for one in outcomes),
        generators=len(outcomes),
        busiest=max(one.utilisation for one in outcomes),
    )


def on_cpus(outcome: LoadOutcome, count: int) -> LoadOutcome:
    """Say of a generator with more processes than its *count* CPUs how busy those were: no process gets a whole one there."""
    between_ns = outcome.cpu_to_ns - outcome.cpu_from_ns
    if outcome.generators <= count or not between_ns:
        return outcome
    return replace(outcome, busiest=max(outcome.utilisation, outcome.cpu_ns / between_ns / count))


def _first(told: Iterable[str | None]) -> str | None:
    return next((text for text in told if text), None)


def _sum(counted: Iterable[int | None]) -> int | None:
    """Add up; None if one is not known."""
    total = 0
    for count in counted:
        if count is None:
            return None
        total += count
    return total

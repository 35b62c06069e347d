"""The availability-preserving policy: from a snapshot of one model's versions to the next step, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from slipway_wire.model_status import State


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """One version as the policy sees it."""

    version: int
    state: State
    is_aspired: bool


@dataclass(frozen=True, slots=True)
class Load:
    """Start to load this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Take this version out of service, and free it once its last request is answered."""

    version: int


def next_action(versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
    """
    Choose the next step that keeps one aspired version available throughout.

    One step at a time: while a version is on its way in or out, nothing else is begun, so that at most one
    version more than needed is in memory. An old version serves until a new one is AVAILABLE; if the new one
    fails, the old one goes on.

    Source: tensorflow_serving/core/availability_preserving_policy.cc.
    """
    if any(v.state in {"LOADING", "UNLOADING"} for v in versions):
        return None
    unwanted = [v.version for v in versions if v.state == "AVAILABLE" and not v.is_aspired]
    nothing_is_wanted = not any(v.is_aspired for v in versions)
    wanted_one_serves = any(v.state == "AVAILABLE" and v.is_aspired for v in versions)
    if unwanted and (nothing_is_wanted or wanted_one_serves or len(unwanted) > 1):
        return Unload(min(unwanted))
    waiting = [v.version for v in versions if v.state == "START" and v.is_aspired]
    return Load(max(waiting)) if waiting else None

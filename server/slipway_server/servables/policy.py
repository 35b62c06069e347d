"""The two transition policies: from a snapshot of one model's versions to the next step, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway_wire.model_status import State


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """
    One version as a policy sees it.

    A version whose load failed and is to be tried again is shown as END until the pause is over, so that it holds up
    nobody meanwhile, and as START then.
    """

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


Policy = Callable[[Sequence[VersionSnapshot]], Load | Unload | None]


def availability_preserving(versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
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
    return _load_highest(versions)


def resource_preserving(versions: Sequence[VersionSnapshot]) -> Load | Unload | None:
    """
    Choose the next step that never holds more in memory than is wanted, at the price of a gap between versions.

    An unwanted version is freed before a wanted one is begun: for models that do not fit twice. If the new one
    fails, nothing serves.

    Source: tensorflow_serving/core/resource_preserving_policy.cc.
    """
    if any(v.state in {"LOADING", "UNLOADING"} for v in versions):
        return None
    unwanted = [v.version for v in versions if v.state == "AVAILABLE" and not v.is_aspired]
    return Unload(min(unwanted)) if unwanted else _load_highest(versions)


def _load_highest(versions: Sequence[VersionSnapshot]) -> Load | None:
    waiting = [v.version for v in versions if v.state == "START" and v.is_aspired]
    return Load(max(waiting)) if waiting else None


POLICIES: dict[str, Policy] = {
    "availability_preserving": availability_preserving,
    "resource_preserving": resource_preserving,
}

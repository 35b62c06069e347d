"""Which versions of a model ought to be served: reads base paths and tells the manager, again and again."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from slipway_server.config_files import All, Latest, ModelConfig, Specific, VersionPolicy
from slipway_server.servables.arrival import Arrival, missing
from slipway_server.servables.diagnosis import diagnose, diagnose_error
from slipway_server.servables.manager import Manager
from slipway_server.servables.storage import Storage, join
from slipway_wire.paths import directory_version

logger = logging.getLogger(__name__)

# A version that lacks files has this many settling times to become whole before it is tried as it is, so that its
# status says what is wrong with it: long enough for a copy that stalls now and then.
_PATIENCE = 15
# At start nobody waits for the settling time; that long between two looks shows whether somebody is still copying.
_GLANCE_S = 0.1


def read_versions(storage: Storage, base_path: str) -> dict[int, str]:
    """
    Find the version directories below *base_path*: version -> directory.

    A child counts when its whole name is a decimal int64; leading zeros are fine, everything else is passed over
    in silence. Of two names for one version the first in alphabetical order wins.

    Raises:
        OSError: The base path is not there or cannot be read.

    Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc, ParseVersionNumber.
    """
    return _versions(base_path, storage.names(base_path))


def _versions(base_path: str, names: Iterable[str]) -> dict[int, str]:
    versions: dict[int, str] = {}
    for name in sorted(names):
        if (version := directory_version(name)) is not None:
            versions.setdefault(version, join(base_path, name))
    return versions


def aspired_versions(policy: VersionPolicy, found: Iterable[int]) -> set[int]:
    """Choose from the versions *found* those that *policy* wants served."""
    match policy:
        case Latest(num_versions):
            # 0 is what an unset field of the text format reads as; TF Serving takes it for 1.
            return set(sorted(found, reverse=True)[: max(num_versions, 1)])
        case All():
            return set(found)
        case Specific(versions):
            return set(versions) & set(found)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What a look at one base path came to.

    Attributes:
        versions: Version -> directory, of those that are wanted and whole. None: what is served stays as it is.
        problem: Why there is nothing to serve, or not all of it; for people. None if all is well.
        arriving: Versions that are wanted, and still being written as far as one can tell.
    """

    versions: Mapping[int, str] | None
    problem: str | None = None
    arriving: frozenset[int] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to serve, now or in a moment."""
        return not self.versions and not self.arriving


@dataclass(frozen=True, slots=True)
class Polling:
    """
    How often, and how carefully, base paths are looked at.

    Attributes:
        period_s: Pause between looks; 0: look once; negative: never.
        settle_s: For how long nothing in a new version directory may have changed before it is loaded.
    """

    period_s: float = 1.0
    settle_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Clock:
    """
    Time as a base path's looks take it; a test has its own.

    Attributes:
        now: Monotonic, in seconds.
        wall: Seconds since the epoch, as the storage counts them.
        pause: Waits that many seconds.
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep


class BasePath:
    """One model's base path, and what is remembered of it between two looks. For one thread at a time."""

    def __init__(self, storage: Storage, settle_s: float, clock: Clock) -> None:
        self._storage = storage
        self._settle_s = settle_s
        self._clock = clock
        self._arriving: dict[int, Arrival] = {}
        self._arrived: dict[int, Arrival] = {}
        self._paths: dict[int, str] = {}
        self._ambiguous: set[str] = set()
        self._first: set[int] | None = None
        self._device: int | None = None

    def look(self, model: ModelConfig, failed: Collection[int] = ()) -> tuple[Finding, set[int]]:
        """
        Look once. Lists the base path, and directories only of versions that are new or have failed.

        Args:
            model: Whose base path it is; its policy may differ from look to look.
            failed: Versions that were wanted and could not be loaded.

        Returns:
            The finding, and those of *failed* that are worth another try because their directory has changed.
        """
        try:
            names = self._storage.names(model.base_path)
            found = self._versions(model.base_path, names)
            if not found and self._arrived and self._storage.device(model.base_path) != self._device:
                return Finding(
                    None,
                    f"The base path {model.base_path} of servable {model.name} is empty and on another device than "
                    "before, so it seems to be unmounted. What is served stays.",
                ), set()
            self._device = self._storage.device(model.base_path)
        except OSError as error:
            return Finding(None, diagnose_error(self._storage, model, error)), set()
        if self._first is None:
            self._first = set(found)
        for gone in (self._arriving.keys() | self._arrived.keys()) - found.keys():
            self._forget(gone)
        waits: dict[int, str] = {}
        # A version that is on its way is no reason to do without the one before it.
        while new := aspired_versions(model.version_policy, found.keys() - waits.keys()) - self._arrived.keys():
            waits |= {version: why for version in new if (why := self._waits_for(version, found[version]))}
        versions = {v: found[v] for v in aspired_versions(model.version_policy, found.keys() - waits.keys())}
        return Finding(
            # Nothing whole yet, something on its way: what was served until now may well serve until then.
            versions or (None if waits else {}),
            self._problem(model, names, found, waits) if waits or not versions else _lacking(model, found),
            frozenset(waits),
        ), {version for version in failed if version in versions and self._has_changed(version, found[version])}

    def _versions(self, base_path: str, names: Sequence[str]) -> dict[int, str]:
        """Find the version directories; of two names for one version, the one that was found first stays."""
        found = _versions(base_path, names)
        there = {join(base_path, name) for name in names}
        for version in found.keys() & self._paths.keys():
            if self._paths[version] in there:
                found[version] = self._paths[version]
            elif self._paths[version] != found[version]:
                self._forget(version)
        ambiguous = {name for name in names if directory_version(name) is not None} - {
            path.rpartition("/")[2] for path in found.values()
        }
        if ambiguous - self._ambiguous:
            logger.warning("%s: %s name versions that have another directory, too", base_path, sorted(ambiguous))
        self._ambiguous = ambiguous
        self._paths = dict(found)
        return found

    def _forget(self, version: int) -> None:
        self._arriving.pop(version, None)
        self._arrived.pop(version, None)

    def _waits_for(self, version: int, directory: str) -> str | None:
        """Say what *version* waits for; None if it has arrived."""
        arrival = self._arriving.setdefault(version, Arrival())
        lacking = self._inspect(arrival, directory)
        was_here = self._first is not None and version in self._first
        quiet_s = arrival.quiet_s(self._clock.now(), self._clock.wall())
        if lacking is None and was_here and quiet_s < self._settle_s and not arrival.was_restless:
            self._clock.pause(_GLANCE_S)
            lacking = self._inspect(arrival, directory)
            if lacking is None and not arrival.was_restless:
                quiet_s = self._settle_s
        if quiet_s >= self._settle_s * (1 if lacking is None or was_here else _PATIENCE):
            self._arrived[version] = self._arriving.pop(version)
            return None
        return lacking or "its files were written a moment ago"

    def _inspect(self, arrival: Arrival, directory: str) -> str | None:
        """Take note of the files that are there now, and say what is missing."""
        try:
            tree = self._storage.tree(directory)
            lacking = missing(self._storage, directory, tree)
        except OSError as error:
            tree, lacking = {}, str(error.strerror or error)
        arrival.look(tree, self._clock.now())
        return lacking

    def _has_changed(self, version: int, directory: str) -> bool:
        """Say whether a version that failed is another one now, and has stopped changing."""
        arrival = self._arriving.get(version) or Arrival()
        lacking = self._inspect(arrival, directory)
        if arrival.tree == self._arrived[version].tree:
            self._arriving.pop(version, None)
            return False
        self._arriving[version] = arrival
        quiet_s = arrival.quiet_s(self._clock.now(), self._clock.wall())
        if quiet_s < self._settle_s * (1 if lacking is None else _PATIENCE):
            return False
        self._arrived[version] = self._arriving.pop(version)
        return True

    def _problem(
        self, model: ModelConfig, names: Sequence[str], found: Mapping[int, str], waits: Mapping[int, str]
    ) -> str:
        if not waits:
            return diagnose(self._storage, model, names)
        return "; ".join(
            f"Version {version} of servable {model.name} is not loaded yet: {found[version]}: {why}"
            for version, why in sorted(waits.items())
        )


def _lacking(model: ModelConfig, found: Collection[int]) -> str | None:
    if not isinstance(model.version_policy, Specific):
        return None
    lacking = sorted(model.version_policy.versions - set(found))
    there = ", ".join(map(str, sorted(found)))
    return (
        f"Version {', '.join(map(str, lacking))} of servable {model.name}, which was requested, was not found under "
        f"base path {model.base_path}, where there is {there}"
        if lacking
        else None
    )


class Source:
    """
    Looks at the base path of every model and passes on which versions it aspires to.

    Each model has a thread of its own, because a look can take as long as a network pleases: one that hangs holds up
    its own model only.
    """

    def __init__(
        self,
        manager: Manager,
        storage_of: Callable[[str], Storage],
        polling: Polling,
        clock: Clock | None = None,
    ) -> None:
        """
        Prepare; nothing is looked at before `update`.

        Args:
            manager: Is told what is wanted.
            storage_of: Finds the file system that a base path is on.
            polling: How often, and how carefully.
            clock: Time; the real one if None.
        """
        self._manager = manager
        self._storage_of = storage_of
        self._polling = polling
        self._listeners: list[Callable[[ModelConfig, Finding], None]] = []
        self._clock = clock or Clock()
        self._watchers: dict[str, _Watcher] = {}

    def tell(self, listener: Callable[[ModelConfig, Finding], None]) -> None:
        """Have *listener* told of what every look came to, after the manager, on the thread that looked."""
        self._listeners.append(listener)

    def update(self, models: Iterable[ModelConfig], *, at_once: bool = True) -> None:
        """
        Watch *models*, and nothing else, from now on. For one thread at a time.

        A model that is no longer among them aspires to no version. One that is new or has changed is looked at now,
        whatever the period is; with *at_once* False only if it is not negative.
        """
        wanted = {model.name: model for model in models}
        for name in self._watchers.keys() - wanted.keys():
            self._watchers.pop(name).stop()
            self._manager.aspire(name, {})
        for name, model in wanted.items():
            watcher = self._watchers.get(name)
            if watcher is not None and watcher.model.base_path == model.base_path:
                if watcher.model != model:
                    watcher.model = model
                    watcher.look_now()
                continue
            if watcher is not None:
                watcher.stop()
            self._watchers[name] = _Watcher(self, model)
            if at_once or self._polling.period_s >= 0:
                self._watchers[name].look_now()
            self._watchers[name].start()

    def look_now(self, model: str | None = None) -> None:
        """Look at the base path of *model*, or at all, without waiting for the next poll; returns at once."""
        for name, watcher in list(self._watchers.items()):
            if model in {None, name}:
                watcher.look_now()

    def stop(self) -> None:
        """End looking; what is served stays as it is. A look under way ends by itself and has no effect."""
        for watcher in self._watchers.values():
            watcher.stop()

    # What the watchers use.

    def _base_path(self, model: ModelConfig) -> BasePath:
        return BasePath(self._storage_of(model.base_path), self._polling.settle_s, self._clock)

    def _pause_s(self, finding: Finding | None) -> float | None:
        """Say how long to wait until the next look; None: until told."""
        period_s = self._polling.period_s
        if finding is not None and finding.arriving:
            soon = max(self._polling.settle_s / 2, 0.05)
            return min(period_s, soon) if period_s > 0 else soon
        return period_s if period_s > 0 else None


class _Watcher:
    """The thread that looks at one model's base path."""

    def __init__(self, source: Source, model: ModelConfig) -> None:
        self.model = model
        """May be exchanged for one with the same base path at any time."""
        self._source = source
        self._base_path = source._base_path(model)  # noqa: SLF001  # the source's own other half
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_stopped = False
        self._told: object = None
        self._thread = threading.Thread(target=self._watch, name=f"look:{model.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look_now(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Have no effect from now on, without waiting for a look that may hang."""
        with self._lock:
            self._is_stopped = True
        self._wake.set()

    def _watch(self) -> None:
        # The first look is asked for as every other, so that a period that is negative means none.
        pause_s: float | None = None
        while True:
            self._wake.wait(pause_s)
            self._wake.clear()
            if self._is_stopped:
                return
            finding = None
            try:
                finding = self._look()
            except Exception:
                logger.exception("Looking for versions of %s failed; trying again at the next poll.", self.model.name)
            pause_s = self._source._pause_s(finding)  # noqa: SLF001

    def _look(self) -> Finding:
        source, model = self._source, self.model
        manager = source._manager  # noqa: SLF001
        finding, changed = self._base_path.look(model, manager.failed(model.name))
        with self._lock:
            if self._is_stopped:
                return finding
            self._tell(model, finding)
            if finding.versions is not None:
                manager.aspire(model.name, finding.versions)
            if changed:
                logger.info("servable %s: version %s has changed; trying it again", model.name, sorted(changed))
                manager.retry(model.name, changed)
            for listener in source._listeners:  # noqa: SLF001
                listener(model, finding)
        return finding

    def _tell(self, model: ModelConfig, finding: Finding) -> None:
        """Log what keeps a model from being served, once, and again when it is something else."""
        about = finding.arriving or finding.problem
        if about and about != self._told:
            logger.warning("%s", finding.problem)
        elif self._told and not about:
            logger.info("servable %s: found %s", model.name, sorted(finding.versions or ()))
        self._told = about

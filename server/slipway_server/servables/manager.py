"""Loads, unloads and lends versions; the only one that touches loaders. Decides nothing: it asks the policy."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from slipway_server.servables.loader import Loader, Servable
from slipway_server.servables.policy import Load, Unload, VersionSnapshot, next_action
from slipway_server.servables.states import advance
from slipway_wire.model_status import State, VersionStatus
from slipway_wire.status import Code, NotFound, WireError

logger = logging.getLogger(__name__)

MakeLoader = Callable[[str, int, Path], Loader]
"""(model, version, directory) -> loader."""

Later = Callable[[float, Callable[[], None]], object]
"""(delay in seconds, action): run the action once the delay is over, on any thread."""


class _Version:
    """What the manager knows about one version; guarded by the manager's lock."""

    __slots__ = ("is_aspired", "leases", "model", "path", "servable", "status", "tries", "waits_for_retry")

    def __init__(self, model: str, version: int, path: Path) -> None:
        self.model = model
        self.path = path
        self.status = VersionStatus(version, "START")
        self.is_aspired = True
        self.servable: Servable | None = None
        self.leases = 0
        self.tries = 0
        self.waits_for_retry = False

    def move(self, state: State, code: Code = Code.OK, message: str = "") -> None:
        self.status = VersionStatus(self.status.version, advance(self.status.state, state), code, message)


class Handle:
    """A lease on a loaded version: while it is held, the version is not freed. A context manager."""

    __slots__ = ("_entry", "_manager", "model", "servable", "version")

    def __init__(self, manager: "Manager", entry: _Version, servable: Servable) -> None:
        self._manager = manager
        self._entry: _Version | None = entry
        self.model = entry.model
        self.version = entry.status.version
        self.servable = servable

    def release(self) -> None:
        """Give the version back; a second call does nothing."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._manager._give_back(entry)  # noqa: SLF001  # a handle is the manager's own other half

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What to do after a failed load."""

    max_num_load_retries: int = 5
    load_retry_interval_s: float = 60.0


class Manager:
    """
    Keeps every model's versions in the states that the policy asks for.

    Work is handed to executors, waiting to *later*, so a test can be both. Requests of one version delay the
    unloading of that version only.
    """

    def __init__(
        self,
        make_loader: MakeLoader,
        *,
        load_on: Executor,
        unload_on: Executor,
        later: Later,
        retry: RetryPolicy | None = None,
        on_change: Callable[[str, VersionStatus], None] = lambda _model, _status: None,
    ) -> None:
        """
        Put together; nothing is loaded before `aspire`.

        Args:
            make_loader: Called on the loading thread, once for every version.
            load_on: Runs loads; `load_with` exchanges it.
            unload_on: Frees versions.
            later: Waits between the tries of a load.
            retry: How often, and how far apart.
            on_change: Told of every change of state, in order, on the thread that caused it.
        """
        self._make_loader = make_loader
        self._load_on = load_on
        self._unload_on = unload_on
        self._later = later
        self._retry = retry or RetryPolicy()
        self._on_change = on_change
        self._lock = threading.RLock()
        self._models: dict[str, dict[int, _Version]] = {}
        self._lendable: dict[str, dict[int, _Version]] = {}

    def load_with(self, executor: Executor) -> None:
        """From now on, load on *executor*: the first load may use more threads than later ones beside requests."""
        self._load_on = executor

    def aspire(self, model: str, versions: Mapping[int, Path]) -> None:
        """
        Take note of which versions of *model* are wanted, and begin what follows from that.

        A version that is dropped and wanted again while it is AVAILABLE simply stays. One that failed is tried again
        only after it was dropped in between.
        """
        with self._lock:
            entries = self._models.setdefault(model, {})
            for version, path in versions.items():
                entry = entries.get(version)
                if entry is None or (entry.status.state == "END" and not entry.is_aspired):
                    entries[version] = _Version(model, version, path)
                else:
                    entry.is_aspired = True
            for version, entry in entries.items():
                if version not in versions:
                    self._drop(entry)
            self._step(model)

    def lend(self, model: str, version: int | None = None) -> Handle:
        """
        Lend an available version; the highest if *version* is None.

        Raises:
            NotFound: There is none.
        """
        with self._lock:
            lendable = self._lendable.get(model)
            if lendable:
                entry = lendable.get(max(lendable) if version is None else version)
                if entry is not None and entry.servable is not None:
                    entry.leases += 1
                    return Handle(self, entry, entry.servable)
        wanted = f"Latest({model})" if version is None else f"Specific({model}, {version})"
        raise NotFound(f"Servable not found for request: {wanted}")

    def statuses(self, model: str) -> list[VersionStatus]:
        """List every version of *model* ever seen, the highest first; empty for a model never heard of."""
        with self._lock:
            return [entry.status for _, entry in sorted(self._models.get(model, {}).items(), reverse=True)]

    def has_settled(self, model: str) -> bool:
        """Say whether every version that *model* aspires to has either become AVAILABLE or ended; False for none."""
        with self._lock:
            wanted = [entry.status.state for entry in self._models.get(model, {}).values() if entry.is_aspired]
            return bool(wanted) and all(state in {"AVAILABLE", "END"} for state in wanted)

    # What follows runs with the lock held, except where it says otherwise.

    def _step(self, model: str) -> None:
        entries = self._models[model]
        while action := next_action(
            [VersionSnapshot(version, entry.status.state, entry.is_aspired) for version, entry in entries.items()]
        ):
            match action:
                case Load(version):
                    self._move(entries[version], "LOADING")
                    self._load_on.submit(self._load, entries[version])
                case Unload(version):
                    self._begin_unload(entries[version])

    def _move(self, entry: _Version, state: State, code: Code = Code.OK, message: str = "") -> None:
        entry.move(state, code, message)
        log = logger.info if code in {Code.OK, Code.CANCELLED} else logger.error
        log(
            "servable {name: %s version: %d} is %s%s",
            entry.model,
            entry.status.version,
            state,
            message and f": {message}",
        )
        self._on_change(entry.model, entry.status)

    def _drop(self, entry: _Version) -> None:
        if not entry.is_aspired:
            return
        entry.is_aspired = False
        if entry.status.state == "START" or entry.waits_for_retry:
            entry.waits_for_retry = False
            self._move(entry, "END", Code.CANCELLED, "no longer wanted before it was loaded")

    def _load(self, entry: _Version) -> None:
        """Load once; runs on a loading thread without the lock."""
        try:
            servable = self._make_loader(entry.model, entry.status.version, entry.path).load()
        except Exception as error:  # whatever a loader may throw becomes the status of the version
            self._load_failed(entry, error)
            return
        with self._lock:
            if entry.is_aspired:
                entry.servable = servable
                # Visible to requests before AVAILABLE is reported, so that nobody who waited for it is refused.
                self._lendable.setdefault(entry.model, {})[entry.status.version] = entry
                self._move(entry, "AVAILABLE")
                self._step(entry.model)
                return
        servable.close()
        with self._lock:
            self._move(entry, "END", Code.CANCELLED, "no longer wanted when it was loaded")
            self._step(entry.model)

    def _load_failed(self, entry: _Version, error: Exception) -> None:
        """Wait for another try, or give up; runs without the lock."""
        code, message = (error.code, error.message) if isinstance(error, WireError) else (Code.UNKNOWN, repr(error))
        with self._lock:
            entry.tries += 1
            if entry.is_aspired and entry.tries <= self._retry.max_num_load_retries:
                logger.warning(
                    "servable {name: %s version: %d}: try %d of %d failed: %s",
                    entry.model,
                    entry.status.version,
                    entry.tries,
                    self._retry.max_num_load_retries + 1,
                    message,
                )
                entry.waits_for_retry = True
                self._later(max(self._retry.load_retry_interval_s, 0.0), lambda: self._try_again(entry))
                return
            self._move(entry, "END", code, message)
            self._step(entry.model)

    def _try_again(self, entry: _Version) -> None:
        """Load once more if it is still wanted; runs without the lock."""
        with self._lock:
            if entry.waits_for_retry:
                entry.waits_for_retry = False
                self._load_on.submit(self._load, entry)

    def _begin_unload(self, entry: _Version) -> None:
        self._move(entry, "UNLOADING")
        del self._lendable[entry.model][entry.status.version]
        if entry.leases == 0:
            self._unload_on.submit(self._unload, entry)

    def _give_back(self, entry: _Version) -> None:
        """End one lease; runs without the lock."""
        with self._lock:
            entry.leases -= 1
            if entry.leases == 0 and entry.status.state == "UNLOADING":
                self._unload_on.submit(self._unload, entry)

    def _unload(self, entry: _Version) -> None:
        """Free a version that nobody holds; runs on an unloading thread without the lock."""
        servable, entry.servable = entry.servable, None
        try:
            if servable is not None:
                servable.close()
        except Exception:
            logger.exception("servable {name: %s version: %d}: freeing failed", entry.model, entry.status.version)
        del servable
        with self._lock:
            self._move(entry, "END")
            if entry.is_aspired:
                # Wanted again while it was on its way out: begin afresh.
                self._models[entry.model][entry.status.version] = _Version(
                    entry.model, entry.status.version, entry.path
                )
            self._step(entry.model)


def settled(manager: Manager, models: Iterable[str]) -> bool:
    """Say whether every version that *models* aspire to has become AVAILABLE or ended."""
    return all(manager.has_settled(model) for model in models)

"""Loads, unloads and lends versions; the only one that touches loaders. Decides nothing: it asks the policy."""

import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self

from slipway_server.servables.loader import Loader, Servable
from slipway_server.servables.policy import Load, Policy, Unload, VersionSnapshot, availability_preserving
from slipway_server.servables.states import advance
from slipway_wire.model_status import State, VersionStatus
from slipway_wire.status import Code, NotFound, WireError

logger = logging.getLogger(__name__)

# Status answers list what has ended, for as long as anybody is likely to ask.
_ENDED_VERSIONS_KEPT = 16
_ENDED_MODELS_KEPT = 256

MakeLoader = Callable[[str, int, str], Loader]
"""(model, version, where the version lies) -> loader."""

OnChange = Callable[[str, VersionStatus], None]
"""(model, its version's new status)."""

Later = Callable[[float, Callable[[], None]], object]
"""(delay in seconds, action): run the action once the delay is over, on any thread."""


# To number them: an address in memory, or the number of a version, may come again.
_LIVES = itertools.count()


class _Version:
    """What the manager knows about one life of one version; guarded by the manager's lock."""

    __slots__ = (
        "is_aspired",
        "is_due",
        "leases",
        "life",
        "model",
        "path",
        "servable",
        "status",
        "tries",
        "waits_for_retry",
    )

    def __init__(self, model: str, version: int, path: str) -> None:
        self.model = model
        self.path = path
        self.life = next(_LIVES)
        self.status = VersionStatus(version, "START")
        self.is_aspired = True
        self.servable: Servable | None = None
        self.leases = 0
        self.tries = 0
        self.waits_for_retry = False
        """The last try failed and the pause before the next one is not over."""
        self.is_due = False
        """The pause is over; the policy says when the next try begins."""

    def move(self, state: State, code: Code = Code.OK, message: str = "") -> None:
        self.status = VersionStatus(self.status.version, advance(self.status.state, state), code, message)

    @property
    def is_over(self) -> bool:
        return self.status.state == "END"

    @property
    def has_failed(self) -> bool:
        return self.is_over and self.status.code not in {Code.OK, Code.CANCELLED}


class Handle:
    """A lease on a loaded version: while it is held, the version is not freed. A context manager."""

    __slots__ = ("_entry", "_manager", "life", "model", "servable", "version")

    def __init__(self, manager: "Manager", entry: _Version, servable: Servable) -> None:
        self._manager = manager
        self._entry: _Version | None = entry
        self.model = entry.model
        self.version = entry.status.version
        self.life = entry.life
        """The same for all leases on one life of a version, and no other's."""
        self.servable = servable

    def release(self) -> None:
        """Give the version back; a second call does nothing."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._manager._give_back(entry)  # noqa: SLF001  # a handle is the manager's own other half

    def release_after(self, _done: object) -> None:
        """Do what `release` does, as a callback of a future."""
        self.release()

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
        policy: Policy = availability_preserving,
        on_change: OnChange = lambda _model, _status: None,
    ) -> None:
        """
        Put together; nothing is loaded before `aspire`.

        Args:
            make_loader: Called on the loading thread, once for every try.
            load_on: Runs loads; `load_with` exchanges it.
            unload_on: Frees versions.
            later: Waits between the tries of a load.
            retry: How often, and how far apart.
            policy: Chooses the next step for a model.
            on_change: See `tell`.
        """
        self._make_loader = make_loader
        self._load_on = load_on
        self._unload_on = unload_on
        self._later = later
        self._retry = retry or RetryPolicy()
        self._policy = policy
        self._listeners = [on_change]
        self._lock = threading.RLock()
        # Lives of versions, the oldest first: a version that comes back begins a new one.
        self._models: dict[str, list[_Version]] = {}
        self._lendable: dict[str, dict[int, _Version]] = {}

    def load_with(self, executor: Executor) -> None:
        """From now on, load on *executor*: the first load may use more threads than later ones beside requests."""
        with self._lock:
            before, self._load_on = self._load_on, executor
        # What was submitted is still done; the threads end then.
        before.shutdown(wait=False)

    def tell(self, listener: OnChange) -> None:
        """
        Have *listener* told of every change of state, in order, on the thread that caused it.

        It may ask the manager, must not wait for anything, and is told that a version is AVAILABLE before any
        other is unloaded because of that.
        """
        self._listeners.append(listener)

    def aspire(self, model: str, versions: Mapping[int, str]) -> None:
        """
        Take note of which versions of *model* are wanted, and begin what follows from that.

        A version that is dropped and wanted again while it is AVAILABLE simply stays. One that failed is tried again
        only after it was dropped in between, or by `retry`. A version that is now elsewhere counts as another one,
        which takes the place of the first as a higher version would.

        Args:
            model: Its name.
            versions: Version -> where it lies.
        """
        with self._lock:
            if not versions and model not in self._models:
                return
            lives = self._models.setdefault(model, [])
            kept = []
            for version, path in versions.items():
                entry = self._life_at(model, version, path)
                if entry is None:
                    entry = _Version(model, version, path)
                    lives.append(entry)
                entry.is_aspired = True
                kept.append(entry)
            for entry in [entry for entry in lives if entry not in kept]:
                self._drop(entry)
            self._step(model)

    def former_life(self, model: str, version: int) -> object | None:
        """Return what stands for the last life of *version*, if that is over or about to be and nobody wants it; see `has_ended`."""
        with self._lock:
            entry = self._latest_life(model, version)
            is_former = entry is not None and not entry.is_aspired and entry.status.state in {"UNLOADING", "END"}
            return entry if is_former else None

    def has_ended(self, model: str, version: int, former: object | None) -> bool:
        """Say whether a life of *version* is over that is another one than *former*."""
        with self._lock:
            entry = self._latest_life(model, version)
            return entry is not None and entry is not former and entry.is_over

    def retry(self, model: str, versions: Collection[int]) -> None:
        """Load those of *versions* anew that are still wanted and have failed for good."""
        with self._lock:
            for version in versions:
                entry = self._latest_life(model, version)
                if entry is not None and entry.is_aspired and entry.has_failed:
                    entry.is_aspired = False
                    self._models[model].append(_Version(model, version, entry.path))
            if model in self._models:
                self._step(model)

    def failed(self, model: str) -> set[int]:
        """Find the versions that are wanted and whose load has failed for good."""
        with self._lock:
            lives = self._models.get(model, [])
            return {entry.status.version for entry in lives if entry.is_aspired and entry.has_failed}

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
        """
        List the versions of *model*, the highest first; empty for a model never heard of.

        Of versions that have ended, only the last few are kept. A version that is replaced by one of the same number
        is told as long as it serves.
        """
        with self._lock:
            told: dict[int, VersionStatus] = {}
            for entry in self._models.get(model, ()):
                before = told.get(entry.status.version)
                if before is None or not _outweighs(before.state, entry.status.state):
                    told[entry.status.version] = entry.status
            return [told[version] for version in sorted(told, reverse=True)]

    def models(self) -> list[str]:
        """List every model that has or had a version."""
        with self._lock:
            return list(self._models)

    def has_settled(self, model: str) -> bool:
        """Say whether every version that *model* aspires to has either become AVAILABLE or ended; False for none."""
        with self._lock:
            wanted = [entry.status.state for entry in self._models.get(model, ()) if entry.is_aspired]
            return bool(wanted) and all(state in {"AVAILABLE", "END"} for state in wanted)

    # What follows runs with the lock held, except where it says otherwise.

    def _life_at(self, model: str, version: int, path: str) -> _Version | None:
        """Find the life of *version* at *path* that goes on, or has failed without having been dropped since."""
        for entry in reversed(self._models[model]):
            goes_on = entry.is_aspired or entry.status.state not in {"UNLOADING", "END"}
            if goes_on and entry.status.version == version and entry.path == path:
                return entry
        return None

    def _latest_life(self, model: str, version: int) -> _Version | None:
        return next((one for one in reversed(self._models.get(model, ())) if one.status.version == version), None)

    def _step(self, model: str) -> None:
        # Lives in order of version, and of age within one: a policy's "highest" is then the newest.
        lives = sorted(self._models[model], key=lambda entry: entry.status.version)
        while action := self._policy(_snapshots(lives)):
            entry = lives[action.version]
            match action:
                case Load():
                    if entry.is_due:
                        entry.is_due = False
                    else:
                        self._move(entry, "LOADING")
                    self._load_on.submit(self._load, entry)
                case Unload():
                    self._begin_unload(entry)

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
        if state == "END":
            self._forget_the_oldest(entry.model)
        for listener in self._listeners:
            listener(entry.model, entry.status)

    def _forget_the_oldest(self, model: str) -> None:
        """Keep few of the lives that are over, so that a server that switches versions for years does not grow."""
        lives = self._models[model]
        over = [entry for entry in lives if entry.is_over and not (entry.is_aspired and entry.has_failed)]
        repeated = [entry for entry in over if entry is not self._latest_life(model, entry.status.version)]
        for entry in repeated or over[:-_ENDED_VERSIONS_KEPT]:
            lives.remove(entry)
        gone = [name for name, ended in self._models.items() if all(entry.is_over for entry in ended)]
        for name in gone[:-_ENDED_MODELS_KEPT]:
            if name != model and not any(entry.is_aspired for entry in self._models[name]):
                del self._models[name]
                self._lendable.pop(name, None)

    def _drop(self, entry: _Version) -> None:
        if not entry.is_aspired:
            return
        entry.is_aspired = False
        if entry.status.state == "START" or entry.waits_for_retry or entry.is_due:
            entry.waits_for_retry = entry.is_due = False
            self._move(entry, "END", Code.CANCELLED, "no longer wanted before it was loaded")

    def _load(self, entry: _Version) -> None:
        """Load once; runs on a loading thread without the lock."""
        with self._lock:
            if not entry.is_aspired:
                self._move(entry, "END", Code.CANCELLED, "no longer wanted before it was loaded")
                self._step(entry.model)
                return
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
            else:
                self._move(entry, "END", code, message)
            self._step(entry.model)

    def _try_again(self, entry: _Version) -> None:
        """Load once more if it is still wanted; runs without the lock."""
        with self._lock:
            if entry.waits_for_retry:
                entry.waits_for_retry = False
                entry.is_due = True
                self._step(entry.model)

    def _begin_unload(self, entry: _Version) -> None:
        self._move(entry, "UNLOADING")
        lendable = self._lendable[entry.model]
        # Its successor of the same number may be there already.
        if lendable.get(entry.status.version) is entry:
            del lendable[entry.status.version]
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
            self._step(entry.model)


def _outweighs(earlier: State, later: State) -> bool:
    """Say whether of two lives of one version the earlier one is what its status is about."""
    return earlier == "AVAILABLE" or (earlier != "END" and later == "START")


def _snapshots(lives: Sequence[_Version]) -> list[VersionSnapshot]:
    """Show *lives* to a policy; a version is named by its place in the list."""

    def state(entry: _Version) -> State:
        if entry.waits_for_retry:
            return "END"
        return "START" if entry.is_due else entry.status.state

    return [VersionSnapshot(place, state(entry), entry.is_aspired) for place, entry in enumerate(lives)]


def settled(manager: Manager, models: Iterable[str]) -> bool:
    """Say whether every version that *models* aspire to has become AVAILABLE or ended."""
    return all(manager.has_settled(model) for model in models)

"""The present set of models: checked as a whole, exchanged as a whole, and what follows from a change."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from slipway_server.config_files import ModelConfig, model_configs
from slipway_server.servables.manager import Manager
from slipway_server.servables.source import Finding, Source, aspired_versions, read_versions
from slipway_server.servables.storage import Storage
from slipway_wire import messages
from slipway_wire.model_status import State, VersionStatus
from slipway_wire.status import Aborted, Code, FailedPrecondition, NotFound, Unavailable, Unknown, WireError

logger = logging.getLogger(__name__)

Edit = Callable[[Any], None]
"""Changes a ModelServerConfig message in place; raises WireError for what cannot be done."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    One configuration.

    Attributes:
        revision: Grows by one with every change; 0: none yet.
        config: The ModelServerConfig message; not to be changed.
        models: Name -> what the message says of it.
    """

    revision: int
    config: Any
    models: Mapping[str, ModelConfig]


@dataclass(frozen=True, slots=True)
class Change:
    """
    What a change did, or would do.

    Attributes:
        revision: Of the configuration that is in force now.
        added: Names of models that were not there before.
        removed: Names of models that are not there any more.
        changed: Names of models whose configuration differs.
    """

    revision: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(slots=True)
class _Waiter:
    """Somebody who waits until *is_decided* of all *models*."""

    models: set[str]
    is_decided: Callable[[str], bool]
    then: Callable[[], None]
    is_gone: Callable[[], bool] = field(default=lambda: False)


class Configuration:
    """
    Owns the models that are configured, and their labels.

    A change is checked whole before anything of it is applied, and is then visible to requests at once. Changes are
    made one after another on a thread of its own; requests read without a lock.

    A label takes effect when the version it is to point to becomes AVAILABLE; until then it keeps its old target, so
    that nobody who asks for it is refused. TF Serving wants the version to be available beforehand and refuses the
    change if it is not. That is still refused for a version that is neither available nor about to be: one that is
    not there, or that the version policy does not want. If its load fails, who asked for the change is told so.
    """

    def __init__(
        self,
        manager: Manager,
        source: Source,
        storage_of: Callable[[str], Storage],
        *,
        allows_any_label: bool = False,
    ) -> None:
        """
        Begin without any model.

        Args:
            manager: Tells how versions fare.
            source: Is told which models to look for.
            storage_of: Finds the file system that a base path is on.
            allows_any_label: Let a label point to a version that is not there, unless it already points to another.
        """
        self._manager = manager
        self._source = source
        self._storage_of = storage_of
        self._allows_any_label = allows_any_label
        self._snapshot = Snapshot(0, messages.ModelServerConfig(), MappingProxyType({}))
        # Never held while the manager or the source is asked for anything: they call us with locks of their own.
        self._lock = threading.Lock()
        self._labels: dict[str, dict[str, int]] = {}
        self._findings: dict[str, Finding] = {}
        self._waiters: list[_Waiter] = []
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._changer = ThreadPoolExecutor(1, thread_name_prefix="configuration")
        manager.tell(self._note_status)
        source.tell(self.note)

    def tell(self, listener: Callable[[Snapshot], None]) -> None:
        """Have *listener* told of every configuration that comes into force, on the thread of changes."""
        self._listeners.append(listener)

    @property
    def current(self) -> Snapshot:
        """The configuration in force."""
        return self._snapshot

    def version_of(self, model: str, label: str) -> int | None:
        """Say which version *label* of *model* points to now; None if there is no such label."""
        version = self._labels.get(model, {}).get(label)
        if version is not None:
            return version
        config = self._snapshot.models.get(model)
        return config.version_labels.get(label) if config else None

    def diagnosis(self, model: str) -> str | None:
        """Say why *model* has no version that can be served, or not the one that is wanted; None if all is well."""
        if model not in self._snapshot.models:
            return f"Model {model} is not configured"
        finding = self._findings.get(model)
        if finding is not None and finding.problem:
            return finding.problem
        failed = self._manager.failed(model)
        statuses = self._manager.statuses(model)
        failures = [status for status in statuses if status.version in failed]
        if failures:
            return "; ".join(
                f"version {one.version} is {one.state}: {one.code.name}: {one.message}" for one in failures
            )
        if not self._has_available(model):
            return (
                f"version {statuses[0].version} is {statuses[0].state}" if statuses else "no version has been found yet"
            )
        return None

    def start(self, config: Any, *, with_what_is_there: bool = False) -> "Future[Change]":
        """
        Put the first configuration in force.

        Args:
            config: ModelServerConfig message.
            with_what_is_there: Do not wait for a model that has nothing to serve, and take failures for no reason not
                to start.

        Returns:
            Done when every model has a version that serves.

        Raises:
            InvalidArgument: Through the future: it cannot be.
            Unknown: Likewise: all versions of a model have failed.
            FailedPrecondition: Likewise: a label points to a version that is not available.
        """

        def begin() -> tuple[Change, list[ModelConfig]]:
            return self._put(_parsed(1, config), looks_at_once=False)

        def is_decided(name: str) -> bool:
            return self._can_start(name) or (with_what_is_there and self._is_empty(name))

        def judge(models: Sequence[ModelConfig]) -> None:
            if with_what_is_there:
                return
            self._raise_for_failures(models, "servable(s)")
            if not self._allows_any_label:
                self._raise_for_labels(models, {})

        return self._do(begin, is_decided, judge)

    def change(
        self, edit: Edit, *, revision: int | None = None, dry_run: bool = False, waits: bool = True
    ) -> "Future[Change]":
        """
        Change what is configured.

        Args:
            edit: Is given a copy of the present ModelServerConfig; see `replace_by`, `set_model`, `remove_model` and
                `set_label`.
            revision: The revision it was made for; None: whichever there is.
            dry_run: Only check it.
            waits: Whether the future is done only when each new model has a version that is AVAILABLE, or has nothing
                that could become so.

        Returns:
            What it did. To cancel it ends the waiting, not the change.

        Raises:
            Aborted: Through the future: the configuration is at another revision.
            InvalidArgument: Likewise: it cannot be; nothing has changed.
            FailedPrecondition: Likewise: it cannot follow the present one, and nothing has changed; or it has, and
                the version that a label is to point to has failed: the label still points where it did.
            Unknown: Likewise: a new model cannot be served; the new configuration is in force all the same.

        Source of texts: tensorflow_serving/model_servers/server_core.cc.
        """
        before: dict[str, dict[str, int]] = {}
        # Model -> versions that a label is to point to, each with a former life that has nothing to do with this change.
        expected: dict[str, dict[int, object | None]] = {}

        def begin() -> tuple[Change, list[ModelConfig]]:
            present = self._snapshot
            if revision is not None and revision != present.revision:
                raise Aborted(
                    f"The configuration is at revision {present.revision}, not {revision}: somebody else has changed "
                    "it. Read it again"
                )
            config = messages.ModelServerConfig()
            config.CopyFrom(present.config)
            edit(config)
            following = _parsed(present.revision + 1, config, present)
            if not config.WhichOneof("config"):
                logger.info("Taking no action for empty config.")
                return Change(present.revision), []
            for name, versions in self._check_labels(present, following).items():
                expected[name] = {version: self._manager.former_life(name, version) for version in versions}
            before.update({name: dict(labels) for name, labels in self._labels.items()})
            if dry_run:
                return _difference(present, following), []
            change, added = self._put(following)
            relabelled = [
                model for model in following.models.values() if self._moved(model, before) and model not in added
            ]
            return change, [*added, *relabelled] if waits else []

        def is_decided(name: str) -> bool:
            if name not in before and not self._is_empty(name) and not self._can_start(name):
                return False
            states = self._states(name)
            return all(
                states.get(version) == "AVAILABLE" or self._manager.has_ended(name, version, former)
                for version, former in expected.get(name, {}).items()
            )

        def judge(models: Sequence[ModelConfig]) -> None:
            self._raise_for_failures(models, "model(s)")
            if not self._allows_any_label:
                self._raise_for_labels(models, before)

        return self._do(begin, is_decided, judge)

    def note(self, model: ModelConfig, finding: Finding) -> None:
        """Take note of what a look at a base path came to."""
        with self._lock:
            present = self._snapshot.models.get(model.name)
            if present is None or present.base_path != model.base_path:
                return
            self._findings[model.name] = finding
        self._wake(model.name)

    def is_settled(self) -> bool:
        """Say whether every version that any model aspires to is AVAILABLE or has failed."""
        return all(self._manager.has_settled(name) or self._is_empty(name) for name in self._snapshot.models)

    def stop(self) -> None:
        """Look for versions no more and take no more changes; what is served stays."""
        self._source.stop()
        self._changer.shutdown(wait=False, cancel_futures=True)

    # Doing it: on the thread of changes.

    def _do(
        self,
        begin: Callable[[], tuple[Change, list[ModelConfig]]],
        is_decided: Callable[[str], bool],
        judge: Callable[[Sequence[ModelConfig]], None],
    ) -> "Future[Change]":
        """Run *begin* on the thread of changes, wait until each of the models it names is decided, and then *judge*."""
        future: Future[Change] = Future()

        def run() -> None:
            try:
                change, awaited = begin()
            except Exception as error:
                _fail(future, error)
                return

            def finish() -> None:
                try:
                    # Another change may have come in between.
                    present = self._snapshot.models
                    judge([present[model.name] for model in awaited if model.name in present])
                except Exception as error:
                    _fail(future, error)
                else:
                    _succeed(future, change)

            names = {model.name for model in awaited}
            waiter = _Waiter(set(names), is_decided, finish, future.cancelled)
            with self._lock:
                self._waiters = [one for one in self._waiters if not one.is_gone()]
                self._waiters.append(waiter)
            self._wake(*names)
            if not names:
                self._finish(waiter)

        try:
            self._changer.submit(run)
        except RuntimeError:
            _fail(future, Unavailable("The server is shutting down"))
        return future

    def _put(self, following: Snapshot, *, looks_at_once: bool = True) -> tuple[Change, list[ModelConfig]]:
        """Put *following* in force; return what differs, and the models that are new."""
        present = self._snapshot
        change = _difference(present, following)
        if present.revision and not (change.added or change.removed or change.changed):
            return Change(present.revision), []
        with self._lock:
            labels = {
                name: {
                    # The old target, or none, until the new one is there.
                    label: old[label]
                    for label in model.version_labels
                    if label in (old := self._labels.get(name, {}))
                }
                for name, model in following.models.items()
            }
            self._labels = labels
            for name in (*change.removed, *self._moved_away(present, following)):
                self._findings.pop(name, None)
            self._snapshot = following
        logger.info(
            "Configuration revision %d: added %s, removed %s, changed %s",
            *(following.revision, list(change.added), list(change.removed), list(change.changed)),
        )
        for listener in self._listeners:
            listener(following)
        for name in following.models:
            self._point_labels(name, [s.version for s in self._manager.statuses(name) if s.state == "AVAILABLE"])
        self._source.update(following.models.values(), at_once=looks_at_once)
        self._wake(*change.removed, *change.changed)
        return change, [following.models[name] for name in change.added]

    @staticmethod
    def _moved_away(present: Snapshot, following: Snapshot) -> list[str]:
        return [
            name
            for name, model in present.models.items()
            if name in following.models and following.models[name].base_path != model.base_path
        ]

    def _check_labels(self, present: Snapshot, following: Snapshot) -> dict[str, set[int]]:
        """
        Refuse labels that could not take effect.

        Returns:
            Model -> versions that are not available yet and to which a label is to point as soon as they are.

        Raises:
            FailedPrecondition: With TF Serving's text, and what is there.
        """
        expected = {}
        for name, model in following.models.items():
            old = present.models.get(name)
            available = {status.version for status in self._manager.statuses(name) if status.state == "AVAILABLE"}
            unsure = {
                label: version
                for label, version in model.version_labels.items()
                if version not in available and (old is None or old.version_labels.get(label) != version)
            }
            if self._allows_any_label:
                # TF Serving's rule with the flag: a label that is in use moves to available versions only.
                unsure = {label: v for label, v in unsure.items() if old is not None and label in old.version_labels}
            if not unsure:
                continue
            try:
                found = read_versions(self._storage_of(model.base_path), model.base_path)
            except OSError:
                found = {}
            wanted = aspired_versions(model.version_policy, found)
            for version in unsure.values():
                if version not in wanted:
                    raise _unavailable(version, name, found, wanted)
            expected[name] = set(unsure.values())
        return expected

    # Looking at how it goes: on any thread.

    def _note_status(self, model: str, status: VersionStatus) -> None:
        """Listen to the manager, which holds its lock."""
        if status.state == "AVAILABLE":
            self._point_labels(model, [status.version])
        if status.state in {"AVAILABLE", "END"}:
            self._wake(model)

    def _point_labels(self, model: str, available: Sequence[int]) -> None:
        with self._lock:
            config = self._snapshot.models.get(model)
            moved = {label: v for label, v in (config.version_labels if config else {}).items() if v in available}
            if moved:
                # A new dict each time: requests read without a lock.
                self._labels = {**self._labels, model: {**self._labels.get(model, {}), **moved}}

    def _wake(self, *models: str) -> None:
        """See who waits for one of *models*, and whether that is decided now."""
        with self._lock:
            concerned = [one for one in self._waiters if not one.models.isdisjoint(models)]
        for waiter in concerned:
            present = self._snapshot.models
            decided = {
                name
                for name in waiter.models.intersection(models)
                if name not in present or waiter.is_decided(name)  # Nobody waits for what is not wanted any more.
            }
            with self._lock:
                waiter.models -= decided
                is_done = bool(decided) and not waiter.models
            if is_done:
                self._finish(waiter)

    def _finish(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter not in self._waiters:
                return
            self._waiters.remove(waiter)
        waiter.then()

    def _has_available(self, name: str) -> bool:
        return any(status.state == "AVAILABLE" for status in self._manager.statuses(name))

    def _is_empty(self, name: str) -> bool:
        finding = self._findings.get(name)
        return finding is not None and finding.is_empty

    def _can_start(self, name: str) -> bool:
        """Say whether a model can serve, or cannot; versions with labels are waited for."""
        return self._manager.has_settled(name) or (self._has_available(name) and self._labels_are_decided(name))

    def _labels_are_decided(self, name: str) -> bool:
        model = self._snapshot.models.get(name)
        finding = self._findings.get(name)
        if model is None or finding is None:
            return model is None
        states = self._states(name)
        return all(
            states.get(version) in {"AVAILABLE", "END"} or (version not in states and version not in finding.arriving)
            for version in model.version_labels.values()
        )

    def _states(self, name: str) -> dict[int, State]:
        return {status.version: status.state for status in self._manager.statuses(name)}

    def _moved(self, model: ModelConfig, before: Mapping[str, Mapping[str, int]]) -> bool:
        return any(before.get(model.name, {}).get(label) != version for label, version in model.version_labels.items())

    # Judging how it went.

    def _raise_for_failures(self, models: Iterable[ModelConfig], what: str) -> None:
        failures = []
        for model in models:
            if self._has_available(model.name):
                continue
            failed = self._manager.failed(model.name)
            failures += [
                f"{{{{name: {model.name} version: {status.version}}} due to error: "
                f"{status.code.name}: {status.message}}}, "
                for status in self._manager.statuses(model.name)
                if status.version in failed
            ] or [f"{{{{name: {model.name}}} due to error: {Code.NOT_FOUND.name}: {self.diagnosis(model.name)}}}, "]
        if failures:
            raise Unknown(f"{len(failures)} {what} did not become available: {{{''.join(failures)}}}")

    def _raise_for_labels(self, models: Iterable[ModelConfig], before: Mapping[str, Mapping[str, int]]) -> None:
        for model in models:
            available = {status.version for status in self._manager.statuses(model.name) if status.state == "AVAILABLE"}
            for label, version in model.version_labels.items():
                if version not in available and before.get(model.name, {}).get(label) != version:
                    raise _unavailable(version, model.name, available, available)


def _parsed(revision: int, config: Any, present: Snapshot | None = None) -> Snapshot:
    models = model_configs(config, present.config if present else None)
    copy = messages.ModelServerConfig()
    copy.CopyFrom(config)
    return Snapshot(revision, copy, MappingProxyType({model.name: model for model in models}))


def _difference(present: Snapshot, following: Snapshot) -> Change:
    old, new = _listed(present.config), _listed(following.config)
    return Change(
        following.revision,
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name in old and old[name] != new[name]),
    )


def _listed(config: Any) -> dict[str, Any]:
    return {model.name: model for model in config.model_config_list.config}


def _unavailable(version: int, model: str, found: Iterable[int], wanted: Iterable[int]) -> WireError:
    found, wanted = sorted(found), sorted(wanted)
    return FailedPrecondition(
        f"Request to assign label to version {version} of model {model}, which is not currently available for inference"
        f" and not about to be: found versions {found}, of which the version policy wants {wanted}"
    )


def _succeed(future: "Future[Change]", change: Change) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(change)


def _fail(future: "Future[Change]", error: Exception) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


# --- edits -----------------------------------------------------------------------------------------


def replace_by(config: Any) -> Edit:
    """Make *config*, a ModelServerConfig, take the place of all there is."""
    return lambda present: present.CopyFrom(config)


def set_model(model: Any) -> Edit:
    """Add *model*, a ModelConfig message, or let it take the place of the one of that name."""

    def edit(config: Any) -> None:
        for listed in config.model_config_list.config:
            if listed.name == model.name:
                listed.CopyFrom(model)
                return
        config.model_config_list.config.add().CopyFrom(model)

    return edit


def remove_model(name: str) -> Edit:
    """Configure the model *name* no more; NotFound if it is not configured."""

    def edit(config: Any) -> None:
        listed = config.model_config_list.config
        listed.remove(_find(config, name))

    return edit


def set_label(name: str, label: str, version: int | None) -> Edit:
    """Let *label* of the model *name* point to *version*, or remove it if that is None; NotFound if there is none."""

    def edit(config: Any) -> None:
        model = _find(config, name)
        if version is not None:
            model.version_labels[label] = version
        elif label in model.version_labels:
            del model.version_labels[label]
        else:
            raise NotFound(f"Model {name} has no label {label}; it has {sorted(model.version_labels)}")

    return edit


def _find(config: Any, name: str) -> Any:
    for listed in config.model_config_list.config:
        if listed.name == name:
            return listed
    raise NotFound(f"Model {name} is not configured; there are {sorted(_listed(config))}")

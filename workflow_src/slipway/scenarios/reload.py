"""Versions come and go while requests arrive: none of them may fail, and none be late for it."""

import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from slipway import model_config
from slipway.errors import InvalidMeasurement, ServerError
from slipway.load_plan import NAMES
from slipway.records import UNTRIED, Protocol, ScenarioSeries
from slipway.repetitions import in_window
from slipway.scenario_settings import HotReload
from slipway.scenarios.bench import Reload
from slipway.scenarios.slo import bound_us, percentile_series
from slipway.scenarios.switching import Change, Step, longest_silence_us, while_changing, wrong_versions
from slipway.scenarios.taking import FAILING, Taking, Wanted
from slipway.scenarios.versions import by_label
from slipway.security import OPEN, Security
from slipway.servers import version_states
from slipway_wire import messages
from slipway_wire import payloads as wire_payloads
from slipway_wire.loads import LoadWindow
from slipway_wire.samples import Samples

_SLOT_US = 250_000
_POLL_S = 0.02
_PATIENCE_S = 60.0
_COMMAND_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class VersionsReload:
    """
    The newest version of a running server leaves and comes again, and the one before it retires: `HandleReloadConfigRequest`.

    Attributes:
        host: Of the server.
        rest_port: Its REST port, which tells the states of versions.
        grpc_port: Its gRPC port, which takes the changes.
        model: Name of the model.
        served: Its versions, two at least.
        config: The server's ModelServerConfig as it is.
    """

    host: str
    rest_port: int
    grpc_port: int
    model: str
    served: tuple[int, ...]
    config: Any

    @property
    def switches(self) -> tuple[int, int]:
        """See `Reload`: the newest version and the one before it."""
        before, newest = sorted(self.served)[-2:]
        return newest, before

    @property
    def told(self) -> str:
        """See `Reload`."""
        newest, before = self.switches
        return (
            f"requests name no version: version {newest} leaves and version {before} answers; then version {newest} is loaded "
            f"and version {before} retires; then version {before} is loaded beside it"
        )

    @property
    def keeps_answers(self) -> bool:
        """See `Reload`."""
        return False

    @property
    def steps(self) -> Sequence[Step]:
        """See `Reload`."""
        newest, before = self.switches
        return (
            Step("roll_back", f"Version {newest} left in", 0.2, lambda: self.serve(before), before),
            Step("roll_out", f"Version {newest} came and {before} left in", 0.45, lambda: self.serve(newest), newest),
            Step("beside", "The others came beside it in", 0.75, self.serve_all, newest),
        )

    def serve(self, version: int) -> None:
        """Serve one version alone, with its labels."""
        config, entry = self._copy()
        entry.model_version_policy.Clear()
        entry.model_version_policy.specific.versions.append(version)
        for label in [name for name, labelled in entry.version_labels.items() if labelled != version]:
            del entry.version_labels[label]
        others = [other for other in self.served if other != version]
        self._make(
            config,
            entry,
            lambda states: (
                states.get(version) == "AVAILABLE" and all(states.get(v, "END").startswith("END") for v in others)
            ),
        )

    def serve_all(self) -> None:
        """Serve what there was in the beginning."""
        self._make(*self._copy(), lambda states: all(states.get(v) == "AVAILABLE" for v in self.served))

    def _copy(self) -> tuple[Any, Any]:
        """Give a copy of the configuration, and the model's entry in it."""
        config = messages.ModelServerConfig()
        config.CopyFrom(self.config)
        (entry,) = [one for one in config.model_config_list.config if one.name == self.model]
        return config, entry

    def _make(self, config: Any, entry: Any, holds: Callable[[dict[int, str]], bool]) -> None:
        # A label is refused as long as its version is not there: first the versions, then what they are called.
        labels = dict(entry.version_labels)
        entry.version_labels.clear()
        model_config.reload(f"{self.host}:{self.grpc_port}", config)
        self._wait(holds)
        if labels:
            entry.version_labels.update(labels)
            model_config.reload(f"{self.host}:{self.grpc_port}", config)

    def _wait(self, holds: Callable[[dict[int, str]], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not holds(states := version_states(self.host, self.rest_port, self.model) or {}):
            if time.monotonic() > deadline:
                told = ", ".join(f"{v}: {s}" for v, s in sorted(states.items()))
                raise ServerError(f"versions of {self.model} did not change within {_PATIENCE_S:g} s: {told}")
            time.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class CommandReload:
    """
    Somebody's own command changes what the server serves; what the new version answers, nobody here knows.

    Attributes:
        command: Run without a shell.
        rest: Host and REST port, where the states of versions are seen to change; None: the command's end is the change's.
        model: Name of the model.
        is_pinned: Whether requests name their version.
        security: Of the REST port.
    """

    command: str
    rest: tuple[str, int] | None = None
    model: str = ""
    is_pinned: bool = False
    security: Security = OPEN

    @property
    def told(self) -> str:
        """See `Reload`."""
        asked = (
            "requests name their version: whether those that name none go over to another one is not tried; leave --version "
            "away for that"
            if self.is_pinned
            else "requests name no version, and what another one answers is not known: what is answered is not looked at here, "
            "so an answer of the wrong version would not be found"
        )
        return f"`{self.command}` is run; {asked}"

    @property
    def switches(self) -> tuple[int, ...]:
        """See `Reload`."""
        return ()

    @property
    def steps(self) -> Sequence[Step]:
        """See `Reload`."""
        return (Step("change", "The change took", 0.25, self.change),)

    @property
    def keeps_answers(self) -> bool:
        """See `Reload`."""
        return self.is_pinned

    def change(self) -> None:
        """Run it, and wait until versions have changed and none is under way."""
        before = self._states()
        self._run()
        if before is None:
            return
        deadline = time.monotonic() + _PATIENCE_S
        while (states := self._states()) == before or not _is_settled(states):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"--reload-command: versions of {self.model} did not change within {_PATIENCE_S:g} s of `{self.command}`"
                )
            time.sleep(_POLL_S)

    def _states(self) -> dict[int, str] | None:
        return version_states(*self.rest, self.model, self.security) if self.rest else None

    def _run(self) -> None:
        try:
            done = subprocess.run(
                shlex.split(self.command), capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"--reload-command: {error}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise ServerError(
                f"--reload-command: exit code {done.returncode}: {said[-1] if said else 'it said nothing'}"
            )


def _is_settled(states: dict[int, str] | None) -> bool:
    return bool(states) and all(state == "AVAILABLE" or state.startswith("END") for state in (states or {}).values())


def hot_reload(settings: HotReload, taking: Taking) -> None:
    """Change versions under load, one protocol after the other."""
    reload = taking.bench.reload
    if reload is None:
        taking.invalid.append(f"{UNTRIED}: {taking.bench.no_reload}")
        return
    taking.notes.append(reload.told)
    bound = bound_us(taking, settings.slo_ms)
    taking.value("slo", "What is in time", "us", bound)
    try:
        files = _files(taking, reload.switches)
    except ServerError as error:
        taking.invalid.append(f"{UNTRIED}: {' '.join(str(error).split())}")
        return
    for protocol in taking.protocols:
        _reload_under(settings, taking, protocol, reload, files, bound)


def _files(taking: Taking, switches: Sequence[int]) -> list[Path]:
    """Write a payload file for each version: the same requests, which name none, with the answers that it must give."""
    bench, versions = taking.bench, taking.bench.versions
    if not switches or versions is None:
        return []
    rows, files = bench.windows.settings.rows, []
    sent = {version: versions.make(version, rows) for version in switches}
    for version, payloads in sent.items():
        files.append(bench.windows.directory / f"payloads-{taking.name}-{version}.tfrecord")
        files[-1].write_bytes(wire_payloads.encode(by_label(payload, None) for payload in payloads))
    held = "; ".join(f"answers of version {v} are held against {versions.against(v)}" for v in switches)
    taking.notes.append(held)
    if versions.are_alike(*sent.values()):
        taking.notes.append(
            "both answer these requests alike within the tolerances: an answer of the wrong version would not be found"
        )
    return files


def _reload_under(
    settings: HotReload, taking: Taking, protocol: Protocol, reload: Reload, files: Sequence[Path], bound: float
) -> None:
    bench, steps = taking.bench, reload.steps
    changes: list[Change] = []
    with _Beside() as beside:

        def during(window: LoadWindow) -> None:
            begin, length = window.begin_ns, window.end_ns - window.begin_ns

            def act() -> None:
                for step in steps:
                    _sleep_until(begin + round(step.at * length))
                    from_us = (time.monotonic_ns() - window.origin_ns) / 1e3
                    step.act()
                    until_us = (time.monotonic_ns() - window.origin_ns) / 1e3
                    place = 0 if step.newest is None else reload.switches.index(step.newest)
                    changes.append(Change(from_us, until_us, place))

            beside.start(act)

        window, repetition = taking.window(
            Wanted(
                protocol,
                "",
                users=16,
                window_s=settings.window_s,
                warmup_s=bench.windows.settings.warmup_s,
                rate=settings.share * bench.peak(protocol),
                rows=bench.windows.settings.rows,
                # Loading takes CPU that is the server's own, and answers may be late for it: that is the finding.
                forgiven=FAILING,
                unchecked=not reload.keeps_answers,
                retry=False,
                may_fail=True,
                payloads=files[0] if files else None,
                alternatives=files[1:],
            ),
            during,
        )
    samples = window.samples
    _tell_times(taking, protocol, samples, changes, bound)
    for step, change in zip(steps, changes, strict=False):
        taking.value(step.key, step.name, "s", (change.end_us - change.begin_us) / 1e6, protocol=protocol)
    taking.value("failed", "Failed requests", "count", float(samples.failed.sum()), protocol=protocol)
    if files:
        _tell_versions(taking, protocol, samples, changes, reload.switches)
    if window.outcome.errors:
        told = ", ".join(f"{count} × {kind}" for kind, count in sorted(window.outcome.errors.items()))
        taking.faults.append(
            f"{NAMES[protocol]}: requests failed while versions changed: {told}; the first: {window.outcome.first_error}"
        )
    if len(changes) < len(steps) or changes[-1].end_us > samples.end_us:
        taking.invalid.append(
            f"{NAMES[protocol]}: the load was over before the last change was: set {taking.name}.window_s to more"
        )
    if repetition.invalid:
        taking.invalid.append(f"{NAMES[protocol]}: {'; '.join(repetition.invalid)}")


def _tell_times(taking: Taking, protocol: Protocol, samples: Samples, changes: Sequence[Change], bound: float) -> None:
    """Take down latencies, what was late, and how long nobody was answered: while something changed, and otherwise."""
    response = samples.slip_us + samples.service_us
    at, worst = percentile_series(samples.planned_us, response, _SLOT_US, samples.end_us)
    taking.series.append(ScenarioSeries(name="p99 of each 250 ms", protocol=protocol, unit="us", x_s=at, y=worst))
    changing = while_changing(samples, changes)
    quiet = in_window(samples) & ~changing
    for key, name, chosen in (
        ("p99_quiet", "99th percentile, nothing changing", quiet),
        ("p99_changing", "99th percentile during the change", changing),
        ("worst_changing", "The slowest answer during the change", changing),
    ):
        quantile = 100 if key.startswith("worst") else 99
        value = float(np.percentile(response[chosen], quantile)) if chosen.any() else None
        taking.value(key, name, "us", value, protocol=protocol)
    late = (response > bound) | samples.failed
    for key, name, chosen in (
        ("late_quiet", "Not answered in time, nothing changing", quiet),
        ("late_changing", "Not answered in time during the change", changing),
    ):
        taking.value(key, name, "count", float((late & chosen).sum()), protocol=protocol)
    during, otherwise = longest_silence_us(samples, changes)
    taking.value(
        "silence_quiet", "Longest time between two answers, nothing changing", "us", otherwise, protocol=protocol
    )
    taking.value(
        "silence_changing", "Longest time between two answers during the change", "us", during, protocol=protocol
    )


def _tell_versions(
    taking: Taking, protocol: Protocol, samples: Samples, changes: Sequence[Change], switches: Sequence[int]
) -> None:
    """Take down which version answered, and that none did that should not."""
    assert samples.fits is not None  # alternatives were ordered
    wrong = wrong_versions(samples, changes)
    for place, version in enumerate(switches):
        count = float((samples.fits == 1 << place).sum())
        more = {"protocol": protocol, "label": f"version {version}"}
        taking.value("answered", "Answers that no other version gives", "count", count, **more)
    taking.value("wrong_version", "Answers of the wrong version", "count", float(wrong.sum()), protocol=protocol)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        given = next(v for place, v in enumerate(switches) if samples.fits[first] & 1 << place)
        taking.faults.append(
            f"{NAMES[protocol]}: {int(wrong.sum())} of {int((samples.fits != 0).sum())} answers are of a version that was no "
            f"longer, or not yet, the newest; the first, of version {given}, to a request of second {samples.planned_us[first] / 1e6:.2f}"
        )


class _Beside:
    """Something that runs beside a load; what it raises is raised again when the block ends."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, act: Callable[[], None]) -> None:
        """Run *act* in a thread."""

        def run() -> None:
            try:
                act()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._thread is None or kind is not None:
            return
        self._thread.join(_COMMAND_TIMEOUT_S)
        if self._error is not None:
            raise InvalidMeasurement(f"hot_reload: the change failed: {self._error}") from self._error


def _sleep_until(time_ns: int) -> None:
    time.sleep(max(time_ns - time.monotonic_ns(), 0) / 1e9)

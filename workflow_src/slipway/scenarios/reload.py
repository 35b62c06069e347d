"""Versions come and go while requests arrive: none of them may fail, and none be late for it."""

import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from slipway import model_config
from slipway.errors import InvalidMeasurement, ServerError
from slipway.load_plan import NAMES
from slipway.records import UNTRIED, Protocol, ScenarioSeries
from slipway.scenario_settings import HotReload
from slipway.scenarios.slo import percentile_series
from slipway.scenarios.taking import FAILING, Taking, Wanted
from slipway.security import OPEN, Security
from slipway.servers import version_states
from slipway_wire import messages
from slipway_wire.loads import LoadWindow

_SLOT_US = 250_000
_POLL_S = 0.02
_PATIENCE_S = 60.0
_COMMAND_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class VersionsReload:
    """
    Versions beside the one that is asked leave a running server, and come back: `HandleReloadConfigRequest`.

    Attributes:
        host: Of the server.
        rest_port: Its REST port, which tells the states of versions.
        grpc_port: Its gRPC port, which takes the change.
        model: Name of the model.
        version: The version that is asked meanwhile, and stays.
        others: Those that leave and come back.
        config: The server's ModelServerConfig as it is.
    """

    host: str
    rest_port: int
    grpc_port: int
    model: str
    version: int
    others: tuple[int, ...]
    config: Any

    @property
    def told(self) -> str:
        """See `Reload`."""
        told = ", ".join(map(str, self.others))
        return f"version {told} is unloaded and loaded again while version {self.version} answers"

    @property
    def keeps_answers(self) -> bool:
        """See `Reload`."""
        return True

    def change(self) -> None:
        """Let the other versions go."""
        config = messages.ModelServerConfig()
        config.CopyFrom(self.config)
        (entry,) = [one for one in config.model_config_list.config if one.name == self.model]
        entry.model_version_policy.Clear()
        entry.model_version_policy.specific.versions.append(self.version)
        for label in [name for name, version in entry.version_labels.items() if version != self.version]:
            del entry.version_labels[label]
        model_config.reload(f"{self.host}:{self.grpc_port}", config)
        self._wait(lambda states: all(states.get(v, "END").startswith("END") for v in self.others))

    def back(self) -> None:
        """Load them again."""
        model_config.reload(f"{self.host}:{self.grpc_port}", self.config)
        self._wait(lambda states: all(states.get(v) == "AVAILABLE" for v in self.others))

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
    Somebody's own command changes what the server serves; it knows the way back itself, or there is none.

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
        return f"`{self.command}` is run"

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

    def back(self) -> None:
        """Do nothing."""


def _is_settled(states: dict[int, str] | None) -> bool:
    return bool(states) and all(state == "AVAILABLE" or state.startswith("END") for state in (states or {}).values())


def hot_reload(settings: HotReload, taking: Taking) -> None:
    """Change versions under load, one protocol after the other."""
    if taking.bench.reload is None:
        taking.invalid.append(f"{UNTRIED}: {taking.bench.no_reload}")
        return
    taking.notes.append(taking.bench.reload.told)
    if not taking.bench.reload.keeps_answers:
        taking.notes.append(
            "requests name no version, and another one may answer otherwise: what is answered is not looked at here"
        )
    for protocol in taking.protocols:
        _reload_under(settings, taking, protocol)


def _reload_under(settings: HotReload, taking: Taking, protocol: Protocol) -> None:
    bench = taking.bench
    change = bench.reload
    assert change is not None  # looked at by the caller
    moments: list[float] = []
    with _Beside() as beside:

        def during(window: LoadWindow) -> None:
            begin, length = window.begin_ns, window.end_ns - window.begin_ns

            def act() -> None:
                for at, step in ((0.25, change.change), (0.75, change.back)):
                    _sleep_until(begin + round(at * length))
                    moments.append((time.monotonic_ns() - window.origin_ns) / 1e9)
                    step()
                    moments.append((time.monotonic_ns() - window.origin_ns) / 1e9)

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
                unchecked=not change.keeps_answers,
                retry=False,
                may_fail=True,
            ),
            during,
        )
    samples = window.samples
    response = samples.slip_us + samples.service_us
    at, worst = percentile_series(samples.planned_us, response, _SLOT_US, samples.end_us)
    taking.series.append(ScenarioSeries(name="p99 of each 250 ms", protocol=protocol, unit="us", x_s=at, y=worst))
    changing = np.zeros(len(response), bool)
    for begin, end in zip(moments[::2], moments[1::2], strict=False):
        changing |= (samples.planned_us >= begin * 1e6) & (samples.planned_us <= end * 1e6)
    quiet = (samples.planned_us >= samples.begin_us) & ~changing
    for key, name, chosen in (
        ("p99_quiet", "99th percentile, nothing changing", quiet),
        ("p99_changing", "99th percentile during the change", changing),
        ("worst_changing", "The slowest answer during the change", changing),
    ):
        quantile = 100 if key.startswith("worst") else 99
        value = float(np.percentile(response[chosen], quantile)) if chosen.any() else None
        taking.value(key, name, "us", value, protocol=protocol)
    for key, name, place in (("change", "The change took", 0), ("back", "The way back took", 2)):
        took = moments[place + 1] - moments[place] if len(moments) > place + 1 else None
        taking.value(f"{key}_s", name, "s", took, protocol=protocol)
    taking.value("failed", "Failed requests", "count", float(samples.failed.sum()), protocol=protocol)
    if window.outcome.errors:
        told = ", ".join(f"{count} × {kind}" for kind, count in sorted(window.outcome.errors.items()))
        taking.faults.append(
            f"{NAMES[protocol]}: requests failed while versions changed: {told}; the first: {window.outcome.first_error}"
        )
    if repetition.invalid:
        taking.invalid.append(f"{NAMES[protocol]}: {'; '.join(repetition.invalid)}")


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

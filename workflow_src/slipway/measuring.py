"""A machine that measures: its CPUs divided between servers and load generators, and one window of load."""

import contextlib
import ipaddress
import os
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slipway import cpu, server_metrics
from slipway.conditions import SLOT_S, Reading, Watch
from slipway.errors import ContractViolation, InvalidMeasurement, ServerError
from slipway.gpu import Gpus
from slipway.load_generator import LoadGenerator
from slipway.records import Placement, Protocol
from slipway.repetitions import Window
from slipway.security import OPEN, Security
from slipway.servers import RunningServer, ServerSpec, running_server
from slipway.shared_load import on_cpus
from slipway_wire import samples
from slipway_wire.loads import LoadOrder, LoadOutcome, LoadWindow


class Loaded(typing.Protocol):
    """A server that is measured: one of ours, or anybody's."""

    def addresses(self) -> Mapping[Protocol, tuple[str, int]]:
        """Give host and port of each protocol that it speaks."""

    def protection(self) -> Mapping[Protocol, Security]:
        """Say how connections are protected, by protocol; {} where all are plain."""

    def pids(self) -> list[int]:
        """List its processes on this host; [] where they are not known."""

    def check_alive(self) -> None:
        """Raise ServerError if it has died."""


class Machine:
    """
    The CPUs to measure on.

    Attributes:
        server_cpus: CPUs of the servers.
        generator_cpus: CPUs of the load generators; the same ones where there is only one.
        generator_processes: How many processes make each load together.
        pinned: Whether both could be kept on theirs so far.
    """

    def __init__(self, cpus: Sequence[int], generator_processes: int | None = None) -> None:
        """
        Divide *cpus*; nothing is moved yet.

        Args:
            cpus: At least one.
            generator_processes: How many processes make each load; None: one for each CPU that is the generators'.
        """
        self._cpus = list(cpus)
        self.server_cpus, self.generator_cpus = cpu.split(self._cpus)
        self._are_apart = self.server_cpus != self.generator_cpus
        self.generator_processes = generator_processes or (len(self.generator_cpus) if self._are_apart else 1)
        self.pinned = self._are_apart
        # The engine's own cpuset, so that the server sizes its thread pools for what it has.
        self._cpuset = cpu.as_list(self.server_cpus) if self._are_apart else None
        self._gpus = Gpus.find()

    @property
    def sees_gpus(self) -> bool:
        """Whether the driver of GPUs here can be asked what they do."""
        return self._gpus is not None

    def take_in(self, generator: LoadGenerator) -> None:
        """Keep *generator* on the generators' CPUs."""
        self.pinned = self.pinned and cpu.keep_on(generator.pids, self.generator_cpus)

    @contextlib.contextmanager
    def server(self, spec: ServerSpec, log: Path) -> Iterator[RunningServer]:
        """
        Run a server on the servers' CPUs for the block.

        Raises:
            ServerError: As `running_server`.
        """
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(running_server(replace(spec, cpus=self._cpuset), log=log))
            except ServerError:
                if self._cpuset is None:
                    raise
                # Not every engine may hand out CPUs (a rootless one without the cpuset controller, say).
                self._cpuset = None
                server = stack.enter_context(running_server(replace(spec, cpus=None), log=log))
            if self._are_apart:
                self.pinned = cpu.keep_on(server.pids(), self.server_cpus) and self.pinned
            yield server

    def load(
        self,
        generator: LoadGenerator,
        server: Loaded,
        model: str,
        order: LoadOrder,
        during: Callable[[LoadWindow], None] | None = None,
    ) -> Window:
        """
        Run one load, and read what it took from the clients, the kernel and the server.

        Args:
            generator: Sends it.
            server: Gets it.
            model: Name of the model, as the server's metrics have it.
            order: What load.
            during: Called when the window begins; what it takes is part of the window.

        Raises:
            InvalidMeasurement: The generator failed.
            ServerError: The server died.
        """
        before = scraped(server)
        watch = self._watch(server, generator, native=order.tier == "native")

        def observe(window: LoadWindow) -> tuple[Reading, Reading | None]:
            _sleep_until(window.begin_ns)
            watch.read_limits()
            begin = watch.read()
            if order.requests is not None:
                # It ends with its last answer, and nobody knows when.
                return begin, None
            if during is not None:
                during(window)
            slot_ns = round(SLOT_S * 1e9)
            for slot_end_ns in range(window.begin_ns + slot_ns, window.end_ns - slot_ns // 2, slot_ns):
                _sleep_until(slot_end_ns)
                watch.read()
            _sleep_until(window.end_ns)
            return begin, watch.read()

        outcome, (begin, ended) = generator.run(order, server.check_alive, observe)
        end = ended or watch.read()
        watch.read_limits()
        server.check_alive()
        after = scraped(server)
        return Window(
            samples=samples.read(Path(order.samples)),
            outcome=on_cpus(outcome, len(self.generator_cpus)),
            begin=begin,
            end=end,
            server=server_metrics.between(before, after, model=model, protocol=order.protocol),
            conditions=watch.conditions(),
            is_local=is_loopback(order.host),
        )

    def _watch(self, server: Loaded, generator: LoadGenerator, *, native: bool) -> Watch:
        """Prepare to watch one load: a quota of somebody else's server is that server's own affair."""
        pids = server.pids()
        own = pids if isinstance(server, RunningServer) else []
        return Watch(
            pids,
            generator.pids,
            cpus=self._cpus if self.pinned else None,
            count=len(self._cpus) if self.pinned else os.cpu_count() or len(self._cpus),
            server_cpus=self.server_cpus,
            limited=[*generator.pids, *own],
            # Those of a server elsewhere are not this machine's.
            gpus=self._gpus if pids else None,
            with_children=native,
        )

    def placement(self) -> Placement:
        """Tell which CPUs did what."""
        return Placement(
            logical_cpus=os.cpu_count() or len(self._cpus),
            server_cpus=cpu.as_list(self.server_cpus),
            generator_cpus=cpu.as_list(self.generator_cpus),
            pinned=self.pinned,
            generator_processes=self.generator_processes,
        )


def scraped(server: Loaded) -> server_metrics.Metrics | None:
    """Read the server's metrics; None if it has none, or no REST port to ask for them."""
    rest = server.addresses().get("rest")
    return server_metrics.scrape(*rest, server.protection().get("rest", OPEN)) if rest else None


def order(server: Loaded, protocol: Protocol, path: Path, *, users: int, warmup_s: float, window_s: float) -> LoadOrder:
    """Order a closed loop of *users* on *server*; its samples go to *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    host, port = server.addresses()[protocol]
    protected = server.protection().get(protocol)
    return LoadOrder(
        protocol=protocol,
        host=host,
        port=port,
        users=users,
        warmup_s=warmup_s,
        window_s=window_s,
        samples=str(path),
        tls=protected.of_load() if protected else None,
    )


def is_loopback(host: str) -> bool:
    """Say whether *host* names this machine to itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def stop_at_faults(outcome: LoadOutcome, subject: str, *, may_fail: bool = False) -> None:
    """
    End a measurement at a wrong answer or a failed request: what they cost is not worth knowing.

    Args:
        outcome: Of one load.
        subject: What was loaded, how and when, for the error.
        may_fail: Whether only a wrong answer ends it.

    Raises:
        ContractViolation: An answer was wrong.
        InvalidMeasurement: A request failed.
    """
    if outcome.wrong_answers:
        raise ContractViolation(
            f"{subject}: {outcome.wrong_answers} of {outcome.checked_answers} answers under load are wrong: "
            f"{outcome.first_wrong}"
        )
    if outcome.errors and not may_fail:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(outcome.errors.items()))
        raise InvalidMeasurement(
            f"{subject}: {sum(outcome.errors.values())} of {outcome.requests} requests failed ({kinds}); "
            f"the first: {outcome.first_error}"
        )


def _sleep_until(time_ns: int) -> None:
    time.sleep(max(time_ns - time.monotonic_ns(), 0) / 1e9)

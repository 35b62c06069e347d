"""
What the load generator can do at most, with all its processes: the same load on a server that does nothing.

Measured before anything else, with the payloads and connections of the benchmark itself, and over TLS where that is used. A
server that is answered more than a share of that ceiling may have been held back by the generator, so such windows do not
count.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import trustme

from slipway import cpu, procs
from slipway.errors import InvalidMeasurement
from slipway.load_generator import LoadGenerator
from slipway.records import Ceiling, Protocol
from slipway.repetitions import done_between, in_window
from slipway_wire import samples
from slipway_wire.loads import LoadOrder, Tls

_STOP_GRACE_S = 2.0
_HOST = "127.0.0.1"
# The kernel spreads connections by chance. With so many none gets more than it can answer, even if others get few.
_NULLS_PER_GENERATOR = 3


@dataclass(frozen=True, slots=True)
class NullServer:
    """Where the server that does nothing listens, and the protocols that it speaks over TLS, each with whom to believe."""

    rest_port: int
    grpc_port: int
    process: subprocess.Popen[bytes]
    tls: Mapping[Protocol, Tls] = field(default_factory=dict)

    def check_alive(self) -> None:
        """Raise InvalidMeasurement if it has died."""
        if (code := self.process.poll()) is not None:
            raise InvalidMeasurement(f"The null server of the calibration died with exit code {code}")


@contextlib.contextmanager
def null_server(
    payloads: Path, log: Path, cpus: Sequence[int], tls: Collection[Protocol] = (), *, generators: int = 1
) -> Iterator[NullServer]:
    """
    Run it for the block.

    Args:
        payloads: Payload file with the answers.
        log: Gets what it complains of.
        cpus: Where it runs: the place of the server that is measured.
        tls: Protocols that are spoken over TLS, with a certificate that is made for the block.
        generators: Processes that will load it; for several it is several, too, as many as *cpus* let run at once.

    Raises:
        InvalidMeasurement: It does not start.
    """
    argv = [sys.executable, "-I", "-m", "slipway_loadtests.null_server", "--payloads", str(payloads)]
    if generators > 1:
        argv += ["--processes", str(min(len(cpus), _NULLS_PER_GENERATOR * generators))]
    with contextlib.ExitStack() as stack:
        complaints = stack.enter_context(log.open("wb"))
        trusted: dict[Protocol, Tls] = {}
        if tls:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-null-")))
            certificate, authority = _identity(directory)
            argv += ["--certificate", str(certificate), "--tls", *tls]
            trusted = dict.fromkeys(tls, Tls(authorities=str(authority)))
        process = procs.start_owned(argv, log=complaints, talk=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            cpu.keep_on([process.pid], cpus)
            line = process.stdout.readline()
            if not line:
                raise InvalidMeasurement(f"The null server of the calibration did not start; its log: {log}")
            yield NullServer(**json.loads(line), process=process, tls=trusted)
        finally:
            with procs.signals_ignored():
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                procs.stop_group(process, _STOP_GRACE_S)
                process.stdout.close()


def _identity(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for this host with its key, and the authority's: two files of PEM in *directory*."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    authority.issue_cert(_HOST).private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    return directory / "server.pem", directory / "authority.pem"


def measure(
    generator: LoadGenerator,
    server: NullServer,
    protocol: Protocol,
    path: Path,
    *,
    users: int,
    window_s: float,
    payloads: Path | None = None,
) -> Ceiling:
    """
    Find the ceiling of one protocol, and the floor of its latency with one request in flight.

    Args:
        generator: On its own CPUs.
        server: What answers.
        protocol: Which.
        path: Sample file, for a moment.
        users: Connections, as many as the benchmark's busiest cell has.
        window_s: Length of the window.
        payloads: The payload file that *server* knows, where it is not the one that *generator* began with.

    Raises:
        InvalidMeasurement: A request failed, or an answer was wrong: the generator and its null server disagree.
    """
    most = _load(generator, server, protocol, path, users, window_s, payloads)
    least = _load(generator, server, protocol, path, 1, window_s / 2, payloads)
    return Ceiling(
        protocol=protocol,
        concurrency=users,
        throughput_rps=most.throughput_rps,
        generator_cpu_us_per_request=most.generator_cpu_us,
        generator_utilisation=most.generator_utilisation,
        floor_p50_us=least.p50_us,
        processes=most.processes,
    )


@dataclass(frozen=True, slots=True)
class _Load:
    throughput_rps: float
    p50_us: float
    generator_cpu_us: float
    generator_utilisation: float
    processes: int


def _load(
    generator: LoadGenerator,
    server: NullServer,
    protocol: Protocol,
    path: Path,
    users: int,
    window_s: float,
    payloads: Path | None,
) -> _Load:
    order = LoadOrder(
        protocol=protocol,
        host=_HOST,
        port=server.rest_port if protocol == "rest" else server.grpc_port,
        users=users,
        warmup_s=min(0.2, window_s / 2),
        window_s=window_s,
        samples=str(path),
        payloads=str(payloads) if payloads else None,
        tls=server.tls.get(protocol),
    )
    outcome, _ = generator.run(order, server.check_alive, lambda _: None)
    if outcome.errors or outcome.wrong_answers:
        raise InvalidMeasurement(
            f"calibration over {protocol}: {outcome.errors or outcome.first_wrong}; {outcome.first_error or 'wrong answers'}"
        )
    found = samples.read(path)
    path.unlink()
    sent = found.service_us[in_window(found)]
    done = np.count_nonzero((found.done_us >= found.begin_us) & (found.done_us < found.end_us))
    requests = max(done_between(found, outcome.cpu_from_ns, outcome.cpu_to_ns), 1)
    return _Load(
        throughput_rps=float(done) / window_s,
        p50_us=float(np.median(sent)) if len(sent) else 0.0,
        generator_cpu_us=outcome.cpu_ns / 1000 / requests,
        generator_utilisation=outcome.utilisation,
        processes=outcome.generators,
    )

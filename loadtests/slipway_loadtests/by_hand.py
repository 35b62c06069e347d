"""
What makes `locust -f loadtests/locustfile.py` work against any server with TensorFlow Serving's interface.

Locust's own statistics, reports and web UI get every request; `--samples` keeps the raw times, which Locust
rounds to milliseconds.
"""

import logging
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from locust.env import Environment
from locust.event import Events
from locust.runners import WorkerRunner

from slipway_loadtests import dispatching, distributed, drawing
from slipway_loadtests.alarm import now_ns
from slipway_loadtests.answers import Verdict
from slipway_loadtests.connections import RequestFailed
from slipway_loadtests.dispatching import PROTOCOLS
from slipway_loadtests.session import Arrivals, Observer, Session
from slipway_loadtests.sessions import answers_for, session_for
from slipway_wire import payloads, samples
from slipway_wire.loads import Protocol, Tls
from slipway_wire.payloads import Payload
from slipway_wire.samples import Samples
from slipway_wire.status import WireError
from slipway_wire.tolerances import Tolerance, Tolerances

# The environment of the test under way.
_running: list[Environment] = []
_log = logging.getLogger(__name__)
_DEFAULT_HOST = "http://127.0.0.1:8501"


def register(events: Events) -> None:
    """Take part in a run of Locust."""
    events.init_command_line_parser.add_listener(_add_arguments)
    events.init.add_listener(_take_part)
    events.test_start.add_listener(_begin)
    events.spawning_complete.add_listener(_spawned)
    events.test_stopping.add_listener(_end)
    events.quitting.add_listener(_report)
    events.report_to_master.add_listener(_tell_master)
    events.worker_report.add_listener(_hear_worker)


def _add_arguments(parser: ArgumentParser, **_: Any) -> None:
    group = parser.add_argument_group("slipway", "What to send; --host is the REST address (default 127.0.0.1:8501)")
    group.add_argument("--protocol", choices=sorted(PROTOCOLS), default="both", help="which to load")
    group.add_argument("--grpc-port", type=int, default=8500, help="gRPC port on the same host")
    group.add_argument("--model", default="default", help="name of the model")
    group.add_argument("--signature", default="serving_default", help="a predict signature")
    group.add_argument("--rows", type=int, default=1, help="rows in each request that is drawn at random")
    group.add_argument("--seed", type=int, default=1, help="seed of drawn values and of arrivals")
    group.add_argument(
        "--payloads", default="", help="TFRecord of PredictionLog with requests (and answers) to use instead"
    )
    group.add_argument("--atol", type=float, default=1e-5, help="absolute tolerance of answers in --payloads")
    group.add_argument("--rtol", type=float, default=1e-4, help="relative tolerance of answers in --payloads")
    group.add_argument(
        "--tolerances",
        default="",
        help="JSON with the tolerance of each output, as a benchmark leaves beside its payloads",
    )
    group.add_argument(
        "--rate",
        type=float,
        default=0.0,
        help="offer so many requests/s per protocol, all workers together, whatever the answers",
    )
    group.add_argument(
        "--tier",
        choices=["wire", "library"],
        default="wire",
        help="whose clients send: our own, equal in both protocols, or Locust's FastHttpSession and grpcio",
    )
    group.add_argument("--grpc-tls", action="store_true", help="gRPC over TLS; REST has it where --host is https://")
    group.add_argument("--ca-file", default=None, help="certificates (PEM) that the server's is checked with")
    group.add_argument("--cert-file", default=None, help="own certificate (PEM), for servers that ask for one")
    group.add_argument("--key-file", default=None, help="its private key, if --cert-file has none")
    group.add_argument("--server-name", default=None, help="what the server's certificate is for, if not for the host")
    group.add_argument("--samples", default="", help="keep raw times in SAMPLES-rest.npz and SAMPLES-grpc.npz")


def _take_part(environment: Environment, **_: Any) -> None:
    # gevent's clock stands still while modules are imported; without this `-t 1s` may be over at once.
    gevent.get_hub().loop.update_now()
    environment.choice, environment.has_given_up = None, False
    environment.dispatcher_class = partial(dispatching.Dispatcher, environment)


def _begin(environment: Environment, **_: Any) -> None:
    # Listeners of reports are not told whose they are.
    _running.clear()
    _running.append(environment)
    options, count = environment.parsed_options, distributed.begin_test(environment)
    if not count:
        # Its master has told why.
        environment.sessions = environment.reportings = {}
        return
    try:
        environment.choice = dispatching.choose(options, count)
    except WireError as error:
        _give_up(environment, str(error))
        return
    if environment.choice is not None and environment.choice.count is not None:
        # Locust waits for as many as it was told, a second at most.
        environment.runner.target_user_count = environment.choice.count
    address = urlsplit(environment.host or _DEFAULT_HOST)
    host, ports = address.hostname or "127.0.0.1", {"rest": address.port or 8501, "grpc": options.grpc_port}
    tls = Tls(
        authorities=options.ca_file,
        certificate=options.cert_file,
        key=options.key_file,
        server_name=options.server_name,
    )
    protected = {"rest": tls if address.scheme == "https" else None, "grpc": tls if options.grpc_tls else None}
    try:
        sent = _payloads(options, host, ports["rest"], protected["rest"])
        tolerances = _tolerances(options)
        environment.sessions = {
            protocol: session_for(
                protocol,
                sent,
                host,
                ports[protocol],
                answers_for(protocol, sent, tolerances),
                arrivals=Arrivals(
                    options.rate / count, distributed.seed(environment, options.seed), 1, generators=count
                )
                if options.rate
                else None,
                observer=_observer(environment, protocol, sent[0].method.capitalize()),
                tls=protected[protocol],
                tier=options.tier,
            )
            for protocol in PROTOCOLS["both"]
        }
    except (WireError, RequestFailed, OSError) as error:
        _give_up(environment, f"{host}:{ports['rest']}: no payloads to send: {error}")
        return
    if distributed.is_master(environment):
        # It has asked the server what the workers will ask; they send the load.
        environment.sessions = {}
    for session in environment.sessions.values():
        session.begin(now_ns(), None)
    number = distributed.test_number(environment)
    environment.reportings = {p: distributed.Reporting(session, number) for p, session in environment.sessions.items()}


def _give_up(environment: Environment, why: str) -> None:
    """End a test that cannot begin; in the web UI the next one may."""
    _log.error("%s", why)
    environment.sessions = environment.reportings = {}
    environment.process_exit_code = 2
    distributed.call_off(environment)
    if environment.web_ui:
        # Locust hands out users all the same, and says that they run when it has.
        environment.has_given_up = True
    else:
        # Not from here: this greenlet is one of those that quitting ends.
        gevent.spawn(environment.runner.quit)


def _spawned(**_: Any) -> None:
    for environment in _running:
        if environment.has_given_up:
            environment.has_given_up = False
            gevent.spawn(environment.runner.stop)


def _tell_master(data: dict[str, Any], **_: Any) -> None:
    for environment in _running:
        told = {p: reporting.news() for p, reporting in getattr(environment, "reportings", {}).items()}
        data[distributed.KEY] = {protocol: news for protocol, news in told.items() if news}


def _hear_worker(data: dict[str, Any], **_: Any) -> None:
    for environment in _running:
        distributed.collect(environment, data)


def _payloads(options: Any, host: str, port: int, tls: Tls | None) -> list[Payload]:
    if options.payloads:
        return payloads.read(Path(options.payloads))
    signature = drawing.ask_signature(host, port, options.model, options.signature, tls)
    return list(drawing.draw(options.model, signature, rows=options.rows, seed=options.seed))


def _tolerances(options: Any) -> Tolerances:
    if options.tolerances:
        return Tolerances.read(Path(options.tolerances))
    return Tolerances(Tolerance(options.atol, options.rtol))


def _end(environment: Environment, **_: Any) -> None:
    for session in _sessions(environment).values():
        session.abandon()


def _sessions(environment: Environment) -> dict[Protocol, Session]:
    # A test may end before it has begun.
    return getattr(environment, "sessions", {})


def _observer(environment: Environment, protocol: Protocol, method: str) -> Observer:
    def observe(response_ns: int, answer_bytes: int, failure: RequestFailed | None) -> None:
        environment.events.request.fire(
            request_type=protocol,
            name=method,
            response_time=response_ns / 1e6,
            response_length=answer_bytes,
            response=None,
            context={},
            exception=failure,
        )

    return observe


def _report(environment: Environment, **_: Any) -> None:
    # At test_stop the last answers may still be missing; now they are in.
    for protocol, collected in getattr(environment, "collected", {}).items():
        _conclude(environment, protocol, collected.verdict(), collected.samples)
    if isinstance(environment.runner, WorkerRunner):
        # Its master has heard everything.
        return
    for protocol, session in _sessions(environment).items():
        if len(session.recorder):
            raw = partial(session.recorder.samples, session.origin_ns, session.origin_ns, now_ns())
            _conclude(environment, protocol, session.answers.judge(), raw)


def _conclude(environment: Environment, protocol: Protocol, verdict: Verdict, raw: Callable[[], Samples]) -> None:
    if verdict.wrong:
        _log.error("%s: %d of %d answers are wrong: %s", protocol, verdict.wrong, verdict.checked, verdict.first_wrong)
        environment.process_exit_code = 3
    if environment.parsed_options.samples:
        samples.write(Path(f"{environment.parsed_options.samples}-{protocol}.npz"), raw())

"""The one place where the parts are put together, in the order in which they come to life and end."""

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, cast

from slipway_server import cpus, memory
from slipway_server.backends.loading import loader_maker
from slipway_server.backends.remote_storage import FetchedLoader, LocalCopies, RemoteStorage
from slipway_server.batching.scheduler import BatchScheduler, DirectScheduler, PerModelScheduler, Scheduler, Soon
from slipway_server.batching.sizes import batches_like, smallest_and_largest
from slipway_server.bearer import BearerToken
from slipway_server.config_files import (
    BatchingPolicy,
    batching_policy,
    doubts_about,
    is_uri,
    model_configs,
    read_batching_policy,
    read_metrics_path,
    read_model_server_config,
    single_model_config,
)
from slipway_server.load_options import LoadOptions, read_platform_config
from slipway_server.load_options import from_settings as read_load_options
from slipway_server.metrics import Metrics
from slipway_server.observers import Observers
from slipway_server.servables import planned, warmup
from slipway_server.servables.arrival import VerifiedLoader
from slipway_server.servables.batched import BatchedLoader, PolicyOf, own_policy
from slipway_server.servables.config_file import ConfigFile
from slipway_server.servables.configuration import Configuration, Snapshot
from slipway_server.servables.loader import Loader
from slipway_server.servables.manager import Manager, RetryPolicy
from slipway_server.servables.policy import POLICIES
from slipway_server.servables.source import Polling, Source
from slipway_server.servables.storage import LocalStorage, Storage
from slipway_server.serving import Serving
from slipway_server.settings import Settings
from slipway_server.signals import EndSignals
from slipway_server.transports import descriptors, grpcio_server, ports, tls
from slipway_server.transports.admin_api import AdminApi
from slipway_server.transports.grpc_api import GrpcApi
from slipway_server.transports.held import Held, default_limit_bytes
from slipway_server.transports.http import HttpServer, Limits
from slipway_server.transports.http2 import server as http2
from slipway_server.transports.profiler import ProfilerApi
from slipway_server.transports.rest_api import RestApi, RestServer, error_response
from slipway_server.transports.rpc import Services, guarded
from slipway_server.transports.waiting import Arrivals, soon_on
from slipway_wire import messages, paths
from slipway_wire.json_tensors import NonFinite
from slipway_wire.model_status import VersionStatus
from slipway_wire.status import InvalidArgument, Unavailable

logger = logging.getLogger(__name__)

# How long connections may take to send what was written to them.
_FLUSH_S = 2.0


async def run(settings: Settings) -> None:
    """
    Load, open the ports, serve until a signal comes, drain.

    Args:
        settings: Checked.

    Raises:
        WireError: The server could not start.
    """
    signals = EndSignals()
    server = Server(settings)
    loading = asyncio.ensure_future(server.load())
    if await signals.came_before(loading):
        return
    await server.open()
    await signals.wait()
    await server.drain()


class GrpcServer(Protocol):
    """What is running where gRPC is spoken."""

    async def stop(self, grace: float | None) -> None:
        """Take no new calls; end those that have begun after *grace* s."""


class Server:
    """All parts of one server."""

    _grpc_server: GrpcServer

    def __init__(self, settings: Settings) -> None:
        """
        Put the parts together; nothing is loaded or opened yet.

        Raises:
            WireError: A configuration file cannot be used, or a port is taken.
        """
        self._settings = settings
        descriptors.make_room()
        self._loop = asyncio.get_running_loop()
        self._change = asyncio.Event()
        self._giving_back: asyncio.Future[None] | None = None
        self._config = _model_server_config(settings)
        model_configs(self._config)  # What cannot be is told before any port is tried.
        metrics_path = (
            read_metrics_path(Path(settings.monitoring_config_file)) if settings.monitoring_config_file else None
        )
        load_options = read_load_options(settings)
        policy, is_per_model = _batching(settings)
        self._tls = tls.read(Path(settings.ssl_config_file)) if settings.ssl_config_file else None
        if self._tls and settings.rest_api_port != 0 and not settings.rest_api_tls:
            logger.warning("REST is served without TLS, as in TF Serving; --rest_api_tls gives it gRPC's certificate")
        if settings.ready_file:
            _remove_stale(settings.ready_file)
        self._grpc_socket, self._rest_socket = _reserve_ports(settings)
        self._admin_socket = _reserve_admin_port(settings)
        self._metrics = Metrics()
        self._metrics.tell_settings(_told_settings(settings, load_options, policy, is_per_model=is_per_model))
        self._observers = Observers(settings, self._metrics)
        self._scheduler = _scheduler(settings, policy, self._metrics, soon_on(self._loop))
        policy_of = own_policy(policy) if policy is not None and is_per_model else lambda _directory: policy
        make_loader = loader_maker(
            load_options,
            self._metrics,
            _preparation(policy_of),
            _measured_sizes(policy_of),
            policy.num_batch_threads if policy is not None else settings.grpc_max_threads,
        )

        self._copies = LocalCopies()

        def make_local(model: str, version: int, directory: Path) -> Loader:
            loader = BatchedLoader(
                make_loader(model, version, directory), directory, policy_of, tells_doubts=is_per_model
            )
            return VerifiedLoader(loader, directory)

        def make(model: str, version: int, path: str) -> Loader:
            if is_uri(path):
                return FetchedLoader(path, self._copies, functools.partial(make_local, model, version))
            return make_local(model, version, Path(path))

        def storage_of(base_path: str) -> Storage:
            return RemoteStorage() if is_uri(base_path) else LocalStorage()

        self._manager = Manager(
            make,
            load_on=ThreadPoolExecutor(4 * (os.cpu_count() or 1), thread_name_prefix="first_load"),
            unload_on=ThreadPoolExecutor(max(settings.num_unload_threads, 1), thread_name_prefix="unload"),
            later=_later,
            retry=RetryPolicy(settings.max_num_load_retries, settings.load_retry_interval_micros / 1e6),
            policy=POLICIES[settings.aspired_version_policy],
            on_change=self._changed,
        )
        self._configuration = Configuration(
            self._manager,
            Source(
                self._manager, storage_of, Polling(settings.file_system_poll_wait_seconds, settings.version_settle_s)
            ),
            storage_of,
            allows_any_label=settings.allow_version_labels_for_unavailable_models,
        )
        self._configuration.tell(self._log_requests)
        self._config_file = ConfigFile(
            Path(settings.model_config_file),
            self._configuration,
            # Without a file there is nothing to poll.
            period_s=settings.model_config_file_poll_wait_seconds if settings.model_config_file else 0.0,
            persists=settings.persist_model_config,
        )
        self._serving = Serving(
            self._manager,
            self._scheduler,
            self._metrics,
            self._configuration,
            checks_method_names=settings.enable_signature_method_name_check,
        )
        self._observers.watch(self._serving)
        self._callers = self._observers.callers()
        self._token = _bearer_token(settings.api_token_file, "api_token_file")
        arrivals = Arrivals(self._loop)
        # It is TensorFlow's, which a server of StableHLO goes without.
        self._profiler = _profiler_api() if settings.enable_profiler and not settings.prefer_stablehlo else None
        content_min_bytes = settings.tensor_content_min_bytes or math.inf
        self._grpc_api = GrpcApi(
            self._serving,
            arrivals,
            as_content=settings.enable_serialization_as_tensor_content,
            content_min_bytes=content_min_bytes,
            has_health_service=settings.enable_grpc_healthcheck_service,
            others=self._profiler.services() if self._profiler else {},
        )
        self._held = Held(default_limit_bytes())
        self._rest_server = RestServer(
            RestApi(
                self._serving,
                arrivals,
                timeout_s=settings.rest_api_timeout_s,
                has_cors=settings.rest_api_enable_cors_support,
                metrics_path=metrics_path,
                callers=self._callers,
                token=self._token,
                non_finite=cast(NonFinite, settings.json_non_finite),
                gzip_min_bytes=settings.rest_api_gzip_min_bytes,
                as_content=settings.enable_serialization_as_tensor_content,
                content_min_bytes=content_min_bytes,
            ),
            _http_limits(settings),
            self._held,
        )
        self._metrics.watch_connections("rest", lambda: len(self._rest_server.connections))
        token = _bearer_token(settings.admin_token_file, "admin_token_file")
        admin = AdminApi(self._serving, token=token, config_file=settings.model_config_file, metrics_path=metrics_path)
        self._admin_server = HttpServer(admin.handle, error_response)

    async def load(self) -> None:
        """
        Wait until every model has a version that serves.

        Raises:
            Unknown: All versions of a model have failed.
            FailedPrecondition: A label points to a version that is not available.
        """
        if self._admin_socket is not None:
            # Before anything is loaded: a model that keeps the server from starting can be put right or removed.
            await self._admin_server.start(self._admin_socket)
            host, port = self._settings.admin_bind_address, self._admin_socket.getsockname()[1]
            logger.info("Admin API at %s:%d ...", ports.host_in_target(host), port)
        memory.settle()
        await asyncio.wrap_future(
            self._configuration.start(self._config, with_what_is_there=self._settings.start_with_available_models)
        )
        self._config_file.start()
        self._manager.load_with(ThreadPoolExecutor(max(self._settings.num_load_threads, 1), thread_name_prefix="load"))

    async def open(self) -> None:
        """
        Open the ports, gRPC first, and say so.

        Raises:
            Unavailable: A port was taken in the meantime.
        """
        settings = self._settings
        if settings.grpc_socket_path:
            _remove_stale(settings.grpc_socket_path)
        grpc_port = await (self._open_grpcio() if settings.grpc_transport == "grpcio" else self._open_grpc())
        rest_port = None
        if grpc_port is not None:
            logger.info("Running gRPC ModelServer at %s:%d ...", ports.host_in_target(settings.bind_address), grpc_port)
        if settings.grpc_socket_path:
            logger.info("Running gRPC ModelServer at UNIX socket %s ...", settings.grpc_socket_path)
        if self._rest_socket is not None:
            rest_port = self._rest_socket.getsockname()[1]
            try:
                rest_tls = self._tls.context(["http/1.1"]) if self._tls and settings.rest_api_tls else None
                await self._rest_server.start(self._rest_socket, rest_tls)
            except OSError as error:
                raise ports.cannot_listen(settings.bind_address, rest_port, "rest_api_port", error) from error
            logger.info("Exporting HTTP/REST API at:localhost:%d ...", rest_port)
        if settings.ready_file:
            self._announcing = asyncio.ensure_future(self._announce(grpc_port, rest_port))

    async def drain(self) -> None:
        """Refuse what is new, answer what has begun, close; before that, for a while, only say that this is to come."""
        if self._settings.lame_duck_s:
            self._serving.leave_soon()
            logger.info("Not ready any more; requests are taken for another %g s", self._settings.lame_duck_s)
            await asyncio.sleep(self._settings.lame_duck_s)
        self._config_file.stop()
        self._configuration.stop()
        if self._admin_socket is not None:
            self._admin_server.stop()
        limit_s = self._settings.drain_timeout_s
        if not await asyncio.to_thread(self._serving.drain, limit_s):
            logger.warning("Not all requests were answered within %g s (--drain_timeout_s); ending anyway", limit_s)
        if self._rest_socket is not None:
            self._rest_server.stop()
        # Answers have been handed to the transports; a moment lets them go out.
        await asyncio.gather(self._grpc_server.stop(_FLUSH_S), self._rest_server.flush(_FLUSH_S))
        if self._profiler:
            await self._profiler.close()
        await asyncio.to_thread(self._observers.stop, _FLUSH_S)
        self._copies.remove()
        logger.info("All requests are answered; bye")

    # Details.

    def _grpc_services(self) -> Services:
        services = self._grpc_api.services()
        return services if self._token is None else guarded(services, self._token.check, {paths.HEALTH_SERVICE})

    async def _open_grpc(self) -> int | None:
        """Serve gRPC by our own transport; return the TCP port if there is one."""
        settings = self._settings
        places: list[str | socket.socket] = []
        if self._grpc_socket is not None:
            places.append(self._grpc_socket)
        if settings.grpc_socket_path:
            places.append(f"unix:{settings.grpc_socket_path}")
        try:
            server, grpc_ports = await http2.start_server(
                self._grpc_services(),
                places,
                _channel_arguments(settings.grpc_channel_arguments),
                self._callers,
                self._tls,
                settings.grpc_max_connections or None,
                self._held,
            )
        except OSError as error:
            raise ports.cannot_listen(settings.bind_address, settings.port, "port", error) from error
        self._grpc_server = server
        self._metrics.watch_connections("grpc", lambda: server.connections)
        return grpc_ports[0] if self._grpc_socket is not None else None

    async def _open_grpcio(self) -> int | None:
        """Serve gRPC by grpcio; return the TCP port if there is one."""
        settings = self._settings
        addresses = []
        if settings.port != 0:
            addresses.append(f"{ports.host_in_target(settings.bind_address)}:{ports.number(settings.port)}")
        if settings.grpc_socket_path:
            addresses.append(f"unix:{settings.grpc_socket_path}")
        try:
            self._grpc_server, grpc_ports = await grpcio_server.start_server(
                self._grpc_services(),
                addresses,
                _channel_arguments(settings.grpc_channel_arguments),
                self._callers,
                self._tls,
            )
        except RuntimeError as error:
            raise Unavailable(f"gRPC cannot listen on {', '.join(addresses)}: {error}") from error
        return grpc_ports[0] if settings.port != 0 else None

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition*, looked at after every change of a version's state, is true."""
        while True:
            change = self._change
            if condition():
                return
            await change.wait()

    def _wake(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _log_requests(self, snapshot: Snapshot) -> None:
        self._observers.log_requests(
            {name: model.request_log for name, model in snapshot.models.items() if model.request_log}
        )

    def _changed(self, model: str, status: VersionStatus) -> None:
        """Take note of a version's new state; on the thread that caused it."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._wake)
        self._metrics.version_moved(model, status.version, status.state, status.code.name, time.monotonic())
        if status.state == "END":
            self._loop.call_soon_threadsafe(self._give_back)

    def _give_back(self) -> None:
        """Return to the system what a version leaves behind; once for all that end while it is being done."""
        if self._giving_back is None or self._giving_back.done():
            self._giving_back = asyncio.ensure_future(asyncio.to_thread(memory.give_back))
        else:
            # What is being done may have missed the latest one.
            self._giving_back.add_done_callback(lambda _: self._give_back())

    async def _announce(self, grpc_port: int | None, rest_port: int | None) -> None:
        """Write the ready file once every version asked for is AVAILABLE or has failed."""
        await self._until(self._configuration.is_settled)
        about = {"grpc_port": grpc_port, "rest_port": rest_port, "pid": os.getpid()}
        if self._admin_socket is not None:
            about["admin_port"] = self._admin_socket.getsockname()[1]
        content = json.dumps(about)
        try:
            _write_whole(Path(self._settings.ready_file), content)
        except OSError as error:
            logger.error("--ready_file=%s: %s", self._settings.ready_file, error.strerror)  # noqa: TRY400  # says it all


def _model_server_config(settings: Settings) -> Any:
    if settings.model_config_file:
        return read_model_server_config(Path(settings.model_config_file))
    return single_model_config(settings.model_name, settings.model_base_path)


def _batching(settings: Settings) -> tuple[BatchingPolicy | None, bool]:
    """Read how requests are put together, None if not at all; and whether versions bring parameters of their own."""
    if settings.platform_config_file:
        bundle = read_platform_config(Path(settings.platform_config_file))
        if not bundle.HasField("batching_parameters"):
            return None, False
        policy, is_per_model = batching_policy(bundle.batching_parameters), bundle.enable_per_model_batching_params
        file = settings.platform_config_file
    elif not settings.enable_batching:
        if settings.enable_per_model_batching_parameters:
            logger.warning("--enable_per_model_batching_parameters has no effect without --enable_batching")
        return None, False
    else:
        # Source of the name: tensorflow_serving/model_servers/server.cc.
        policy = BatchingPolicy(thread_pool_name="model_server_batch_threads")
        file = settings.batching_parameters_file
        if file:
            policy = read_batching_policy(Path(file))
        is_per_model = settings.enable_per_model_batching_parameters
    for doubt in () if is_per_model else doubts_about(policy):
        logger.warning("%s: %s", file, doubt)
    return policy, is_per_model


def _told_settings(
    settings: Settings, load_options: LoadOptions, policy: BatchingPolicy | None, *, is_per_model: bool
) -> dict[str, str]:
    """
    Give what decides how fast requests are answered, as it is in force; names as in flags and batching parameters.

    Of `thread_plan` it is what is asked for: `slipway_thread_plan` tells what each version got.
    """
    flags = ("grpc_max_threads", "max_enqueued_requests", "tensorflow_session_parallelism", "thread_plan")
    told = {name: str(getattr(settings, name)) for name in flags}
    if settings.platform_config_file:
        told["tensorflow_session_parallelism"] = "0"  # as without the flag, whose place the file takes
    config: Any = messages.ConfigProto.FromString(load_options.session_config)
    told["tensorflow_intra_op_parallelism"] = str(config.intra_op_parallelism_threads)
    told["tensorflow_inter_op_parallelism"] = str(config.inter_op_parallelism_threads)
    told["prefer_stablehlo"] = str(settings.prefer_stablehlo).lower()
    if policy is None:
        return told | {"batching": "off"}
    if is_per_model:
        return told | {"batching": "per model", "batching.num_batch_threads": str(policy.num_batch_threads)}
    return told | {
        "batching": "on",
        "batching.max_batch_size": str(policy.max_batch_size),
        "batching.batch_timeout_micros": str(round(policy.batch_timeout_s * 1e6)),
        "batching.max_enqueued_batches": str(policy.max_enqueued_batches),
        "batching.num_batch_threads": str(policy.num_batch_threads),
        "batching.allowed_batch_sizes": ",".join(map(str, policy.allowed_batch_sizes)),
    }


def _scheduler(settings: Settings, policy: BatchingPolicy | None, metrics: Metrics, soon: Soon) -> Scheduler:
    """Make the scheduler, on the thread that will take requests in."""
    # Who waits for a GPU needs no CPU meanwhile.
    count_cpus = (lambda: math.inf) if cpus.has_gpu() else cpus.count
    taking_in_s = cpus.time_of_this_thread()
    direct = DirectScheduler(
        settings.grpc_max_threads, metrics, settings.max_enqueued_requests, count_cpus, soon, taking_in_s
    )
    if policy is None:
        return direct
    batched = BatchScheduler(policy, metrics, count_cpus, soon, taking_in_s)
    batched.start()
    return PerModelScheduler(batched, direct)


def _preparation(policy_of: PolicyOf) -> Callable[[Path], warmup.Prepare]:
    """Say what the batcher makes of one request of the version in a directory."""

    def of(directory: Path) -> warmup.Prepare:
        policy = policy_of(directory)
        return warmup.as_it_is if policy is None else functools.partial(batches_like, policy=policy)

    return of


def _measured_sizes(policy_of: PolicyOf) -> Callable[[Path], planned.Sizes]:
    """Say with which runs the thread plan of the version in a directory is measured."""

    def of(directory: Path) -> planned.Sizes:
        policy = policy_of(directory)
        return planned.same_twice if policy is None else functools.partial(smallest_and_largest, policy=policy)

    return of


def _profiler_api() -> ProfilerApi:
    from slipway_server.backends import profiler  # noqa: PLC0415  # as above

    return ProfilerApi(profiler.start, profiler.mark)


def _later(delay_s: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(delay_s, action)
    timer.daemon = True
    timer.start()


def _channel_arguments(text: str) -> dict[str, int | str]:
    """Read `key=value,key=value`; what is an int32 is passed as one."""
    arguments: dict[str, int | str] = {}
    for pair in filter(None, text.split(",")):
        key, _, value = pair.partition("=")
        arguments[key] = value
        with contextlib.suppress(ValueError):
            if -(2**31) <= int(value) < 2**31:
                arguments[key] = int(value)
    return arguments


def _remove_stale(path: str) -> None:
    """
    Remove what an earlier server left at *path*: a socket nobody listens on, a file that says it is ready.

    Raises:
        InvalidArgument: It cannot be removed, so it could not be written either.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise InvalidArgument(f"{path}: cannot be replaced: {error.strerror}") from error


def _write_whole(path: Path, content: str) -> None:
    """Write *path* so that a reader sees all of it or nothing."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(content)
    partial.replace(path)


def _bearer_token(path: str, flag: str) -> BearerToken | None:
    return BearerToken(Path(path), flag) if path else None


def _reserve_admin_port(settings: Settings) -> socket.socket | None:
    if settings.admin_port == 0:
        return None
    return ports.bind(settings.admin_bind_address, settings.admin_port, flag="admin_port")


def _reserve_ports(settings: Settings) -> tuple[socket.socket | None, socket.socket | None]:
    """
    Find out before the models are loaded whether the ports are free, and keep those for gRPC and REST.

    Raises:
        Unavailable: A port is taken, or the address is not this machine's.
    """
    grpc_socket = rest_socket = None
    if settings.grpc_transport == "grpcio":
        if settings.port not in {0, "auto"}:
            # grpcio binds by itself; all that can be done for it is to look.
            ports.bind(settings.bind_address, settings.port, flag="port").close()
    elif settings.port != 0:
        grpc_socket = ports.bind(settings.bind_address, settings.port, flag="port", dual_stack=True)
    if settings.rest_api_port == settings.port not in {0, "auto"}:
        logger.error("--rest_api_port is the same as --port (%s); REST is not served", settings.port)
    elif settings.rest_api_port != 0:
        rest_socket = ports.bind(settings.bind_address, settings.rest_api_port, flag="rest_api_port", dual_stack=True)
    return grpc_socket, rest_socket


def _http_limits(settings: Settings) -> Limits:
    limits = Limits(idle_s=settings.rest_api_idle_timeout_s if settings.rest_api_idle_timeout_s > 0 else math.inf)
    if settings.rest_api_max_connections > 0:
        limits = dataclasses.replace(limits, connections=settings.rest_api_max_connections)
    return limits

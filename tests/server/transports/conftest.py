"""Both transports of gRPC: what holds for one must hold for the other. And both front doors without sockets, turn by turn."""

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

import hpack
import numpy as np
import pytest

from slipway_server.batching.scheduler import BatchScheduler
from slipway_server.callers import Callers
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_server.transports import grpcio_server, rpc
from slipway_server.transports.grpc_api import GrpcApi
from slipway_server.transports.held import Held
from slipway_server.transports.http import Connections, HttpConnection
from slipway_server.transports.http2 import frames
from slipway_server.transports.http2 import server as http2
from slipway_server.transports.http2.calls import Calls, Deadlines, Site
from slipway_server.transports.http2.grpc_heads import routes_of
from slipway_server.transports.http2.limits import Limits
from slipway_server.transports.rest_api import RestApi, error_response
from slipway_server.transports.waiting import Arrivals
from slipway_wire import paths, predict

WAIT_S = 90.0


@pytest.fixture(params=[http2.start_server, grpcio_server.start_server], ids=["slipway", "grpcio"])
def start_grpc(request):
    """`start_grpc(services, addresses, options, callers, tls)` starts a server of each kind in turn."""
    return request.param


@dataclass(frozen=True)
class Told:
    """What a client is told."""

    status: int
    """Of HTTP, or of gRPC."""
    values: list | dict | None
    """The outputs: over gRPC by name; over REST as they stand in the answer."""
    message: str
    fields: dict
    """Headers or trailers, with lower-case names."""
    body: bytes = b""

    @property
    def is_ok(self):
        return self.status in {0, 200}

    @property
    def outcome(self):
        """All that does not depend on when it was asked."""
        return self.status, self.message, self.body


class RestLine(asyncio.Transport):
    """A connection of HTTP/1.1 in memory, for one request."""

    def __init__(self, house):
        super().__init__()
        self.house = house
        self.sent, self.is_shut = b"", False
        self.connection = HttpConnection(house.rest_api.handle, error_response, house.connections)
        self.connection.connection_made(self)

    def ask(self, target, body, headers=()):
        lines = [b"POST %b HTTP/1.1" % target.encode(), b"Host: x", b"Content-Length: %d" % len(body), *headers]
        self.connection.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def leave(self):
        if not self.is_shut:
            self.is_shut = True
            self.connection.connection_lost(None)

    def forget(self):
        """Break the circles of this client."""
        self.leave()
        del self.connection._transport, self.connection._parser, self.connection

    @property
    def told(self):
        if not self.sent:
            return None
        head, _, body = self.sent.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(body) == int(fields["content-length"])
        said = json.loads(body) if fields.get("content-encoding") != "gzip" and body[:1] == b"{" else {}
        values = said.get("predictions", said.get("outputs"))
        return Told(int(first.split()[1]), values, said.get("error", ""), fields, body)

    # What the server's side of it calls.

    def write(self, data):
        self.sent += data
        self.house.news.set()

    def is_closing(self):
        return self.is_shut

    def close(self):
        asyncio.get_running_loop().call_soon(self.leave)

    abort = close

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def get_write_buffer_size(self):
        return 0

    def get_extra_info(self, name, default=None):
        return default


class GrpcLine:
    """A call over a connection of HTTP/2 in memory, which it shares with the others of its house."""

    def __init__(self, house):
        self.house = house
        house.last_stream += 2
        self.stream = house.last_stream

    def ask(self, target, body, headers=()):
        self.is_predict = target == paths.GRPC_PREDICT
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", target.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *[tuple(header.split(b": ")) for header in headers],
        ]
        block, message = self.house.encoder.encode(fields), b"\0" + len(body).to_bytes(4, "big") + body
        self.house.say(
            frames.frame(frames.HEADERS, frames.END_HEADERS, self.stream, block)
            + frames.frame(frames.DATA, frames.END_STREAM, self.stream, message)
        )

    def leave(self):
        self.house.say(frames.frame(frames.RST_STREAM, 0, self.stream, (8).to_bytes(4, "big")))

    def forget(self):
        """There are none."""

    @property
    def told(self):
        self.house.listen()
        fields = self.house.fields.get(self.stream, {})
        if "grpc-status" not in fields:
            return None
        body = self.house.data.get(self.stream, b"")[5:]
        values = (
            {k: v.tolist() for k, v in predict.decode_response(body)[1].items()} if self.is_predict and body else None
        )
        return Told(int(fields["grpc-status"]), values, unquote(fields.get("grpc-message", "")), fields, body)


class House:
    """
    A server without sockets, on the running loop: what is asked between two awaits comes in one turn of it.

    Attributes:
        works: Requests in each work that the scheduler was given; 0 for one that came alone.
    """

    def __init__(self, fakes, servables, *, policy=None, scheduler_of=None, check=None, make_ids=False, **options):
        loop = asyncio.get_running_loop()
        self.fakes, self.servables, self.metrics = fakes, servables, Metrics()
        policy = policy or BatchingPolicy(num_batch_threads=1)
        self.scheduler = scheduler_of(policy, self.metrics) if scheduler_of else BatchScheduler(policy, self.metrics)
        if scheduler_of is None:
            self.scheduler.start()
        self.works = []
        submit = self.scheduler.submit

        def noting(work):
            self.works.append(len(work.sizes or ()))
            return submit(work)

        self.scheduler.submit = noting
        self.serving, self.manager = fakes.make_serving(servables, scheduler=self.scheduler, metrics=self.metrics)
        callers = Callers(makes_ids=make_ids)
        self.grpc_api = GrpcApi(self.serving, Arrivals(loop), as_content=False)
        self.rest_api = RestApi(
            self.serving,
            Arrivals(loop),
            **{"timeout_s": float("inf"), "has_cors": False, "metrics_path": None, "callers": callers, **options},
        )
        self.connections = self.rest_api.connections = Connections()
        self.connections.gatherer = self.rest_api
        services = self.grpc_api.services()
        if check is not None:
            services = rpc.guarded(services, check, ())
        self.deadlines = Deadlines(loop)
        site = Site(loop, routes_of(services), Limits(), Held(2**30), self.deadlines, callers)
        # Not in the turn in which it is told so: a real server writes later, too.
        self.calls = Calls(site, "unix:", lambda: loop.call_soon(self.news.set))
        self.news, self.lines = asyncio.Event(), []
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.last_stream, self.fields, self.data, self._rest = -1, {}, {}, b""
        self.say(frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**30}))
        self.say(frames.frame(frames.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")))

    # As a client.

    def ask(self, protocol, values, *, model="m", version=None, signature="", name="x", headers=(), columns=False):
        """Ask to predict: *values* for the input *name*; None for its name as REST needs none. Give the line to the answer."""
        if protocol == "grpc":
            body = predict.encode_request(model, {name: np.float32(values)}, version=version, signature_name=signature)
            return self.send(protocol, body, headers=headers)
        said = {"inputs" if columns else "instances": values, "signature_name": signature}
        return self.send(protocol, json.dumps(said).encode(), model=model, version=version, headers=headers)

    def send(self, protocol, body, *, model="m", version=None, headers=(), target=None):
        """Send any *body* to Predict, or to *target*."""
        line = (GrpcLine if protocol == "grpc" else RestLine)(self)
        self.lines.append(line)
        version = "" if version is None else f"/versions/{version}"
        predict_target = paths.GRPC_PREDICT if protocol == "grpc" else f"/v1/models/{model}{version}:predict"
        line.ask(target or predict_target, body, headers)
        return line

    async def told(self, *lines):
        """Wait for the answers."""
        async with asyncio.timeout(WAIT_S):
            while any(line.told is None for line in lines):
                self.news.clear()
                if any(line.told is None for line in lines):
                    await self.news.wait()
        answers = [line.told for line in lines]
        return answers if len(answers) > 1 else answers[0]

    async def turn(self):
        """Let go on what has come in this turn: it may wait for some more, in vain."""
        for _ in range(10):
            await asyncio.sleep(0)

    def say(self, data):
        self.calls.connection.receive(data, asyncio.get_running_loop().time())

    def listen(self):
        data = self._rest + b"".join(self.calls.connection.take(2**30))
        while len(data) >= 9 and len(data) >= 9 + (length := int.from_bytes(data[:3], "big")):
            kind, stream, payload = data[3], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]
            data = data[9 + length :]
            if kind == frames.HEADERS:
                fields = self.decoder.decode(payload, raw=True)
                self.fields.setdefault(stream, {}).update({bytes(n).decode(): bytes(v).decode() for n, v in fields})
            elif kind == frames.DATA:
                self.data[stream] = self.data.get(stream, b"") + payload
        self._rest = data

    # As who runs it.

    def occupy(self, servable, protocol="rest"):
        """Let the only thread run a request of one row until the gate of *servable* is opened; give its line."""
        self.hold(servable)
        return self.ask(protocol, [0.0])

    def hold(self, servable):
        """Let what *servable* is to run next wait until its gate is opened; `has_begun` waits for that, not for a run of before."""
        servable.gate.clear()
        while servable.started.acquire(blocking=False):
            pass

    async def has_begun(self, servable):
        """Wait until *servable* runs."""
        await self.turn()
        assert await asyncio.to_thread(partial(servable.started.acquire, timeout=WAIT_S))

    def count(self, status, **labels):
        """Requests answered with *status*."""
        return self.metrics.sum_of(self.metrics.requests, status=status, **labels)

    async def close(self):
        for servable in self.servables.values():
            servable.gate.set()
        for line in self.lines:
            if isinstance(line, RestLine):
                line.leave()
        self.calls.connection.lost()
        await self.turn()
        await asyncio.to_thread(self.scheduler.stop)
        await self.turn()
        self.grpc_api._codec_threads.shutdown()
        self.rest_api._codec_threads.shutdown()

    def check_books(self):
        """Nothing is in flight, nothing is held, nothing is lent."""
        assert self.metrics.sum_of(self.metrics.in_flight) == 0
        assert self.connections.held.now == 0
        for model in {model for model, _ in self.servables}:
            self.manager.aspire(model, {})
            assert {status.state for status in self.manager.statuses(model)} == {"END"}
        assert all(servable.is_closed for servable in self.servables.values())


@pytest.fixture
def play(fakes):
    """
    `play(scene, …)` plays a coroutine function that gets a House, and looks at its books afterwards.

    The house serves `{("m", 1): HalfPlusTwo()}` unless told otherwise.
    """

    def run(scene, servables=None, **options):
        async def main():
            house = House(fakes, servables or {("m", 1): fakes.HalfPlusTwo()}, **options)
            house.half = next(iter(house.servables.values()))
            try:
                result = await scene(house)
            finally:
                await house.close()
            house.check_books()
            return result

        return asyncio.run(main())

    return run


@pytest.fixture(params=["rest", "grpc"])
def protocol(request):
    """Each of the front doors in turn."""
    return request.param

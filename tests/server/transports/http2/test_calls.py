"""Calls against a connection in memory: what a gRPC client cannot be made to do."""

import asyncio
import gzip
import math
import struct
import threading

import hpack
import pytest

from slipway_server.callers import Callers
from slipway_server.transports.held import Held
from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.calls import Calls, Complaints, Deadlines, Site
from slipway_server.transports.http2.frames import ConnectionFault, ErrorCode
from slipway_server.transports.http2.grpc_heads import routes_of
from slipway_server.transports.http2.grpc_messages import Inflater
from slipway_server.transports.http2.limits import Limits
from slipway_server.transports.rpc import Bidirectional, ServerStreaming, Unary
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import DataLoss

from .conftest import REQUEST, read_frames

WAIT_S = 90.0
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def framed(message, flag=0):
    return struct.pack(">BL", flag, len(message)) + message


class Leaving:
    """A call's place among others."""

    def __init__(self, service, body):
        self.service, self.body = service, body

    def cancel(self):
        self.service.left.append(self.body)


class Service:
    """One method of each kind, and what became of their calls."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.cancelled = []
        self.incoming = None
        self.joined, self.left = {}, []

    def take(self, body, incoming, call):
        """Be where calls go together: of all but those that say `alone`."""
        if body == b"alone":
            return None
        self.joined[body] = call
        return Leaving(self, body)

    async def echo(self, body, incoming):
        self.incoming = incoming
        return body

    async def wait(self, body, incoming):
        self.incoming = incoming
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(body)
            raise
        return body

    async def nap(self, body, incoming):
        await asyncio.sleep(0)
        return body

    async def count(self, body, incoming):
        for _ in range(int(body)):
            yield b"x" * 1000

    async def talk(self, messages, incoming):
        async for message in messages:
            yield message

    async def answer_one(self, messages, incoming):
        yield await anext(messages)

    async def fail_on_the_second(self, messages, incoming):
        yield await anext(messages)
        raise DataLoss("after the first")

    def services(self):
        return {
            "t.S": {
                "Echo": Unary(self.echo, is_stepwise=True),
                "Wait": Unary(self.wait, is_stepwise=True),
                "WaitInTask": Unary(self.wait),
                "Together": Unary(self.wait, is_stepwise=True, together=self),
                "Probe": Unary(self.echo, is_stepwise=True, is_probe=True),
                "Nap": Unary(self.nap, is_stepwise=True),
                "Count": ServerStreaming(self.count),
                "Talk": Bidirectional(self.talk),
                "AnswerOne": Bidirectional(self.answer_one),
                "FailOnTheSecond": Bidirectional(self.fail_on_the_second),
            }
        }


class Talk:
    """A client and the calls it makes, on the running loop."""

    def __init__(self, *, callers=None, held=2**30, **limits):
        loop = asyncio.get_running_loop()
        self.service = Service()
        self.held = Held(held)
        self.deadlines = Deadlines(loop)
        site = Site(
            loop,
            routes_of(self.service.services()),
            Limits(**limits),
            self.held,
            self.deadlines,
            callers or Callers(),
        )
        self.woken = 0
        self.site = site
        self.calls = Calls(site, "unix:", self._wake)
        self.connection = self.calls.connection
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.got, self._rest, self.told = [], b"", {}
        self.send(frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**20}))
        self.take()

    def _wake(self):
        self.woken += 1

    def send(self, data):
        self.connection.receive(data, asyncio.get_running_loop().time())

    def head(self, stream, method="Echo", *fields, flags=frames.END_HEADERS):
        request = [(name, b"/t.S/" + method.encode() if name == b":path" else value) for name, value in REQUEST]
        self.send(frames.frame(frames.HEADERS, flags, stream, self.encoder.encode([*request, *fields])))

    def data(self, stream, data, *, ends=True):
        self.send(frames.frame(frames.DATA, ends, stream, data))

    def take(self):
        found, self._rest = read_frames(self._rest + b"".join(self.connection.take(2**30)))
        for frame in found:
            if frame.kind == frames.HEADERS:
                fields = {bytes(n): bytes(v) for n, v in self.decoder.decode(frame.payload, raw=True)}
                self.told.setdefault(frame.stream, {}).update(fields)
        self.got += found
        return found

    def status(self, stream):
        """Give the grpc-status of a stream's answer; None while there is none."""
        self.take()
        status = self.told.get(stream, {}).get(b"grpc-status")
        return None if status is None else int(status)

    def body(self, stream):
        self.take()
        return b"".join(f.payload for f in self.got if f.kind == frames.DATA and f.stream == stream)

    def resets(self):
        self.take()
        return {f.stream: ErrorCode(f.number) for f in self.got if f.kind == frames.RST_STREAM}


async def until(condition):
    for _ in range(150_000):
        if condition():
            return
        await asyncio.sleep(0.0005)
    raise AssertionError("it never came to be")


@pytest.fixture
def run():
    """`run(scene)` plays a coroutine function that gets a Talk, with the limits that it was given."""

    def play(scene, **options):
        async def main():
            talk = Talk(**options)
            try:
                await scene(talk)
            finally:
                talk.connection.lost()
                await asyncio.sleep(0)

        asyncio.run(main())

    return play


def test_a_call_that_needs_no_waiting_is_answered_at_once(run):
    async def scene(talk):
        talk.head(1)
        talk.data(1, framed(b"body"))
        assert talk.woken
        assert (talk.status(1), talk.body(1)) == (0, framed(b"body"))
        assert talk.told[1][b"content-type"] == b"application/grpc"
        assert b"grpc-encoding" not in talk.told[1], "nothing is compressed by default"

    run(scene)


def test_a_handler_that_only_lets_others_go_first_goes_on(run):
    async def scene(talk):
        talk.head(1, "Nap")
        talk.data(1, framed(b"body"))
        await until(lambda: talk.status(1) == 0)

    run(scene)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([b""], 12),
        ([framed(b"a") + framed(b"b")], 12),
        ([framed(b"a"), framed(b"b")], 12),
        ([framed(b"a") + b"\0"], 12),
        ([framed(b"abc")[:-1]], 13),
        ([b"\0\0"], 13),
        ([framed(b"a", flag=1)], 13),
        ([framed(b"a", flag=9)], 13),
        ([framed(b"a")[:3], framed(b"a")[3:]], 0),
        ([framed(b"a"), b""], 0),
        ([b"", framed(b"")], 0),
    ],
    ids=[
        "none",
        "two at once",
        "two",
        "more behind",
        "cut off",
        "only a prefix",
        "no encoding",
        "flag 9",
        "split",
        "empty end",
        "empty",
    ],
)
def test_a_unary_call_takes_exactly_one_message(run, parts, status):
    async def scene(talk):
        talk.head(1)
        for number, part in enumerate(parts, 1):
            talk.data(1, part, ends=number == len(parts))
        assert talk.status(1) == status
        assert talk.held.now == 0
        talk.head(3)
        talk.data(3, framed(b"goes on"))
        assert talk.body(3) == framed(b"goes on")

    run(scene)


@pytest.mark.parametrize("size", [10, 4_000])
def test_compressed_messages_are_taken(run, size):
    async def scene(talk):
        packed = gzip.compress(bytes(range(250)) * size, compresslevel=0)
        talk.head(1, "Echo", (b"grpc-encoding", b"gzip"))
        talk.data(1, framed(packed, flag=1)[:9], ends=False)
        message = framed(packed, flag=1)[9:]
        for at in range(0, len(message), 2**20):
            talk.data(1, message[at : at + 2**20], ends=at + 2**20 >= len(message))
        talk.send(frames.window_update(0, 2**30) + frames.window_update(1, 2**30))
        await until(lambda: talk.status(1) == 0)
        assert talk.body(1) == framed(bytes(range(250)) * size)
        assert talk.held.now == 0

    run(scene)


@pytest.mark.parametrize("padding", [b"", bytes(range(256)) * 100], ids=["small", "large"])
def test_a_bomb_is_told_and_harms_nobody(run, padding):
    async def scene(talk):
        packed = gzip.compress(bytes(3_000_000)) if not padding else gzip.compress(bytes(3_000_000), compresslevel=0)
        talk.head(1, "Echo", (b"grpc-encoding", b"gzip"))
        for at in range(0, len(framed(packed)), 2**20):
            part = framed(packed, flag=1)[at : at + 2**20]
            talk.data(1, part, ends=at + 2**20 >= len(packed) + 5)
        await until(lambda: talk.status(1) == 8)
        assert b"after decompression" in talk.told[1][b"grpc-message"]

    run(scene, max_decompressed_bytes=1_000_000)


def send_zipped(talk, stream, plain, method="Wait"):
    """Send a call with *plain* compressed; give the length of what was sent."""
    message = framed(gzip.compress(plain, 1), flag=1)
    talk.head(stream, method, (b"grpc-encoding", b"gzip"))
    talk.data(stream, message)
    return len(message)


@pytest.mark.parametrize("size", [100_000, 5_000_000], ids=["at once", "in steps"])
def test_what_a_compressed_message_becomes_counts_until_it_is_answered(run, size):
    async def scene(talk):
        sent = send_zipped(talk, 1, bytes(size))
        await until(lambda: talk.service.incoming is not None)
        assert talk.held.now == sent + size
        talk.service.gate.set()
        talk.send(frames.window_update(0, 2**24) + frames.window_update(1, 2**24))
        await until(lambda: talk.status(1) == 0)
        assert talk.body(1) == framed(bytes(size))
        assert talk.held.now == 0

    run(scene)


def test_compressed_messages_that_together_become_too_much_are_refused(run):
    """Each is within its own limit, and its length as sent tells nothing."""

    async def scene(talk):
        sent = send_zipped(talk, 1, bytes(5_000_000))
        await until(lambda: talk.service.incoming is not None)
        send_zipped(talk, 3, bytes(5_000_000))
        await until(lambda: talk.status(3) == 8)
        assert b"calls that have not ended" in talk.told[3][b"grpc-message"]
        assert talk.held.now == sent + 5_000_000
        talk.send(frames.rst_stream(1, ErrorCode.CANCEL))
        await until(lambda: talk.held.now == 0)

    run(scene, held=10_000_000)


@pytest.fixture
def stuck_inflater(monkeypatch):
    """Steps that are made on other threads wait for the gate; `begun` counts those that have begun."""

    class Stuck:
        gate = threading.Event()
        begun = threading.Semaphore(0)

    step = Inflater.step

    def wait_and_step(inflater, most):
        if threading.current_thread().name.startswith("inflate"):
            Stuck.begun.release()
            assert Stuck.gate.wait(WAIT_S)
        return step(inflater, most)

    monkeypatch.setattr(Inflater, "step", wait_and_step)
    yield Stuck
    Stuck.gate.set()


@pytest.mark.parametrize("method", ["Wait", "Talk"])
def test_a_reset_ends_the_inflating_and_what_it_takes_counts_until_then(run, stuck_inflater, method):
    async def scene(talk):
        for stream in (1, 3, 5):
            send_zipped(talk, stream, bytes(5_000_000), method)
        for _ in range(2):
            await asyncio.to_thread(stuck_inflater.begun.acquire, timeout=WAIT_S)
        await until(lambda: talk.held.now > 3 * 2**22)
        before = talk.held.now
        # Waits for a thread.
        talk.send(frames.rst_stream(5, ErrorCode.CANCEL))
        await until(lambda: talk.held.now < before - 2**22)
        # Have one.
        talk.send(frames.rst_stream(1, ErrorCode.CANCEL) + frames.rst_stream(3, ErrorCode.CANCEL))
        for _ in range(5):
            await asyncio.sleep(0)
        assert talk.held.now > 2 * 2**22
        stuck_inflater.gate.set()
        await until(lambda: talk.held.now == 0)
        await asyncio.to_thread(talk.site.inflating.shutdown)
        assert not stuck_inflater.begun.acquire(blocking=False), "a call that was given up was inflated"
        assert talk.service.incoming is None

    run(scene)


def test_a_deadline_holds_while_a_message_is_inflated(run, stuck_inflater):
    async def scene(talk):
        talk.head(1, "Wait", (b"grpc-encoding", b"gzip"), (b"grpc-timeout", b"30m"))
        talk.data(1, framed(gzip.compress(bytes(5_000_000), 1), flag=1))
        await until(lambda: talk.status(1) == 4)
        stuck_inflater.gate.set()
        await until(lambda: talk.held.now == 0)
        assert talk.service.incoming is None

    run(scene)


def test_compressed_messages_of_a_stream_are_taken(run):
    sizes = [10, 0, 300_000, 20]

    async def scene(talk):
        talk.send(frames.window_update(0, 2**24))
        talk.head(1, "Talk", (b"grpc-encoding", b"gzip"))
        messages = [framed(gzip.compress(bytes(size)), flag=1) for size in sizes]
        talk.data(1, b"".join(messages))
        await until(lambda: talk.status(1) == 0)
        assert talk.body(1) == b"".join([framed(bytes(size)) for size in sizes])
        assert talk.held.now == 0

    run(scene)


def test_messages_of_a_stream_count_for_more_than_their_bytes(run):
    """An empty one is five bytes on the wire, and an object or two here."""

    async def scene(talk):
        talk.head(1, "Talk")
        talk.data(1, framed(b"") * 50, ends=False)
        assert talk.held.now > 50 * 64
        await until(lambda: talk.held.now == 0)
        talk.data(1, framed(b"") * 200)
        await until(lambda: talk.status(1) == 8)
        await until(lambda: talk.held.now == 0)

    run(scene, held=10_000)


@pytest.mark.parametrize(("method", "status"), [("AnswerOne", 0), ("FailOnTheSecond", 15)])
@pytest.mark.parametrize(
    "parts",
    [[framed(b"more")], [framed(b"more"), b""], [b"\0", framed(b"more")[1:]], [framed(b"more"), framed(b"more"), None]],
    ids=["whole", "whole, then the end", "in parts", "without an end"],
)
def test_what_comes_for_a_stream_that_is_over_but_for_its_answers_is_passed_over(run, method, status, parts):
    async def scene(talk):
        talk.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0}))
        talk.head(1, method)
        talk.data(1, framed(b"first"), ends=False)
        await until(lambda: talk.connection.streams[1].trailers is not None)
        for part in parts:
            if part is not None:
                talk.data(1, part, ends=part is parts[-1])
        talk.head(3)
        talk.data(3, framed(b"other"))
        talk.send(frames.window_update(3, 1000))
        assert talk.body(3) == framed(b"other")
        talk.send(frames.window_update(1, 1000))
        assert (talk.status(1), talk.body(1)) == (status, framed(b"first"))
        assert talk.resets() == ({} if parts[-1] is not None else {1: ErrorCode.NO_ERROR})
        assert talk.held.now == 0

    run(scene)


def test_a_message_longer_than_the_window_is_let_in_as_soon_as_its_length_is_known(run):
    async def scene(talk):
        talk.head(1)
        talk.data(1, framed(bytes(50_000))[:1000], ends=False)
        granted = sum(f.number for f in talk.take() if f.kind == frames.WINDOW_UPDATE and f.stream == 1)
        assert granted == 5 + 50_000 - 4096
        talk.data(1, framed(bytes(50_000))[1000:])
        talk.send(frames.window_update(0, 10**6))
        assert talk.status(1) == 0

    run(scene, initial_window_bytes=4096)


def test_what_all_clients_hold_together_is_bounded(run):
    async def scene(talk):
        for stream in (1, 3):
            talk.head(stream)
            talk.data(stream, framed(bytes(990))[:600], ends=False)
        assert talk.status(3) == 8
        assert talk.resets() == {3: ErrorCode.NO_ERROR}
        assert talk.held.now == 600
        talk.send(frames.rst_stream(1, ErrorCode.CANCEL))
        assert talk.held.now == 0

    run(scene, held=1000)


@pytest.mark.parametrize("method", ["Wait", "WaitInTask"])
def test_a_reset_cancels_the_call(run, method):
    async def scene(talk):
        talk.head(1, method)
        talk.data(1, framed(b"given up"))
        await asyncio.sleep(0)
        talk.send(frames.rst_stream(1, ErrorCode.CANCEL))
        await until(lambda: talk.service.cancelled == [b"given up"])
        assert not [f for f in talk.take() if f.stream == 1]

    run(scene)


@pytest.mark.parametrize("method", ["Wait", "WaitInTask"])
def test_a_deadline_ends_the_call_and_cancels_it(run, method):
    async def scene(talk):
        talk.head(1, method, (b"grpc-timeout", b"30m"))
        talk.data(1, framed(b"late"))
        assert talk.service.incoming is None or talk.service.incoming.timeout_s == pytest.approx(0.03)
        await until(lambda: talk.status(1) == 4)
        assert talk.told[1][b"grpc-message"] == b"Deadline Exceeded"
        await until(lambda: talk.service.cancelled == [b"late"])

    run(scene)


def test_answers_that_are_not_taken_count_until_they_are(run):
    async def scene(talk):
        talk.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 10}))
        for stream in (1, 3):
            talk.head(stream)
            talk.data(stream, framed(bytes(600)))
        talk.take()
        assert talk.held.now == 1200
        talk.head(5)
        assert talk.status(5) == 8
        talk.send(frames.window_update(1, 10_000))
        assert talk.status(1) == 0
        assert talk.held.now == 600
        talk.send(frames.rst_stream(3, ErrorCode.CANCEL))
        assert talk.held.now == 0
        assert talk.connection.streams == {}

    run(scene, held=1000)


def test_probes_are_answered_though_the_server_holds_too_much(run):
    """Who asks whether it is well would have it killed, and all calls with it."""

    async def scene(talk):
        talk.held.now = 1001
        for stream, method in ((1, "Probe"), (3, "Echo")):
            talk.head(stream, method)
            talk.data(stream, framed(b""))
        assert (talk.status(1), talk.status(3)) == (0, 8)

    run(scene, held=1000)


def test_a_deadline_counts_from_the_head_on(run):
    async def scene(talk):
        talk.head(1, "Echo", (b"grpc-timeout", b"20S"))
        talk.data(1, framed(b"ab")[:3], ends=False)
        await asyncio.sleep(0.02)
        talk.data(1, framed(b"ab")[3:])
        assert talk.status(1) == 0
        assert 10 < talk.service.incoming.timeout_s <= 19.98
        talk.head(3, "Echo", (b"grpc-timeout", b"10m"))
        await until(lambda: talk.status(3) == 4)
        assert talk.resets() == {3: ErrorCode.NO_ERROR}

    run(scene)


def test_deadlines_of_calls_that_were_answered_do_not_pile_up(run):
    async def scene(talk):
        for number in range(10_000):
            talk.head(2 * number + 1, "Echo", (b"grpc-timeout", b"1H"))
            talk.data(2 * number + 1, framed(b""))
            talk.take()
        assert len(talk.deadlines) <= 4097

    run(scene)


def test_an_endless_timeout_sets_no_timer(run):
    async def scene(talk):
        talk.head(1)
        talk.data(1, framed(b""))
        assert talk.service.incoming.timeout_s == math.inf
        assert len(talk.deadlines) == 0

    run(scene)


def test_answers_over_the_limit_are_told(run):
    async def scene(talk):
        talk.head(1)
        talk.data(1, framed(bytes(101)))
        assert talk.status(1) == 8
        assert talk.told[1][b"grpc-message"] == b"SERVER: Sent message larger than max (101 vs. 100)"

    run(scene, max_sent_message_bytes=100)


def test_a_stream_that_is_not_read_makes_its_handler_wait(run):
    async def scene(talk):
        talk.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0}))
        talk.head(1, "Count")
        talk.data(1, framed(b"100000"))
        stream = talk.connection.streams[1]
        await until(lambda: stream.queued > 64 * 1024)
        await asyncio.sleep(0)
        assert stream.queued < 70 * 1024
        talk.send(frames.window_update(1, 30_000) + frames.window_update(0, 2**20))
        await until(lambda: talk.take() and len(talk.body(1)) == 30_000)
        talk.send(frames.rst_stream(1, ErrorCode.CANCEL))

    run(scene)


def test_messages_of_a_stream_are_given_back_to_the_window_as_they_are_used(run):
    async def scene(talk):
        talk.send(frames.window_update(0, 2**30))
        talk.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**30}))
        talk.head(1, "Talk")
        for _ in range(20):
            talk.data(1, framed(bytes(3000)), ends=False)
            await until(lambda: talk.held.now == 0)
        assert talk.resets() == {}
        talk.data(1, b"")
        await until(lambda: talk.status(1) == 0)
        assert talk.body(1) == framed(bytes(3000)) * 20

    run(scene, initial_window_bytes=4096)


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 12), (framed(b"1") * 2, 12), (framed(b"no number"), 13), (framed(b"2")[:4], 13)]
)
def test_a_stream_of_answers_takes_exactly_one_message(run, body, status):
    async def scene(talk):
        talk.head(1, "Count")
        talk.data(1, body)
        await until(lambda: talk.status(1) == status)

    run(scene)


def test_ids_are_made_anew_for_each_call_and_kept_if_sent(run):
    async def scene(talk):
        for stream in (1, 3):
            talk.head(stream)
            talk.data(stream, framed(b""))
        talk.head(5, "Echo", (b"x-request-id", b"mine"))
        talk.data(5, framed(b""))
        talk.head(7, "Count")
        talk.data(7, framed(b"1"))
        await until(lambda: talk.status(7) == 0)
        ids = [talk.told[stream][b"x-request-id"] for stream in (1, 3, 5, 7)]
        assert ids[2] == b"mine"
        assert len(set(ids)) == 4

    run(scene, callers=Callers(makes_ids=True))


def test_complaints_about_clients_cannot_flood_the_log(caplog):
    complaints = Complaints()
    for now in (0.0, 1.0, 9.0, 10.5, 11.0):
        complaints.tell(now, "ipv4:1.2.3.4:5", ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings"))

    assert [record.getMessage() for record in caplog.records] == [
        "ipv4:1.2.3.4:5: connection ended, ENHANCE_YOUR_CALM: too_many_pings",
        (
            "ipv4:1.2.3.4:5: connection ended, ENHANCE_YOUR_CALM: too_many_pings "
            "(2 more connections were ended since the last such line)"
        ),
    ]


def test_a_lost_connection_cancels_everything(run):
    async def scene(talk):
        talk.head(1, "Wait")
        talk.data(1, framed(b"a"))
        talk.head(3, "WaitInTask")
        talk.data(3, framed(b"b"))
        talk.head(5, "Talk")
        talk.head(7)
        talk.data(7, framed(bytes(100))[:50], ends=False)
        await asyncio.sleep(0)
        talk.connection.lost()
        await until(lambda: sorted(talk.service.cancelled) == [b"a", b"b"])
        assert talk.held.now == 0
        await until(lambda: len(asyncio.all_tasks()) == 1)

    run(scene)


SPEC = ModelSpec("m", 1)


def asked_together(talk, *bodies, fields=()):
    """Call Together with *bodies*; give stream -> body."""
    streams = dict(zip(range(1, 2 * len(bodies), 2), bodies, strict=True))
    for stream, body in streams.items():
        talk.head(stream, "Together", *fields)
        talk.data(stream, framed(body))
    return streams


def test_calls_that_go_together_are_answered_each_in_its_own_time(run):
    async def scene(talk):
        asked_together(talk, b"a", b"alone", b"c")
        assert set(talk.service.joined) == {b"a", b"c"}
        assert talk.status(1) is talk.status(3) is talk.status(5) is None
        talk.service.joined[b"c"].answer(b"C", SPEC)
        talk.service.joined[b"a"].refuse(DataLoss("for a"))
        talk.service.gate.set()
        await until(lambda: talk.status(3) == 0)
        assert [talk.status(stream) for stream in (1, 3, 5)] == [15, 0, 0]
        assert talk.told[1][b"grpc-message"] == b"for a"
        assert (talk.body(3), talk.body(5)) == (framed(b"alone"), framed(b"C"))
        assert not talk.service.cancelled
        assert talk.held.now == 0

    run(scene)


def test_who_leaves_with_its_answer_has_no_place_to_give_up(run):

    async def scene(talk):
        asked_together(talk, b"a")
        talk.service.joined[b"a"].answer(b"A", SPEC)
        assert talk.body(1) == framed(b"A")
        talk.send(frames.frame(frames.RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
        talk.connection.lost()
        assert not talk.service.left

    run(scene)


def test_a_call_may_go_alone_after_all(run):
    async def scene(talk):
        asked_together(talk, b"a", b"b")
        for body in (b"b", b"a"):
            talk.service.joined[body].alone()
        # The second leaves while it goes alone.
        talk.send(frames.frame(frames.RST_STREAM, 0, 3, (8).to_bytes(4, "big")))
        talk.service.gate.set()
        await until(lambda: talk.status(1) == 0)
        await until(lambda: talk.service.cancelled == [b"b"])
        assert talk.body(1) == framed(b"a")
        assert not talk.service.left, "it had no place there any more"

    run(scene)


def test_who_leaves_gives_up_its_place_among_others(run):
    async def scene(talk):
        asked_together(talk, b"a", b"b")
        talk.send(frames.frame(frames.RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
        assert talk.service.left == [b"a"]
        talk.connection.lost()
        assert talk.service.left == [b"a", b"b"]

    run(scene)


def test_a_deadline_ends_a_call_among_others(run):
    async def scene(talk):
        asked_together(talk, b"a", fields=[(b"grpc-timeout", b"1m")])
        await until(lambda: talk.status(1) == 4)
        assert talk.service.left == [b"a"]

    run(scene)


def test_an_answer_that_is_too_large_to_be_sent_is_told_so_among_others_too(run):
    async def scene(talk):
        asked_together(talk, b"a")
        talk.service.joined[b"a"].answer(bytes(11), SPEC)
        assert talk.status(1) == 8

    run(scene, max_sent_message_bytes=10)


@pytest.mark.parametrize(
    ("fields", "callers"),
    [([(b"x-request-id", b"mine")], None), ([(b"traceparent", TRACEPARENT)], None), ([], Callers(makes_ids=True))],
    ids=["id", "trace", "made id"],
)
def test_who_is_told_apart_goes_alone(run, fields, callers):
    """Its id goes back to it."""

    async def scene(talk):
        asked_together(talk, b"a", fields=fields)
        assert not talk.service.joined
        talk.service.gate.set()
        await until(lambda: talk.status(1) == 0)
        assert talk.service.incoming.caller is not None

    run(scene, callers=callers)


def test_calls_that_come_in_pieces_or_compressed_go_alone(run):
    async def scene(talk):
        talk.head(1, "Together")
        talk.data(1, framed(b"abc")[:6], ends=False)
        talk.data(1, framed(b"abc")[6:])
        talk.head(3, "Together", (b"grpc-encoding", b"gzip"))
        talk.data(3, framed(gzip.compress(b"abc"), flag=1))
        assert not talk.service.joined
        talk.service.gate.set()
        await until(lambda: talk.status(1) == talk.status(3) == 0)
        assert talk.body(1) == talk.body(3) == framed(b"abc")

    run(scene)

"""A client that may say anything: it writes frames by hand and reads those that come back."""

import struct
from dataclasses import dataclass

import hpack
import pytest

from slipway_server.transports.http2 import frames
from slipway_server.transports.http2.connection import Connection
from slipway_server.transports.http2.headers import Block
from slipway_server.transports.http2.limits import Limits

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/s/m"),
    (b":authority", b"here"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]
HEAD = Block([(b":status", b"200")], ends_stream=False)
TRAILERS = Block([(b"grpc-status", b"0")], ends_stream=True)


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def number(self):
        return int.from_bytes(self.payload[:4], "big")


def read_frames(data):
    """Read whole frames and the rest."""
    found = []
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        if len(data) < 9 + length:
            break
        stream = int.from_bytes(data[5:9], "big")
        found.append(Frame(data[3], data[4], stream, data[9 : 9 + length]))
        data = data[9 + length :]
    return found, data


class Recorder:
    """A listener that keeps what it is told, and answers what is complete with the body itself if it *echoes*."""

    def __init__(self, *, echoes=False):
        self.echoes = echoes
        self.events = []
        self.bodies = {}
        self.done = {}
        self.streams = {}
        self.were_reset = []

    def opened(self, stream):
        self.events.append(("opened", stream.id))
        self.streams[stream.id] = stream
        self.bodies[stream.id] = b""

    def received(self, stream, chunk, *, ends):
        self.bodies[stream.id] += bytes(chunk)
        if ends:
            self.events.append(("ended", stream.id))
            self.done[stream.id] = self.bodies[stream.id]
            if self.echoes:
                self.connection.answer(stream, HEAD, b"", self.bodies[stream.id], TRAILERS)

    def reset(self, stream):
        self.events.append(("reset", stream.id))
        self.were_reset.append(stream.id)

    def taken(self, stream):
        self.events.append(("taken", stream.id))


class Client:
    """Both ends in one thread: *connection* is under test, time stands where the test puts it."""

    def __init__(self, limits=None, *, echoes=False, greets=True):
        self.now = 100.0
        self.listener = Recorder(echoes=echoes)
        self.connection = Connection(limits or Limits(), lambda head: head, self.listener, self.now)
        self.listener.connection = self.connection
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.got = []
        self._rest = b""
        if greets:
            self.send(frames.PREFACE + frames.settings_frame({}))
            self.take()

    def send(self, data):
        self.connection.receive(bytes(data), self.now)

    def frame(self, kind, flags=0, stream=0, payload=b""):
        self.send(frames.frame(kind, flags, stream, payload))

    def block(self, fields=None):
        return self.encoder.encode(REQUEST if fields is None else fields)

    def headers(self, stream, fields=None, *, ends=False):
        flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
        self.frame(frames.HEADERS, flags, stream, self.block(fields))

    def data(self, stream, payload, *, ends=False):
        self.frame(frames.DATA, frames.END_STREAM if ends else 0, stream, payload)

    def window_update(self, stream, increment):
        self.frame(frames.WINDOW_UPDATE, 0, stream, struct.pack(">L", increment))

    def settings(self, values):
        self.send(frames.settings_frame(values))

    def take(self, limit=2**30):
        """Take what the server sends; give the frames that came now."""
        found, self._rest = read_frames(self._rest + b"".join(self.connection.take(limit)))
        self.got += found
        return found

    def goaway(self):
        """Give code and reason with which the server ended the connection; None if it has not."""
        self.take()
        for frame in reversed(self.got):
            if frame.kind == frames.GOAWAY:
                return frames.ErrorCode(int.from_bytes(frame.payload[4:8], "big")), frame.payload[8:].decode()
        return None

    def resets(self):
        """Give stream -> code of the streams that the server has reset."""
        self.take()
        return {f.stream: frames.ErrorCode(f.number) for f in self.got if f.kind == frames.RST_STREAM}

    def answers(self):
        """Give stream -> body and trailers of the answers that are complete."""
        self.take()
        bodies, done = {}, {}
        for frame in self.got:
            if frame.kind == frames.DATA:
                bodies[frame.stream] = bodies.get(frame.stream, b"") + frame.payload
            elif frame.kind == frames.HEADERS and frame.flags & frames.END_STREAM:
                done[frame.stream] = bodies.get(frame.stream, b"")
        return done


@pytest.fixture
def make_client():
    return Client

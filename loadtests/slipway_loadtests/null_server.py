"""
A server that does nothing, as fast as possible: what the load generator gets from it is the most it can ever get.

It speaks just enough HTTP/1.1 and HTTP/2 for our own users and looks each answer up by the bytes of the request; both are
prepared from a payload file, so that the answers are right and the generator checks them as always.
`python -m slipway_loadtests.null_server --payloads FILE` says its ports in one line of JSON and serves until its standard
input ends. With `--certificate FILE` the protocols that `--tls` names are spoken over TLS. With `--delay-ms` and `--stall-ms`
it is as slow as it says: what a load generator reports of it can be checked. With `--processes N` the kernel spreads
connections over so many of it, so that it is not what holds up several generators.
"""

import argparse
import asyncio
import json
import os
import socket
import ssl
import struct
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

import uvloop

from slipway_loadtests.delays import Delay, Delayed
from slipway_loadtests.h2c import frame, message
from slipway_wire import payloads
from slipway_wire.payloads import Payload, grpc_answer, rest_answer

HOST = "127.0.0.1"
# Users connect all at once.
_BACKLOG = 1024
_PREFACE_BYTES = 24
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED = 0x4, 0x8
_INITIAL_WINDOW_SIZE = 4
_MAX_WINDOW = 2**31 - 1
_RENEW_AFTER = 2**29

# Literals that enter no table: the same bytes mean the same in every answer (RFC 7541, section 6.2.2).
_GOOD_HEADERS = b"\x88" + b"\x00\x0ccontent-type\x10application/grpc"
_GOOD_TRAILERS = b"\x00\x0bgrpc-status\x010"
_NOT_FOUND_TRAILERS = b"\x00\x0bgrpc-status\x015"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"


def rest_answers(sent: list[Payload]) -> dict[bytes, bytes]:
    """Prepare whole HTTP answers by request body."""
    answers = {}
    for payload in sent:
        body = rest_answer(payload)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        answers[payload.rest_body] = head.encode() + body
    return answers


def grpc_answers(sent: list[Payload]) -> dict[bytes, bytes]:
    """Prepare framed messages by framed request message."""
    answers = {}
    for payload in sent:
        answers[message(payload.grpc_message)] = message(grpc_answer(payload))
    return answers


class RestNull(asyncio.Protocol):
    """One HTTP/1.1 connection."""

    def __init__(self, answers: Mapping[bytes, bytes], delayed: Delayed | None = None) -> None:
        self._answers = answers
        self._delayed = delayed
        self._data = bytearray()
        self._lengths: dict[bytes, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a connection."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n") + 4) > 3:
            head = bytes(self._data[:end])
            length = self._lengths.get(head)
            if length is None:
                length = self._lengths[head] = _content_length(head)
            if len(self._data) < end + length:
                return
            body = bytes(self._data[end : end + length])
            del self._data[: end + length]
            answer = self._answers.get(body, _NOT_FOUND)
            if self._delayed is None:
                self._transport.write(answer)
            else:
                self._delayed.write(self._transport, answer)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


class GrpcNull(asyncio.Protocol):
    """One HTTP/2 connection of unary calls, one at a time or several."""

    def __init__(self, answers: Mapping[bytes, bytes], delayed: Delayed | None = None) -> None:
        self._answers = answers
        self._delayed = delayed
        self._data = bytearray()
        self._greeted = False
        self._bodies: dict[int, bytearray] = {}
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a connection."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer every call that is complete."""
        self._data += data
        if not self._greeted:
            if len(self._data) < _PREFACE_BYTES:
                return
            del self._data[:_PREFACE_BYTES]
            self._greeted = True
            self._transport.write(
                frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _MAX_WINDOW))
                + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _MAX_WINDOW - 65535))
            )
        out = b""
        while len(self._data) >= 9:
            size = int.from_bytes(self._data[:3], "big")
            if len(self._data) < 9 + size:
                break
            kind, flags = self._data[3], self._data[4]
            stream = int.from_bytes(self._data[5:9], "big")
            payload = bytes(self._data[9 : 9 + size])
            del self._data[: 9 + size]
            out += self._answer(kind, flags, stream, payload)
        if out:
            self._transport.write(out)

    def _answer(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _DATA:
            return self._take(flags, stream, payload)
        if kind == _SETTINGS and not flags & _ACK:
            return frame(_SETTINGS, _ACK, 0)
        if kind == _PING and not flags & _ACK:
            return frame(_PING, _ACK, 0, payload)
        return b""

    def _take(self, flags: int, stream: int, payload: bytes) -> bytes:
        self._received += len(payload)
        renewed = b""
        if self._received > _RENEW_AFTER:
            renewed = frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received))
            self._received = 0
        if not flags & _END_STREAM:
            self._bodies.setdefault(stream, bytearray()).extend(payload)
            return renewed
        begun = self._bodies.pop(stream, None)
        answer = self._answers.get(bytes(begun) + payload if begun else payload)
        out = frame(_HEADERS, _END_HEADERS, stream, _GOOD_HEADERS)
        if answer is not None:
            out += _in_frames(stream, answer)
        trailers = _NOT_FOUND_TRAILERS if answer is None else _GOOD_TRAILERS
        out += frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, trailers)
        if self._delayed is None or answer is None:
            return renewed + out
        self._delayed.write(self._transport, out)
        return renewed


def _in_frames(stream: int, answer: bytes, most: int = 16384) -> bytes:
    """Cut *answer* into frames as large as any peer must take. Our users' windows are larger than any answer."""
    if len(answer) <= most:
        return frame(_DATA, 0, stream, answer)
    return b"".join(frame(_DATA, 0, stream, answer[at : at + most]) for at in range(0, len(answer), most))


def _context(certificate: Path, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols([alpn])
    return context


async def serve(
    sent: list[Payload],
    bound: Sequence[socket.socket],
    certificate: Path | None = None,
    tls: Collection[str] = (),
    delay: Delay | None = None,
) -> None:
    """
    Serve two ports until standard input ends.

    Args:
        sent: What will be asked, with its answers.
        bound: Sockets for REST and for gRPC, which listen already.
        certificate: PEM file with the server's certificate and its key.
        tls: Protocols that are spoken over TLS.
        delay: When answers leave; None: at once.
    """
    loop = asyncio.get_running_loop()
    delayed = Delayed(delay) if delay else None
    rest, grpc = rest_answers(sent), grpc_answers(sent)
    contexts = {
        protocol: _context(certificate, alpn) if certificate and protocol in tls else None
        for protocol, alpn in (("rest", "http/1.1"), ("grpc", "h2"))
    }
    servers = [
        await loop.create_server(lambda: RestNull(rest, delayed), sock=bound[0], ssl=contexts["rest"]),
        await loop.create_server(lambda: GrpcNull(grpc, delayed), sock=bound[1], ssl=contexts["grpc"]),
    ]
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    for server in servers:
        server.close()


def bind(processes: int) -> list[tuple[socket.socket, ...]]:
    """Listen for REST and for gRPC, each on one port of its own; give a socket of either for each of *processes*."""
    ports = [0, 0]
    bound = []
    for _ in range(processes):
        pair = tuple(socket.create_server((HOST, port), backlog=_BACKLOG, reuse_port=processes > 1) for port in ports)
        ports = [each.getsockname()[1] for each in pair]
        bound.append(pair)
    return bound


def fork(count: int) -> int:
    """Become so many processes; give each its number. Standard input ends for all of them at once."""
    for number in range(1, count):
        if os.fork() == 0:
            return number
    return 0


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m slipway_loadtests.null_server", description=__doc__)
    parser.add_argument("--payloads", type=Path, required=True, metavar="FILE", help="TFRecord of PredictionLog")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="PEM: the server's certificate and its key")
    parser.add_argument("--tls", nargs="+", default=[], choices=["rest", "grpc"], help="protocols spoken over TLS")
    parser.add_argument("--delay-ms", type=float, default=0, metavar="MS", help="each answer takes so long")
    parser.add_argument("--stall-ms", type=float, default=0, metavar="MS", help="nothing is answered for so long")
    parser.add_argument("--stall-every-ms", type=float, default=2000, metavar="MS", help="from stall to stall")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="answer with so many processes")
    arguments = parser.parse_args()
    delay = None
    if arguments.delay_ms or arguments.stall_ms:
        answer, stall, every = arguments.delay_ms, arguments.stall_ms, arguments.stall_every_ms
        delay = Delay(round(answer * 1e6), round(stall * 1e6), round(every * 1e6))
    sent = payloads.read(arguments.payloads)
    bound = bind(arguments.processes)
    ports = [each.getsockname()[1] for each in bound[0]]
    number = fork(arguments.processes)
    for other in [*bound[:number], *bound[number + 1 :]]:
        # Connections to a socket that nobody accepts from would wait for ever.
        for each in other:
            each.close()
    if number == 0:
        sys.stdout.write(json.dumps({"rest_port": ports[0], "grpc_port": ports[1]}) + "\n")
        sys.stdout.flush()
    uvloop.run(serve(sent, bound[number], arguments.certificate, arguments.tls, delay))


if __name__ == "__main__":
    main()

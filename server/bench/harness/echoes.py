"""Servers that answer without doing anything: what a protocol costs by itself."""

import asyncio

from slipway_wire import paths


def serve_grpc_echo(answer: bytes, port: int) -> None:
    """Answer every call with *answer* on grpc.aio, with the least that takes."""
    import grpc  # noqa: PLC0415

    async def echo(body: bytes, context: object) -> bytes:
        return answer

    async def run() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(paths.PREDICTION_SERVICE, {"Predict": handler}),)
        )
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    import uvloop  # noqa: PLC0415

    uvloop.run(run())


def serve_http_echo(answer: bytes, port: int) -> None:
    """Answer every request with *answer* on httptools and uvloop, with the least that takes."""
    import httptools  # noqa: PLC0415
    import uvloop  # noqa: PLC0415

    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_url(self, url: bytes) -> None:
            pass

        def on_header(self, name: bytes, value: bytes) -> None:
            pass

        def on_body(self, body: bytes) -> None:
            pass

        def on_message_complete(self) -> None:
            self.transport.write(whole)  # type: ignore[attr-defined]

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=1024)
        await server.serve_forever()

    uvloop.run(run())

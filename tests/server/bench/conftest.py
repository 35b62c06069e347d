"""A server of one protocol class, for what generators send."""

import asyncio
import contextlib

import pytest


async def listen(make):
    return await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)


async def end(server):
    server.close()
    await server.wait_closed()


@pytest.fixture
def serve(loop_thread):
    """`serve(make)` listens with protocols that *make* makes, and gives the port."""
    with contextlib.ExitStack() as cleanup:

        def start(make):
            server = loop_thread.run(listen(make))
            cleanup.callback(lambda: loop_thread.run(end(server)))
            return server.sockets[0].getsockname()[1]

        yield start

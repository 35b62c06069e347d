"""gRPC on an HTTP/2 of our own: frames, header blocks, a connection without sockets, calls, and asyncio around them."""

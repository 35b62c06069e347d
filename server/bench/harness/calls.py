"""A few large requests a second, at a rate, from this process: what `paced` does for thousands of small ones."""

import contextlib
import http.client
import itertools
import random
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from harness.loads import UNLIMITED, Request
from harness.processes import WAIT_S, NoAnswer, Started

# More than ever wait at half of what a server can do.
CALLERS = 64


def arrivals(per_s: float, count: int, seed: int) -> list[float]:
    """Say when *count* requests are due, in seconds from the beginning: a Poisson process of *per_s* a second."""
    gaps = random.Random(seed)  # noqa: S311  # arrivals, no secret
    return list(itertools.accumulate(gaps.expovariate(per_s) for _ in range(count)))


def tail(answers: int) -> str:
    """Say what `p99_ms` of so many answers is."""
    return f"p99 of {answers} answers" if answers >= 100 else f"slowest of {answers} answers"


def p99(values: list[float]) -> float:
    """Return the smallest of *values* that 99 % do not exceed: of less than 100 the largest."""
    return float(np.percentile(values, 99, method="inverted_cdf"))


def calls_at_rate(
    protocol: str, server: Started, request: Request, per_s: float, count: int, seed: int, callers: int = CALLERS
) -> dict[str, float]:
    """
    Send *count* requests as a Poisson process of *per_s* a second; each is timed from when it was due.

    Args:
        protocol: `rest` or `grpc`.
        server: Where to.
        request: What.
        per_s: On average.
        count: Of all requests.
        seed: Of the arrivals.
        callers: Threads; over REST each keeps a connection of its own, over gRPC all have one.

    Returns:
        `per_s` answered, `answers` in all, `p50_ms` and `p99_ms` from due to answered, and `late_p99_ms`: from due to sent, the
        generator's own.
    """
    content = request.body(protocol).read_bytes()
    took: list[float] = []
    late: list[float] = []
    with contextlib.ExitStack() as cleanup:
        connect = _over_grpc if protocol == "grpc" else _over_rest
        send = connect(server, request, content, cleanup)
        send()
        begin = time.perf_counter()

        def ask(due: float) -> None:
            late.append(time.perf_counter() - due)
            send()
            took.append(time.perf_counter() - due)

        with ThreadPoolExecutor(callers) as pool:
            asked = []
            for after in arrivals(per_s, count, seed):
                time.sleep(max(begin + after - time.perf_counter(), 0.0))
                asked.append(pool.submit(ask, begin + after))
            for one in asked:
                one.result()
        end = time.perf_counter()
    return {
        "per_s": count / (end - begin),
        "answers": count,
        "p50_ms": float(np.median(took)) * 1e3,
        "p99_ms": p99(took) * 1e3,
        "late_p99_ms": p99(late) * 1e3,
    }


def _over_grpc(
    server: Started, request: Request, content: bytes, cleanup: contextlib.ExitStack
) -> Callable[[], object]:
    import grpc  # noqa: PLC0415

    channel = cleanup.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=UNLIMITED))
    call = channel.unary_unary(request.grpc_path)

    def send() -> None:
        try:
            call(content[5:], timeout=WAIT_S)
        except grpc.RpcError as error:
            raise NoAnswer(f"{request.grpc_path} answered {error.code().name}: {error.details()}") from error

    return send


def _over_rest(
    server: Started, request: Request, content: bytes, cleanup: contextlib.ExitStack
) -> Callable[[], object]:
    mine = threading.local()

    def send() -> None:
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_S)
            cleanup.callback(mine.connection.close)
        try:
            status, answer = _post(mine.connection, request, content)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{request.rest_path} was not answered: {error!r}") from error
        if status != 200:
            raise NoAnswer(f"{request.rest_path} answered {status}: {answer[:500]!r}")

    return send


def _post(connection: http.client.HTTPConnection, request: Request, content: bytes) -> tuple[int, bytes]:
    """Post on a connection that the server may have closed since: some do after 5 s without a request."""
    if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
        connection.close()
    is_used = connection.sock is not None
    try:
        connection.request("POST", request.rest_path, content, request.rest_headers)
        answer = connection.getresponse()
    except ConnectionError:
        connection.close()
        if not is_used:
            raise
        # It was closed as the request was sent: without an answer, and not for this request's sake.
        return _post(connection, request, content)
    return answer.status, answer.read()

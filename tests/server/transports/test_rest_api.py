import contextlib
import gzip
import json
import socket
import threading
import weakref

import httpx
import numpy as np
import pytest

from slipway_server.batching.scheduler import BatchScheduler
from slipway_server.bearer import BearerToken
from slipway_server.callers import Callers
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_server.transports import gzip_body, ports, rest_api
from slipway_server.transports.http import Limits
from slipway_server.transports.rest_api import RestApi, RestServer
from slipway_server.transports.waiting import Arrivals
from slipway_wire.signatures import PREDICT
from slipway_wire.status import Unavailable

WAIT_S = 90.0
PREDICT_PATH = "/v1/models/half:predict"
ONE = b'{"instances": [1.0]}'


@pytest.fixture
def half(fakes):
    return fakes.HalfPlusTwo()


@pytest.fixture
def rest(loop_thread, fakes, half):
    """`rest(...)` serves *half* over a real socket and gives a client; its `serving` is what answers."""
    with contextlib.ExitStack() as cleanup:

        def start(*, scheduler=None, limits=None, **parameters):
            serving, _ = fakes.make_serving({("half", 1): half, ("half", 3): half}, scheduler=scheduler)
            arrivals = Arrivals(loop_thread.loop)
            api = RestApi(
                serving,
                arrivals,
                **{"timeout_s": float("inf"), "has_cors": False, "metrics_path": None, **parameters},
            )
            server = RestServer(api, limits)
            bound = ports.bind("127.0.0.1", "auto", flag="rest_api_port")
            loop_thread.run(server.start(bound))
            client = cleanup.enter_context(
                httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", trust_env=False, timeout=WAIT_S)
            )
            client.serving, client.server = serving, server

            async def stop():
                server.stop()

            cleanup.callback(lambda: loop_thread.run(stop()))
            return client

        yield start


def test_predict_by_name_version_and_label(rest):
    client = rest()

    assert client.post(PREDICT_PATH, content=b'{"instances": [1, 2.5]}').json() == {"predictions": [2.5, 3.25]}
    assert client.post("/v1/models/half/versions/1:predict", content=b'{"inputs": [4]}').json() == {"outputs": [4.0]}


def test_classify_and_regress(rest):
    client = rest()
    body = {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": 3.0}]}

    assert client.post("/v1/models/half:regress", json=body).json() == {"results": [2.5, 3.5]}
    body["signature_name"] = "classify"
    assert client.post("/v1/models/half:classify", json=body).json() == {"results": [[["one", 2.5]], [["one", 3.5]]]}


def test_status_and_metadata(rest):
    client = rest()
    status = client.get("/v1/models/half/versions/3")

    assert status.text == (
        '{\n "model_version_status": [\n  {\n   "version": "3",\n   "state": "AVAILABLE",\n'
        '   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}'
    )
    assert [one["version"] for one in client.get("/v1/models/half").json()["model_version_status"]] == ["3", "1"]
    # A label is passed over, even one that does not exist.
    assert client.get("/v1/models/half/labels/nope").status_code == 200
    metadata = client.get("/v1/models/half/metadata").json()
    assert metadata["model_spec"] == {"name": "half", "signature_name": "", "version": "3"}
    definition = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition == {"inputs": {}, "outputs": {}, "method_name": PREDICT, "defaults": {}}


REFUSED = [
    ("POST", "/v1/models/nope:predict", ONE, 404, "Servable not found for request: Latest(nope)"),
    ("POST", "/v1/models/half/versions/7:predict", ONE, 404, "Servable not found for request: Specific(half, 7)"),
    ("POST", "/v1/models/half/labels/L:predict", ONE, 400, "Unrecognized servable version label: L"),
    (
        "POST",
        PREDICT_PATH,
        b'{"signature_name": "S", "instances": [1]}',
        400,
        'Serving signature name: "S" not found in signature def',
    ),
    ("POST", "/v1/models/nope:predict", b"", 400, "JSON Parse error: The document is empty"),
    ("POST", PREDICT_PATH, b"1", 400, "JSON Value: 1 Is not object"),
    ("POST", PREDICT_PATH, b"{}", 400, "Missing 'inputs' or 'instances' key"),
    ("POST", PREDICT_PATH, b'{"instances": ["a"]}', 400, "is not of expected type: float"),
    ("POST", PREDICT_PATH, b'{"instances": [NaN]}', 400, "x is not a number"),
    ("POST", "/v1/models/half:regress", b'{"examples": []}', 400, "'examples' value is an empty array"),
    (
        "POST",
        "/v1/models/half:classify",
        b'{"signature_name": "S", "examples": [{}]}',
        400,
        "No signature was found with the name: S",
    ),
    ("GET", "/v1/models/nope", b"", 404, "Could not find any versions of model nope"),
    ("GET", "/v1/models/half/versions/7", b"", 404, "Could not find version 7 of model half"),
    ("GET", "/v1/models/nope/metadata", b"", 404, "Servable not found for request: Latest(nope)"),
    ("GET", "/v1/models", b"", 400, "Missing model name in request."),
    ("GET", PREDICT_PATH, b"", 400, f"Malformed request: GET {PREDICT_PATH}"),
    ("PUT", PREDICT_PATH, ONE, 400, f"Malformed request: PUT {PREDICT_PATH}"),
    ("POST", f"{PREDICT_PATH}?x=1", ONE, 400, f"Malformed request: POST {PREDICT_PATH}?x=1"),
    ("POST", "/v1/models/half:frobnicate", ONE, 400, "Malformed request: POST /v1/models/half:frobnicate"),
    ("GET", f"/v1/models/half/versions/{2**63}", b"", 400, f"Failed to convert version: {2**63} to numeric."),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), REFUSED)
def test_what_is_refused_is_told_in_tf_servings_words(rest, method, path, body, status, message):
    answer = rest().request(method, path, content=body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]


def test_a_path_outside_the_api_is_a_plain_404(rest):
    answer = rest().get("/")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/plain"


def test_health(rest):
    client = rest()
    assert (client.get("/v1/health/live").status_code, client.get("/v1/health/ready").status_code) == (200, 200)
    client.serving.drain(0.0)

    ready = client.get("/v1/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "NOT_SERVING")
    assert client.get("/v1/health/live").status_code == 200


def test_while_draining_requests_are_refused_and_connections_end(rest):
    client = rest()
    client.serving.drain(0.0)

    answer = client.post(PREDICT_PATH, content=ONE)

    assert answer.status_code == 503
    assert answer.headers["connection"] == "close"
    assert answer.json() == {"error": "The server is shutting down"}


def test_gzip_bodies_are_read(rest):
    client = rest()

    def post(body):
        return client.post(PREDICT_PATH, content=body, headers={"Content-Encoding": "gzip"})

    assert post(gzip.compress(ONE)).json() == {"predictions": [2.5]}
    assert post(gzip.compress(ONE[:8]) + gzip.compress(ONE[8:])).json() == {"predictions": [2.5]}
    assert "is not gzip" in post(ONE).json()["error"]
    assert "cut off" in post(gzip.compress(ONE)[:-9]).json()["error"]


def test_a_gzip_bomb_is_stopped(rest, monkeypatch):
    monkeypatch.setattr(rest_api, "MAX_UNZIPPED_BYTES", 1000)
    answer = rest().post(PREDICT_PATH, content=gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 400
    assert "exceeds 1000 bytes" in answer.json()["error"]


def post_zipped(client, body):
    return client.post(PREDICT_PATH, content=body, headers={"Content-Encoding": "gzip"})


def test_a_gzip_bomb_of_members_is_stopped(rest):
    """Twenty bytes each, of which nothing comes: no limit on what is decompressed stops them."""
    answer = post_zipped(rest(), gzip.compress(b"") * (gzip_body.MAX_MEMBERS + 1))

    assert answer.status_code == 400
    assert f"more than {gzip_body.MAX_MEMBERS} members" in answer.json()["error"]


def values_of(size):
    """A JSON body of *size* bytes, for the model to answer."""
    return b'{"instances": [' + b"1.0, " * (size // 5) + b"1.0]" + b" " * (size % 5) + b"}"


def test_what_is_decompressed_counts_among_the_bodies_of_all_requests(rest, half, fakes):
    """A gzip body is small; what it becomes is not."""
    client = rest(limits=Limits(bodies_bytes=100_000))
    books = client.server.connections
    body = values_of(60_000)
    answers = []
    half.gate.clear()
    first = threading.Thread(target=lambda: answers.append(post_zipped(client, gzip.compress(body))))
    first.start()
    fakes.wait_for(lambda: 60_000 < books.held.now < 65_000, "the first request to be decompressed")

    refused = post_zipped(client, gzip.compress(body))
    half.gate.set()
    first.join(WAIT_S)

    assert refused.status_code == 503
    assert "100000 bytes; try again later" in refused.json()["error"]
    assert answers[0].status_code == 200
    assert books.held.now == 0
    assert post_zipped(client, gzip.compress(body)).status_code == 200


@pytest.mark.parametrize("piece", [1000, 10**6])
@pytest.mark.parametrize(("missing", "status", "told"), [(0, 200, ""), (1, 400, "exceeds 59999 bytes")])
def test_a_body_may_take_all_the_room_that_there_is(rest, monkeypatch, piece, missing, status, told):
    monkeypatch.setattr(rest_api, "_PIECE_BYTES", piece)
    body = values_of(60_000 - len(values_of(0)))
    zipped = gzip.compress(body)
    client = rest(limits=Limits(bodies_bytes=len(body) + len(zipped) - missing))

    answer = post_zipped(client, zipped)

    assert len(body) == 60_000
    assert answer.status_code == status
    assert told in answer.json().get("error", "")
    assert client.server.connections.held.now == 0


def test_decompressing_is_done_within_the_time_of_the_request(rest):
    answer = post_zipped(rest(timeout_s=-1.0), gzip.compress(ONE))

    assert answer.status_code == 504
    assert "before its body was decompressed" in answer.json()["error"]


def test_gzip_bodies_take_turns_and_who_leaves_holds_nothing(rest, fakes, monkeypatch):
    """Both codec threads have begun a piece; a third request waits for one of them, and leaves."""
    begun, may_go_on = threading.Semaphore(0), threading.Event()
    alive = weakref.WeakSet()

    class Slow(gzip_body.GzipBody):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.add(self)

        def go_on(self, most):
            begun.release()
            assert may_go_on.wait(WAIT_S)
            return super().go_on(most)

    monkeypatch.setattr(rest_api, "GzipBody", Slow)
    monkeypatch.setattr(rest_api, "_PIECE_BYTES", 10_000)
    client = rest()
    books = client.server.connections
    body = gzip.compress(values_of(50_000))
    answers = []
    busy = [threading.Thread(target=lambda: answers.append(post_zipped(client, body))) for _ in range(2)]
    for thread in busy:
        thread.start()
        assert begun.acquire(timeout=WAIT_S)
    taken = 2 * (len(body) + 10_000)
    assert books.held.now == taken

    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=WAIT_S) as impatient:
        head = f"POST {PREDICT_PATH} HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        impatient.sendall(head.encode() + body)
        fakes.wait_for(lambda: len(alive) == 3, "the third request")
    fakes.wait_for(lambda: books.held.now == taken, "the server to notice that the client has left")
    fakes.wait_for(lambda: len(alive) == 2, "the third request to be forgotten, though both threads are busy")
    may_go_on.set()
    for thread in busy:
        thread.join(WAIT_S)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert books.held.now == 0


def test_cors_headers_come_with_the_flag_only(rest):
    assert "access-control-allow-origin" not in rest().get("/v1/models/half").headers
    client = rest(has_cors=True)

    for answer in (client.get("/v1/models/half"), client.get("/v1/models/nope")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-methods"] == "POST, GET"
        assert answer.headers["access-control-allow-headers"] == "Content-Type"


@pytest.mark.parametrize(("origin", "status"), [("http://a", 200), ("https://a", 200), ("a", 400)])
def test_options(rest, origin, status):
    answer = rest().options(PREDICT_PATH, headers={"Origin": origin})

    assert (answer.status_code, answer.content) == (status, b"")


def test_metrics_are_served_where_configured(rest):
    assert rest().get("/metrics").status_code == 404
    client = rest(metrics_path="/metrics")
    client.post(PREDICT_PATH, content=ONE)

    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain"
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"} 1' in answer.text


def test_a_request_that_takes_too_long_is_given_up(rest, half):
    client = rest(timeout_s=0.05)
    half.gate.clear()

    answer = client.post(PREDICT_PATH, content=ONE)

    assert answer.status_code == 504
    half.gate.set()


def test_a_request_that_waits_too_long_in_the_batching_queue_is_given_up(rest, half):
    policy = BatchingPolicy(num_batch_threads=1)
    scheduler = BatchScheduler(policy, Metrics())
    scheduler.start()
    client = rest(scheduler=scheduler, timeout_s=0.3)
    half.gate.clear()
    first = threading.Thread(target=client.post, args=(PREDICT_PATH,), kwargs={"content": ONE})
    first.start()
    assert half.started.acquire(timeout=WAIT_S)

    answer = client.post(PREDICT_PATH, content=ONE)

    assert answer.status_code == 429
    assert answer.json() == {"error": "Run() timeout exceeded while waiting in batching queue"}
    half.gate.set()
    first.join(WAIT_S)
    scheduler.stop()


def test_too_large_for_a_batch_is_a_bad_request(rest):
    scheduler = BatchScheduler(BatchingPolicy(max_batch_size=2), Metrics())
    scheduler.start()

    answer = rest(scheduler=scheduler).post(PREDICT_PATH, content=b'{"instances": [1, 2, 3]}')

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Task size 3 is larger than maximum input batch size 2")
    scheduler.stop()


def test_many_clients_get_their_own_answers(rest):
    scheduler = BatchScheduler(BatchingPolicy(max_batch_size=32, num_batch_threads=2), Metrics())
    scheduler.start()
    client = rest(scheduler=scheduler)
    wrong = []

    def ask(offset):
        for number in range(offset, offset + 50):
            values = [float(number), number + 0.5]
            answer = client.post(PREDICT_PATH, content=json.dumps({"instances": values}))
            if answer.json() != {"predictions": [value / 2 + 2 for value in values]}:
                wrong.append(answer.text)

    threads = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)

    assert not wrong
    scheduler.stop()


def test_fault_of_ours_is_told_by_an_id(rest, half):
    half.run = lambda _: np.zeros(3) @ np.zeros(4)

    answer = rest().post(PREDICT_PATH, content=ONE)

    assert answer.status_code == 500
    assert answer.json()["error"].startswith("internal error (id ")


def test_a_request_id_goes_back_and_stands_in_for_the_id_of_a_fault(rest, half, caplog):
    client = rest()
    assert "x-request-id" not in client.post(PREDICT_PATH, content=ONE).headers
    sent = {"X-Request-ID": "req-1"}
    assert client.post(PREDICT_PATH, content=ONE, headers=sent).headers["x-request-id"] == "req-1"
    assert client.get("/v1/models/half", headers=sent).headers["x-request-id"] == "req-1"
    refused = client.post(PREDICT_PATH, content=b"{", headers=sent)
    assert (refused.status_code, refused.headers["x-request-id"]) == (400, "req-1")

    def fail(call):
        raise ZeroDivisionError("a secret of ours")

    half.run = fail
    fault = client.post(PREDICT_PATH, content=ONE, headers=sent)

    assert (fault.status_code, fault.json()) == (500, {"error": "internal error (id req-1)"})
    assert "internal error (id req-1)" in caplog.text
    assert "a secret of ours" in caplog.text


def test_a_server_that_logs_requests_gives_each_an_id(rest):
    client = rest(callers=Callers(makes_ids=True))

    ids = {client.post(PREDICT_PATH, content=ONE).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


def test_an_answer_names_the_version_that_gave_it(rest):
    client = rest()

    assert client.post(PREDICT_PATH, content=ONE).headers["x-slipway-model-version"] == "3"
    assert client.post("/v1/models/half/versions/1:predict", content=ONE).headers["x-slipway-model-version"] == "1"
    for verb in ("regress", "classify"):
        body = {"signature_name": verb, "examples": [{"x": 1.0}]}
        assert client.post(f"/v1/models/half:{verb}", json=body).headers["x-slipway-model-version"] == "3"
    assert "x-slipway-model-version" not in client.post("/v1/models/nope:predict", content=ONE).headers


def test_who_is_turned_away_is_told_when_to_come_back(rest, half):
    def full(_):
        raise Unavailable("full", retry_after_s=1.2)

    half.run = full
    answer = rest().post(PREDICT_PATH, content=ONE)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


WHAT_IS_NOT_A_NUMBER = {"y": np.float32([1, np.nan, -np.inf])}


@pytest.mark.parametrize(
    ("how", "status", "text"),
    [("tokens", 200, "[1.0,NaN,-Infinity]"), ("null", 200, "[1.0,null,null]"), ("error", 500, "has NaN at [1]")],
)
def test_what_is_not_a_number_is_told_as_configured(rest, half, how, status, text):
    half.run = lambda _: WHAT_IS_NOT_A_NUMBER
    answer = rest(non_finite=how).post(PREDICT_PATH, content=ONE)

    assert answer.status_code == status
    assert text in answer.text


def raw_post(client, body, **headers):
    """Give the answer as it came, not decompressed."""
    with client.stream("POST", PREDICT_PATH, content=body, headers=headers) as answer:
        return answer, b"".join(answer.iter_raw())


@pytest.mark.parametrize(
    ("accepted", "is_zipped"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5, br", True),
        ("GZIP; q=1.0", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("gzip; q=0.01", True),
    ],
)
def test_large_answers_are_compressed_for_who_takes_it(rest, accepted, is_zipped):
    client = rest(gzip_min_bytes=1000)
    body = json.dumps({"instances": [1.5] * 1000})

    answer, raw = raw_post(client, body, **{"Accept-Encoding": accepted})

    assert ("content-encoding" in answer.headers) == is_zipped
    assert (answer.headers.get("vary") == "Accept-Encoding") == is_zipped
    assert json.loads(gzip.decompress(raw) if is_zipped else raw) == {"predictions": [2.75] * 1000}


def test_small_answers_are_never_compressed_nor_any_if_so_configured(rest):
    large = json.dumps({"instances": [1.5] * 1000})

    for minimum, body in ((1000, ONE), (0, large)):
        answer, _ = raw_post(rest(gzip_min_bytes=minimum), body, **{"Accept-Encoding": "gzip"})
        assert "content-encoding" not in answer.headers


def test_large_requests_are_read_and_written_on_other_threads(rest, half, monkeypatch):
    """Small requests do not wait for them; the answers are the same."""
    threads = []
    encode = rest_api.json_predict.encode_response

    def watched(*arguments, **named):
        threads.append(threading.current_thread().name)
        return encode(*arguments, **named)

    monkeypatch.setattr(rest_api.json_predict, "encode_response", watched)
    client = rest()
    values = np.random.default_rng(7).random((40, 1000), np.float32)
    body = json.dumps({"instances": values.tolist()})
    assert len(body) > rest_api._LARGE_BYTES

    answer = client.post(PREDICT_PATH, content=body)
    client.post(PREDICT_PATH, content=ONE)

    np.testing.assert_array_equal(np.float32(answer.json()["predictions"]), values / 2 + 2)
    assert threads[0].startswith("json_")
    assert not threads[1].startswith("json_")


def test_a_large_body_that_is_wrong_is_told_as_a_small_one(rest):
    body = json.dumps({"instances": [1.5] * 30_000 + ["a"]})

    answer = rest().post(PREDICT_PATH, content=body)

    assert answer.status_code == 400
    assert "Failed to process element: 30000 of 'instances' list. Error: INVALID_ARGUMENT" in answer.json()["error"]
    assert rest().post("/v1/models/nope:predict", content=body[:-1]).status_code == 400


def test_a_long_path_is_read_as_any_other_but_not_remembered(rest):
    name = "m" * 10_000
    before = rest_api._cached_wanted.cache_info().currsize

    assert f"Latest({name})" in rest().post(f"/v1/models/{name}:predict", content=ONE).json()["error"]
    assert rest_api._cached_wanted.cache_info().currsize == before


def test_an_upgrade_to_http2_is_passed_over(rest):
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}

    assert rest().post(PREDICT_PATH, content=ONE, headers=headers).json() == {"predictions": [2.5]}


def test_what_is_asked_about_a_model_is_counted_as_tf_serving_does(rest):
    client = rest()
    metrics = client.serving.metrics
    client.get("/v1/models/half")
    client.get("/v1/models/half/metadata")
    client.get("/v1/models/half/versions/99")
    client.get("/v1/models/made_up")
    client.post(PREDICT_PATH, content=ONE)

    count = metrics.request_count
    assert metrics.sum_of(count, model_name="half", status="OK") == 3
    assert metrics.sum_of(count, model_name="half", status="NOT_FOUND") == 1
    assert metrics.sum_of(count, model_name="", status="NOT_FOUND") == 1, "a caller cannot make new series"
    assert metrics.sum_of(metrics.requests) == 1


def test_who_asks_is_told_to_whoever_watches(rest):
    client = rest(callers=Callers(makes_ids=True))
    seen = []
    client.serving.observers = (lambda exchange: seen.append(exchange.caller.peer),)
    client.post(PREDICT_PATH, content=ONE)

    (peer,) = seen
    assert peer.startswith("ipv4:127.0.0.1:")


def test_a_server_with_a_token_answers_only_who_bears_it(rest, tmp_path):
    (tmp_path / "token").write_text("s3cret")
    client = rest(token=BearerToken(tmp_path / "token", "api_token_file"), metrics_path="/metrics")
    for method, path in (("POST", PREDICT_PATH), ("GET", "/v1/models/half"), ("GET", "/metrics"), ("GET", "/other")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert list(answer.json()) == ["error"]

    known = {"Authorization": "Bearer s3cret"}
    assert client.post(PREDICT_PATH, content=ONE, headers=known).json() == {"predictions": [2.5]}
    # A probe knows no secrets.
    assert client.get("/v1/health/ready").status_code == 200


def test_models_are_listed_where_tf_serving_has_only_an_error(rest):
    client = rest()

    assert [one["name"] for one in client.get("/v1/models:list").json()["models"]] == ["half"]
    assert client.post("/v1/models:list").status_code == 400
    assert client.get("/v1/models").json() == {"error": "Missing model name in request."}


def test_a_client_that_leaves_while_its_large_request_is_read_is_not_computed_for(rest, fakes, half, monkeypatch):
    """All run threads are busy when the reading ends, so that what would run for nobody can be seen to be withdrawn."""
    reading, may_go_on = threading.Event(), threading.Event()
    parse = rest_api.json_predict.parse_request

    def parse_slowly(body):
        if len(body) > 1_000_000:
            reading.set()
            assert may_go_on.wait(WAIT_S)
        return parse(body)

    monkeypatch.setattr(rest_api.json_predict, "parse_request", parse_slowly)
    client = rest()

    def in_flight():
        return client.serving.metrics.snapshot()["slipway_in_flight{}"]

    body = b'{"instances": [%b]}' % b", ".join([b"1.0"] * 300_000)
    with (
        httpx.Client(base_url=client.base_url, trust_env=False, timeout=httpx.Timeout(WAIT_S, read=0.2)) as impatient,
        contextlib.suppress(httpx.ReadTimeout),
    ):
        impatient.post(PREDICT_PATH, content=body)
    assert reading.wait(WAIT_S)
    fakes.wait_for(lambda: in_flight() == 0, "the server to notice that the client has left")
    half.gate.clear()
    busy = [threading.Thread(target=client.post, args=(PREDICT_PATH,), kwargs={"content": ONE}) for _ in range(4)]
    for thread in busy:
        thread.start()
        assert half.started.acquire(timeout=WAIT_S)
    may_go_on.set()
    large = client.post(PREDICT_PATH.replace("half", "nope"), content=body)
    assert large.status_code == 404
    half.gate.set()
    for thread in busy:
        thread.join(WAIT_S)

    assert client.post(PREDICT_PATH, content=ONE).json() == {"predictions": [2.5]}
    assert half.rows == [1] * 5


def test_only_small_requests_of_one_method_go_together(play):
    """The others are beside them in one turn, and each is answered as ever."""

    async def scene(house):
        body = b'{"signature_name": "regress", "examples": [{"x": 3.0}]}'
        for _ in range(2):
            told = await house.told(
                house.ask("rest", [1.0]),
                house.send("rest", body, target="/v1/models/m:regress"),
                house.send("rest", b"{}", target="/v1/models/m:nope"),
                house.ask("rest", [1.0], headers=[b"Content-Encoding: gzip"]),
                house.ask("rest", [[1.0] * 40_000]),
                house.ask("rest", [2.0]),
            )
            assert [one.status for one in told] == [200, 200, 400, 400, 200, 200]
            assert told[1].body == b'{"results":[3.5]}'
            assert told[4].values == [[2.5] * 40_000]
            assert (told[0].values, told[5].values) == ([2.5], [3.0])
        assert sorted(house.works) == [0, 0, 1, 1, 2, 2]

    play(scene)


def test_a_burst_over_one_connection_is_answered_in_order(rest, half):
    """Pipelined: what of it goes together is for the batcher's good, and nobody can tell."""
    metrics = Metrics()
    scheduler = BatchScheduler(BatchingPolicy(num_batch_threads=1, max_batch_size=8), metrics)
    scheduler.start()
    client = rest(scheduler=scheduler)
    bodies = [b'{"instances": [%d]}' % number if number % 5 else b'{"instances": [NaN]}' for number in range(64)]
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=WAIT_S) as connection:
        connection.sendall(b"".join(head % len(body) + body for body in bodies))
        with connection.makefile("rb") as stream:
            answers = []
            for _ in bodies:
                status = int(stream.readline().split()[1])
                lengths = [
                    int(line.split()[1]) for line in iter(stream.readline, b"\r\n") if line.startswith(b"Content-Len")
                ]
                answers.append((status, json.loads(stream.read(*lengths))))
    scheduler.stop()

    wanted = [(200, {"predictions": [number / 2 + 2]}) for number in range(64)]
    assert [answer for number, answer in enumerate(answers) if number % 5] == [
        answer for number, answer in enumerate(wanted) if number % 5
    ]
    assert all(answer == (400, {"error": "x is not a number"}) for answer in answers[::5])
    assert max(half.rows) <= 8

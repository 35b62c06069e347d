"""Batching: what clients see of it."""

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
from tests.dropin.processes import WAIT_S, predict_request, wait_for
from tests.dropin.test_grpc import classify, regress, tasks

from slipway_wire import paths, predict

TOO_LARGE = "Task size 9 is larger than maximum input batch size 8"


@pytest.fixture
def busy(batched, hold):
    """Occupy both batch threads; `release()` gives them back."""
    held = [hold(batched), hold(batched)]

    def release():
        while held:
            held.pop().release()

    yield release
    release()


def future(server, request, timeout=WAIT_S):
    return server.channel.unary_unary(paths.GRPC_PREDICT).future(request.SerializeToString(), timeout=timeout)


def wait_until_queued(server, model, count):
    """Wait until *count* requests are in the queues of *model*: a thread that is free then takes all that fit."""
    wait_for(lambda: server.metric(f'slipway_queued_requests{{model="{model}"') == count, f"{count} requests to queue")


def batches_of(server, model, rows):
    """Count the batches of so many rows that ran, whatever released them."""
    return server.metric(f'slipway_batches_total{{model="{model}",size="{rows}",')


def outcome(call):
    """Give the outputs of a call, or code and details."""
    try:
        return predict.decode_response(call.result())[1]["y"].tolist()
    except grpc.RpcError as error:
        return error.code().name, error.details()


@pytest.mark.behaviour("1.3-enable_batching", "1.3-batching_parameters_file", "8.1-fields", "8.2-joined", "8.2-padding")
def test_requests_share_batches_and_get_their_own_rows(batched, busy):
    """Both protocols, several sizes, two signatures."""
    runs = "slipway_batches_total"
    before = batched.metric(runs)
    # However quick or slow the machine: these meet in the queue, as both threads are busy.
    met = [future(batched, predict_request("types", "float", {"x": np.float32([n])})) for n in range(6)]
    wait_until_queued(batched, "types", 6)
    busy()
    assert [outcome(call) for call in met] == [[float(n)] for n in range(6)]

    def ask(worker):
        with httpx.Client(base_url=batched.rest.base_url, trust_env=False, timeout=WAIT_S) as client:
            for step in range(25):
                values = [worker * 100.0 + step + row for row in range(1 + (worker + step) % 3)]
                signature = ("float", "double")[step % 2]
                if worker % 2:
                    body = json.dumps({"signature_name": signature, "instances": values})
                    assert client.post("/v1/models/types:predict", content=body).json() == {"predictions": values}
                else:
                    dtype = {"float": np.float32, "double": np.float64}[signature]
                    answer = batched.predict("types", {"x": dtype(values)}, signature_name=signature)
                    assert answer[1] == {"y": values}

    # Four at once: however slow the machine, twelve rows always find room in two batches of eight.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))

    # With those that occupied the threads, 108 requests.
    assert batched.metric(runs) - before < 106


# signature, inputs, part of the message
UNFIT = [
    ("8.2-rank", "float", {"x": np.float32(1)}, "INVALID_ARGUMENT",
     "Batching Run() input tensors must have at least one dimension"),
    ("8.2-rank", "two", {"a": np.float32([1, 2]), "b": np.array([b"s"] * 3, object)}, "INVALID_ARGUMENT",
     "must have equal 0th-dimension size"),
    ("8.2-rank", "none", {}, "INVALID_ARGUMENT", "Batching Run() must have at least one input tensor"),
    ("8.2-output-rows", "scalar", {"x": np.float32([1])}, "FAILED_PRECONDITION", "Batched output tensor has 0 dimensions"),
    ("8.2-output-rows", "uneven", {"x": np.float32([1, 2])}, "FAILED_PRECONDITION",
     "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors"),
    ("8.2-too-large", "float", {"x": np.zeros(9, np.float32)}, "INVALID_ARGUMENT", TOO_LARGE),
]  # fmt: skip


@pytest.mark.behaviour("8.2-rank", "8.2-output-rows", "8.2-too-large")
@pytest.mark.parametrize(("behaviour", "signature", "inputs", "code", "message"), UNFIT)
def test_what_cannot_be_batched(batched, behaviour, signature, inputs, code, message):
    found = batched.refusal(paths.GRPC_PREDICT, predict_request("types", signature, inputs))

    assert found[0] == code
    assert message in found[1]


@pytest.mark.behaviour("8.2-too-large", "8.2-rank")
def test_what_cannot_be_batched_over_rest(batched):
    status, answer = batched.ask("types:predict", {"signature_name": "float", "instances": [0.0] * 9})
    assert status == 400
    assert TOO_LARGE in answer["error"]
    status, answer = batched.ask("types:predict", {"signature_name": "float", "inputs": 1.0})
    assert (status, answer) == (400, {"error": "Batching Run() input tensors must have at least one dimension"})


@pytest.mark.behaviour("8.2-all-methods")
def test_every_method_goes_through_the_batcher(batched, example):
    nine = [example(x=1.0)] * 9
    multi = tasks(("half_plus_two", "regress_x_to_y", "regress"))
    for one in nine[1:]:
        multi.input.example_list.examples.add().MergeFromString(one)

    for method, request in (
        (paths.GRPC_CLASSIFY, classify("half_plus_two", "classify_x_to_y", *nine)),
        (paths.GRPC_REGRESS, regress("half_plus_two", "regress_x_to_y", *nine)),
        (paths.GRPC_MULTI_INFERENCE, multi),
    ):
        code, details = batched.refusal(method, request)
        assert code == "INVALID_ARGUMENT"
        assert TOO_LARGE in details


@pytest.mark.behaviour("8.2-inner-shapes")
def test_different_inner_shapes_do_not_meet(batched, busy):
    calls = [
        future(batched, predict_request("types", "float", {"x": np.full((1, n), n, np.float32)})) for n in (1, 2, 3)
    ]
    wait_until_queued(batched, "types", 3)
    busy()

    assert [outcome(call) for call in calls] == [[[1.0]], [[2.0, 2.0]], [[3.0, 3.0, 3.0]]]


@pytest.mark.behaviour("8.2-error-of-one")
def test_only_the_guilty_request_gets_the_error(batched, busy, example):
    def ask(serialized):
        inputs = {"inputs": np.array([serialized], object)}
        request = predict_request("half_plus_two", "regress_x_to_y", inputs)
        return batched.channel.unary_unary(paths.GRPC_PREDICT).future(request.SerializeToString(), timeout=WAIT_S)

    reruns = 'slipway_batch_reruns_total{model="half_plus_two"}'
    before = batched.metric(reruns)
    calls = [ask(one) for one in (example(x=1.0), b"\xff no Example", example(x=3.0))]
    wait_until_queued(batched, "half_plus_two", 3)
    busy()

    with pytest.raises(grpc.RpcError) as refused:
        calls[1].result()
    assert refused.value.code().name == "INVALID_ARGUMENT", refused.value
    for call, y in ((calls[0], 2.5), (calls[2], 3.5)):
        assert predict.decode_response(call.result())[1]["outputs"].tolist() == [[y]]
    # Three that met are halved into one and two, and the two once more.
    assert batched.metric(reruns) - before == 4


@pytest.mark.behaviour("8.2-queue-full")
def test_a_full_queue_refuses(batched, busy):
    """Two batches of eight rows wait; what comes then is refused, in both protocols, and what waits is answered."""
    eight = predict_request("types", "float", {"x": np.arange(8, dtype=np.float32)})
    calls = [future(batched, eight) for _ in range(5)]

    def refused():
        return [call for call in calls if call.done()]

    wait_for(lambda: len(refused()) >= 2, "calls to be refused")
    for call in refused():
        code, details = outcome(call)
        assert code == "UNAVAILABLE"
        assert "The batch scheduling queue to which this task was submitted is full" in details
    answer = batched.send("types:predict", {"signature_name": "float", "instances": list(range(8))})
    assert answer.status_code == 503
    assert "max_enqueued_batches is 2" in answer.json()["error"]
    assert int(answer.headers["retry-after"]) >= 1
    waiting = [call for call in calls if not call.done()]
    busy()
    assert [outcome(call) for call in waiting] == [list(map(float, range(8)))] * len(waiting) != []


@pytest.mark.behaviour("8.2-expired")
def test_a_request_that_waits_too_long(batched, busy):
    began = time.monotonic()
    answer = batched.ask("types:predict", {"signature_name": "int64", "instances": [1]})

    assert answer == (429, {"error": "Run() timeout exceeded while waiting in batching queue"})
    assert time.monotonic() - began < 25  # not the default of 30 s


@pytest.mark.behaviour("8.2-expired", "5.0-deadline")
def test_an_expired_or_cancelled_request_is_never_run(batched, busy):
    """`open` would let a `wait` pass, if it ran."""
    opening = predict_request("gated", "open", {"x": np.float32([1])})
    batched.refusal(paths.GRPC_PREDICT, opening, timeout=0.2)
    wait_until_queued(batched, "gated", 0)
    cancelled = future(batched, opening)
    wait_until_queued(batched, "gated", 1)
    cancelled.cancel()
    with contextlib.suppress(grpc.FutureCancelledError):
        cancelled.result()
    wait_until_queued(batched, "gated", 0)
    busy()

    code, _ = batched.refusal(paths.GRPC_PREDICT, predict_request("gated", "wait", {"x": np.float32([1])}), timeout=0.3)
    assert code in {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    # Give back the thread that still waits in the graph.
    assert batched.predict("gated", {"x": np.float32([1])}, signature_name="open")[1] == {"y": [1.0]}


@pytest.mark.behaviour("8.1-pad-variable-length", "8.1-splitting", "1.3-enable_per_model_batching_parameters")
def test_each_model_has_its_own_parameters(rich):
    """`types` splits and pads; `half_plus_two` has no file and is not batched, so that any size and a scalar will do."""
    rows = np.arange(40, dtype=np.float32)
    assert rich.predict("types", {"x": rows}, signature_name="float")[1] == {"y": rows.tolist()}
    code, details = rich.refusal(paths.GRPC_PREDICT, predict_request("types", "float", {"x": np.zeros(65, np.float32)}))
    assert code == "INVALID_ARGUMENT"
    assert "65" in details
    assert rich.predict("half_plus_two", {"x": np.zeros(200, np.float32)})[1] == {"y": [2.0] * 200}
    assert rich.predict("half_plus_two", {"x": np.float32(1)})[1] == {"y": 2.5}


@pytest.mark.behaviour("8.1-pad-variable-length")
def test_tensors_of_unequal_length_are_padded_with_their_first_element(rich, hold):
    """They share a batch because the only thread was busy when they came."""
    before = batches_of(rich, "types", 2)
    held = hold(rich)
    short = future(rich, predict_request("types", "float", {"x": np.float32([[5]])}))
    long = future(rich, predict_request("types", "float", {"x": np.float32([[1, 2, 3]])}))
    wait_until_queued(rich, "types", 2)
    held.release()

    assert outcome(long) == [[1.0, 2.0, 3.0]]
    assert outcome(short) == [[5.0, 5.0, 5.0]]
    assert batches_of(rich, "types", 2) == before + 1

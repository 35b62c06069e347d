import contextlib
import logging
import math
import threading
from dataclasses import replace

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from slipway_server.batching.scheduler import BatchScheduler
from slipway_server.config_files import BatchingPolicy
from slipway_server.metrics import Metrics
from slipway_server.serving import Exchange
from slipway_server.transports import grpc_api, message_codecs
from slipway_server.transports.grpc_api import GrpcApi
from slipway_server.transports.waiting import Arrivals
from slipway_wire import inference, messages, model_metadata, model_status, paths, predict, tensors

WAIT_S = 90.0
X = {"x": np.float32([1.0, 2.0])}


def example(value):
    message = messages.Example()
    message.features.feature["x"].float_list.value.append(value)
    return message.SerializeToString()


def multi_inference(*tasks, examples=(1.0, 3.0), model="half"):
    request = messages.MultiInferenceRequest()
    for signature, method in tasks:
        request.tasks.add(
            model_spec={"name": model, "signature_name": signature}, method_name=f"tensorflow/serving/{method}"
        )
    for value in examples:
        request.input.example_list.examples.add().MergeFromString(example(value))
    return request.SerializeToString()


@pytest.fixture
def half(fakes):
    half = fakes.HalfPlusTwo()
    yield half
    half.gate.set()


@pytest.fixture
def serve(start_grpc, loop_thread, fakes, half):
    """`serve(...)` serves *half* over a real port and gives a channel; its `serving` is what answers."""
    with contextlib.ExitStack() as cleanup:

        def start(
            *,
            as_content=False,
            content_min_bytes=math.inf,
            has_health_service=False,
            options=None,
            batched=False,
            **flags,
        ):
            scheduler, metrics = None, Metrics()
            if batched:
                scheduler = BatchScheduler(BatchingPolicy(num_batch_threads=1), metrics)
                scheduler.start()
                cleanup.callback(scheduler.stop)
            serving, manager = fakes.make_serving(
                {("half", version): half for version in (1, 3)}, scheduler=scheduler, metrics=metrics, **flags
            )
            api = GrpcApi(
                serving,
                Arrivals(loop_thread.loop),
                as_content=as_content,
                content_min_bytes=content_min_bytes,
                has_health_service=has_health_service,
            )
            server, ports = loop_thread.run(start_grpc(api.services(), ["127.0.0.1:0"], options or {}))
            cleanup.callback(lambda: loop_thread.run(server.stop(None)))
            channel = cleanup.enter_context(
                grpc.insecure_channel(f"127.0.0.1:{ports[0]}", options=[("grpc.max_receive_message_length", -1)])
            )
            channel.serving, channel.manager, channel.port = serving, manager, ports[0]
            return channel

        yield start


def call(channel, method, body, **options):
    return channel.unary_unary(method)(body, timeout=WAIT_S, **options)


def test_predict_answers_in_typed_fields_with_the_spec_that_served(serve):
    answer = call(serve(), paths.GRPC_PREDICT, predict.encode_request("half", X))

    spec, outputs = predict.decode_response(answer)
    assert (spec.name, spec.version, spec.signature_name) == ("half", 3, "serving_default")
    assert outputs["y"].tolist() == [2.5, 3.0]
    proto = messages.PredictResponse.FromString(answer).outputs["y"]
    assert list(proto.float_val) == [2.5, 3.0]
    assert not proto.tensor_content


def test_predict_answers_in_tensor_content_if_told(serve):
    answer = call(serve(as_content=True), paths.GRPC_PREDICT, predict.encode_request("half", X))

    proto = messages.PredictResponse.FromString(answer).outputs["y"]
    assert proto.tensor_content == np.float32([2.5, 3.0]).tobytes()
    assert not proto.float_val


def test_predict_answers_in_tensor_content_where_that_is_worth_it(serve):
    channel = serve(content_min_bytes=12)

    for rows, is_content in ((2, False), (3, True)):
        answer = call(channel, paths.GRPC_PREDICT, predict.encode_request("half", {"x": np.ones(rows, np.float32)}))
        assert bool(messages.PredictResponse.FromString(answer).outputs["y"].tensor_content) is is_content


def test_classify_and_regress(serve):
    channel = serve()
    examples = [example(1.0), example(3.0)]

    regressed = call(channel, paths.GRPC_REGRESS, inference.encode_request("half", examples, signature_name="regress"))
    classified = call(
        channel, paths.GRPC_CLASSIFY, inference.encode_request("half", examples, signature_name="classify")
    )

    assert inference.decode_regress_response(regressed)[1].values.tolist() == [2.5, 3.5]
    spec, classification = inference.decode_classify_response(classified)
    assert spec.signature_name == "classify"
    assert classification.classes.tolist() == [[b"one"], [b"one"]]
    assert classification.scores.tolist() == [[2.5], [3.5]]


@pytest.mark.parametrize("batched", [False, True])
def test_multi_inference_answers_every_task(serve, batched):
    channel = serve(batched=batched)
    body = multi_inference(("regress", "regress"), ("classify", "classify"))

    answer = messages.MultiInferenceResponse.FromString(call(channel, paths.GRPC_MULTI_INFERENCE, body))

    regressed, classified = answer.results
    assert [one.value for one in regressed.regression_result.regressions] == [2.5, 3.5]
    assert [
        [one.label, one.score] for row in classified.classification_result.classifications for one in row.classes
    ] == [
        ["one", 2.5],
        ["one", 3.5],
    ]
    assert [
        (result.model_spec.name, result.model_spec.version.value, result.model_spec.signature_name)
        for result in answer.results
    ] == [("half", 3, "regress"), ("half", 3, "classify")]


# As many results are written on another thread.
LARGE = 16_384


def large_body(signature, method):
    if method is paths.GRPC_MULTI_INFERENCE:
        return multi_inference((signature, signature), examples=range(LARGE))
    return inference.encode_request("half", [example(value) for value in range(LARGE)], signature_name=signature)


@pytest.mark.parametrize(
    ("method", "signature", "values_of"),
    [
        (
            paths.GRPC_CLASSIFY,
            "classify",
            lambda answer: inference.decode_classify_response(answer)[1].scores[:, 0].tolist(),
        ),
        (paths.GRPC_REGRESS, "regress", lambda answer: inference.decode_regress_response(answer)[1].values.tolist()),
        (
            paths.GRPC_MULTI_INFERENCE,
            "regress",
            lambda answer: [
                one.value
                for one in messages.MultiInferenceResponse.FromString(answer).results[0].regression_result.regressions
            ],
        ),
    ],
    ids=["classify", "regress", "multi_inference"],
)
def test_many_examples_are_read_and_answered_aside(serve, monkeypatch, method, signature, values_of):
    """On the event loop they would keep every other call waiting."""
    on = {}

    def noting(owner, name):
        function = getattr(owner, name)

        def noted(*args, **kwargs):
            on[name] = threading.current_thread().name
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)

    noting(Exchange, "start")
    noting(inference, "classification")
    noting(inference, "regression")
    channel = serve()

    values = values_of(call(channel, method, large_body(signature, method)))

    assert values == [value / 2 + 2 for value in range(LARGE)]
    assert len(on) == 2
    assert all(name.startswith("grpc_codec") for name in on.values()), on
    # A few are not worth another thread.
    examples = inference.encode_request("half", [example(1.0)], signature_name="regress")
    call(channel, paths.GRPC_REGRESS, examples)
    assert not on["start"].startswith("grpc_codec")
    assert not on["regression"].startswith("grpc_codec")


def test_metadata_and_status(serve):
    channel = serve()

    answer = call(channel, paths.GRPC_GET_MODEL_METADATA, model_metadata.encode_request("half"))
    spec, signatures = model_metadata.decode_response(answer)
    assert (spec.version, spec.signature_name, set(signatures)) == (3, "", {"serving_default"})
    answer = call(channel, paths.GRPC_GET_MODEL_STATUS, model_status.encode_request("half"))
    assert [(one.version, one.state) for one in model_status.decode_response(answer)] == [
        (3, "AVAILABLE"),
        (1, "AVAILABLE"),
    ]


REFUSED = [
    (paths.GRPC_PREDICT, b"", "INVALID_ARGUMENT", "Missing ModelSpec"),
    (paths.GRPC_PREDICT, b"\xff", "INVALID_ARGUMENT", "not a PredictRequest"),
    (paths.GRPC_PREDICT, predict.encode_request("nope", X), "NOT_FOUND", "Latest(nope)"),
    (paths.GRPC_PREDICT, predict.encode_request("half", X, version=7), "NOT_FOUND", "Specific(half, 7)"),
    (paths.GRPC_PREDICT, predict.encode_request("half", X, label="L"), "INVALID_ARGUMENT", "version label: L"),
    (
        paths.GRPC_PREDICT,
        predict.encode_request("half", X, signature_name="S"),
        "FAILED_PRECONDITION",
        'Serving signature key "S" not found.',
    ),
    (paths.GRPC_PREDICT, predict.encode_request("half", {}), "INVALID_ARGUMENT", "input size does not match"),
    (
        paths.GRPC_PREDICT,
        predict.encode_request("half", {"x": np.float32([np.nan])}),
        "INVALID_ARGUMENT",
        "x is not a number",
    ),
    (
        paths.GRPC_CLASSIFY,
        inference.encode_request("half", [b""], signature_name="S"),
        "INVALID_ARGUMENT",
        "No signature was found with the name: S",
    ),
    (paths.GRPC_REGRESS, inference.encode_request("nope", []), "NOT_FOUND", "Latest(nope)"),
    (paths.GRPC_REGRESS, inference.encode_request("half", []), "INVALID_ARGUMENT", "No regression inputs found"),
    (paths.GRPC_MULTI_INFERENCE, b"", "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (paths.GRPC_MULTI_INFERENCE, multi_inference(("s", "x"), model="nope"), "NOT_FOUND", "Latest(nope)"),
    (
        paths.GRPC_MULTI_INFERENCE,
        multi_inference(("s", "x")),
        "INVALID_ARGUMENT",
        "Requested signature not found in model graph: s",
    ),
    (
        paths.GRPC_MULTI_INFERENCE,
        multi_inference(("regress", "predict")),
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    (
        paths.GRPC_MULTI_INFERENCE,
        multi_inference(("regress", "regress"), ("regress", "regress")),
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: regress",
    ),
    (
        paths.GRPC_MULTI_INFERENCE,
        multi_inference(("regress", "regress"), examples=()),
        "INVALID_ARGUMENT",
        "Input is empty.",
    ),
    (
        paths.GRPC_REGRESS,
        inference.encode_request("half", [], signature_name="regress"),
        "INVALID_ARGUMENT",
        "Input is empty.",
    ),
    (
        paths.GRPC_GET_MODEL_METADATA,
        messages.GetModelMetadataRequest(model_spec={"name": "half"}).SerializeToString(),
        "INVALID_ARGUMENT",
        "must specify at least one metadata_field",
    ),
    (paths.GRPC_GET_MODEL_STATUS, model_status.encode_request("nope"), "NOT_FOUND", "versions of model nope"),
    (paths.GRPC_GET_MODEL_STATUS, b"", "INVALID_ARGUMENT", "Missing ModelSpec"),
    (paths.GRPC_HEALTH_CHECK, b"", "UNIMPLEMENTED", ""),
    (
        paths.GRPC_RELOAD_CONFIG,
        b"",
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported",
    ),
    (paths.GRPC_RELOAD_CONFIG, b"\xff", "INVALID_ARGUMENT", "not a ReloadConfigRequest"),
]


@pytest.mark.parametrize(("method", "body", "code", "details"), REFUSED)
def test_what_is_refused_is_told_with_tf_servings_codes_and_words(serve, method, body, code, details):
    with pytest.raises(grpc.RpcError) as refusal:
        call(serve(), method, body)

    assert refusal.value.code().name == code
    assert details in refusal.value.details()


def test_large_messages_pass_and_clients_limit_is_told_once(serve, caplog):
    """The 4 MB that gRPC sets for itself hold on either side; a client's are all that we cannot lift."""
    channel = serve(as_content=True)

    with caplog.at_level(logging.INFO):
        for size in (64 * 2**20, 5 * 2**20):
            x = np.arange(size // 4, dtype=np.float32)
            answer = call(channel, paths.GRPC_PREDICT, predict.encode_request("half", {"x": x}))
            assert len(answer) >= size
            assert np.array_equal(predict.decode_response(answer)[1]["y"], x / 2 + 2)

    assert caplog.text.count("grpc.max_receive_message_length=-1") == 1


@pytest.mark.parametrize("shape", [(1,), (1, 300_000)], ids=["small", "large"])
@pytest.mark.parametrize("gives_up_by", ["deadline", "cancel"])
@pytest.mark.parametrize("batched", [False, True])
def test_a_client_that_gives_up_is_not_computed_for(serve, fakes, half, batched, gives_up_by, shape):
    """All run threads are busy; the request that was given up must not be run when one is free again."""
    channel = serve(batched=batched)
    half.gate.clear()
    body = predict.encode_request("half", X)
    busy = []
    for _ in range(1 if batched else 4):
        busy.append(channel.unary_unary(paths.GRPC_PREDICT).future(body))
        assert half.started.acquire(timeout=WAIT_S)

    def in_flight():
        return channel.serving.metrics.snapshot()["slipway_in_flight{}"]

    def is_waiting():
        # A large one is decoded first, on a thread of its own.
        told = channel.serving.metrics.snapshot().items()
        return any(count for name, count in told if name.startswith("slipway_queued_requests"))

    given_up = channel.unary_unary(paths.GRPC_PREDICT).future(
        predict.encode_request("half", {"x": np.ones(shape, np.float32)}),
        timeout=0.5 if gives_up_by == "deadline" else WAIT_S,
    )
    if gives_up_by == "cancel":
        fakes.wait_for(is_waiting, "the request to be waiting")
        given_up.cancel()
    else:
        assert given_up.exception(WAIT_S).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    fakes.wait_for(lambda: in_flight() == len(busy), "the server to hear of it")
    half.gate.set()

    assert all(predict.decode_response(one.result(WAIT_S))[1]["y"].tolist() == [2.5, 3.0] for one in busy)
    call(channel, paths.GRPC_PREDICT, body)
    assert half.rows == [2] * (len(busy) + 1)


def test_many_clients_get_their_own_answers(serve):
    channel = serve()
    wrong = []

    def ask(offset):
        for number in range(offset, offset + 40):
            x = np.float32([number, number + 0.5])
            _, outputs = predict.decode_response(
                call(channel, paths.GRPC_PREDICT, predict.encode_request("half", {"x": x}))
            )
            if outputs["y"].tolist() != (x / 2 + 2).tolist():
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)

    assert not wrong


def test_draining_refuses_with_unavailable(serve):
    channel = serve()
    channel.serving.drain(0.0)

    with pytest.raises(grpc.RpcError) as refusal:
        call(channel, paths.GRPC_PREDICT, predict.encode_request("half", X))

    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refusal.value.details() == "The server is shutting down"


@pytest.mark.behaviour("5.0-reflection")
def test_reflection_lists_and_describes_what_is_served(serve):
    """As grpcurl and other generic clients use it: from a service's name to messages they can build."""
    channel = serve(has_health_service=True)
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)

    assert set(database.get_services()) == {
        paths.PREDICTION_SERVICE,
        paths.MODEL_SERVICE,
        paths.HEALTH_SERVICE,
        *paths.REFLECTION_SERVICES,
    }
    method = pool.FindServiceByName(paths.PREDICTION_SERVICE).FindMethodByName("Predict")
    request = message_factory.GetMessageClass(method.input_type)(model_spec={"name": "half"})
    request.inputs["x"].CopyFrom(
        message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.TensorProto"))(dtype=1, float_val=[3.0])
    )
    answer = message_factory.GetMessageClass(method.output_type).FromString(
        call(channel, paths.GRPC_PREDICT, request.SerializeToString())
    )
    assert list(answer.outputs["y"].float_val) == [3.5]


def test_the_two_versions_of_reflection_answer_alike(serve):
    channel = serve()
    request = messages.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health").SerializeToString()

    answers = [
        list(channel.stream_stream(f"/{service}/ServerReflectionInfo")(iter([request] * 2), timeout=WAIT_S))
        for service in paths.REFLECTION_SERVICES
    ]

    assert answers[0] == answers[1]
    assert len(answers[0]) == 2


def health(answer):
    return messages.HealthCheckResponse.ServingStatus.Name(messages.HealthCheckResponse.FromString(answer).status)


@pytest.mark.parametrize("service", ["", "ModelService", "PredictionService", "half"])
def test_health_is_told_by_the_standard_service(serve, service):
    channel = serve(has_health_service=True)
    body = messages.HealthCheckRequest(service=service).SerializeToString()

    assert health(call(channel, paths.GRPC_HEALTH_CHECK, body)) == "SERVING"
    channel.manager.aspire("half", {})
    assert health(call(channel, paths.GRPC_HEALTH_CHECK, body)) == "NOT_SERVING"


def test_health_of_an_unknown_service(serve):
    channel = serve(has_health_service=True)
    body = messages.HealthCheckRequest(service="nope").SerializeToString()

    with pytest.raises(grpc.RpcError) as refusal:
        call(channel, paths.GRPC_HEALTH_CHECK, body)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    watch = channel.unary_stream(paths.GRPC_HEALTH_WATCH)(body, timeout=WAIT_S)
    assert health(next(watch)) == "SERVICE_UNKNOWN"
    watch.cancel()


def test_watched_health_is_told_when_it_changes(serve):
    channel = serve(has_health_service=True)
    watch = channel.unary_stream(paths.GRPC_HEALTH_WATCH)(b"", timeout=WAIT_S)

    assert health(next(watch)) == "SERVING"
    channel.serving.drain(0.0)
    assert health(next(watch)) == "NOT_SERVING"
    watch.cancel()


def test_every_watcher_is_told_of_every_change_of_what_it_watches(serve):
    channel = serve(has_health_service=True)
    bodies = {name: messages.HealthCheckRequest(service=name).SerializeToString() for name in ("", "half", "later")}
    watches = {
        name: channel.unary_stream(paths.GRPC_HEALTH_WATCH)(body, timeout=WAIT_S) for name, body in bodies.items()
    }

    assert {name: health(next(watch)) for name, watch in watches.items()} == {
        "": "SERVING",
        "half": "SERVING",
        "later": "SERVICE_UNKNOWN",
    }
    channel.manager.aspire("half", {})
    assert health(next(watches["half"])) == health(next(watches[""])) == "NOT_SERVING"
    channel.manager.aspire("half", {3: "/none"})
    assert health(next(watches["half"])) == health(next(watches[""])) == "SERVING"
    for watch in watches.values():
        watch.cancel()


@pytest.mark.behaviour("1.3-enable_signature_method_name_check")
@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        (paths.GRPC_PREDICT, predict.encode_request("half", X), "INTERNAL"),
        (paths.GRPC_PREDICT, predict.encode_request("half", {}), "INTERNAL"),
        (paths.GRPC_PREDICT, predict.encode_request("half", X, signature_name="s"), "FAILED_PRECONDITION"),
        (
            paths.GRPC_CLASSIFY,
            inference.encode_request("half", [example(1.0)], signature_name="classify"),
            "INVALID_ARGUMENT",
        ),
        (paths.GRPC_MULTI_INFERENCE, multi_inference(("classify", "classify")), "INVALID_ARGUMENT"),
    ],
)
def test_method_names_are_checked_only_if_told(serve, half, method, body, code):
    for name, signature in half.signatures.items():
        half.signatures[name] = replace(signature, method="other")
    channel = serve(checks_method_names=True)

    with pytest.raises(grpc.RpcError) as refusal:
        call(channel, method, body)

    assert refusal.value.code().name == code


def test_any_method_name_will_do_if_not_told(serve, half):
    half.signatures["serving_default"] = replace(half.signatures["serving_default"], method="other")

    assert call(serve(), paths.GRPC_PREDICT, predict.encode_request("half", X))


def malformed(model):
    """A request whose tensor says 3 bytes for a float."""
    request = messages.PredictRequest(model_spec=model)
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_content = b"123"
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("model", "code", "details"),
    [
        ({"name": "nope"}, "NOT_FOUND", "Latest(nope)"),
        ({"name": "half", "signature_name": "s"}, "FAILED_PRECONDITION", '"s" not found'),
        ({"name": "half"}, "INVALID_ARGUMENT", "tensor parsing error: x: tensor_content has 3 bytes"),
    ],
)
def test_the_model_and_the_signature_are_looked_up_before_tensors_are_read(serve, model, code, details):
    with pytest.raises(grpc.RpcError) as refusal:
        call(serve(), paths.GRPC_PREDICT, malformed(model))

    assert refusal.value.code().name == code
    assert details in refusal.value.details()


def test_the_request_may_hold_values_in_any_form(serve):
    request = messages.PredictRequest(model_spec={"name": "half"})
    request.inputs["x"].CopyFrom(tensors.to_proto(np.float32([1.0]), as_content=False))

    answer = call(serve(), paths.GRPC_PREDICT, request.SerializeToString())

    assert predict.decode_response(answer)[1]["y"].tolist() == [2.5]


def test_a_burst_of_one_client_is_answered_each_with_its_own(serve):
    """What of it goes together is for the batcher's good, and nobody can tell."""
    channel = serve(batched=True)
    predicting = channel.unary_unary(paths.GRPC_PREDICT)
    values = [[float("nan")] if number % 5 == 0 else [float(number)] * (1 + number % 3) for number in range(200)]

    calls = [predicting.future(predict.encode_request("half", {"x": np.float32(x)}), timeout=WAIT_S) for x in values]

    for x, one in zip(values, calls, strict=True):
        if np.isnan(x[0]):
            assert (one.code(), one.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "x is not a number")
        else:
            assert predict.decode_response(one.result())[1]["y"].tolist() == [value / 2 + 2 for value in x]
    assert channel.serving.drain(0.0), "each is counted out once"


def test_only_small_calls_of_one_method_go_together(play, monkeypatch):
    """The others are beside them in one turn, and each is answered as ever."""
    monkeypatch.setattr(message_codecs, "LARGE_BYTES", 1000)
    monkeypatch.setattr(grpc_api, "_LARGE_EXAMPLES_BYTES", 1000)

    async def scene(house):
        large = predict.encode_request("m", {"x": np.ones((1, 300), np.float32)})
        regress, many = [
            inference.encode_request("m", [example(3.0)] * count, signature_name="regress") for count in (1, 60)
        ]
        for _ in range(2):
            first, second, third, fourth, last = [
                house.ask("grpc", [1.0]),
                house.send("grpc", large),
                house.send("grpc", regress, target=paths.GRPC_REGRESS),
                house.send("grpc", many, target=paths.GRPC_REGRESS),
                house.ask("grpc", [2.0]),
            ]
            small = await house.told(first, last)
            assert [one.values for one in small] == [{"y": [2.5]}, {"y": [3.0]}]
            assert (await house.told(second)).values == {"y": [[2.5] * 300]}
            assert all(one.is_ok for one in await house.told(third, fourth))
        assert sorted(house.works) == [0] * 4 + [1, 1, 2, 2]

    play(scene)

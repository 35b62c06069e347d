import numpy as np
import pytest

from slipway_server.config_files import BatchingPolicy, RequestLogConfig
from slipway_server.metrics import Metrics
from slipway_server.request_log import RequestLog
from slipway_server.transports import rest_protobuf
from slipway_wire import messages, predict, tfrecord
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument

WAIT_S = 90.0
HEADERS = (b"Content-Type: application/x-protobuf",)
X = np.float32([1.0, 2.0])


@pytest.mark.parametrize(
    ("content_type", "is_one"),
    [
        (b"application/x-protobuf", True),
        (b"application/protobuf", True),
        (b"Application/X-Protobuf", True),
        (b"application/vnd.google.protobuf; messageType=tensorflow.serving.PredictRequest", True),
        (b"application/x-protobuffer", False),
        (b"application/json", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_the_type_of_a_body_says_whether_it_is_a_message(content_type, is_one):
    assert rest_protobuf.is_protobuf({b"content-type": content_type}) is is_one


def test_without_a_type_it_is_none():
    assert not rest_protobuf.is_protobuf({})


SEVEN, EIGHT = ModelSpec("m", version=7), ModelSpec("m", version=8)
STABLE = ModelSpec("m", label="stable")


@pytest.mark.parametrize(
    ("asked", "named", "meant"),
    [
        (ModelSpec("m"), ModelSpec("m", signature_name="s"), ModelSpec("m", signature_name="s")),
        (ModelSpec("m"), SEVEN, SEVEN),
        (ModelSpec("m"), STABLE, STABLE),
        (SEVEN, ModelSpec("m", signature_name="s"), ModelSpec("m", 7, signature_name="s")),
        (SEVEN, SEVEN, SEVEN),
        (STABLE, ModelSpec("m"), STABLE),
        (STABLE, STABLE, STABLE),
    ],
)
def test_the_version_may_be_named_in_either_place(asked, named, meant):
    assert rest_protobuf.agreed(asked, named) == meant


@pytest.mark.parametrize(
    ("asked", "named", "told"),
    [
        (ModelSpec("m"), ModelSpec("n"), 'model "m", and model_spec in the body for "n"'),
        (SEVEN, EIGHT, "version 7 of model m, and model_spec in the body for version 8"),
        (SEVEN, STABLE, 'version 7 of model m, and model_spec in the body for the version with label "stable"'),
        (STABLE, SEVEN, 'the version with label "stable" of model m, and model_spec in the body for version 7'),
    ],
)
def test_two_places_that_do_not_agree_are_told(asked, named, told):
    with pytest.raises(InvalidArgument, match=told):
        rest_protobuf.agreed(asked, named)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("path", "named", "status"), [("", 1, 200), ("/versions/1", None, 200), ("/versions/1", 2, 400)]
)
def test_path_and_message_are_for_the_same_version(play, fakes, path, named, status, together):
    async def scene(house):
        if not together:
            house.serving.observers = (lambda _exchange: None,)
        body = predict.encode_request("m", {"x": X}, version=named)
        # Twice: a form that is known is read in another way.
        for _ in range(2):
            lines = [house.send("rest", body, target=f"/v1/models/m{path}:predict", headers=HEADERS) for _ in range(2)]
            for told in await house.told(*lines):
                assert told.status == status
                if status == 200:
                    spec, outputs = predict.decode_response(told.body)
                    assert (spec.version, outputs["y"].tolist()) == (1, [2.5, 3.0])
        assert sum(house.works) == (4 if together and status == 200 else 0)

    play(scene, {("m", 1): fakes.HalfPlusTwo(), ("m", 2): fakes.HalfPlusTwo()})


def test_messages_go_together_and_text_beside_them(play):
    async def scene(house):
        body = predict.encode_request("m", {"x": X})
        message, text, other = (
            house.send("rest", body, headers=HEADERS),
            house.ask("rest", [3.0]),
            house.send("rest", body, headers=HEADERS),
        )
        told = await house.told(message, text, other)
        assert told[0].body == told[2].body
        assert told[1].values == [3.5]
        assert sorted(house.works) == [1, 2]

    play(scene)


@pytest.mark.parametrize("width", [10, 300_000])
def test_large_messages_are_read_and_written_aside(play, width):
    x = np.arange(width, dtype=np.float32)[None]

    async def scene(house):
        body = predict.encode_request("m", {"x": x})
        told = await house.told(house.send("rest", body, headers=HEADERS))
        assert told.fields["content-type"] == rest_protobuf.CONTENT_TYPE.decode()
        assert np.array_equal(predict.decode_response(told.body)[1]["y"], x / 2 + 2)
        assert house.works == ([1] if width == 10 else [0])

    play(scene)


@pytest.mark.parametrize("path", ["", "/versions/1"])
def test_a_message_is_logged_as_it_came_and_with_the_version_that_served(play, fakes, tmp_path, path):
    """What its path says is not lost, nor what no JSON says; and few bytes that mean a large tensor stay few."""
    half, metrics = fakes.HalfPlusTwo(), Metrics()
    log = RequestLog(metrics, max_file_bytes=1 << 20)
    log.configure({"m": RequestLogConfig("tfrecord", str(tmp_path / "log"), 1.0)})
    request = messages.PredictRequest(output_filter=["y"])
    request.model_spec.name = "m"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=100_000)
    request.inputs["x"].float_val.append(1.0)

    async def scene(house):
        house.serving.observers = (log,)
        target = f"/v1/models/m{path}:predict"
        return await house.told(house.send("rest", request.SerializeToString(), target=target, headers=HEADERS))

    told = play(scene, {("m", 1): half}, policy=BatchingPolicy(max_batch_size=100_000, num_batch_threads=1))
    log.stop(WAIT_S)

    (file,) = tmp_path.glob("log-*")
    with file.open("rb") as stream:
        (logged,) = [messages.PredictionLog.FromString(record) for record in tfrecord.read(stream)]
    assert logged.predict_log.response.SerializeToString(deterministic=True) == messages.PredictResponse.FromString(
        told.body
    ).SerializeToString(deterministic=True)
    request.model_spec.version.value = 1
    request.model_spec.signature_name = "serving_default"
    assert logged.predict_log.request == request


def test_answers_are_written_as_over_grpc(play):
    """In typed fields, unless the same flags say otherwise."""

    async def scene(house):
        told = await house.told(house.send("rest", predict.encode_request("m", {"x": X}), headers=HEADERS))
        return told.body

    typed, content, from_four_bytes = (
        play(scene, **options) for options in ({}, {"as_content": True}, {"content_min_bytes": 4})
    )

    assert content == from_four_bytes != typed
    for body in (typed, content):
        assert predict.decode_response(body)[1]["y"].tolist() == [2.5, 3.0]

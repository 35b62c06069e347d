"""Requests that one turn of the loop brings, through both front doors."""

import asyncio
import gc
import gzip
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.batching import brief
from slipway_server.batching.scheduler import BatchScheduler, DirectScheduler, PerModelScheduler
from slipway_server.bearer import BearerToken
from slipway_server.config_files import BatchingPolicy
from slipway_server.transports import gathering, message_codecs, rest_api
from slipway_server.transports.waiting import soon_on
from slipway_wire import dtypes, inference, json_examples, json_predict, messages, predict
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.status import Code

WAIT_S = 90.0
NAN = float("nan")


def small(**parameters):
    return BatchingPolicy(**{"num_batch_threads": 1, **parameters})


def outputs(told):
    """Give what a model with one output has answered."""
    assert told.is_ok, told
    return told.values["y"] if isinstance(told.values, dict) else told.values


STATUS = {
    "rest": {"INVALID_ARGUMENT": 400, "UNAVAILABLE": 503, "INTERNAL": 500},
    "grpc": {"INVALID_ARGUMENT": 3, "UNAVAILABLE": 14, "INTERNAL": 13, "DEADLINE_EXCEEDED": 4},
}


# What goes together.


@pytest.mark.parametrize("inner", [(), (2,), (2, 3)])
def test_all_rows_of_a_turn_are_one_run_and_each_gets_its_own(play, protocol, inner):
    """Several times, for requests of a form that was seen before are read in another way than the first."""

    async def scene(house):
        for turn in range(3):
            sent = [
                (np.arange(rows * np.prod(inner, dtype=int)).reshape(rows, *inner) + 100.0 * number + turn).tolist()
                for number, rows in enumerate((1, 3, 1, 2, 1))
            ]
            told = await house.told(*[house.ask(protocol, values) for values in sent])
            assert [outputs(one) for one in told] == [(np.float32(values) / 2 + 2).tolist() for values in sent]
        assert house.half.rows == [8, 8, 8]
        assert house.works == [5, 5, 5]

    play(scene)


def test_the_next_turn_is_another_run(play, protocol):
    async def scene(house):
        for value in (1.0, 2.0):
            assert outputs(await house.told(house.ask(protocol, [value]))) == [value / 2 + 2]
        assert house.works == [1, 1]

    play(scene)


def test_who_comes_alone_waits_for_nobody(play):
    """Nor because many came before."""

    async def scene(house):
        await house.told(*[house.ask("grpc", [1.0]) for _ in range(3)])
        line = house.ask("grpc", [1.0])
        await asyncio.sleep(0)
        assert house.works == [3, 1]
        await house.told(line)

    play(scene)


def test_as_long_as_each_turn_brings_more_they_wait_for_it_but_not_for_ever(play, monkeypatch):
    monkeypatch.setattr(gathering, "_MAX_WAIT_S", 1000.0)

    async def scene(house):
        lines = [house.ask("grpc", [float(number)]) for number in range(2)]
        for turn in range(20):
            await asyncio.sleep(0)
            # Two turns with nobody else would have let them go.
            assert bool(house.works) == (turn >= gathering._MAX_TURNS - 1)
            lines.append(house.ask("grpc", [2.0 + turn]))
        told = await house.told(*lines)
        assert [outputs(one) for one in told] == [[number / 2 + 2] for number in range(22)]
        assert house.works[0] == gathering._MAX_TURNS + 1

    play(scene)


@pytest.mark.parametrize(("bound", "value"), [("_MAX_BYTES", 1), ("_MAX_WAIT_S", 0.0)])
def test_what_takes_long_to_read_or_to_come_is_not_waited_with(play, monkeypatch, bound, value):
    monkeypatch.setattr(gathering, bound, value)

    async def scene(house):
        lines = [house.ask("grpc", [float(number)]) for number in range(2)]
        await asyncio.sleep(0)
        assert house.works == [2]
        lines.append(house.ask("grpc", [2.0]))
        await house.told(*lines)

    play(scene)


def test_both_formats_of_json_go_together_and_each_is_answered_in_its_own(play):
    async def scene(house):
        rows, columns = house.ask("rest", [1.0]), house.ask("rest", [3.0, 4.0], columns=True)
        told = await house.told(rows, columns)
        assert [one.body for one in told] == [b'{"predictions":[2.5]}', b'{"outputs":[3.5,4.0]}']
        assert house.works == [2]

    play(scene)


class Scaled:
    """Several inputs, of which one has a default and one is text, and several outputs."""

    def __init__(self, half):
        def specs(**shapes):
            return {
                name: TensorSpec(name, dtypes.from_name(dtype), None, f"{name}:0") for name, dtype in shapes.items()
            }

        self.half, self.batching_policy, self.is_closed = half, None, False
        self.gate, self.started, self.rows = half.gate, half.started, half.rows
        self.signatures = {
            "serving_default": Signature(
                "serving_default",
                PREDICT,
                specs(scale="float", word="string", x="float"),
                specs(length="int64", sum="float", y="float"),
                {"scale": np.float32([[10.0]])},
            )
        }
        self.signature_defs = messages.SignatureDefMap().signature_def

    def run(self, call):
        inputs = call.inputs
        self.rows.append(len(inputs["x"]))
        found = {
            "y": inputs["x"] * inputs["scale"],
            "sum": inputs["x"].sum(axis=1),
            "length": np.int64([len(word) for word in inputs["word"]]),
        }
        return {name: found[name] for name in call.outputs}

    def close(self):
        self.is_closed = True


@pytest.fixture
def scaled(fakes):
    return {("m", 1): Scaled(fakes.HalfPlusTwo())}


@pytest.mark.parametrize("word", [b"one", b""])
def test_several_inputs_outputs_and_a_default(play, scaled, protocol, word):
    """What the model adds by itself is part of each request, though no client has sent it."""

    async def scene(house):
        def ask(number, scale):
            x = np.float32([[number, number + 1.0]])
            if protocol == "grpc":
                inputs = {"x": x, "word": np.array([word * number], object)}
                inputs |= {"scale": np.float32([[scale]])} if scale else {}
                return house.send("grpc", predict.encode_request("m", inputs))
            row = {"x": x[0].tolist(), "word": (word * number).decode()}
            row |= {"scale": [scale]} if scale else {}
            return house.send("rest", json.dumps({"instances": [row]}).encode())

        scales = (0, 0, 3.0, 3.0, 0) if protocol == "grpc" else (2.0, 4.0, 3.0, 3.0, 5.0)
        for _ in range(2):
            told = await house.told(*[ask(number, scale) for number, scale in enumerate(scales)])
            for number, (one, scale) in enumerate(zip(told, scales, strict=True)):
                values = one.values if protocol == "grpc" else {k: [v] for k, v in one.values[0].items()}
                by = scale or 10.0
                assert values == {
                    "y": [[number * by, (number + 1.0) * by]],
                    "sum": [2.0 * number + 1],
                    "length": [len(word) * number],
                }
        assert house.servables["m", 1].rows == [5, 5]

    play(scene, scaled)


def scores(protocol, method, body):
    """Read what an answer to Classify or Regress says of each example."""
    if protocol == "rest":
        results = json.loads(body)["results"]
        return [row[0][1] for row in results] if method == "classify" else results
    if method == "classify":
        classifications = messages.ClassificationResponse.FromString(body).result.classifications
        return [one.classes[0].score for one in classifications]
    return [one.value for one in messages.RegressionResponse.FromString(body).result.regressions]


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_examples_of_a_turn_are_one_run_and_each_gets_its_own(play, protocol, method):
    async def scene(house):
        for _ in range(2):
            known = [inferences(protocol)[f"{method} {name}"] for name in ("one", "three", "another", "one")]
            told = await house.told(*[house.send(protocol, body, target=target) for _, body, target in known])
            assert [scores(protocol, method, one.body) for one in told] == [[2.75], [2.75, 3.25, 3.75], [3.5], [2.75]]
        assert house.works == [4, 4]

    play(scene)


def test_an_output_filter_is_a_group_of_its_own(play, scaled):
    async def scene(house):
        def ask(*wanted):
            inputs = {"x": np.float32([[1.0]]), "word": np.array([b"a"], object)}
            return house.send("grpc", predict.encode_request("m", inputs, output_filter=wanted))

        told = await house.told(ask("y"), ask("sum"), ask("y"), ask())
        assert [set(one.values) for one in told] == [{"y"}, {"sum"}, {"y"}, {"y", "sum", "length"}]
        assert sorted(house.works) == [1, 1, 2]

    play(scene, scaled)


def test_what_is_not_alike_goes_in_groups_of_its_own(play, fakes, protocol):
    """Different shapes, signatures, versions and models in one turn; and the same, named in another way."""
    servables = {key: fakes.HalfPlusTwo() for key in (("m", 1), ("m", 2), ("n", 1))}
    for servable in servables.values():
        servable.signatures["other"] = servable.signatures["serving_default"].__class__(
            "other", PREDICT, *(getattr(servable.signatures["serving_default"], side) for side in ("inputs", "outputs"))
        )
        run = servable.run
        servable.run = lambda call, run=run: run(call.__class__("serving_default", call.inputs, call.outputs))

    async def scene(house):
        asked = [
            ({}, [1.0]),
            ({}, [[1.0, 2.0]]),
            ({"model": "n"}, [3.0]),
            ({"version": 1}, [4.0]),
            ({"signature": "other"}, [5.0]),
        ]
        lines = [house.ask(protocol, values, **where) for where, values in asked * 3]
        told = await house.told(*lines)
        for one, (where, values) in zip(told, asked * 3, strict=True):
            assert outputs(one) == (np.float32(values) / 2 + 2).tolist()
            if protocol == "rest":
                assert one.fields["x-slipway-model-version"] == ("1" if where.keys() & {"model", "version"} else "2")
            else:
                spec, _ = predict.decode_response(one.body)
                name, version = where.get("model", "m"), 1 if where.keys() & {"model", "version"} else 2
                wanted = (name, version, where.get("signature", "serving_default"))
                assert (spec.name, spec.version, spec.signature_name) == wanted
        assert house.works == [3] * 5

    play(scene, servables)


def test_no_input_may_be_of_another_shape_in_a_group(play, scaled):
    async def scene(house):
        def ask(width, scale_width):
            shapes = {"x": np.ones((1, width), np.float32), "scale": np.ones((1, scale_width), np.float32)}
            return house.send("grpc", predict.encode_request("m", {**shapes, "word": np.array([b"a"], object)}))

        told = await house.told(ask(2, 2), ask(2, 1), ask(3, 1), ask(2, 1))
        assert [one.values["y"] for one in told] == [[[1.0] * width] for width in (2, 2, 3, 2)]
        assert sorted(house.works) == [1, 1, 2]
        assert sorted(house.servables["m", 1].rows) == [1, 1, 2]

    play(scene, scaled)


def test_of_one_input_other_outputs_are_another_group(play, fakes):
    half = fakes.HalfPlusTwo()
    one = half.signatures["serving_default"]
    half.signatures["serving_default"] = replace(one, outputs={**one.outputs, "z": one.outputs["y"]})
    half.run = lambda call: {name: call.inputs["x"] + (name == "z") for name in call.outputs}

    async def scene(house):
        bodies = [predict.encode_request("m", {"x": np.float32([1.0])}, output_filter=[name]) for name in "yzy"]
        told = await house.told(*[house.send("grpc", body) for body in bodies])
        assert [one.values for one in told] == [{"y": [1.0]}, {"z": [2.0]}, {"y": [1.0]}]
        assert house.works == [2, 1]

    play(scene, {("m", 1): half})


@pytest.mark.parametrize("sizes", [(1,) * 10, (3, 3, 1, 4), (4, 4), (1, 4, 1, 4, 1)])
def test_more_rows_than_the_largest_batch_are_several_groups(play, protocol, sizes):
    async def scene(house):
        sent = [[10.0 * number + row for row in range(size)] for number, size in enumerate(sizes)]
        for _ in range(2):
            told = await house.told(*[house.ask(protocol, values) for values in sent])
            assert [outputs(one) for one in told] == [[value / 2 + 2 for value in values] for values in sent]
        assert sum(house.works) == 2 * len(sizes)
        assert max(house.half.rows) <= 4
        assert sum(house.half.rows) == 2 * sum(sizes)

    play(scene, policy=small(max_batch_size=4))


@pytest.mark.parametrize("rows", [5, 9])
def test_a_request_that_is_divided_goes_alone(play, protocol, rows):
    """With splitting a request may be larger than what runs together."""

    async def scene(house):
        sent = [[1.0], [float(row) for row in range(rows)], [2.0]]
        told = await house.told(*[house.ask(protocol, values) for values in sent])
        assert [outputs(one) for one in told] == [[value / 2 + 2 for value in values] for values in sent]
        assert sorted(house.works) == [0, 2]

    policy = small(max_batch_size=20, enable_large_batch_splitting=True, max_execution_batch_size=4)
    play(scene, policy=policy)


@pytest.mark.parametrize(
    "scheduler_of",
    [
        lambda _policy, metrics: DirectScheduler(2, metrics),
        lambda policy, metrics: PerModelScheduler(BatchScheduler(policy, metrics), DirectScheduler(2, metrics)),
    ],
    ids=["direct", "per model"],
)
def test_without_batching_each_goes_alone(play, protocol, scheduler_of):
    async def scene(house):
        told = await house.told(*[house.ask(protocol, [value]) for value in (1.0, 2.0, 3.0)])
        assert [outputs(one) for one in told] == [[2.5], [3.0], [3.5]]
        assert house.works == [0, 0, 0]

    play(scene, scheduler_of=scheduler_of)


@pytest.mark.parametrize("method", ["predict", "classify", "regress"])
def test_without_batching_nothing_is_read_twice(play, protocol, monkeypatch, method):
    reads = []
    for module, name in (
        (json_examples, "decode_request"),
        (json_predict, "parse_request"),
        (predict, "decode_request"),
        (inference, "examples_from_proto"),
    ):
        read = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, read=read: (reads.append(args), read(*args))[1])

    async def scene(house):
        if method == "predict":
            line = house.ask(protocol, [1.0])
        else:
            _, body, target = inferences(protocol)[f"{method} one"]
            line = house.send(protocol, body, target=target)
        assert (await house.told(line)).is_ok
        assert len(reads) == 1

    play(scene, scheduler_of=lambda _policy, metrics: DirectScheduler(2, metrics))


def test_a_servable_with_parameters_of_its_own_goes_by_those(play, fakes, protocol):
    half = fakes.HalfPlusTwo()
    half.batching_policy = small(max_batch_size=2)

    def started(policy, metrics):
        batched = BatchScheduler(policy, metrics)
        batched.start()
        return PerModelScheduler(batched, DirectScheduler(2, metrics))

    async def scene(house):
        told = await house.told(*[house.ask(protocol, [value]) for value in (1.0, 2.0, 3.0)])
        assert [outputs(one) for one in told] == [[2.5], [3.0], [3.5]]
        assert house.works == [2, 1]

    play(scene, {("m", 1): half}, scheduler_of=started)


# What does not go well together.


def bodies(protocol):
    """Requests of all kinds by name: model in the path, if there is one, and body."""
    if protocol == "rest":
        return {
            **{f"row {n}": ("m", b'{"instances": [%d.5]}' % n) for n in range(3)},
            "rows": ("m", b'{"instances": [1, 2.0, 3e1]}'),
            "columns": ("m", b'{"inputs": [7.0]}'),
            "named": ("m", b'{"instances": [{"x": 1.5}]}'),
            "nested": ("m", b'{"instances": [[1.5, 2], [3, 4]]}'),
            "infinite": ("m", b'{"instances": [Infinity]}'),
            "large": ("m", b'{"instances": [1e39]}'),
            "larger": ("m", b'{"instances": [1e400]}'),
            "huge": ("m", b'{"instances": [%d]}' % 10**40),
            "precise": ("m", b'{"instances": [16777217, 9007199791611905, 0.1]}'),
            "signature": ("m", b'{"signature_name": "serving_default", "instances": [1.5]}'),
            "no signature": ("m", b'{"signature_name": "nope", "instances": [1.5]}'),
            "no number": ("m", b'{"instances": ["a"]}'),
            "null": ("m", b'{"instances": [null]}'),
            "true": ("m", b'{"instances": [true]}'),
            "ragged": ("m", b'{"instances": [[1, 2], [3]]}'),
            "half a row": ("m", b'{"instances": [[1, 2], [3, "b"]]}'),
            "deeper": ("m", b'{"instances": [[[1], [2]], [[3], [4]]]}'),
            "wrong name": ("m", b'{"instances": [{"z": 1.5}]}'),
            "scalar": ("m", b'{"inputs": 1.5}'),
            "no rows": ("m", b'{"inputs": []}'),
            "too many rows": ("m", b'{"instances": [1, 2, 3, 4, 5, 6, 7, 8, 9]}'),
            "cut off": ("m", b'{"instances": [1.5'),
            "no text": ("m", b'{"instances": ["\xff"]}'),
            "empty": ("m", b""),
            "both": ("m", b'{"instances": [1.5], "inputs": [1.5]}'),
            "no object": ("m", b"[1.5]"),
            "no model": ("nope", b'{"instances": [1.5]}'),
            # What is the same text as another but for what stands in numbers.
            **{
                f"odd {number}": ("m", body)
                for number, body in enumerate(
                    [
                        b'{"instancs": [1.5]}',
                        b'{"instance5s": [1.5]}',
                        b'{"instances": [1..5]}',
                        b'{"instances": [1 5]}',
                        b'{"instances": 1[.5]}',
                        b'{"instances": []1.5}',
                        b'{"instances": [1.5]}2',
                        b'{"instances": [e]}',
                        b'{"instances": [-]}',
                        b'{"instances": [01]}',
                        b'{"instances": [[1.5, 2 ], [3 4]]}',
                        b'{"instances": [1,, 2]}',
                        b'{"instances": [1, , 2]}',
                        b'{"instances": [-0.0, 5e-324, 1e-46]}',
                        b' { "instances" :\n[ 1.5 ,\t2,3 ] } ',
                    ]
                )
            },
            "deep": ("m", b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
        }
    one = {"x": np.float32([1.5])}
    typed = messages.PredictRequest(model_spec={"name": "m"})
    typed.inputs["x"].dtype = 1
    typed.inputs["x"].tensor_shape.dim.add(size=2)
    typed.inputs["x"].float_val.extend([1.5, 2.5])
    short = messages.PredictRequest(model_spec={"name": "m"})
    short.inputs["x"].dtype = 1
    short.inputs["x"].tensor_shape.dim.add(size=2)
    short.inputs["x"].tensor_content = bytes(7)
    encoded = {
        **{f"row {n}": {"inputs": {"x": np.float32([n + 0.5])}} for n in range(3)},
        "rows": {"inputs": {"x": np.float32([1, 2, 3])}},
        "nested": {"inputs": {"x": np.float32([[1, 2], [3, 4]])}},
        "doubles": {"inputs": {"x": np.float64([1.5])}},
        "filtered": {"inputs": one, "output_filter": ["y"]},
        "signature": {"inputs": one, "signature_name": "serving_default"},
        "version": {"inputs": one, "version": 1},
        "no version": {"inputs": one, "version": 7},
        "no label": {"inputs": one, "label": "nope"},
        "no signature": {"inputs": one, "signature_name": "nope"},
        "wrong name": {"inputs": {"z": np.float32([1.5])}},
        "one too many": {"inputs": {**one, "z": np.float32([1.5])}},
        "none": {"inputs": {}},
        "no such output": {"inputs": one, "output_filter": ["nope"]},
        "scalar": {"inputs": {"x": np.float32(1.5)}},
        "no rows": {"inputs": {"x": np.zeros(0, np.float32)}},
        "too many rows": {"inputs": {"x": np.zeros(9, np.float32)}},
    }
    return {
        **{name: ("m", predict.encode_request("m", **parts)) for name, parts in encoded.items()},
        "no model": ("m", predict.encode_request("nope", one)),
        "typed": ("m", typed.SerializeToString()),
        "too short": ("m", short.SerializeToString()),
        "no message": ("m", b"\xff\xff"),
        "empty": ("m", b""),
    }


class Lengths:
    """How long each word is, for words that are no secret."""

    def __init__(self, half):
        specs = [{name: TensorSpec(name, dtypes.from_name(dtype), None, f"{name}:0")} for name, dtype in IN_AND_OUT]
        self.signatures = {"serving_default": Signature("serving_default", PREDICT, *specs)}
        self.signature_defs = messages.SignatureDefMap().signature_def
        self.batching_policy, self.is_closed = None, False
        self.gate, self.started = half.gate, half.started

    def run(self, call):
        return {"y": np.int64([len(word) for word in call.inputs["word"].reshape(-1)])}

    def close(self):
        self.is_closed = True


IN_AND_OUT = (("word", "string"), ("y", "int64"))


def words(protocol):
    """Requests of text, likewise."""
    if protocol == "rest":
        said = [
            b'["abc"]',
            b'["de"]',
            b'["", "\xc3\xa9"]',
            b'["\\u00e9", "x"]',
            b'[{"b64": "YWJjZA=="}]',
            b'[{"b64": "YWJjZA"}]',
            b'[{"b64": " YWJj ZA== "}]',
            b'[{"b64": "not base64!"}]',
            b'[{"b64": 1}]',
            b'[{"b64": "YQ==", "more": 1}]',
            b'[{"word": "abc"}]',
            b'[{"word": {"b64": "YWJjZA=="}}]',
            b'["abc", {"b64": "YQ=="}]',
            b'[{"b64": "YQ=="}, "abc"]',
            b'["abc", 1]',
            b'[1, "abc"]',
            b'["abc", null]',
            b'["abc", "true"]',
            b'["abc", true]',
            b'["abc", ["d"]]',
            b"[1.5]",
            b'["\xff"]',
        ]
        return {
            f"{key} {number}": ("m", b'{"%b": %b}' % (key.encode(), one))
            for key in ("instances", "inputs")
            for number, one in enumerate(said)
        }
    sent = [[b"abc"], [b"def"], [b"g"], [b""], [b"abc", b"d"], [b"\xff\x00"]]
    return {
        **{str(one): ("m", predict.encode_request("m", {"word": np.array(one, object)})) for one in sent},
        "scalar": ("m", predict.encode_request("m", {"word": np.array(b"abc", object)})),
    }


def inferences(protocol):
    """Requests of Classify and Regress, likewise; and the target of each."""
    if protocol == "rest":
        said = {
            "one": b'"examples": [{"x": 1.5}]}',
            "another": b'"examples": [{"x": 3.0}]}',
            "three": b'"examples": [{"x": 1.5}, {"x": 2.5}, {"x": [3.5]}]}',
            "context": b'"context": {"x": 4.0}, "examples": [{}, {"x": 5.0}]}',
            "too many": b'"examples": [%b]}' % b",".join([b'{"x": 1.5}'] * 9),
            "none": b'"examples": []}',
            "no list": b'"examples": 1}',
            "mixed": b'"examples": [{"x": [1.5, "a"]}]}',
            "cut off": b'"examples": [{"x": 1.5}',
            "of numbers": b'"instances": [1.5]}',
        }
        bodies = {
            f"{verb} {name}": (verb, b'{"signature_name": "%b", %b' % (verb.encode(), body))
            for verb in ("classify", "regress")
            for name, body in said.items()
        }
        bodies |= {
            f"{verb} {name}": (verb, body)
            for verb in ("classify", "regress")
            for name, body in {
                "no signature": b'{"signature_name": "nope", "examples": [{"x": 1.5}]}',
                "of Predict": b'{"examples": [{"x": 1.5}]}',
                "empty": b"",
            }.items()
        }
        known = {name: ("m", body, f"/v1/models/m:{verb}") for name, (verb, body) in bodies.items()}
        return {**known, "no model": ("nope", bodies["classify one"][1], "/v1/models/nope:classify")}

    def example(*values):
        one = messages.Example()
        one.features.feature["x"].float_list.value.extend(values)
        return one.SerializeToString()

    encoded = {}
    for method, other in (("classify", "regress"), ("regress", "classify")):
        calls = {
            "one": {"examples": [example(1.5)]},
            "another": {"examples": [example(3.0)]},
            "two values": {"examples": [example(3.0, 4.0)]},
            "three": {"examples": [example(value) for value in (1.5, 2.5, 3.5)]},
            "version": {"examples": [example(1.5)], "version": 1},
            "no version": {"examples": [example(1.5)], "version": 7},
            "no label": {"examples": [example(1.5)], "label": "nope"},
            "too many": {"examples": [example(1.5)] * 9},
            "none": {"examples": []},
            "no model": {"model": "nope", "examples": [example(1.5)]},
            "no signature": {"examples": [example(1.5)], "signature_name": "nope"},
            "of Predict": {"examples": [example(1.5)], "signature_name": "serving_default"},
            "of the other": {"examples": [example(1.5)], "signature_name": other},
        }
        target = f"/tensorflow.serving.PredictionService/{method.capitalize()}"
        for name, parts in calls.items():
            body = inference.encode_request(**{"model": "m", "signature_name": method, **parts})
            encoded[f"{method} {name}"] = "m", body, target
        encoded[f"{method} no message"] = "m", b"\xff\xff", target
    return encoded


TIMELESS = (
    ":tensorflow:serving:request_count{",
    ":tensorflow:serving:request_latency_count",
    ":tensorflow:serving:runtime_latency_count",
    "slipway_requests_total",
    "slipway_request_seconds_count",
    "slipway_stage_seconds_count",
    "slipway_request_bytes_total",
    "slipway_response_bytes_total",
    "slipway_batch_wait_seconds_count",
    ":tensorflow:serving:batching_session:input_batch_size",
    ":tensorflow:serving:batching_session:queuing_latency_count",
    "slipway_requests_not_run_total",
    "slipway_queued_requests",
    "slipway_in_flight",
)


def books(house):
    """Give every sample that does not depend on time, nor on what ran together."""
    return {name: value for name, value in house.metrics.snapshot().items() if name.startswith(TIMELESS)}


def wait_for_idle(scheduler):
    """Until then a thread has not taken note of the run that it has answered."""
    deadline = time.monotonic() + WAIT_S
    while not scheduler._idle:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def on_one_cpu(policy, metrics):
    scheduler = BatchScheduler(policy, metrics, lambda: 1, soon_on(asyncio.get_running_loop()))
    scheduler.start()
    return scheduler


def send_message(house, model, body, target=None):
    """Post what is meant for gRPC."""
    verb = target.rpartition("/")[2].lower() if target else "predict"
    headers = (b"Content-Type: application/x-protobuf",)
    return house.send("rest", body, target=f"/v1/models/{model}:{verb}", headers=headers)


@pytest.mark.parametrize("which", ["rest", "grpc", "messages over rest"])
@pytest.mark.parametrize("requests_of", [bodies, words, inferences], ids=["numbers", "words", "inferences"])
def test_each_is_told_what_it_is_told_alone_and_the_books_are_the_same(play, fakes, monkeypatch, which, requests_of):
    """Whatever comes in one turn: that others came, too, is nobody's business."""
    known = requests_of("rest" if which == "rest" else "grpc")
    make = fakes.HalfPlusTwo if requests_of is not words else lambda: Lengths(fakes.HalfPlusTwo())

    def send(house, name):
        model, body, *target = known[name]
        if which == "messages over rest":
            return send_message(house, model, body, *target)
        return house.send(which, body, model=model, target=target[0] if target else None)

    def told_of(turns, *, together, **options):
        async def scene(house):
            if not together:
                house.serving.observers = (lambda _exchange: None,)
            told = []
            for turn in turns:
                if together:
                    lines = [send(house, name) for name in turn]
                    told += [await house.told(line) for line in lines]
                    continue
                told += [await house.told(send(house, name)) for name in turn]
            assert together or not any(house.works)
            return [(one.outcome, one.fields) for one in told], books(house)

        return play(scene, {("m", 1): make()}, policy=small(max_batch_size=8), **options)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=12), min_size=1, max_size=3))
    def check(turns):
        assert told_of(turns, together=True) == told_of(turns, together=False)

    check()
    # All at once, in both orders: each is the first of its form once. And where there is one CPU, on which the loop runs batches.
    monkeypatch.setattr(brief, "BRIEF_S", 1000.0)
    for order in (sorted(known), sorted(known, reverse=True)):
        alone = told_of([order, order], together=False)
        assert told_of([order, order], together=True) == alone
        assert told_of([order, order], together=True, scheduler_of=on_one_cpu) == alone


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("requests_of", [bodies, words, inferences], ids=["numbers", "words", "inferences"])
def test_a_message_is_answered_over_rest_as_over_grpc_byte_for_byte(play, fakes, requests_of, together):
    known = requests_of("grpc")
    make = fakes.HalfPlusTwo if requests_of is not words else lambda: Lengths(fakes.HalfPlusTwo())

    async def scene(house):
        if not together:
            house.serving.observers = (lambda _exchange: None,)
        for name, (model, body, *targets) in known.items():
            target = targets[0] if targets else None
            over_grpc = house.send("grpc", body, target=target)
            over_rest = send_message(house, "nope" if "no model" in name else model, body, target)
            told, posted = await house.told(over_grpc, over_rest)
            assert posted.status == Code(told.status).http_status, name
            assert posted.message == told.message, name
            assert posted.fields["content-type"] == ("application/x-protobuf" if told.is_ok else "application/json")
            if told.is_ok:
                assert posted.body == told.body, name
                assert posted.fields["x-slipway-model-version"] == "1"

    play(scene, {("m", 1): make()}, policy=small(max_batch_size=8))


@pytest.mark.parametrize("guilty", [0, 2, 4])
def test_a_run_that_one_makes_fail_costs_the_others_nothing(play, protocol, guilty):
    async def scene(house):
        values = [float(number) for number in range(5)]
        values[guilty] = NAN
        told = await house.told(*[house.ask(protocol, [value]) for value in values])
        bad = told.pop(guilty)
        assert (bad.status, bad.message) == (STATUS[protocol]["INVALID_ARGUMENT"], "x is not a number")
        assert [outputs(one) for one in told] == [[value / 2 + 2] for value in values if not np.isnan(value)]
        assert (house.count("OK"), house.count("INVALID_ARGUMENT")) == (4, 1)
        assert house.works == [5, 0, 0, 0, 0, 0]

    play(scene)


def test_who_has_failed_without_company_does_not_try_again(play, protocol):
    async def scene(house):
        assert (await house.told(house.ask(protocol, [NAN]))).message == "x is not a number"
        assert house.works == [1]
        assert house.half.rows == [1]

    play(scene)


def test_a_run_that_fails_for_all_is_told_to_each(play, protocol):
    """Even with an error as which our own waiting could end."""

    async def scene(house):
        def broken(_call):
            raise TimeoutError("the model's own")

        house.half.run = broken
        told = await house.told(*[house.ask(protocol, [value]) for value in (1.0, 2.0)])
        assert [one.status for one in told] == [STATUS[protocol]["INTERNAL"]] * 2
        assert all("internal error" in one.message for one in told)
        assert house.count("INTERNAL") == 2

    play(scene)


def test_outputs_without_a_row_for_each_are_nobodys_answer(play, protocol):
    async def scene(house):
        house.half.run = lambda _call: {"y": np.zeros(7, np.float32)}
        told = await house.told(*[house.ask(protocol, [value]) for value in (1.0, 2.0, 3.0)])
        assert all("0th dimension" in one.message for one in told)
        assert house.works == [3, 0, 0, 0]

    play(scene)


def test_what_a_full_queue_has_no_room_for_together_may_have_room_alone(play, protocol):
    async def scene(house):
        first = house.occupy(house.half)
        await house.has_begun(house.half)
        waits = house.ask(protocol, [1.0])
        await house.turn()
        lines = [house.ask(protocol, [value]) for value in (2.0, 3.0)]
        await house.turn()
        full = [line.told for line in lines if line.told is not None]
        assert [(one.status, "is full" in one.message) for one in full] == [(STATUS[protocol]["UNAVAILABLE"], True)]
        assert "retry-after" in full[0].fields
        house.half.gate.set()
        told = await house.told(first, waits, *lines)
        assert [outputs(one) for one in told if one.is_ok] == [[2.0], [2.5], [3.0]]
        # Of those who found no room only those count who got none.
        assert house.metrics.sum_of(house.metrics.not_run, reason="refused") == 1
        assert (house.count("OK"), house.count("UNAVAILABLE")) == (3, 1)

    play(scene, policy=small(max_batch_size=2, max_enqueued_batches=1))


def test_what_comes_together_fills_the_batch_that_others_have_begun(play, protocol):
    """Groups of three rows would leave a quarter of each batch empty, and the last would find no room."""

    async def scene(house):
        first = house.occupy(house.half)
        await house.has_begun(house.half)
        lines = []
        for group in range(4):
            lines += [house.ask(protocol, [3.0 * group + number]) for number in range(3)]
            await house.turn()
        house.half.gate.set()
        assert [outputs(one) for one in await house.told(*lines)] == [[number / 2 + 2] for number in range(12)]
        await house.told(first)
        assert house.half.rows == [1, 4, 4, 4]

    play(scene, policy=small(max_batch_size=4, max_enqueued_batches=3))


def test_requests_of_many_rows_are_not_cut_to_fill_a_batch(play, protocol):
    async def scene(house):
        house.occupy(house.half)
        await house.has_begun(house.half)
        lines = []
        for _ in range(3):
            lines += [house.ask(protocol, values) for values in ([1.0, 2.0], [3.0])]
            await house.turn()
        house.half.gate.set()
        assert [outputs(one) for one in await house.told(*lines)] == [[2.5, 3.0], [3.5]] * 3
        assert house.half.rows == [1, 3, 3, 3]

    play(scene, policy=small(max_batch_size=4))


@pytest.mark.parametrize("leaving", [1, 2])
def test_who_leaves_when_a_group_was_cut_leaves_its_part_of_it(play, protocol, leaving):
    async def scene(house):
        first = house.occupy(house.half)
        await house.has_begun(house.half)
        lines = []
        for _ in range(2):
            lines += [house.ask(protocol, [float(len(lines) + number)]) for number in range(3)]
            await house.turn()
        # The fourth has filled the batch of the first three; the others wait by themselves.
        for line in lines[-leaving:]:
            line.leave()
        house.half.gate.set()
        await house.told(first, *lines[:-leaving])
        assert (house.count("OK"), house.count("CANCELLED")) == (7 - leaving, leaving)
        assert house.half.rows == [1, 4, 2][: 4 - leaving]

    play(scene, policy=small(max_batch_size=4))


# A server that ends.


def test_a_server_that_drains_refuses_what_it_has_not_begun(play, protocol):
    async def scene(house):
        lines = [house.ask(protocol, [value]) for value in (1.0, 2.0)]
        house.serving.drain(0.0)
        for one in await house.told(*lines):
            assert (one.status, one.message) == (STATUS[protocol]["UNAVAILABLE"], "The server is shutting down")
            assert protocol == "grpc" or one.fields["connection"] == "close"
        assert not house.half.rows

    play(scene)


@pytest.mark.parametrize("values", [(1.0, 2.0, 3.0), (1.0, NAN, 3.0)])
def test_a_server_that_drains_answers_what_it_has_begun(play, protocol, values):
    """Also where one has made a run fail, so that the others begin again."""

    async def scene(house):
        house.hold(house.half)
        lines = [house.ask(protocol, [value]) for value in values]
        await house.has_begun(house.half)
        assert not house.serving.drain(0.0)
        house.half.gate.set()
        told = await house.told(*lines)
        for one, value in zip(told, values, strict=True):
            assert one.message == "x is not a number" if np.isnan(value) else outputs(one) == [value / 2 + 2]
            assert protocol == "grpc" or one.fields["connection"] == "close"
        assert house.serving.drain(0.0)

    play(scene)


# Who leaves.


def test_who_leaves_before_the_turn_ends_is_not_run(play, protocol):
    async def scene(house):
        lines = [house.ask(protocol, [value]) for value in (1.0, 2.0, 3.0)]
        if protocol == "rest":
            # Until then it is only read.
            await asyncio.sleep(0)
        lines[1].leave()
        assert [outputs(one) for one in await house.told(lines[0], lines[2])] == [[2.5], [3.5]]
        assert house.half.rows == [2]
        assert (house.count("OK"), house.count("CANCELLED")) == (2, 1)

    play(scene)


def test_if_all_leave_before_the_turn_ends_nothing_is_run(play, protocol):
    async def scene(house):
        lines = [house.ask(protocol, [value]) for value in (1.0, 2.0)]
        if protocol == "rest":
            await asyncio.sleep(0)
        for line in lines:
            line.leave()
        await house.turn()
        assert not house.works
        assert house.count("CANCELLED") == 2

    play(scene)


@pytest.mark.parametrize("runs", [False, True])
def test_who_leaves_later_is_counted_once_and_the_others_are_answered(play, protocol, runs):
    async def scene(house):
        first = None if runs else house.occupy(house.half)
        if first:
            await house.has_begun(house.half)
        house.hold(house.half)
        lines = [house.ask(protocol, [value]) for value in (1.0, 2.0, 3.0)]
        if runs:
            await house.has_begun(house.half)
        await house.turn()
        assert house.metrics.sum_of(house.metrics.in_flight) == (3 if runs else 4)
        lines[0].leave()
        assert house.metrics.sum_of(house.metrics.in_flight) == (2 if runs else 3)
        house.half.gate.set()
        assert [outputs(one) for one in await house.told(*lines[1:])] == [[3.0], [3.5]]
        assert lines[0].told is None
        if first:
            await house.told(first)
        assert (house.count("OK"), house.count("CANCELLED")) == (2 if runs else 3, 1)

    play(scene)


@pytest.mark.parametrize("runs", [False, True])
def test_if_all_leave_what_waits_is_withdrawn(play, fakes, protocol, runs):
    async def scene(house):
        first = None if runs else house.occupy(house.half)
        if first:
            await house.has_begun(house.half)
        house.hold(house.half)
        lines = [house.ask(protocol, [value]) for value in (1.0, 2.0, 3.0)]
        if runs:
            await house.has_begun(house.half)
        await house.turn()
        for line in lines:
            line.leave()
        assert house.metrics.not_run.of("m", "cancelled").value == (0 if runs else 3)
        house.half.gate.set()
        if first:
            await house.told(first)
        assert house.count("CANCELLED") == 3
        await asyncio.to_thread(fakes.wait_for, lambda: house.half.rows == ([3] if runs else [1]), "the run to end")

    play(scene)


def test_who_leaves_while_an_answer_is_written(play, protocol, monkeypatch):
    """Large ones are written on threads of their own; the others are answered, and nobody is counted twice."""
    monkeypatch.setattr(message_codecs, "is_large", lambda _outputs: True)
    monkeypatch.setattr(rest_api, "_LARGE_ELEMENTS", 0)
    gate, writing, threads = threading.Event(), threading.Semaphore(0), set()

    async def scene(house):
        api = house.rest_api if protocol == "rest" else house.grpc_api
        encode = api._encode

        def slow(*arguments, **options):
            threads.add(threading.current_thread().name)
            writing.release()
            assert gate.wait(WAIT_S)
            return encode(*arguments, **options)

        api._encode = slow
        lines = [house.ask(protocol, [value, value]) for value in (1.0, 2.0, 3.0)]
        assert await asyncio.to_thread(writing.acquire, timeout=WAIT_S)
        lines[0].leave()
        gate.set()
        assert [outputs(one) for one in await house.told(*lines[1:])] == [[3.0] * 2, [3.5] * 2]
        await house.turn()
        assert (house.count("OK"), house.count("CANCELLED")) == (2, 1)
        for stage, reached in (("parse", 3), ("queue", 3), ("compute", 3), ("encode", 2)):
            assert house.metrics.sum_of(house.metrics.stages_s, stage=stage) == reached
        assert house.works == [3]

    play(scene)
    prefix = "json" if protocol == "rest" else "grpc_codec"
    assert threads
    assert all(name.startswith(prefix) for name in threads)


def test_answers_that_are_large_only_together_are_written_one_by_one(play, protocol, monkeypatch):
    monkeypatch.setattr(message_codecs, "is_large", lambda outputs: outputs["y"].size > 3)
    monkeypatch.setattr(rest_api, "_LARGE_ELEMENTS", 3)

    async def scene(house):
        api = house.rest_api if protocol == "rest" else house.grpc_api
        written = []
        monkeypatch.setattr(api._predictions, "_write_all", lambda *_: written.append("together"))
        monkeypatch.setattr(api._codec_threads, "submit", lambda *_: written.append("aside"))
        told = await house.told(*[house.ask(protocol, [value, value]) for value in (1.0, 2.0, 3.0)])
        assert [outputs(one) for one in told] == [[2.5] * 2, [3.0] * 2, [3.5] * 2]
        assert house.works == [3]
        house.hold(house.half)
        lines = [house.ask(protocol, [value, value]) for value in (1.0, 2.0, 3.0)]
        await house.has_begun(house.half)
        lines[1].leave()
        house.half.gate.set()
        assert [outputs(one) for one in await house.told(lines[0], lines[2])] == [[2.5] * 2, [3.5] * 2]
        assert (house.count("OK"), house.count("CANCELLED")) == (5, 1)
        assert not written

    play(scene)


def test_an_answer_that_cannot_be_written_is_its_own_failure(play):
    """JSON has no NaN where clients want none; the others are answered. It has run, and is timed so."""

    async def scene(house):
        lines = [house.send("rest", b'{"instances": [%b]}' % value) for value in (b"1.0", b"Infinity", b"3.0")]
        first, bad, last = await house.told(*lines)
        assert (outputs(first), outputs(last)) == ([2.5], [3.5])
        assert bad.status == 500
        assert "y" in bad.message
        for stage, reached in (("parse", 3), ("queue", 3), ("compute", 3), ("encode", 2)):
            assert house.metrics.sum_of(house.metrics.stages_s, stage=stage) == reached

    play(scene, non_finite="error")


# Whose time is over.


def expire(house):
    """Let the time of all that wait over REST be over."""
    timeout = house.rest_api._timeout
    for waiter in timeout._due_at:
        timeout._due_at[waiter] = 0.0
    timeout._ring()


def test_the_timeout_of_rest_ends_all_of_a_group(play):
    """Those that run are told so; those that wait are withdrawn and never run."""

    async def scene(house):
        house.hold(house.half)
        running = [house.ask("rest", [value]) for value in (1.0, 2.0)]
        await house.has_begun(house.half)
        waiting = [house.ask("rest", [value]) for value in (3.0, 4.0, 5.0)]
        await house.turn()
        expire(house)
        told = await house.told(*running, *waiting)
        assert [one.status for one in told] == [504] * 2 + [429] * 3
        assert all("while the model ran" in one.message for one in told[:2])
        assert all("timeout exceeded while waiting" in one.message for one in told[2:])
        assert house.metrics.sum_of(house.metrics.in_flight) == 0
        house.half.gate.set()
        assert outputs(await house.told(house.ask("rest", [6.0]))) == [5.0]
        assert house.half.rows == [2, 1]
        assert (house.count("DEADLINE_EXCEEDED"), house.count("RESOURCE_EXHAUSTED")) == (2, 3)

    play(scene, timeout_s=3600.0)


def test_a_timeout_leaves_nothing_behind_when_answers_come_in_time(play):
    async def scene(house):
        for _ in range(3):
            told = await house.told(*[house.ask("rest", [value]) for value in (1.0, NAN)])
            assert [one.status for one in told] == [200, 400]
        await house.turn()
        assert not house.rest_api._timeout._due_at

    play(scene, timeout_s=3600.0)


# Over only when requests have long been queued, however busy the machine is.
SOON = b"grpc-timeout: 300m"


def test_a_deadline_of_grpc_ends_one_of_a_group(play):
    async def scene(house):
        house.hold(house.half)
        late = house.ask("grpc", [1.0], headers=[SOON])
        others = [house.ask("grpc", [value]) for value in (2.0, 3.0)]
        one = await house.told(late)
        assert (one.status, one.message) == (4, "Deadline Exceeded")
        house.half.gate.set()
        assert [outputs(one) for one in await house.told(*others)] == [[3.0], [3.5]]
        assert house.works == [3]
        assert (house.count("OK"), house.count("CANCELLED")) == (2, 1)

    play(scene)


@pytest.mark.parametrize("is_first", [False, True])
def test_a_group_waits_as_long_as_the_last_of_its_deadlines(play, is_first):
    async def scene(house):
        first = house.occupy(house.half)
        await house.has_begun(house.half)
        heads = [(SOON,), ()]
        late, patient = (house.ask("grpc", [1.0], headers=head) for head in (heads if is_first else reversed(heads)))
        late, patient = (late, patient) if is_first else (patient, late)
        assert (await house.told(late)).status == 4
        house.half.gate.set()
        await house.told(first)
        assert outputs(await house.told(patient)) == [2.5]
        assert house.half.rows == [1, 2]

    play(scene)


def test_once_all_deadlines_of_a_group_are_over_it_is_never_run(play):

    async def scene(house):
        first = house.occupy(house.half)
        await house.has_begun(house.half)
        lines = [house.ask("grpc", [value], headers=[SOON]) for value in (1.0, 2.0)]
        assert [one.status for one in await house.told(*lines)] == [4, 4]
        house.half.gate.set()
        await house.told(first)
        assert house.half.rows == [1]
        assert house.metrics.sum_of(house.metrics.not_run) == 2

    play(scene)


# Who is looked at by itself.


def test_while_somebody_looks_on_each_goes_alone_and_is_seen(play, protocol):
    async def scene(house):
        seen = []
        house.serving.observers = (seen.append,)
        told = await house.told(*[house.ask(protocol, [value]) for value in (1.0, NAN, 3.0)])
        assert [one.is_ok for one in told] == [True, False, True]
        assert house.works == [0, 0, 0]
        assert sorted((exchange.code.name, exchange.rows) for exchange in seen) == [
            ("INVALID_ARGUMENT", 1),
            ("OK", 1),
            ("OK", 1),
        ]
        house.serving.observers = ()
        await house.told(*[house.ask(protocol, [value]) for value in (1.0, 3.0)])
        assert house.works == [0, 0, 0, 2]
        assert len(seen) == 3

    play(scene)


TRACE = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_who_says_who_it_is_goes_alone_and_is_told_so(play, protocol):
    """What is said back to one must not be said to another."""

    async def scene(house):
        for _ in range(2):
            heads = [(), (b"x-request-id: mine",), (), (TRACE,), (b"x-request-id: yours",)]
            lines = [house.ask(protocol, [float(n)], headers=head) for n, head in enumerate(heads)]
            told = await house.told(*lines)
            assert [outputs(one) for one in told] == [[n / 2 + 2] for n in range(5)]
            ids = [one.fields.get("x-request-id") for one in told]
            assert ids == [None, "mine", None, None, "yours"]
        assert sorted(house.works) == [0] * 6 + [2, 2]

    play(scene)


def test_where_every_request_gets_an_id_each_goes_alone(play, protocol):
    async def scene(house):
        for _ in range(2):
            told = await house.told(*[house.ask(protocol, [value]) for value in (1.0, 2.0)])
            assert len({one.fields["x-request-id"] for one in told}) == 2
        assert house.works == [0] * 4

    play(scene, make_ids=True)


def test_who_may_not_ask_is_not_taken_in(play, protocol, tmp_path):
    (tmp_path / "token").write_text("s3cret")
    token = BearerToken(tmp_path / "token", "token_file")

    async def scene(house):
        for _ in range(2):
            heads = [(b"authorization: Bearer s3cret",), (), (b"authorization: Bearer s3cret",), (b"authorization: x",)]
            lines = [house.ask(protocol, [float(n)], headers=head) for n, head in enumerate(heads)]
            told = await house.told(*lines)
            assert [outputs(one) for one in told[::2]] == [[2.0], [3.0]]
            assert [one.status for one in told[1::2]] == [{"rest": 401, "grpc": 16}[protocol]] * 2
        assert house.works == [2, 2]
        # A token may be exchanged while heads are remembered.
        (tmp_path / "token").write_text("another")
        lines = [
            house.ask(protocol, [1.0], headers=(b"authorization: Bearer " + word,)) for word in (b"s3cret", b"another")
        ]
        old, new = await house.told(*lines)
        assert (old.is_ok, new.is_ok) == (False, True)

    play(scene, token=token, check=token.check)


# What answers over REST say besides.


def test_answers_of_a_group_have_the_headers_of_any_answer(play):
    async def scene(house):
        told = await house.told(*[house.ask("rest", [value]) for value in (1.0, NAN, 3.0)], house.ask("rest", [4.0]))
        for one in told:
            assert one.fields["access-control-allow-origin"] == "*"
            assert one.fields.get("x-slipway-model-version") == ("1" if one.is_ok else None)
            assert one.fields["content-type"] == "application/json"

    play(scene, has_cors=True)


def test_answers_of_a_group_are_compressed_for_those_who_take_them_so(play):
    async def scene(house):
        heads = [(b"Accept-Encoding: gzip",), (), (b"Accept-Encoding: gzip",), (b"Accept-Encoding: gzip",)]
        values = [[1.0] * 300, [2.0] * 300, [3.0] * 300, [4.0]]
        for _ in range(2):
            lines = [house.ask("rest", one, headers=head) for one, head in zip(values, heads, strict=True)]
            told = await house.told(*lines)
            assert [one.fields.get("content-encoding") for one in told] == ["gzip", None, "gzip", None]
            assert [one.fields.get("vary") for one in told] == ["Accept-Encoding", None, "Accept-Encoding", None]
            plain = [gzip.decompress(one.body) if "vary" in one.fields else one.body for one in told]
            assert [json.loads(body)["predictions"] for body in plain] == [
                [value / 2 + 2 for value in one] for one in values
            ]
            assert all(one.fields["x-slipway-model-version"] == "1" for one in told)
        assert house.works == [4, 4]

    play(scene, gzip_min_bytes=500)


def test_compressed_requests_go_alone(play):
    async def scene(house):
        body = b'{"instances": [1.0]}'
        zipped = house.send("rest", gzip.compress(body), headers=(b"Content-Encoding: gzip",))
        told = await house.told(zipped, house.send("rest", body))
        assert [outputs(one) for one in told] == [[2.5], [2.5]]
        assert sorted(house.works) == [0, 1]

    play(scene)


# Where there is one CPU.


def test_on_one_cpu_the_loop_itself_runs_what_is_brief(play, protocol, monkeypatch):
    monkeypatch.setattr(brief, "BRIEF_S", 1000.0)

    async def scene(house):
        threads, run = [], house.half.run
        house.half.run = lambda call: (threads.append(threading.get_ident()), run(call))[1]
        for _ in range(2):
            told = await house.told(*[house.ask(protocol, [value]) for value in (1.0, 2.0)])
            assert [outputs(one) for one in told] == [[2.5], [3.0]]
            await asyncio.to_thread(wait_for_idle, house.scheduler)
        assert [thread == threading.get_ident() for thread in threads] == [False, True]

    play(scene, scheduler_of=on_one_cpu)


# What is left behind.


async def answered(house, protocol, requests):
    told = await house.told(*[house.ask(protocol, [1.0]) for _ in range(requests)])
    assert all(one.is_ok for one in told)


async def failed(house, protocol, requests):
    told = await house.told(*[house.ask(protocol, [NAN]) for _ in range(requests)])
    assert not any(one.is_ok for one in told)


async def malformed(house, protocol, requests):
    told = await house.told(*[house.send(protocol, b"\xff") for _ in range(requests)])
    assert not any(one.is_ok for one in told)


async def misfit(house, protocol, requests):
    told = await house.told(*[house.ask(protocol, [1.0], signature="nope") for _ in range(requests)])
    assert not any(one.is_ok for one in told)


async def refused(house, protocol, requests):
    house.hold(house.half)
    first = house.ask(protocol, [0.0] * 64)
    await house.has_begun(house.half)
    waits = house.ask(protocol, [0.0] * 64)
    await house.turn()
    told = await house.told(*[house.ask(protocol, [1.0]) for _ in range(requests)])
    assert not any(one.is_ok for one in told)
    house.half.gate.set()
    await house.told(first, waits)


async def left(house, protocol, requests):
    house.hold(house.half)
    first = house.ask(protocol, [0.0])
    await house.has_begun(house.half)
    lines = [house.ask(protocol, [1.0]) for _ in range(requests)]
    await house.turn()
    for line in lines:
        line.leave()
    house.half.gate.set()
    await house.told(first)
    await house.turn()


async def left_one_by_one(house, protocol, requests):
    house.hold(house.half)
    lines = [house.ask(protocol, [1.0]) for _ in range(requests)]
    await house.has_begun(house.half)
    for line in lines[1:]:
        line.leave()
    house.half.gate.set()
    await house.told(lines[0])


async def timed_out(house, protocol, requests):
    house.hold(house.half)
    headers = (b"grpc-timeout: 1m",) if protocol == "grpc" else ()
    lines = [house.ask(protocol, [1.0], headers=headers) for _ in range(requests)]
    await house.turn()
    if protocol == "rest":
        await house.has_begun(house.half)
        expire(house)
    told = await house.told(*lines)
    assert not any(one.is_ok for one in told)
    house.half.gate.set()
    await answered(house, protocol, 2)


@pytest.mark.parametrize(
    "what", [answered, failed, malformed, misfit, refused, left, left_one_by_one, timed_out], ids=lambda f: f.__name__
)
def test_no_request_leaves_a_circle_behind(play, protocol, what):
    """What refers to itself waits for the garbage collector, which looks at all there is: a fifth of the CPU, once."""

    async def scene(house):
        found = []
        for requests in (3, 3, 60):
            gc.collect()
            await what(house, protocol, requests)
            for line in house.lines:
                line.forget()
            house.lines.clear()
            await house.turn()
            found.append(gc.collect())
        return found

    gc.disable()
    # What was there before need not be looked at.
    gc.freeze()
    try:
        _, few, many = play(scene, policy=small(max_batch_size=64, max_enqueued_batches=1), timeout_s=3600.0)
    finally:
        gc.unfreeze()
        gc.enable()
    # A circle of each would be one object or more; one that a call's deadline leaves by itself, on a busy machine, is no matter.
    assert many <= few + 45, (few, many)

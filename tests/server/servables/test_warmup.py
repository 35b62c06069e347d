import functools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from slipway_server.batching.sizes import batches_like
from slipway_server.config_files import BatchingPolicy
from slipway_server.load_options import WarmupOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.manager import Manager
from slipway_server.servables.warmup import WarmedLoader
from slipway_wire import inference, messages, predict, tfrecord, warmup_log
from slipway_wire.status import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unimplemented,
    Unknown,
)
from slipway_wire.warmup_log import WARMUP_FILE


def example(value):
    message = messages.Example()
    message.features.feature["x"].float_list.value.append(value)
    return message.SerializeToString()


def predict_record(*values, signature_name=""):
    request = predict.encode_request("another", {"x": np.float32(values)}, version=9, signature_name=signature_name)
    return warmup_log.encode("predict", request)


@pytest.fixture
def version(tmp_path):
    """A version directory; `version(*records)` writes its warm-up file."""

    def write(*records):
        path = tmp_path / WARMUP_FILE
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tfrecord.frame_all(records))
        return tmp_path

    return write


@pytest.fixture
def loaded(fakes):
    return fakes.HalfPlusTwo()


@pytest.fixture
def warm(fakes, loaded):
    """`warm(directory, **options)` loads; `policy` switches batching on."""

    def load(directory, *, policy=None, metrics=None, **options):
        more = {}
        if policy:
            more["prepare"] = lambda: functools.partial(batches_like, policy=policy)
        return WarmedLoader(
            fakes.FakeLoader(loaded),
            directory,
            WarmupOptions(**options),
            model="m",
            version=3,
            metrics=metrics or Metrics(),
            **more,
        ).load()

    return load


def test_every_kind_of_record_is_replayed_in_order(version, warm, loaded):
    """Model name and version are those of the recording; signature and inputs count."""
    classify = inference.encode_request("another", [example(1.0)], signature_name="classify")
    regress = inference.encode_request("another", [example(1.0)], signature_name="regress")
    directory = version(
        predict_record(1.0),
        predict_record(1.0, 2.0),
        warmup_log.encode("classify", classify),
        warmup_log.encode("regress", regress),
        b"",
    )

    assert warm(directory) is loaded

    assert loaded.rows == [1, 2]
    assert [loaded.started.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]


def test_a_multi_inference_record_runs_its_signatures(version, warm, loaded):
    request = messages.MultiInferenceRequest()
    for name, method in (("classify", "classify"), ("regress", "regress")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "another", name
    request.input.example_list.examples.add().MergeFromString(example(1.0))

    warm(version(warmup_log.encode("multi_inference", request.SerializeToString())))

    assert loaded.started.acquire(blocking=False)


def test_records_are_replayed_as_often_as_asked(version, warm, loaded):
    warm(version(predict_record(1.0), predict_record(1.0, 2.0)), iterations=3)

    assert loaded.rows == [1, 1, 1, 2, 2, 2]


def test_without_records_there_is_nothing_to_do(tmp_path, warm, loaded):
    assert warm(tmp_path) is loaded
    assert not loaded.rows


def test_warm_up_can_be_switched_off(version, warm, loaded):
    assert warm(version(b"\xff"), is_enabled=False) is loaded
    assert not loaded.rows


def test_a_record_that_fails_fails_the_load_and_is_named(version, warm, loaded):
    directory = version(predict_record(1.0), predict_record(float("nan")))

    with pytest.raises(
        InvalidArgument,
        match=r"tf_serving_warmup_requests: warm-up record 1 \(predict, signature serving_default\): x is not a number$",
    ):
        warm(directory)

    assert loaded.is_closed


def test_an_exception_of_the_model_is_named_too(version, warm, loaded, monkeypatch):
    def run(_call):
        raise ZeroDivisionError("in the model")

    monkeypatch.setattr(loaded, "run", run)

    with pytest.raises(Unknown, match=r"warm-up record 0 .*ZeroDivisionError: in the model$"):
        warm(version(predict_record(1.0)))


def test_a_record_for_a_signature_that_is_gone_says_so(version, warm):
    with pytest.raises(FailedPrecondition, match=r'record 0 \(predict, signature old\): .*"old" not found'):
        warm(version(predict_record(1.0, signature_name="old")))


def test_a_record_that_is_no_prediction_log_fails_the_load(version, warm):
    with pytest.raises(InvalidArgument, match="record 0: Failed to parse warmup record"):
        warm(version(b"\xff\xff"))


@pytest.mark.parametrize("kind", ["session_run_log", "predict_streamed_log"])
def test_a_kind_of_record_we_cannot_replay_fails_the_load(version, warm, kind):
    log = messages.PredictionLog()
    getattr(log, kind).SetInParent()

    with pytest.raises(Unimplemented, match=f"Unsupported log_type for warmup: {kind}"):
        warm(version(log.SerializeToString()))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_damaged_file_fails_the_load(version, warm, threads):
    directory = version(predict_record(1.0))
    path = directory / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(DataLoss, match="Please verify your warmup data is in TFRecord format"):
        warm(directory, threads=threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_too_many_records_are_refused(version, warm, threads):
    directory = version(*[b""] * 1001)

    with pytest.raises(InvalidArgument, match=r"^Number of warmup records exceeds the maximum \(1000\) at "):
        warm(directory, threads=threads)


def test_a_thousand_records_are_not_too_many(version, warm):
    metrics = Metrics()

    warm(version(*[b""] * 1000), metrics=metrics)

    assert metrics.sum_of(metrics.model_warmup_records_read, status="OK") == 1000


def test_threads_replay_at_once_and_each_record_once(version, warm, loaded, monkeypatch):
    """The barrier opens only when three records are being run at the same time."""
    barrier, run = threading.Barrier(3), loaded.run

    def together(call):
        barrier.wait(90.0)
        return run(call)

    monkeypatch.setattr(loaded, "run", together)

    warm(version(*[predict_record(*[1.0] * rows) for rows in range(1, 10)]), threads=3)

    assert sorted(loaded.rows) == list(range(1, 10))


def test_one_failure_ends_all_threads(version, warm, loaded):
    with pytest.raises(InvalidArgument, match="x is not a number"):
        warm(version(predict_record(float("nan")), *[predict_record(1.0)] * 500), threads=4)

    assert len(loaded.rows) < 500


BATCHED = BatchingPolicy(max_batch_size=16, allowed_batch_sizes=(2, 4, 16))


def test_with_batching_every_allowed_size_is_run_once_and_records_are_padded(version, warm, loaded):
    """Ragged records: 1 is run as 2, 3 as 4; 16 is nobody's, and is made of the first record's rows."""
    warm(version(predict_record(1.0), predict_record(1.0, 2.0, 3.0), predict_record(5.0)), policy=BATCHED)

    assert loaded.rows == [2, 4, 16, 4, 2]


def test_sizes_nobody_asked_for_can_be_left_out(version, warm, loaded):
    warm(version(predict_record(1.0)), policy=BATCHED, has_all_batch_sizes=False)

    assert loaded.rows == [2]


def test_what_the_batcher_refuses_fails_the_load(version, warm):
    """A client's request like it would be refused, and TF Serving refuses the record."""
    with pytest.raises(InvalidArgument, match=r"record 0 .*Task size 17 is larger than maximum input batch size 16"):
        warm(version(predict_record(*[1.0] * 17)), policy=BATCHED)


def test_a_size_that_does_not_run_is_told_and_the_version_serves(version, warm, loaded, monkeypatch, caplog):
    """TF Serving would serve it; clients that stay below that size are served well."""
    run = loaded.run

    def up_to_four(call):
        if len(call.inputs["x"]) > 4:
            raise ResourceExhausted("OOM when allocating tensor")
        return run(call)

    monkeypatch.setattr(loaded, "run", up_to_four)
    metrics = Metrics()

    with caplog.at_level(logging.WARNING):
        warm(version(predict_record(1.0)), policy=BATCHED, metrics=metrics)

    assert "signature serving_default does not run at the allowed batch size 16: RESOURCE_EXHAUSTED" in caplog.text
    counted = metrics.warmup_requests
    assert metrics.sum_of(counted, model="m", version="3", source="record", status="OK") == 1
    assert metrics.sum_of(counted, source="batch_size", status="OK") == 1
    assert metrics.sum_of(counted, source="batch_size", status="RESOURCE_EXHAUSTED") == 1


def test_what_was_done_is_logged_and_counted(version, warm, caplog):
    metrics = Metrics()
    directory = version(predict_record(1.0), predict_record(1.0, 2.0))

    with caplog.at_level(logging.INFO):
        warm(directory, metrics=metrics)

    assert "servable {name: m version: 3}: warm-up record 1 (predict, signature serving_default) took " in caplog.text
    assert (
        f"Finished reading warmup data for model at {directory / WARMUP_FILE}. Number of warmup records read: 2."
        in (caplog.text)
    )
    labels = {"model_path": str(directory), "status": "OK"}
    assert metrics.sum_of(metrics.model_warmup_latency_us, **labels) == 1
    assert metrics.sum_of(metrics.model_warmup_records_read, **labels) == 2
    assert metrics.sum_of(metrics.warmup_seconds, model="m", version="3", source="record") == 2


def test_a_failure_is_counted_with_its_code(version, warm):
    metrics = Metrics()

    with pytest.raises(InvalidArgument):
        warm(version(predict_record(1.0), predict_record(float("nan"))), metrics=metrics)

    assert metrics.sum_of(metrics.model_warmup_latency_us, status="INVALID_ARGUMENT") == 1
    assert metrics.sum_of(metrics.model_warmup_records_read, status="INVALID_ARGUMENT") == 1


def test_requests_are_made_up_only_when_asked_for(tmp_path, warm, loaded):
    """Classify and Regress want Examples, which cannot be made up."""
    warm(tmp_path, is_synthesized=True, policy=BATCHED)

    assert loaded.rows == [2, 4, 16]


def test_records_are_better_than_what_is_made_up(version, warm, loaded):
    warm(version(predict_record(1.0, 2.0, 3.0)), is_synthesized=True)

    assert loaded.rows == [3]


def test_a_made_up_request_that_is_refused_fails_nothing(tmp_path, warm, loaded, monkeypatch, caplog):
    def run(_call):
        raise InvalidArgument("too small to convolve")

    monkeypatch.setattr(loaded, "run", run)

    with caplog.at_level(logging.INFO):
        assert warm(tmp_path, is_synthesized=True) is loaded

    assert "the warm-up request made up for signature serving_default was refused: too small to convolve" in caplog.text


def test_nobody_is_answered_before_the_last_record_is(version, fakes, loaded):
    """While a record runs, the version is LOADING and cannot be lent; afterwards it is AVAILABLE."""
    directory = version(predict_record(1.0))
    loaded.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        manager = Manager(
            lambda model, number, _path: WarmedLoader(
                fakes.FakeLoader(loaded), directory, WarmupOptions(), model=model, version=number, metrics=Metrics()
            ),
            load_on=pool,
            unload_on=fakes.AtOnce(),
            later=fakes.Timers(),
        )
        manager.aspire("m", {3: str(directory)})
        assert loaded.started.acquire(timeout=90.0)

        assert [status.state for status in manager.statuses("m")] == ["LOADING"]
        with pytest.raises(NotFound):
            manager.lend("m")

        loaded.gate.set()

    assert [status.state for status in manager.statuses("m")] == ["AVAILABLE"]
    manager.lend("m").release()

"""Versions with warm-up files, good and bad."""

import shutil
from pathlib import Path

import numpy as np
from tests.dropin import saved_models
from tests.dropin.processes import predict_request

from slipway_wire import messages, tfrecord


def write_records(version: Path, records: bytes) -> None:
    """Write the warm-up file of *version*."""
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(records)


def _framed(*logs) -> bytes:
    return tfrecord.frame_all([log.SerializeToString() for log in logs])


def _predict(signature, inputs):
    return messages.PredictionLog(predict_log={"request": predict_request("another", signature, inputs, version=99)})


def write_warmed(base_path: Path, counter: Path) -> None:
    """Copy *counter*, with records that add 1, then 5; model and version in them are not looked at."""
    shutil.copytree(counter, base_path / "1")
    records = _framed(_predict("incr_counter", {}), _predict("incr_counter_by", {"delta": np.float32(5)}))
    write_records(base_path / "1", records)


def write_examples(base_path: Path, half_plus_two: Path) -> None:
    """Copy *half_plus_two*, with a record of each method that takes Examples, and one without any."""
    shutil.copytree(half_plus_two, base_path / "1")
    example = messages.Example()
    example.features.feature["x"].float_list.value.append(1.0)
    given = messages.Input()
    given.example_list.examples.append(example)
    classify, regress, multi = (messages.PredictionLog() for _ in range(3))
    classify.classify_log.request.model_spec.signature_name = "classify_x_to_y"
    classify.classify_log.request.input.CopyFrom(given)
    regress.regress_log.request.model_spec.signature_name = "regress_x_to_y"
    regress.regress_log.request.input.CopyFrom(given)
    for log in (classify.classify_log, regress.regress_log):
        log.request.model_spec.name = "another"
    task = multi.multi_inference_log.request.tasks.add(method_name=saved_models.REGRESS)
    task.model_spec.name, task.model_spec.signature_name = "another", "regress_x_to_y2"
    multi.multi_inference_log.request.input.CopyFrom(given)
    write_records(base_path / "1", _framed(classify, regress, multi, messages.PredictionLog()))


def write_failing(base_path: Path) -> None:
    """Write version 1, which is good, and one version for each way to fail."""
    saved_models.half_plus(1.0).write(base_path / "1")
    session_run = messages.PredictionLog()
    session_run.session_run_log.SetInParent()
    ways = {
        2: _framed(_predict("S", {"x": np.float32([1])})),
        3: tfrecord.frame_all([b"\xff\xff no PredictionLog"]),
        4: tfrecord.frame_all([b"record"])[:-3] + b"???",
        5: _framed(session_run),
        6: _framed(*[messages.PredictionLog()] * 1001),
    }
    for version, records in ways.items():
        write_records(saved_models.half_plus(1.0).write(base_path / str(version)), records)

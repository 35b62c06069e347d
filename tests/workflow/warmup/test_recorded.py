import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workflow.warmup_factory import (
    CONTRACT,
    SIGNATURES,
    classify_record,
    example,
    predict_record,
    write_log,
)

from slipway.errors import SourceError
from slipway.settings import RecordedRequests
from slipway.warmup import recorded
from slipway_wire import inference, messages, tfrecord, warmup_log

X = np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2)


def read(path, most_rows=4, **settings):
    return recorded.read_log(RecordedRequests(path=path, **settings), "m", CONTRACT, SIGNATURES, most_rows)


def test_rows_of_several_requests_are_put_together(tmp_path):
    log = write_log(tmp_path / "log", predict_record({"x": X[:1]}), predict_record({"x": X[1:3]}, version=7))

    kept, reading = read(log)

    np.testing.assert_array_equal(kept["serving_default"]["x"], X[:3])
    assert kept.keys() == {"serving_default"}
    assert (reading.files, reading.requests, reading.taken, reading.spare, reading.skipped) == (1, 2, 2, 0, {})
    assert reading.complete


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 9))
def test_no_row_is_lost_repeated_or_overtaken(sizes, most_rows):
    """However the requests were cut: the first rows that were logged, in order, and no more than are needed."""
    values = np.arange(2 * sum(sizes), dtype=np.float32).reshape(-1, 2)
    kept = recorded.Kept(CONTRACT, most_rows)
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        kept.add("serving_default", {"x": part})

    np.testing.assert_array_equal(kept.best()["serving_default"]["x"], values[:most_rows])


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=12), st.integers(1, 6))
def test_rows_of_one_shape_are_kept_together(calls, most_rows):
    """Sequences of several lengths were logged: the first length with enough rows, or the one with most."""
    kept = recorded.Kept(CONTRACT, most_rows)
    rows: dict[int, int] = {}
    first = None
    for count, length in calls:
        kept.add("tokens", {"ids": np.full((count, length), length), "text": np.full(count, b"a", object)})
        rows[length] = rows.get(length, 0) + count
        first = first or (length if rows[length] >= most_rows else None)

    found = kept.best()["tokens"]["ids"]

    assert len(found) == min(max(rows.values()), most_rows)
    assert len(set(found.ravel())) == 1
    if first is not None:
        assert found[0, 0] == first


def test_what_is_kept_is_bounded():
    kept = recorded.Kept(CONTRACT, 10**6, most_bytes=100)
    for _ in range(50):
        kept.add("serving_default", {"x": X[:1]})

    assert kept.best()["serving_default"]["x"].nbytes <= 108


def test_reading_ends_when_every_signature_has_enough(tmp_path):
    tokens = predict_record({"ids": np.int64([[1, 2]]), "text": ["t"]}, signature="tokens")
    head = [predict_record({"x": X[:2]}), tokens, classify_record([example(x=[0, 1])])]
    log = write_log(tmp_path / "log", *head, *[tokens] * 5, b"never read")

    kept, reading = read(log, most_rows=1)

    assert kept.keys() == {"serving_default", "tokens", "classify"}
    assert (reading.requests, reading.complete) == (3, False)


def test_examples_of_several_signatures_at_once(tmp_path):
    request = messages.MultiInferenceRequest()
    request.tasks.add(model_spec=messages.ModelSpec(name="m", signature_name="classify"), method_name="x")
    request.input.example_list.examples.add().MergeFromString(example(x=[1, 2]))
    log = write_log(tmp_path / "log", warmup_log.encode("multi_inference", request.SerializeToString()))

    assert read(log)[0]["classify"]["inputs"].tolist() == [example(x=[1, 2])]


def test_what_does_not_fit_is_skipped_and_counted(tmp_path):
    streamed = messages.PredictionLog()
    streamed.session_run_log.SetInParent()
    log = write_log(
        tmp_path / "log",
        predict_record({"x": X[:1]}),
        predict_record({"x": X[:1]}, model="other"),
        predict_record({"x": X[:1]}, served=3),
        predict_record({"x": X[:1, :1]}, served=2),
        predict_record({"x": X[:1] + 7}, served=2),
        predict_record({"x": X[:1].astype(np.float64)}, served=2),
        predict_record({"x": X[:0]}, served=2),
        predict_record({"z": X[:1]}, served=2),
        predict_record({"x": X[:1], "z": X[:1]}, served=2),
        predict_record({"x": X[:1]}, signature="gone", served=2),
        predict_record({"x": X[2:3]}, served=2),
        streamed.SerializeToString(),
        b"",
    )

    kept, reading = read(log, versions=[2])

    np.testing.assert_array_equal(kept["serving_default"]["x"], X[2:3])
    assert reading.skipped == {
        "another model": 1,
        "another version": 2,
        "does not fit the contract": 7,
        "no request in it": 1,
        "session_run_log": 1,
    }


def test_a_name_that_the_model_had_elsewhere(tmp_path):
    log = write_log(tmp_path / "log", predict_record({"x": X[:1]}, model="prod-m"))

    assert read(log, model="prod-m")[1].taken == 1


def test_a_directory_is_read_by_name(tmp_path):
    write_log(tmp_path / "b", predict_record({"x": X[1:2]}))
    write_log(tmp_path / "a", predict_record({"x": X[:1]}))
    (tmp_path / ".hidden").write_text("nothing")

    kept, reading = read(tmp_path)

    np.testing.assert_array_equal(kept["serving_default"]["x"], X[:2])
    assert reading.files == 2


# --- JSON lines --------------------------------------------------------------------------------------


def lines(path, *documents):
    path.write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in documents))
    return path


def test_rest_bodies(tmp_path):
    log = lines(
        tmp_path / "log",
        {"instances": [{"x": [0, 1]}, {"x": [1, 0]}]},
        {"signature_name": "serving_default", "inputs": {"x": [[0.5, 0.5]]}},
        {"signature_name": "classify", "examples": [{"x": [0.25, 0.5]}]},
    )

    kept, _ = read(log)

    assert kept["serving_default"]["x"].tolist() == [[0, 1], [1, 0], [0.5, 0.5]]
    assert kept["classify"]["inputs"].tolist() == [example(x=[0.25, 0.5])]


EXAMPLE_JSON = {"features": {"feature": {"x": {"float_list": {"value": [0.5, 1.5]}}}}}


def test_lines_of_our_servers_log(tmp_path):
    examples = {
        "input": {"example_list": {"examples": [EXAMPLE_JSON]}},
        "model_spec": {"name": "m", "signature_name": "classify"},
    }
    head = {"model": "m", "version": 2}
    log = lines(
        tmp_path / "log",
        head | {"method": "predict", "signature": "serving_default", "request": {"inputs": {"x": [[0, 1]]}}},
        head | {"method": "classify", "request": examples},
        head | {"method": "classify", "request": {"input": 1}},
        head | {"method": "predict", "request": {"instances": [1, 2]}},
        head | {"method": "predict", "request": {"inputs": {"x": [[0, 1]]}}, "model": "other"},
        head | {"method": "stream", "request": {}},
    )

    kept, reading = read(log)

    assert kept["serving_default"]["x"].tolist() == [[0, 1]]
    assert kept["classify"]["inputs"].tolist() == [example(x=[0.5, 1.5])]
    assert reading.skipped == {
        "another model": 1,
        "does not fit the contract": 1,
        "malformed": 1,
        "method stream": 1,
    }


# --- bad input ---------------------------------------------------------------------------------------

GOOD = tfrecord.frame_all([predict_record({"x": X[:1]})])
EXAMPLE = tfrecord.frame_all([example(x=[1.0])])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"log: none of its 0 requests can warm m: it is empty\. warmup\.recorded names"),
        (GOOD[:-3], r"record 0 at byte 0: truncated: data and checksum take \d+ bytes, \d+ are left\. Is it a request"),
        (GOOD + GOOD[:-9], r"record 1 at byte \d+: truncated: .* Cut it off there"),
        (GOOD[:-1] + b"?", r"record 0 at byte 0: corrupted: the checksum of its data does not match\."),
        (b"PK\3\4 a zip, a gzip, whatever it may be", r"corrupted: the checksum of its length .* Is it a request log"),
        (tfrecord.frame_all([b"\xff\xff"]), r"record 0: Failed to parse warmup record: not a PredictionLog\. Is it"),
        (EXAMPLE, r"none of its 1 requests can warm m: 1 × "),
        (
            tfrecord.frame_all([predict_record({"x": X[:1]}, model="mnist")] * 3),
            r"none of its 3 requests can warm m: 3 × another model \(the first: one is of model mnist, expected m\)\.",
        ),
        (
            tfrecord.frame_all([predict_record({"x": X[:1, :1]})]),
            r"1 × does not fit the contract \(the first: serving_default: x: expected shape \[N, 2\], N = 1, found \[1, 1\]\)\.",
        ),
        (b'{"inputs": \n', r"log: line 1: JSON Parse error: .* JSON lines were expected"),
    ],
)
def test_a_file_that_is_of_no_use_is_told_in_one_line(tmp_path, content, said):
    (tmp_path / "log").write_bytes(content)

    with pytest.raises(SourceError, match=said) as caught:
        read(tmp_path / "log")

    assert "\n" not in str(caught.value)


def test_an_empty_directory(tmp_path):
    with pytest.raises(SourceError, match="no files in it; a request log was expected"):
        read(tmp_path)


def test_huge_files_take_no_memory(tmp_path):
    """10 GB, most of them a hole: a record that claims them, and a line that never ends, in a process with 1 GB."""
    length = (10 * 2**30).to_bytes(8, "little")
    claims = length + tfrecord.masked_crc32c(length).to_bytes(4, "little")
    said = []
    for name, start in (("record", claims), ("line", b"{")):
        path = tmp_path / name
        path.write_bytes(start)
        os.truncate(path, 10 * 2**30)
        program = (
            "import sys; from pathlib import Path; from slipway.errors import SourceError\n"
            "from slipway.warmup.recorded import read_file\n"
            f"try: print(list(read_file(Path({str(path)!r}), {{}})))\n"
            "except SourceError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)),
        )
        said.append(done.stdout)

    assert "record 0 at byte 0: too large: its data take 10737418240 bytes, at most" in said[0]
    assert f"line 1: longer than {recorded.MAX_REQUEST_BYTES} bytes" in said[1]


def test_a_long_log_is_streamed(tmp_path):
    """A log of another model, read to its end, keeps nothing of it."""
    record = tfrecord.frame(predict_record({"x": np.zeros((1000, 2), np.float32)}, model="other"))
    (tmp_path / "log").write_bytes(record * 2000)

    with pytest.raises(SourceError, match="2000 × another model"):
        read(tmp_path / "log")


@pytest.mark.parametrize(
    ("serialized", "said"),
    [
        (b"\xff\xff\xff", "classify: not a tf.Example"),
        (example(z=[1.0]), "classify: a tf.Example without feature x"),
        (example(x=[1.0]), "classify: feature x: expected 2 in its float_list, found 1"),
        (example(x=[1.0, 2.0]), None),
    ],
)
def test_examples_are_looked_at(serialized, said):
    inputs = {"inputs": inference.examples_tensor([example(x=[0.0, 1.0]), serialized])}

    assert recorded.misfit(CONTRACT, "classify", inputs) == said

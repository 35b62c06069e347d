"""Against a real server and a model whose errors numpy can count."""

import json
import threading

import numpy as np
import pytest
from tests.workflow import served_models as served

from slipway import cli, golden
from slipway.errors import ServerError
from slipway.verify import ask_all

ROWS = 1500


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served.running(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("verify")
    (directory / "digits.yaml").write_text(json.dumps(served.DIGITS))
    golden.write(directory / "golden.npz", served.digits_golden(ROWS))
    return directory


@pytest.fixture(scope="module")
def wrong():
    """Which rows are wrong, by numpy."""
    made = served.digits_golden(ROWS)
    return made.outputs["logits"].argmax(axis=1) != made.labels


def verify(place, *words, data="golden.npz"):
    return cli.main(["verify", *map(str, words), "--contract", str(place / "digits.yaml"), "--data", str(place / data)])


def test_the_served_rate_is_the_offline_rate_over_both_protocols(server, place, wrong, capsys):
    code = verify(
        place, f"127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}", "--rows", 7, "--concurrency", 3
    )
    said = capsys.readouterr()
    count = int(wrong[:1000].sum())

    assert code == 0
    rest, grpc, offline = said.out.splitlines()
    assert 0 < count < 300
    assert rest.startswith(f"REST: Inference error rate: {count / 10:.1f} % ({count} of 1,000; 95 % interval ")
    assert grpc == rest.replace("REST", "gRPC")
    assert offline.startswith("Offline, by the golden answers to these rows: ")
    assert offline.endswith("; the same rows are wrong")
    assert said.err.splitlines()[-1].endswith(": 1,000 of 1,000")


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_very_rows_are_named(server, place, wrong, capsys, protocol):
    port = server.rest_port if protocol == "rest" else server.grpc_port
    words = ("--protocol", protocol, "--json", "--num-tests", 300, "--rows", 32, "--signature", "classify")
    assert verify(place, f"127.0.0.1:{port}", *words) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["served"][0]["wrong_rows"] == found["offline"]["wrong_rows"] == np.flatnonzero(wrong[:300]).tolist()
    assert found["served"][0]["tested"] == 300


def test_one_row_a_request_and_the_plain_line(server, place, wrong, capsys):
    assert verify(place, f"127.0.0.1:{server.rest_port}", "--num-tests", 40, "--version", 1) == 0

    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"Inference error rate: {100 * wrong[:40].mean():.1f} % ({wrong[:40].sum()} of 40; 95 % ")


def test_the_gate_fails_above_its_share_and_holds_at_it(server, place, wrong, capsys):
    words = (f"127.0.0.1:{server.rest_port}", "--rows", 50, "--num-tests", 200, "--max-error-rate")
    share = float(wrong[:200].mean())

    assert verify(place, *words, share) == 0
    assert verify(place, *words, share - 0.001) == 1
    assert "is above" in capsys.readouterr().err


def test_fewer_rows_than_asked_are_each_tried_once(server, place, capsys):
    golden.write(place / "few.npz", served.digits_golden(12))
    assert verify(place, f"127.0.0.1:{server.rest_port}", data="few.npz") == 0

    said = capsys.readouterr()
    assert "few.npz has 12 rows; each is tried once" in said.err
    assert "of 12; 95 %" in said.out


def test_a_wrong_answer_of_the_server_alone_is_told_beside_the_offline_rate(server, place, capsys):
    made = served.digits_golden(20)
    outputs = dict(made.outputs) | {"label": made.labels}
    golden.write(place / "perfect.npz", golden.Golden(made.inputs, outputs, 9 - made.labels))
    assert verify(place, f"127.0.0.1:{server.rest_port}", "--rows", 20, data="perfect.npz") == 0

    assert "20 of 20" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "rows", "said"), [
    ({"deterministic": False}, 20, "; not compared row by row: deterministic: false"),
    ({"row_independent": False}, 5, "; not compared row by row: row_independent: false, and other rows were asked together"),
    ({"row_independent": False}, 20, "; the same rows are wrong"),
])  # fmt: skip
def test_rows_that_cannot_be_compared_are_only_counted(server, place, capsys, change, rows, said):
    golden.write(place / "few.npz", served.digits_golden(20))
    (place / "digits.yaml").write_text(json.dumps(served.DIGITS | change))
    try:
        code = verify(place, f"127.0.0.1:{server.rest_port}", "--rows", rows, "--num-tests", 20, data="few.npz")
    finally:
        (place / "digits.yaml").write_text(json.dumps(served.DIGITS))

    assert code == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("127.0.0.1:1",), "no answer"),
        (("grpc://127.0.0.1:1",), "UNAVAILABLE"),
        (("{rest}", "--model", "other"), "404"),
        (("{rest}", "--model", "types"), "no input image; it has: x"),
        (("{rest}", "--version", 9), "404"),
        (("{rest}", "--label", "none"), "400"),
        (("{grpc}", "--model", "other"), "NOT_FOUND"),
        (("{rest}", "--signature", "other"), "--signature: no other in the contract"),
        (("{rest}", "--num-tests", 0), "--num-tests: expected 1 or more, got 0"),
        (("{rest}", "--concurrency", 1000), "--concurrency: expected 1 to 256, got 1000"),
        (("{rest}", "--max-error-rate", 5), "--max-error-rate: expected a share between 0 and 1, got 5"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(server, place, capsys, words, said):
    known = {"{rest}": f"http://127.0.0.1:{server.rest_port}", "{grpc}": f"grpc://127.0.0.1:{server.grpc_port}"}

    assert verify(place, *(known.get(word, word) for word in words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("slipway verify: error: ")
    assert said in line


class FakeClient:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_no_more_than_asked_are_in_flight_and_answers_keep_their_order():
    """The barrier opens only when four are in flight; a fifth would be counted."""
    barrier, lock = threading.Barrier(4, timeout=120), threading.Lock()
    flying, most, done = set(), [0], []

    def ask(_, part):
        me = threading.get_ident()
        with lock:
            flying.add(me)
            most[0] = max(most[0], len(flying))
        barrier.wait()
        with lock:
            flying.discard(me)
        return part["x"]

    parts = ({"x": np.array([number])} for number in range(40))
    answers = ask_all(parts, FakeClient, ask, concurrency=4, advance=done.append)

    assert [answer.tolist() for answer in answers] == [[number] for number in range(40)]
    assert most[0] == 4
    assert sum(done) == 40


def test_the_first_failure_ends_all():
    asked = []

    def ask(_, part):
        asked.append(part)
        raise ServerError("down")

    parts = ({"x": np.array([number])} for number in range(1000))
    with pytest.raises(ServerError, match="down"):
        ask_all(parts, FakeClient, ask, concurrency=4, advance=lambda _: None)
    assert len(asked) <= 4

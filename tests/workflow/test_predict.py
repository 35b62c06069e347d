"""One call to a real server, as a person makes it."""

import json

import numpy as np
import pytest
from tests.workflow import served_models as served

from slipway import cli
from slipway.predict import as_json, as_text
from slipway_wire.inference import Classification, Regression

IMAGE = served.digits_golden(2).inputs["image"]
LABELS = served.digits_golden(2).outputs["label"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served.running(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def predict(server, capsys):
    """Run the command over a protocol; give exit code, what it printed, what it complained of."""

    def run(*words, protocol="rest"):
        port = server.rest_port if protocol == "rest" else server.grpc_port
        code = cli.main(["predict", f"127.0.0.1:{port}", "--protocol", protocol, *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
class TestBothProtocols:
    def test_a_row_in_an_answer_for_people_out(self, predict, protocol):
        code, out, _ = predict("--model", "digits", "--input", f"image={IMAGE[0].tolist()}", protocol=protocol)

        assert code == 0
        lines = {line.split()[0]: line for line in out.splitlines() if not line.startswith(" ")}
        assert lines["label"].endswith(f"int64 [1]  [{LABELS[0]}]")
        assert "float [1, 10]  [[" in lines["probabilities"]

    def test_several_rows_and_chosen_outputs(self, predict, protocol, tmp_path):
        (tmp_path / "rows.json").write_text(json.dumps(IMAGE.tolist()))
        words = ("--model", "digits", "--file", tmp_path / "rows.json", "--output", "label")

        assert predict(*words, protocol=protocol)[1] == f"label  int64 [2]  [{LABELS[0]}, {LABELS[1]}]\n"
        answer = json.loads(predict(*words, "--json", protocol=protocol)[1])
        assert answer == {"predictions": LABELS.tolist()}

    def test_the_best_classes_are_listed(self, predict, protocol):
        words = ("--model", "digits", "--signature", "classify", "--input", f"image/raw={IMAGE[0].tolist()}")
        _, out, _ = predict(*words, protocol=protocol)
        head, best, *_, more = out.splitlines()

        assert (head, more) == ("row 0:", "  … 5 more")
        assert best.split()[1] == served.CLASSES[LABELS[0]].decode()

    def test_a_regression_is_a_number_a_row(self, predict, protocol, tmp_path):
        (tmp_path / "body.json").write_text(json.dumps({"examples": [{"image/raw": row.tolist()} for row in IMAGE]}))
        words = ("--model", "digits", "--signature", "regress", "--file", tmp_path / "body.json")
        _, out, _ = predict(*words, protocol=protocol)

        assert [line.split(":")[0] for line in out.splitlines()] == ["row 0", "row 1"]

    def test_bytes_of_files_go_as_they_are(self, predict, protocol, tmp_path):
        (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\xff")
        words = ("--model", "types", "--signature", "two", "--input", "a=[[1.5]]", f"b_bytes=@{tmp_path}/cat.png")
        code, out, _ = predict(*words, protocol=protocol)

        assert code == 0
        assert "b_bytes  string []  <10 bytes>" in out

    def test_a_picture_finds_the_input_that_takes_bytes(self, predict, protocol, tmp_path):
        for name in ("one", "two"):
            (tmp_path / name).write_text(name)
        words = ("--model", "types", "--signature", "text", "--image", tmp_path / "one", tmp_path / "two")

        assert predict(*words, protocol=protocol)[1] == "y_bytes  string [2]  ['one', 'two']\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "other", "--input", "x=1"), "404"),
        (("--model", "digits", "--signature", "other", "--input", "x=1"), "has no signature other; it has: classify"),
        (("--model", "digits", "--input", "x=1"), "no input x in serving_default; it takes: image: float"),
        (("--model", "types", "--signature", "two", "--input", "a=1"), "no value for input b_bytes of two"),
        (("--model", "digits", "--input", "image"), "expected NAME=VALUE"),
        (("--model", "digits", "--input", "image=1", "image=2"), "image is given twice"),
        (("--model", "digits", "--input", 'image=["a"]'), "--input: image: JSON Value"),
        (("--model", "digits", "--input", "image=@missing.png"), "missing.png: cannot be read"),
        (("--model", "digits", "--image", "missing.png"), "--image: serving_default has no inputs that take bytes"),
        (("--model", "digits", "--signature", "classify", "--image", "a.png"), "--image: classify and regress take"),
        (("--model", "digits", "--file", "missing.json"), "missing.json: cannot be read"),
        (("--model", "digits", "--input", "image=[[1.0]]"), "expected image: float [?, 64], got shape [1, 1]"),
        (
            ("--model", "digits", "--signature", "classify", "--input", "image/raw=[1,1.5]"),
            "--input: Unexpected element",
        ),
    ],
)
def test_a_mistake_is_one_line(predict, words, said):
    code, out, err = predict(*words)

    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("slipway predict: error: ")
    assert said in line


def test_an_unknown_output_is_named_with_those_there_are(predict):
    code, _, err = predict("--model", "types", "--input", "x=[1.0]", "--output", "z")

    assert code == 2
    assert "--output: no z in the answer; it has: y" in err


def test_nobody_there_is_one_line(capsys):
    assert cli.main(["predict", "127.0.0.1:1", "--model", "m", "--input", "x=1"]) == 2
    assert "no answer" in capsys.readouterr().err


def test_answers_without_rows_are_written_as_columns():
    assert as_json({"y": np.float32(2.5)}) == '{"outputs":2.5}\n'
    assert as_text({"y": np.float32(2.5).reshape(())}) == "y  float []  2.5\n"
    assert as_text(Regression(np.float32([0.5]))) == "row 0: 0.5\n"


def test_classes_without_names_are_numbered():
    assert as_text(Classification(None, np.float32([[0.25, 0.75]]))) == "row 0:\n  0.75  1\n  0.25  0\n"

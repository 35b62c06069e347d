"""
What users of every framework have, converted with no contract at hand; what comes out is what their framework said.

The stages run as forks of a process that has imported TensorFlow and run nothing; test_stages.py has them as users get them.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from slipway import golden
from slipway.contract import read_contract
from slipway.convert import ConversionRecord

HERE = Path(__file__).parents[1]
ROW_OF_WORDS = ["--golden", "words.npz"]
# Name -> path, options, kind, inputs and outputs of the contract that is drafted.
MADE = {
    "keras": ("words.keras", ROW_OF_WORDS, "keras", {"text"}, 1),
    "keras, two ways in and out": ("pair.keras", [], "keras", {"user", "item"}, 2),
    "keras2": ("recurrent.h5", ["--loader", "keras2"], "keras", 1, 1),
    "weights": ("flowers.weights.h5", ["--builder", "user_models:flowers"], "weights", 1, 1),
    "frozen graph": ("frozen.pb", ["--freeze", "keep_prob=1.0"], "frozen_graph", {"image"}, {"probabilities"}),
    "TF1 checkpoint": (
        "ck",
        ["--outputs", "logits=project/logits", "--freeze", "Dropout=1.0", "is_training=false"],
        "tf1_checkpoint", {"ChatInputs", "SegInputs"}, {"logits"},
    ),
    "TF1 checkpoint, its averages in a graph that is built": (
        "ck",
        ["--builder", "user_graphs:tagger", "--moving-average", "--inputs", "c=ChatInputs", "s=SegInputs", "--outputs", "l=project/logits", "--freeze", "Dropout=1.0", "is_training=false"],
        "tf1_checkpoint", {"c", "s"}, {"l"},
    ),
    "SavedModel of TensorFlow 2": (
        "ratings", ["--freeze", "rate=0.0", "--golden", "ratings.npz"], "saved_model", {"word"}, {"rating", "best"},
    ),
}  # fmt: skip
REFUSED = {
    "strings": ("words.keras", [], "input text takes strings, and only you know which"),
    "a rate": ("frozen.pb", [], "keep_prob (float []): one value for all rows, as only training feeds it"),
    "many ends": ("ck", [], "Name what the model gives: --outputs NAME=TENSOR"),
    "a builder": ("line.ckpt", [], "Name the function that builds it: --builder module:function"),
    "a module": ("line.ckpt", ["--builder", "user_models:line"], "write a --contract"),
    "a builder that is not there": ("flowers.weights.h5", ["--builder", "user_models:gone"], "builder user_models:gone: AttributeError"),
    "chance": ("ck", ["--outputs", "l=project/logits", "--freeze", "Dropout=1.0"], "the value it has when the model is used: --freeze"),
    "damage": ("cut.keras", [], "cut off or damaged"),
    "golden rows of something else": ("pair.keras", ["--golden", "words.npz"], "words.npz: no array item; found: text"),
    "Examples": ("estimator", ["--signature", "predict", "--golden", "examples.npz"], "examples.npz: no array examples; found: inputs"),
}  # fmt: skip

# What somebody promises of flowers.keras; the second promise is wrong.
PROMISED = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"petals": {"shape": ["N", 4], "range": [-1, 1]}},
            "outputs": {"logits": {"shape": ["N", 3]}, "scores": {"shape": ["N", 3], "from": "softmax(logits)", "row_sum": 1}},
        },
        "named": {"method": "classify", "scores": "scores", "classes": {"file": "words/names.txt"}},
    },
    "golden": {"rows": 5},
}  # fmt: skip


def convert(directory, conversions):
    """Convert, in forks of this fresh process; so is each stage, of one that has not looked at any model."""
    import os
    import sys
    import tempfile
    from multiprocessing import Pipe

    from slipway import cli
    from slipway.convert import stages

    os.chdir(directory)

    def forked(function, *arguments):
        """Give the exit code of a function's process."""
        if (child := os.fork()) == 0:
            code = 70
            try:
                code = function(*arguments)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def stage_into(log, words):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        return cli.main(words)

    ours, theirs = Pipe()
    if os.fork() == 0:
        ours.close()
        while words := theirs.recv():
            with tempfile.TemporaryFile() as log:
                code = forked(stage_into, log, words)
                log.seek(0)
                theirs.send((code, log.read().decode()))
        os._exit(0)

    def run(stage, arguments):
        ours.send([stage, *arguments])
        code, output = ours.recv()
        if code:
            raise stages.fault(stage, code, output)
        return 0.0

    stages.run = run
    codes = {name: forked(cli.main, words) for name, words in conversions.items()}
    ours.send(None)
    os.wait()
    return codes


def write_graphs(directory):
    import sys
    from pathlib import Path

    sys.path.insert(0, directory)
    import user_graphs

    place = Path(directory)
    (place / "ck").mkdir()
    user_graphs.train(user_graphs.tagger, place / "ck/ner.ckpt")
    user_graphs.freeze(place)
    user_graphs.estimator(place)
    user_graphs.ratings(place)


@pytest.fixture(scope="module")
def converted(tmp_path_factory, fresh, user_files, foreign_files):
    """Where all of them were converted, each exit code, and what was said."""
    directory = tmp_path_factory.mktemp("convert") / "user"
    shutil.copytree(user_files, directory)
    shutil.copyfile(foreign_files / "recurrent.h5", directory / "recurrent.h5")
    shutil.copyfile(HERE / "models/user_graphs.py", directory / "user_graphs.py")
    fresh.test_function(write_graphs, str(directory))
    (directory / "cut.keras").write_bytes((directory / "pair.keras").read_bytes()[:-100])
    np.savez(directory / "words.npz", text=np.array([["red", "blue"], ["blue", "mauve"]]))
    np.savez(directory / "ratings.npz", word=np.array(["red", "blue", "nothing", "green"]))
    (directory / "mine/words").mkdir(parents=True)
    (directory / "mine/words/names.txt").write_text("setosa\nversicolor\nvirginica\n")
    (directory / "mine/good.yaml").write_text(yaml.safe_dump(PROMISED))
    logits = {"logits": {"shape": ["N", 3], "range": [0, 1e-6]}}
    wrong = {"serving_default": PROMISED["signatures"]["serving_default"] | {"outputs": logits}}
    (directory / "mine/wrong.yaml").write_text(yaml.safe_dump(PROMISED | {"signatures": wrong}))
    before = {path.name for path in directory.iterdir()}
    jobs = {name: ["convert", path, "--out", f"made {name}", *options] for name, (path, options, *_) in MADE.items()}
    jobs |= {name: ["convert", path, "--out", f"refused {name}", *words] for name, (path, words, _) in REFUSED.items()}
    for name in ("good", "wrong"):
        jobs[name] = ["convert", "flowers.keras", "--out", f"{name} promise", "--contract", f"mine/{name}.yaml"]
    (codes, told) = fresh.call(
        eval, "__import__('runpy').run_path(file)['convert'](directory, jobs)",
        {"file": __file__, "directory": str(directory), "jobs": jobs},
    )  # fmt: skip
    left = {path.name for path in directory.iterdir()} - before - {"__pycache__"}
    return directory, codes, told, left


@pytest.mark.parametrize("name", MADE)
def test_what_a_user_has_becomes_a_saved_model_that_is_equal_to_it(converted, name):
    directory, codes, told, _ = converted
    assert codes[name] == 0, told
    _, options, kind, inputs, outputs = MADE[name]
    made = directory / f"made {name}"

    record = ConversionRecord.read(made / "conversion.json")
    contract = yaml.safe_load((made / "contract.yaml").read_text())["signatures"]["serving_default"]
    rows = golden.read(made / "golden.npz")
    record.tree.verify(made / "1")
    assert record.source["kind"] == kind
    for found, wanted in ((contract["inputs"], inputs), (contract["outputs"], outputs)):
        assert len(found) == wanted if isinstance(wanted, int) else set(found) == wanted
    assert {parity.output for parity in record.parity} == set(contract["outputs"]) == set(rows.outputs)
    assert all(parity.ok for parity in record.parity)
    # Weights that are damaged or not read would give the same for every row.
    assert all(len({row.tobytes() for row in array}) > 1 for array in rows.outputs.values() if array.ndim > 1)
    assert rows.rows == (64 if "--golden" not in options else 4 if name.startswith("Saved") else 2)


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_the_user_knows_is_asked_for_in_one_line(converted, name):
    _, codes, told, left = converted

    assert codes[name] == 2, told
    assert REFUSED[name][2] in told
    assert f"refused {name}" not in left


def test_a_contract_of_ones_own_is_kept_with_its_words(converted):
    directory, codes, told, _ = converted
    assert codes["good"] == 0, told
    made = directory / "good promise"

    record = ConversionRecord.read(made / "conversion.json")
    assert {(p.signature, p.output) for p in record.parity} >= {("serving_default", "scores"), ("named", "classes")}
    kept = read_contract(made / "contract.yaml")
    assert kept.classes(kept.signatures["named"]) == ("setosa", "versicolor", "virginica")
    assert kept.word_files() == [made / "words/names.txt"]
    assert record.golden_rows == 5


def test_a_model_that_breaks_its_contract_is_not_kept(converted):
    _, codes, told, left = converted

    assert codes["wrong"] == 3, told
    assert "wrong promise" not in left
    assert "failed.json" not in told


def test_nothing_else_is_left_and_no_line_is_a_traceback(converted):
    _, _, told, left = converted

    assert left == {f"made {name}" for name in MADE} | {"good promise"}
    assert "Traceback" not in told
    assert sum(": error: " in line for line in told.splitlines()) == len(REFUSED) + 1  # and a promise that is broken
    assert os.sep + "made keras.partial" not in told


def test_the_lines_for_the_config_are_the_whole_source(converted):
    directory, *_ = converted
    record = ConversionRecord.read(directory / "made frozen graph/conversion.json")

    assert record.source == {
        "kind": "frozen_graph",
        "path": "frozen.pb",
        "inputs": {"image": "image:0"},
        "outputs": {"probabilities": "head/softmax_tensor:0"},
        "freeze_inputs": {"keep_prob": 1.0},
    }

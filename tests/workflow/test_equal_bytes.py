"""Every kind of source, exported twice: other directories, hash seeds, processes, temporary directories; the same bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.workflow.conftest import ROOT, Version

from slipway import files

HERE = Path(__file__).parent
VECTOR = {"x": {"shape": ["N", 4], "range": [-1, 1]}}
TAGGER = {
    "chars": {"dtype": "int32", "shape": ["N", "T"], "range": [0, 19]},
    "segs": {"dtype": "int32", "shape": ["N", "T"], "range": [0, 3]},
}
NER = {
    "kind": "tf1_checkpoint",
    "inputs": {"chars": "ChatInputs", "segs": "SegInputs"},
    "outputs": {"logits": "project/logits"},
    "freeze_inputs": {"Dropout": 1.0, "is_training": False},
}


def predict(inputs, **outputs):
    shapes = {name: shape if isinstance(shape, dict) else {"shape": shape} for name, shape in outputs.items()}
    return {"serving_default": {"method": "predict", "inputs": inputs, "outputs": shapes}}


LOGITS = predict(VECTOR, logits=["N", 3])
CLASSES = ["setosa", "versicolor", "virginica"]
# Kind -> source, and the signatures of its contract. Paths are below the user's directory, which is another each time.
KINDS = {
    "keras": ({"kind": "keras", "path": "words.keras"}, predict({"text": {"dtype": "string", "shape": ["N", "T"], "values": ["red", "blue"]}}, vector=["N", 5])),
    "keras, HDF5": ({"kind": "keras", "path": "flowers.h5"}, LOGITS | {"named": {"method": "classify", "scores": "logits", "classes": CLASSES}}),
    "keras 2, HDF5": ({"kind": "keras", "path": "recurrent.h5", "loader": "keras2"}, predict(VECTOR, state=["N", 3])),
    "weights": ({"kind": "weights", "path": "flowers.weights.h5", "builder": "user_models:flowers"}, LOGITS),
    "weights, HDF5 of Keras 2": ({"kind": "weights", "path": "k2w.h5", "builder": "foreign_models:named", "by_name": True}, LOGITS),
    "checkpoint": (
        {"kind": "checkpoint", "path": "line.ckpt", "builder": "user_models:line"},
        predict({"x": {"shape": ["N", "T"]}, "kind": {"dtype": "int32", "shape": ["N"], "range": [0, 1]}}, total=["N"], squares=["N", "T"]),
    ),
    "tf1_checkpoint with a builder": (NER | {"path": "ck", "builder": "user_graphs:tagger", "moving_average": True}, predict(TAGGER, logits=["N", "T", 3])),
    "tf1_checkpoint with .meta": (
        {"kind": "tf1_checkpoint", "path": "colours.ckpt", "assets": ["vocab.txt"], "inputs": {"words": "words"}, "outputs": {"score": "score"}},
        predict({"words": {"dtype": "string", "shape": ["N", "T"], "values": ["red", "blue", "mauve"]}}, score=["N", "T"]),
    ),
    "frozen_graph": (
        {"kind": "frozen_graph", "path": "frozen.pb", "inputs": {"x": "image"}, "outputs": {"softmax": "head/softmax_tensor"}, "freeze_inputs": {"keep_prob": 1.0}},
        predict(VECTOR, softmax=["N", 3]),
    ),
    "saved_model of TensorFlow 1": (
        {"kind": "saved_model", "path": "estimator", "signature": "predict", "inputs": {"inputs": "examples"}},
        predict({"inputs": {"dtype": "string", "shape": ["N"], "example": {"age": {"shape": [1], "range": [0, 1]}, "colour": {"dtype": "string", "shape": [1], "values": ["red", "blue"]}}}}, logits=["N", 1], probabilities=["N", 2]),
    ),
    "saved_model of TensorFlow 2": (
        {"kind": "saved_model", "path": "ratings", "freeze_inputs": {"rate": 0.0}},
        predict({"word": {"dtype": "string", "shape": ["N"], "values": ["red", "blue", "mauve"]}}, rating=["N", 3], best={"dtype": "int64", "shape": ["N"]}),
    ),
}  # fmt: skip

# Elsewhere: one interpreter that imports TensorFlow and runs nothing of it, and a fork of it for each export.
EXPORT_ALL = """
import atexit, json, os, sys
from slipway import cli
from slipway.models import saved_model, sources, resigned, graph_sources
for words, directory in json.loads(sys.stdin.read()):
    if (child := os.fork()) == 0:
        os.chdir(directory)
        code = 70
        try:
            code = cli.main(words)
        finally:
            atexit._run_exitfuncs()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0, (words, status)
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory, fresh, user_files, foreign_files):
    """Each kind, with its golden answers and its first export."""
    here = tmp_path_factory.mktemp("here")
    user = here / "user"
    shutil.copytree(user_files, user)
    shutil.copytree(foreign_files, user, dirs_exist_ok=True, ignore=shutil.ignore_patterns("estimator", "frozen.pb"))
    shutil.copyfile(HERE / "models/user_graphs.py", user / "user_graphs.py")
    fresh.test_function(write_more, str(user))
    found, told = {}, {}
    for name, (source, signatures) in KINDS.items():
        place = here / name.replace(" ", "_")
        place.mkdir()
        contract = {"format": 1, "golden": {"rows": 4}, "signatures": signatures}
        if "'T'" in str(signatures):
            contract["probe"] = {"dims": {"T": 3}}
        (place / "contract.yaml").write_text(yaml.safe_dump(contract))
        found[name] = version = Version(place / "1", source, place / "contract.yaml", "mine")
        version.directory.mkdir()
        finished = version.run(fresh, "checkpoint", "export", directory=user)
        told[name] = finished.errors
    assert {name: errors for name, errors in told.items() if errors} == {}
    return found


def write_more(directory):
    """What neither of the two other modules writes."""
    import sys
    from pathlib import Path

    sys.path.insert(0, directory)
    import user_graphs
    import user_models

    user_models.flowers().save(f"{directory}/flowers.h5")
    user_graphs.write(Path(directory))


@pytest.fixture(scope="module")
def others(tmp_path_factory, versions):
    """The second exports, of copies elsewhere."""
    there = tmp_path_factory.mktemp("elsewhere") / "and/deeper"
    (there / "tmp").mkdir(parents=True)
    user = next(iter(versions.values())).directory.parents[1] / "user"
    shutil.copytree(
        user, there / "files", ignore=shutil.ignore_patterns("*.pb*", "variables", "*.keras", "*.h5", "*.data*")
    )
    found, jobs = {}, []
    for name, version in reversed(versions.items()):
        place = there / f"of {name}"
        place.mkdir()
        found[name] = again = Version(place, version.source, version.contract, "mine")
        shutil.copytree(version.source_directory, again.source_directory)
        shutil.copyfile(version.checkpoint_record, again.checkpoint_record)
        jobs.append(([str(word) for word in again.words("export")], str(there / "files")))
    ran = subprocess.run(
        [sys.executable, "-c", EXPORT_ALL],
        input=json.dumps(jobs),
        env=os.environ | {"PYTHONHASHSEED": "12345", "TMPDIR": str(there / "tmp"), "OMP_NUM_THREADS": "1"},
        cwd=there,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert list((there / "tmp").iterdir()) == []
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_two_exports_have_the_same_bytes(kind, versions, others):
    one, other = versions[kind], others[kind]

    expected, found = files.tree_files(one.export), files.tree_files(other.export)

    assert list(found) == list(expected)
    assert [name for name in expected if found[name].read_bytes() != expected[name].read_bytes()] == []
    assert other.export_record.read_bytes() == one.export_record.read_bytes()


def test_nothing_of_where_it_was_made_is_in_them(versions):
    for name, version in versions.items():
        content = b"".join(path.read_bytes() for path in files.tree_files(version.export).values())
        assert str(version.directory.parents[1]).encode() not in content, name
        assert bytes(ROOT) not in content, name

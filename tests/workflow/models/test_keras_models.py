"""Files of Keras 2 and 3, through the stages: golden answers are those of the framework that reads them."""

import numpy as np
import pytest
from tests.workflow.conftest import Version

from slipway import golden
from slipway.records import ValidationRecord

CONTRACT = """
format: 1
signatures:
  serving_default:
    method: predict
    inputs: {{x: {{shape: [N, 4], range: [-1, 1]}}}}
    outputs: {{y: {{shape: [N, {width}]}}}}
golden: {{rows: 4}}
"""


@pytest.fixture
def version(foreign_files, tmp_path):
    def make(width, **source):
        contract = tmp_path / "contract.yaml"
        contract.write_text(CONTRACT.format(width=width))
        (tmp_path / "v").mkdir()
        return Version(tmp_path / "v", source, contract, "mine")

    return make


def answers(path, rows):
    """What tf_keras itself answers."""
    import tf_keras

    return tf_keras.models.load_model(path, compile=False).predict(rows, verbose=0)


SOURCES = {
    "whole .h5": (3, "k2.h5", {"kind": "keras", "path": "k2.h5", "loader": "keras2"}),
    "weights by order": (3, "k2.h5", {"kind": "weights", "path": "k2w.h5", "builder": "foreign_models:dense"}),
    "weights by name": (3, "k2.h5", {"kind": "weights", "path": "k2w.h5", "builder": "foreign_models:named", "by_name": True}),
    ".weights.h5": (3, "k2.h5", {"kind": "weights", "path": "k2.weights.h5", "builder": "foreign_models:dense"}),
    "what Keras 3 cannot read": (3, "recurrent.h5", {"kind": "keras", "path": "recurrent.h5"}),
    "functions of TensorFlow": (4, "ops.h5", {"kind": "keras", "path": "ops.h5"}),
}  # fmt: skip


@pytest.mark.parametrize(("width", "same", "source"), SOURCES.values(), ids=SOURCES)
def test_a_file_of_keras_2_becomes_an_equal_saved_model(width, same, source, version, foreign_files, fresh):
    made = version(width, **source)

    finished = made.run(fresh, "checkpoint", "export", "validate", directory=foreign_files)

    assert finished.code == 0, finished.output
    known = golden.read(made.golden)
    expected = fresh.test_function(answers, str(foreign_files / same), known.inputs["x"])
    np.testing.assert_allclose(known.outputs["y"], expected, rtol=1e-5, atol=1e-6)
    assert all(one.ok for one in ValidationRecord.read(made.validation).parity)


REFUSED = {
    "code in a .keras": (4, {"kind": "keras", "path": "lambda3.keras"}, "carries code that loading it would execute: Lambda layer lambda"),
    "code in an .h5 of Keras 2": (4, {"kind": "keras", "path": "lambda2.h5"}, "or write unsafe: true if you trust where the file comes from."),
    "Keras 3 alone": (3, {"kind": "keras", "path": "recurrent.h5", "loader": "keras"}, "cannot load it as a whole model: "),
    "the other Keras": (3, {"kind": "weights", "path": "k2w.h5", "builder": "foreign_models:dense", "loader": "keras"}, "loader: keras: the builder returns a model of keras2"),
}  # fmt: skip


@pytest.mark.parametrize(("width", "source", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_may_not_or_cannot_be_read_is_one_line(width, source, expected, version, foreign_files, fresh):
    made = version(width, **source)

    finished = made.run(fresh, "checkpoint", directory=foreign_files)

    assert finished.code == 2, finished.output
    assert len(finished.errors) == 1
    assert expected in finished.errors[0]
    assert list(made.directory.iterdir()) == []


def test_code_runs_where_it_is_allowed(version, foreign_files, fresh):
    made = version(4, kind="keras", path="lambda3.keras", unsafe=True)

    assert made.run(fresh, "checkpoint", directory=foreign_files).code == 0
    known = golden.read(made.golden)
    np.testing.assert_allclose(known.outputs["y"], known.inputs["x"] * 2)

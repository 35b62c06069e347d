import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from slipway import files
from slipway.golden import read
from slipway_wire import signatures


def test_two_exports_have_the_same_bytes(exported, tmp_path):
    """Another directory, another hash seed, another number of cores to use, and a process that was not forked."""
    again = type(exported)(tmp_path / "a/longer/path", exported.source, exported.contract)
    again.directory.mkdir(parents=True)
    words = [str(word) for word in again.words("export")]
    words[words.index("--from") + 1] = str(exported.source_directory)
    words[words.index("--checkpoint-record") + 1] = str(exported.checkpoint_record)

    subprocess.run(
        [sys.executable, "-m", "slipway", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "3"},
        check=True,
        capture_output=True,
    )

    assert again.export_record.read_bytes() == exported.export_record.read_bytes()
    found, expected = files.tree_files(again.export), files.tree_files(exported.export)
    assert list(found) == list(expected)
    assert all(found[name].read_bytes() == expected[name].read_bytes() for name in expected)


def test_nothing_in_an_export_tells_where_it_was_made(exported):
    content = b"".join(path.read_bytes() for path in files.tree_files(exported.export).values())

    assert str(exported.directory).encode() not in content
    assert bytes(Path.cwd()) not in content
    assert b".py" not in content


def test_weights_are_stored_once(exported):
    """Keras's own export stores every weight twice."""
    parameters = 85_066

    stored = (exported.export / "variables/variables.data-00000-of-00001").stat().st_size

    assert parameters * 4 <= stored < parameters * 4 * 1.1


def test_methods_are_those_of_the_contract(exported):
    found = signatures.read_signatures(exported.export)

    assert found["serving_default"].method == signatures.PREDICT
    assert found["classify"].method == signatures.CLASSIFY


def eagerly(export, inputs, examples):
    import tensorflow as tf

    model = tf.saved_model.load(export)
    predicted = model.signatures["serving_default"](**{name: tf.constant(array) for name, array in inputs.items()})
    classified = model.signatures["classify"](inputs=tf.constant(examples))
    return predicted["logits"].numpy(), classified["scores"].numpy(), classified["classes"].numpy()


def test_it_loads_the_tf2_way_too(exported, fresh):
    from slipway import forms
    from slipway.contract import read_contract

    golden, contract = read(exported.golden), read_contract(exported.contract)
    examples = forms.encode(contract, "classify", golden.inputs)["inputs"].tolist()

    logits, scores, classes = fresh.test_function(eagerly, str(exported.export), dict(golden.inputs), examples)

    np.testing.assert_allclose(logits, golden.outputs["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, golden.outputs["probabilities"], rtol=1e-4, atol=1e-5)
    assert classes[0].tolist() == [str(digit).encode() for digit in range(10)]


REFUSED = {
    "sizes the model does not take": (
        {"inputs": {"image": {"shape": ["N", 64]}}},
        "digits 1: signature serving_default: the model does not fit the contract: ValueError: ",
    ),
}


@pytest.mark.parametrize(("changes", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_traced_is_one_line_and_leaves_nothing(changes, expected, exported, fresh, tmp_path):
    contract = yaml.safe_load(exported.contract.read_text())
    del contract["signatures"]["classify"]
    contract["signatures"]["serving_default"] |= changes
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
    version = type(exported)(tmp_path / "out", exported.source, tmp_path / "contract.yaml")
    version.directory.mkdir()
    words = [str(word) for word in version.words("export")]
    words[words.index("--from") + 1] = str(exported.source_directory)
    words[words.index("--checkpoint-record") + 1] = str(exported.checkpoint_record)

    finished = fresh.slipway(*words)

    assert finished.code == 2, finished.output
    assert len(finished.errors) == 1
    assert finished.errors[0].startswith(expected)
    assert list(version.directory.iterdir()) == []


def test_state_beside_the_weights_is_refused(user_version, user_files, fresh):
    """A Dropout that stays live draws from a generator that no weight holds."""
    contract = {
        "signatures": {
            "serving_default": {
                "method": "predict",
                "inputs": {"x": {"shape": ["N", 4]}},
                "outputs": {"y": {"shape": ["N", 4]}},
            }
        }
    }
    version = user_version({"kind": "weights", "path": "live.weights.h5", "builder": "user_models:live"}, contract)

    finished = version.run(fresh, "checkpoint", "export", directory=user_files)

    assert finished.code == 2, finished.output
    assert "keeps state that is not among its weights" in finished.errors[0]

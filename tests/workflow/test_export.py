import shutil

import pytest

from slipway.records import CheckpointRecord, ExportRecord, ValidationRecord

STAGES = ("checkpoint", "export", "validate")

FLOWERS = {
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", 4], "range": [-1, 1]}},
            "outputs": {
                "probabilities": {"shape": ["N", 3], "range": [0, 1], "row_sum": 1, "from": "softmax(logits)"},
                "kind": {"dtype": "int32", "shape": ["N"], "from": "argmax(probabilities)"},
            },
        },
        "classify": {"method": "classify", "scores": "probabilities", "classes": ["setosa", "versicolor", "virginica"]},
    },
    "golden": {"label": "kind", "min_accuracy": 0.99},
}
SUBCLASSED = {
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", 4]}},
            "outputs": {"size": {"shape": ["N"]}, "kind": {"dtype": "int64", "shape": ["N"], "from": "argmax(scores)"}},
        },
    },
}
PAIR = {
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"item": {"shape": ["N", 3]}, "user": {"shape": ["N", 2]}},
            "outputs": {
                "rating": {"shape": ["N", 1]},
                "click": {"shape": ["N", 1], "range": [0, 1], "from": "sigmoid(click_logit)", "meaning": "probability"},
                "click_logit": {"shape": ["N", 1], "from": "click", "meaning": "logits"},
            },
        },
        "rate": {"method": "regress", "features": {"item": "item/vector"}, "value": "rating"},
    },
}
WORDS = {
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"text": {"dtype": "string", "shape": ["N", "T"], "values": ["red", "blue", "mauve"]}},
            "outputs": {"vector": {"shape": ["N", 5]}},
        },
    },
    "probe": {"dims": {"T": 6}},
}
LINE = {
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", "T"]}, "kind": {"dtype": "int32", "shape": ["N"], "range": [0, 1]}},
            "outputs": {"total": {"shape": ["N"]}, "squares": {"shape": ["N", "T"], "range": [0, 1]}},
        },
    },
    "probe": {"dims": {"T": 3}},
}
USERS_MODELS = {
    "a .keras file": ({"kind": "keras", "path": "flowers.keras", "golden": "flowers.npz"}, FLOWERS),
    "weights and a builder": (
        {"kind": "weights", "path": "flowers.weights.h5", "builder": "user_models:flowers", "golden": "flowers.npz"},
        FLOWERS,
    ),
    "a checkpoint and a builder": (
        {"kind": "checkpoint", "path": "flowers.ckpt", "builder": "user_models:flowers", "golden": "flowers.npz"},
        FLOWERS,
    ),
    "a subclassed model": (
        {"kind": "weights", "path": "subclassed.weights.h5", "builder": "user_models:subclassed"},
        SUBCLASSED,
    ),
    "inputs and outputs by name": ({"kind": "keras", "path": "pair.keras"}, PAIR),
    "strings and a lookup table": ({"kind": "keras", "path": "words.keras"}, WORDS),
    "a tf.Module with a size that varies": (
        {"kind": "checkpoint", "path": "line.ckpt", "builder": "user_models:line"},
        LINE,
    ),
}


def test_a_checkpoint_that_was_changed_after_its_golden_answers_is_not_exported(exported, fresh, tmp_path):
    """Golden answers would judge other weights than those they came from."""
    version = type(exported)(tmp_path / "out", exported.source, exported.contract)
    shutil.copytree(exported.source_directory, version.source_directory)
    shutil.copyfile(exported.checkpoint_record, version.checkpoint_record)
    weights = next(path for path in version.source_directory.iterdir() if path.suffix == ".h5")
    weights.write_bytes(weights.read_bytes() + b"more")

    finished = fresh.slipway(*version.words("export"))

    assert finished.code == 2, finished.output
    assert len(finished.errors) == 1
    assert f"{weights}: changed after it was written" in finished.errors[0]
    assert not version.export.exists()


def test_what_the_users_code_was_traced_to_is_judged_and_nothing_is_left(user_version, user_files, fresh):
    """Nobody can judge Python: only the graph that it makes. The file is read in a branch, inside functions."""
    signature = {"method": "predict", "inputs": {"x": {"shape": ["N", 2]}}, "outputs": {"y": {"shape": ["N", 2]}}}
    contract = {"signatures": {"serving_default": signature}, "allow_ops": {"PrintV2": "told to its operators"}}
    source = {"kind": "checkpoint", "path": "line.ckpt", "builder": "user_models:Told"}
    version = user_version(source, contract)

    finished = version.run(fresh, "checkpoint", "export", directory=user_files)

    assert finished.code == 2, finished.output
    assert version.checkpoint_record.exists()
    (told,) = finished.errors
    assert told.startswith("mine 1: signature serving_default: op ReadFile (node ")
    assert told.endswith("or say in the contract why it must be there: allow_ops: {ReadFile: …}")
    assert not version.export.exists()
    assert not version.export_record.exists()


@pytest.mark.parametrize(("source", "contract"), USERS_MODELS.values(), ids=USERS_MODELS)
def test_a_users_model_goes_all_the_way(source, contract, user_version, user_files, fresh):
    version = user_version(source, contract)

    # A server has to start for it: once for each kind of signature is enough.
    further = ("warmup", "servable") if contract in (PAIR, WORDS, LINE) else ()

    finished = version.run(fresh, *STAGES, *further, directory=user_files)

    assert finished.code == 0, finished.output
    export = ExportRecord.read(version.export_record)
    assert export.signatures == list(contract["signatures"])
    validation = ValidationRecord.read(version.validation)
    assert validation.ok
    assert {p.signature for p in validation.parity} == set(contract["signatures"])
    assert validation.accuracy == CheckpointRecord.read(version.checkpoint_record).metrics.get("accuracy")

import numpy as np
import pytest


def named(path, inputs):
    """What a model on the disk answers, by the names it gives its outputs; and the names of its weights."""
    from pathlib import Path

    from slipway.models import sources
    from slipway.source_settings import KerasSource

    model = sources.load(KerasSource(kind="keras", path=Path(path)), Path(path).parent)
    return {name: array.shape for name, array in model.answer(inputs).items()}, [
        tuple(v.shape) for v in model.variables
    ]


def called_and_predicted(path, inputs):
    """The same rows by `call`, which an export traces, and by Keras's own `predict`."""
    from pathlib import Path

    import tensorflow as tf

    from slipway.models import sources
    from slipway.source_settings import KerasSource

    model = sources.load(KerasSource(kind="keras", path=Path(path)), Path(path).parent)
    called = model.call({name: tf.constant(array) for name, array in inputs.items()})
    predicted = model.answer(inputs)
    return {name: (called[name].numpy(), predicted[name]) for name in predicted}


def rows(*sizes):
    return np.linspace(0, 1, int(np.prod(sizes)), dtype=np.float32).reshape(sizes)


@pytest.mark.parametrize(
    ("file", "inputs", "outputs"),
    [
        ("flowers.keras", {"anything": rows(2, 4)}, {"output": (2, 3)}),
        ("pair.keras", {"item": rows(2, 3), "user": rows(2, 2)}, {"rating": (2, 1), "click": (2, 1)}),
        ("listed.keras", {"b": rows(2, 3), "a": rows(2, 2)}, {"sum": (2, 1), "product": (2, 1)}),
        ("words.keras", {"text": np.array([[b"red", b"?"]], object)}, {"output": (1, 5)}),
    ],
)
def test_inputs_and_outputs_go_by_name(file, inputs, outputs, user_files, fresh):
    found, weights = fresh.test_function(named, str(user_files / file), inputs)

    assert found == outputs
    assert weights


def test_weights_come_in_the_order_of_layers_with_those_that_are_not_trained(user_files, fresh):
    _, weights = fresh.test_function(named, str(user_files / "flowers.keras"), {"x": rows(1, 4)})

    assert weights == [(4, 8), (8,), (8,), (8,), (8,), (8,), (8, 3), (3,)]


@pytest.mark.parametrize(
    ("file", "inputs"),
    [
        ("listed.keras", {"b": rows(5, 3), "a": rows(5, 2)}),
        ("flowers.keras", {"x": rows(5, 4)}),
    ],
)
def test_the_call_that_is_exported_answers_as_the_framework_does(file, inputs, user_files, fresh):
    for called, predicted in fresh.test_function(called_and_predicted, str(user_files / file), inputs).values():
        np.testing.assert_allclose(called, predicted, rtol=1e-4, atol=1e-5)

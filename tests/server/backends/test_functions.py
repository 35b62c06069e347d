"""A Keras 3 model in a bare module, as people save it, which no session loader restores."""

import logging

import numpy as np
import pytest

from slipway_server.backends.functions import FunctionServable
from slipway_server.backends.saved_model import SavedModelLoader, SavedModelServable
from slipway_server.servables.loader import Call
from slipway_wire.status import FailedPrecondition, InvalidArgument


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return (version directory, x, y): what the module itself answers."""
    import keras
    import tensorflow as tf

    class Bare(tf.Module):
        def __init__(self):
            super().__init__()
            self.net = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.string)])
        def answer(self, x, name):
            return {"y": self.net(x), "name": tf.strings.join([name, "!"]), "first": name[0]}

    module = Bare()
    directory = tmp_path_factory.mktemp("bare") / "1"
    tf.saved_model.save(module, str(directory), signatures=module.answer)
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    return directory, x, module.net(x).numpy()


@pytest.fixture
def servable(bare):
    loaded = SavedModelLoader(bare[0]).load()
    yield loaded
    loaded.close()


def test_it_is_served_by_its_functions_and_the_log_says_so(bare, caplog):
    with caplog.at_level(logging.WARNING):
        servable = SavedModelLoader(bare[0]).load()

    assert type(servable) is FunctionServable
    assert "leave 2 of its variables without a value (" in caplog.text
    servable.close()


def test_it_answers_as_the_module_did(bare, servable):
    _, x, y = bare
    inputs = {"x": x, "name": np.array([b"a\x00", b"\xff"], object)}

    answer = servable.run(Call("serving_default", inputs, ("name", "y", "first")))

    np.testing.assert_allclose(answer["y"], y, rtol=1e-5)
    assert answer["name"].tolist() == [b"a\x00!", b"\xff!"]
    assert (answer["first"].shape, answer["first"].item()) == ((), b"a\x00")
    assert list(answer) == ["name", "y", "first"]
    together = servable.run_together([Call("serving_default", inputs, ("y",))] * 2)
    np.testing.assert_allclose(together[1]["y"], y, rtol=1e-5)


@pytest.mark.parametrize(
    "x", [np.float32([[1.0, 2.0]]), np.float64([[1.0, 2.0, 3.0, 4.0]]), np.array([[b"a"]], object)]
)
def test_what_does_not_fit_is_refused_in_one_line(servable, x):
    with pytest.raises(InvalidArgument) as refused:
        servable.run(Call("serving_default", {"x": x, "name": np.array([b"a"], object)}, ("y",)))

    assert "\n" not in refused.value.message


def test_a_model_that_a_session_restores_stays_with_its_session(testdata):
    loaded = SavedModelLoader(testdata / "saved_model_half_plus_two_tf2_cpu" / "00000123").load()

    assert type(loaded) is SavedModelServable
    loaded.close()


def test_a_variable_that_no_signature_needs_is_not_missed(tmp_path, caplog):
    """Keras' export writes each variable twice, and only one of the two is restored: the one that is used."""
    import keras

    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.export(str(tmp_path / "1"), verbose=False)
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)

    with caplog.at_level(logging.WARNING):
        loaded = SavedModelLoader(tmp_path / "1").load()

    assert type(loaded) is SavedModelServable
    assert "without a value" not in caplog.text
    signature = loaded.signatures["serving_default"]
    answer = loaded.run(Call("serving_default", dict.fromkeys(signature.inputs, x), tuple(signature.outputs)))
    np.testing.assert_allclose(answer["output_0"], model(x).numpy(), rtol=1e-5)
    loaded.close()


def test_if_that_is_no_way_out_either_the_version_is_loaded_as_by_tf_serving(bare, tmp_path, caplog, monkeypatch):
    """What needs these variables is refused when it is asked; other signatures are answered."""
    from slipway_server.backends import functions

    def refuse(*_, **__):
        raise ValueError("no such luck")

    monkeypatch.setattr(functions.tf.saved_model, "load", refuse)
    with caplog.at_level(logging.WARNING):
        servable = SavedModelLoader(bare[0]).load()

    assert "calling its functions is no way out: no such luck" in caplog.text
    inputs = {"x": bare[1], "name": np.array([b"a", b"b"], object)}
    with pytest.raises(FailedPrecondition, match="Could not find variable"):
        servable.run(Call("serving_default", inputs, ("y",)))
    servable.close()

import logging

import numpy as np
import pytest

from slipway_server import load_options
from slipway_server.backends import saved_model
from slipway_server.backends.saved_model import SavedModelLoader
from slipway_server.servables.loader import Call
from slipway_server.settings import Settings

NARROW = load_options.from_settings(Settings(mixed_precision="bfloat16"))


@pytest.fixture
def half_plus_two(testdata):
    return testdata / "saved_model_half_plus_two_cpu" / "00000123"


def narrows(servable):
    rewriter = servable._session._config.graph_options.rewrite_options
    return rewriter.auto_mixed_precision_onednn_bfloat16 == type(rewriter).ON


def half_plus_two_of_one(servable):
    with_y = servable.run(Call("serving_default", {"x": np.float32([1.0])}, ("y",)))
    servable.close()
    return with_y["y"].tolist()


def test_a_version_that_answers_as_before_may(half_plus_two, caplog):
    with caplog.at_level(logging.INFO):
        servable = SavedModelLoader(half_plus_two, NARROW).load()

    assert narrows(servable)
    assert "oneDNN may compute in bfloat16; signatures compared" in caplog.text
    assert half_plus_two_of_one(servable) == [2.5]


def test_a_version_that_answers_otherwise_computes_as_exported(half_plus_two, monkeypatch, caplog):
    """In the place of a CPU that rounds by more than it may: the session that narrows adds a tenth."""

    class Rounding(saved_model.SavedModelServable):
        def run(self, call):
            outputs = super().run(call)
            return {alias: value * np.float32(1.1) for alias, value in outputs.items()} if narrows(self) else outputs

    monkeypatch.setattr(saved_model, "SavedModelServable", Rounding)

    with caplog.at_level(logging.INFO):
        servable = SavedModelLoader(half_plus_two, NARROW).load()

    assert not narrows(servable)
    assert "it computes as exported (--mixed_precision=bfloat16): output outputs of" in caplog.text
    assert half_plus_two_of_one(servable) == [2.5]


def test_a_models_state_is_as_exported(testdata):
    servable = SavedModelLoader(testdata / "saved_model_counter" / "00000123", NARROW).load()

    assert float(servable.run(Call("incr_counter", {}, ("output",)))["output"]) == 1.0
    servable.close()


def test_nothing_is_compared_for_who_does_not_ask(half_plus_two, caplog):
    with caplog.at_level(logging.INFO):
        servable = SavedModelLoader(half_plus_two).load()

    assert "bfloat16" not in caplog.text
    assert not narrows(servable)
    servable.close()

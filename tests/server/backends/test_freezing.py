import logging

import numpy as np
import pytest

from slipway_server.backends import freezing
from slipway_server.backends.saved_model import SavedModelLoader
from slipway_server.load_options import LoadOptions
from slipway_server.servables.loader import Call

FROZEN = LoadOptions(has_frozen_variables=True)


@pytest.fixture
def ops_of(monkeypatch):
    """`ops_of(servable)` says which ops its graph consists of."""

    def ops(servable):
        graph = servable._session.graph.as_graph_def()
        lists = [graph.node, *(function.node_def for function in graph.library.function)]
        return {node.op for nodes in lists for node in nodes}

    return ops


@pytest.mark.parametrize("name", ["saved_model_half_plus_two_cpu", "saved_model_half_plus_two_tf2_cpu"])
def test_variables_become_constants_and_answers_stay(testdata, ops_of, name, caplog):
    with caplog.at_level(logging.INFO):
        servable = SavedModelLoader(testdata / name / "00000123", FROZEN).load()

    assert "its variables are constants now" in caplog.text
    assert not {"VarHandleOp", "VariableV2", "ReadVariableOp"} & {
        node.op for node in servable._session.graph.as_graph_def().node
    }
    answer = servable.run(Call("serving_default", {"x": np.float32([[1.0], [2.0]])}, ("y",)))
    assert answer["y"].tolist() == [[2.5], [3.0]]
    servable.close()


def test_a_model_with_state_stays_as_it_is(testdata, caplog):
    with caplog.at_level(logging.WARNING):
        servable = SavedModelLoader(testdata / "saved_model_counter" / "00000123", FROZEN).load()

    assert "its variables stay variables (--freeze_variables): " in caplog.text
    assert float(servable.run(Call("incr_counter", {}, ("output",)))["output"]) == 1.0
    servable.close()


def test_a_table_is_state(tmp_path, caplog):
    """Its entries are put in by an initialiser that a frozen graph would not have."""
    import tensorflow as tf

    class Lookup(tf.Module):
        def __init__(self):
            super().__init__()
            keys = tf.lookup.KeyValueTensorInitializer(tf.constant([b"a", b"b"]), tf.constant([1.0, 2.0]))
            self.table = tf.lookup.StaticHashTable(keys, -1.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def find(self, key):
            return {"value": self.table.lookup(key)}

    module = Lookup()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.find)

    with caplog.at_level(logging.WARNING):
        servable = SavedModelLoader(tmp_path / "1", FROZEN).load()

    assert "it holds state: HashTableV2" in caplog.text
    answer = servable.run(Call("serving_default", {"key": np.array([b"b", b"c"], object)}, ("value",)))
    assert answer["value"].tolist() == [2.0, -1.0]
    servable.close()


def test_another_answer_than_before_is_found(testdata, monkeypatch, caplog):
    """The graph that comes out is one whose constants are wrong."""
    freeze = freezing._frozen_graph

    def wrong(session, described):
        graph = freeze(session, described)
        for node in graph.node:
            if node.op == "Const" and node.attr["value"].tensor.dtype == 1:
                tensor = node.attr["value"].tensor
                tensor.tensor_content = b""
                del tensor.float_val[:]
                tensor.float_val.append(0.75)
        return graph

    monkeypatch.setattr(freezing, "_frozen_graph", wrong)

    with caplog.at_level(logging.WARNING):
        servable = SavedModelLoader(testdata / "saved_model_half_plus_two_cpu" / "00000123", FROZEN).load()

    assert "is another than before" in caplog.text
    assert servable.run(Call("serving_default", {"x": np.float32([1.0])}, ("y",)))["y"].tolist() == [2.5]
    servable.close()


def test_what_cannot_be_compared_is_not_frozen(made, tmp_path, caplog):
    """An input of unknown rank: no request can be made up for it."""
    directory = made.save(
        tmp_path / "1", [made.placeholder("x"), made.node("y", "Identity", "x", T="float")], outputs=("y",)
    )

    with caplog.at_level(logging.WARNING):
        SavedModelLoader(directory, FROZEN).load().close()

    assert "no signature takes a request that can be made up" in caplog.text


def test_too_many_bytes_for_one_graph_are_not_tried(testdata, monkeypatch, caplog):
    monkeypatch.setattr(freezing, "_MAX_GRAPH_BYTES", 7)

    with caplog.at_level(logging.WARNING):
        SavedModelLoader(testdata / "saved_model_half_plus_two_cpu" / "00000123", FROZEN).load().close()

    assert "its variables take 20 bytes, and a graph holds at most 7" in caplog.text

import numpy as np
import pytest
from tests.workflow.graphs.graph_factory import branches, const, graph, names, new_dropout, node, placeholder

from slipway.errors import SourceError
from slipway.graphs.names import Placeholder
from slipway.graphs.plans import asset_file, make_plan
from slipway.graphs.reading import SourceGraph

TABLE = [
    node("table", "HashTable", key_dtype="string", value_dtype="int64"),
    const("vocab", np.array(b"/home/u/vocab.txt", object)),
    node("fill", "InitializeTableFromTextFile", "table", "vocab"),
    node("ids", "LookupTableFind", "table", "x", "default"),
    const("default", np.int64(-1)),
]
WEIGHTS = [
    node("w", "VariableV2", dtype="float32", shape=(3,)),
    node("w/read", "Identity", "w", _class="loc:@w"),
    const("initial", np.zeros(3, np.float32)),
    node("w/Assign", "Assign", "w", "initial"),
    node("y", "Mul", "x", "w/read"),
    node("save/all", "NoOp", "^save/Assign"),
    node("save/Assign", "Assign", "w", "save/RestoreV2"),
    node("save/RestoreV2", "RestoreV2", "save/file", "save/names", "save/parts"),
    const("save/file", np.array(b"model", object)),
    const("save/names", np.array([b"w"], object)),
    const("save/parts", np.array([b""], object)),
]


def plan(*nodes, inputs=None, outputs=None, freeze=None, restore="", producer=100):
    source = SourceGraph("m.meta", graph(*nodes, producer=producer), "save/file:0", restore)
    return make_plan(source, inputs or {"x": "x"}, outputs or {"y": "y"}, freeze or {})


def refused(*nodes, **more):
    with pytest.raises(SourceError) as caught:
        plan(*nodes, **more)
    return str(caught.value)


def test_weights_and_inputs_are_put_in_from_outside():
    made = plan(placeholder("x"), *WEIGHTS, node("junk", "PyFunc", "y"), restore="save/all")

    assert names(made.served) == ["w/read", "y"]
    assert made.fetches == {"y": "y:0"}
    assert made.variables["w"].key == "w"
    assert made.placeholders == {"x:0": Placeholder("x", "float", (None, 3))}


def test_the_original_has_what_restores_it_and_nothing_of_the_training():
    made = plan(placeholder("x"), *WEIGHTS, node("junk", "PyFunc", "y"), restore="save/all")

    assert set(names(made.original)) == {"x", *(n.name for n in WEIGHTS)} - {"w/Assign", "initial"}


def test_frozen_inputs_are_constants_and_settle_what_hangs_on_them():
    made = plan(placeholder("x"), *new_dropout(), freeze={"keep": 1})

    assert not {"RandomUniform", "Placeholder"} & {n.op for n in made.served.node}
    assert "keep:0" in made.frozen
    assert made.fetches == {"y": "scaled:0"}
    assert {"RandomUniform", "Placeholder"} <= {n.op for n in made.original.node}


def test_an_input_in_the_middle_cuts_off_what_feeds_a_training():
    nodes = [node("queue", "QueueDequeueV2", "files"), node("files", "FIFOQueueV2"), node("y", "Relu", "queue:1")]

    made = plan(*nodes, inputs={"x": "queue:1"})

    assert names(made.served) == names(made.original) == ["y"]
    assert made.placeholders == {}


def test_a_queue_that_is_left_is_told_with_what_to_do():
    line = refused(placeholder("x"), node("queue", "QueueDequeueV2"), node("y", "Add", "x", "queue"))

    assert (
        'need queue (QueueDequeueV2), which feeds a training. Name what it gives as an input of the model, such as "queue:0".'
        in line
    )


def test_a_graph_that_changes_its_weights_is_the_trainings():
    line = refused(
        placeholder("x"),
        *WEIGHTS[:2],
        node("update", "AssignSub", "w", "x"),
        node("y", "Mul", "x", "w/read", "^update"),
    )

    assert "the outputs wait for update (AssignSub), which changes the weight w" in line


def test_a_table_is_known_with_what_fills_it():
    made = plan(placeholder("x", "string"), *TABLE, outputs={"y": "ids"})

    assert made.tables["table"].from_file
    assert names(made.served) == ["ids", "default"]
    assert made.served.node[0].op == "LookupTableFindV2"
    assert {"fill", "vocab", "table"} <= set(names(made.original))


def test_a_table_that_nothing_fills_was_cut_off():
    nodes = [n for n in TABLE if n.name != "fill"]

    assert "nothing fills the lookup table table" in refused(placeholder("x", "string"), *nodes, outputs={"y": "ids"})


def test_a_table_that_changes_is_refused():
    nodes = [node("table", "MutableHashTableV2"), node("y", "LookupTableFindV2", "table", "x")]

    assert "table (MutableHashTableV2) changes while it is used" in refused(placeholder("x"), *nodes)


def test_references_become_values():
    nodes = [n for n in branches() if n.name != "plain"]
    nodes += [
        node("w", "VariableV2", dtype="float32", shape=(3,)),
        node("plain", "RefSwitch", "w", "training"),
        node("both", "Add", "y", "x"),
    ]

    made = plan(placeholder("x"), *nodes, outputs={"y": "both"}, inputs={"x": "x", "training": "training"})

    assert {n.name: n.op for n in made.served.node}["plain"] == "Switch"


def test_a_dtype_that_there_is_not_is_damage():
    nodes = [placeholder("x"), placeholder("keep", shape=()), node("y", "Mul", "x", "keep")]
    nodes[1].attr["dtype"].type = 77

    assert "m.meta: damaged: unknown data type number 77" in refused(*nodes, freeze={"keep": 1.0})


def test_a_vocabulary_is_looked_for_by_its_name(tmp_path):
    made = plan(placeholder("x", "string"), *TABLE, outputs={"y": "ids"})
    with pytest.raises(
        SourceError,
        match=r"filled from /home/u/vocab.txt; expected vocab.txt among the source's files. Name it in `assets`",
    ):
        asset_file(made, "vocab:0", b"/home/u/vocab.txt", tmp_path)
    (tmp_path / "vocab.txt").touch()

    assert asset_file(made, "vocab:0", b"/home/u/vocab.txt", tmp_path) == tmp_path / "vocab.txt"

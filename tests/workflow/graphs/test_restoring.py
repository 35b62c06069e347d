import numpy as np
from tests.workflow.graphs.graph_factory import const, graph, node

from slipway.graphs.reading import SourceGraph
from slipway.graphs.restoring import Stored, averaged, variables

SAVER = [
    node("w/part_0", "VariableV2", dtype="float32", shape=(5, 4)),
    node("scope/handle", "VarHandleOp", dtype="int64", shape=(), shared_name="counter"),
    node("alone", "VarHandleOp", dtype="float32", shape=None, shared_name="other_name"),
    const("save/names", np.array([b"saved_as", b"w"], object)),
    const("save/parts", np.array([b"", b"10 4 0,5:0,4"], object)),
    node("save/RestoreV2", "RestoreV2", "save/filename", "save/names", "save/parts"),
    node("save/Identity", "Identity", "save/RestoreV2"),
    node("save/Assign", "AssignVariableOp", "scope/handle", "save/Identity"),
    node("save/Assign_1", "Assign", "w/part_0", "save/RestoreV2:1"),
    node("save/shard", "NoOp", "^save/Assign", "^save/Assign_1"),
    node("save/all", "NoOp", "^save/shard"),
]
ALL = {"w/part_0", "scope/handle", "alone", "save/names"}


def test_a_saver_tells_the_key_and_the_part_of_each_variable():
    found = variables(SourceGraph("m.meta", graph(*SAVER), "save/Const:0", "save/all"), ALL)

    assert found == {
        "w/part_0": Stored("w", "10 4 0,5:0,4", "float", (5, 4)),
        "scope/handle": Stored("saved_as", "", "int64", ()),
        "alone": Stored("other_name", "", "float", None),
    }


def test_a_saver_of_old_reads_one_tensor_at_a_time():
    found = graph(
        node("v", "Variable", dtype="float32", shape=(1,)),
        const("name", np.array(b"once_v", object)),
        node("read", "Restore", "file", "name"),
        node("put", "Assign", "v", "read"),
    )

    assert variables(SourceGraph("m", found, "", "put"), {"v"})["v"].key == "once_v"


def test_without_a_saver_a_variable_has_its_own_name():
    assert variables(SourceGraph("m", graph(*SAVER)), {"w/part_0"})["w/part_0"].key == "w/part_0"


def test_what_has_a_moving_average_takes_it():
    stored = {"w": Stored("w", "part", "float", None), "step": Stored("global_step", "", "int64", ())}

    found = averaged(stored, {"w", "w/ExponentialMovingAverage", "global_step"})

    assert found == {"w": Stored("w/ExponentialMovingAverage", "part", "float", None), "step": stored["step"]}

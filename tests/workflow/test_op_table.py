"""Which ops a graph has, what runs them, and what is refused: as messages, without TensorFlow."""

from slipway import op_table
from slipway_wire import messages


def meta_graph():
    """A signature that calls a function, an initialiser that writes, and a node that nothing runs."""
    meta = messages.MetaGraphDef()
    call = meta.graph_def.node.add(name="call", op="StatefulPartitionedCall")
    call.attr["f"].func.name = "body"
    meta.graph_def.node.add(name="write", op="WriteFile")
    meta.graph_def.node.add(name="left", op="PyFunc")
    meta.graph_def.node.add(name="set", op="AssignVariableOp")
    meta.graph_def.node.add(name="start", op="NoOp", input=["^write", "^set"])
    body = meta.graph_def.library.function.add()
    body.signature.name = "body"
    body.node_def.add(name="read", op="ReadFile")
    body.node_def.add(name="again", op="ReadFile")
    meta.signature_def["f"].outputs["y"].name = "call:0"
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "start"
    return meta


def test_each_op_says_what_runs_it_and_why_it_is_refused():
    found = op_table.of_meta_graph(meta_graph())

    assert {one.op: (one.nodes, one.run_by, one.refused) for one in found.ops} == {
        "AssignVariableOp": (1, ["init"], None),
        "NoOp": (1, ["init"], None),
        "PyFunc": (1, [], None),
        "ReadFile": (2, ["f"], "reads files of the machine that serves"),
        "StatefulPartitionedCall": (1, ["f"], None),
        "WriteFile": (1, ["init"], "writes files of the machine that serves"),
    }
    assert [line.partition(" (")[0] for line in found.refusals] == [
        "initialiser: op WriteFile",
        "signature f: op ReadFile",
    ]


def test_what_changes_the_model_is_refused_where_callers_run_it():
    meta = meta_graph()
    meta.signature_def["g"].outputs["y"].name = "set"

    found = {one.op: one for one in op_table.of_meta_graph(meta).ops}["AssignVariableOp"]

    assert found.run_by == ["init", "g"]
    assert found.refused == "changes the model while it serves: answers would depend on earlier requests"


def test_of_a_graph_without_signatures_everything_counts():
    graph = meta_graph().graph_def
    graph.node.add(name="restore", op="RestoreV2")

    found = op_table.of_graph(graph, "frozen.pb")

    assert [one.op for one in found.ops if one.refused] == ["PyFunc", "ReadFile", "WriteFile"]
    assert all(line.startswith("frozen.pb: op ") for line in found.refusals)

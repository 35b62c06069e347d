"""Graphs of a few nodes, as messages: what flows where needs no TensorFlow."""

import pytest

from slipway import graph_flow
from slipway_wire import messages


def graph(nodes, **functions):
    """
    Make a meta graph.

    Args:
        nodes: (name, op, inputs, function that it calls).
        functions: Name -> (arguments, nodes, results), and what it must do besides.
    """
    meta = messages.MetaGraphDef()

    def add(to, name, op, inputs=(), called=None):
        node = to.add(name=name, op=op, input=inputs)
        if called:
            node.attr["f"].func.name = called

    for node in nodes:
        add(meta.graph_def.node, *node)
    for name, (arguments, body, results, *does) in functions.items():
        function = meta.graph_def.library.function.add()
        function.signature.name = name
        for argument in arguments:
            function.signature.input_arg.add(name=argument)
        for place, result in enumerate(results):
            function.signature.output_arg.add(name=f"result_{place}")
            function.ret[f"result_{place}"] = result
        for node in does:
            function.control_ret[node] = node
        for node in body:
            add(function.node_def, *node)
    return meta


def used(meta, *outputs):
    return graph_flow.used_inputs(meta.graph_def, ["x:0", "y:0", "z:0"], outputs)


INPUTS = [(name, "Placeholder") for name in "xyz"]
# The first result is of a, the second of b; c is taken and forgotten.
PARTS = (["a", "b", "c"], [("s", "Neg", ["a"]), ("t", "Neg", ["b"])], ["s:y:0", "t:y:0"])


def test_what_nodes_pass_on_is_used_and_nothing_else():
    meta = graph([*INPUTS, ("sum", "Add", ["x", "y"]), ("out", "Neg", ["sum:0"]), ("other", "Neg", ["z"])])

    assert used(meta, "out:0") == {"x:0", "y:0"}
    assert used(meta, "out:0", "other:0") == {"x:0", "y:0", "z:0"}


def test_a_control_input_counts():
    """Such as an assertion on what was sent."""
    assert used(graph([*INPUTS, ("check", "Assert", ["z"]), ("out", "Neg", ["x", "^check"])]), "out:0") == {
        "x:0",
        "z:0",
    }


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall"])
def test_a_function_passes_on_what_its_outputs_need(op):
    meta = graph([*INPUTS, ("call", op, ["x", "y", "z"], "parts")], parts=PARTS)

    assert used(meta, "call:0") == {"x:0"}
    assert used(meta, "call:1") == {"y:0"}
    assert used(meta, "call", "call:1") == {"x:0", "y:0"}


def test_a_function_that_is_called_by_its_name_is_one():
    assert used(graph([*INPUTS, ("call", "parts", ["x", "y", "z"])], parts=PARTS), "call:1") == {"y:0"}


def test_functions_inside_functions_are_followed():
    """As TensorFlow 2 writes a signature: a wrapper around what was traced, with a control edge on the call."""
    call = ("call", "StatefulPartitionedCall", ["p", "q", "r"], "parts")
    wrapper = (["p", "q", "r"], [call, ("same", "Identity", ["call:output:1", "^call"])], ["same:output:0"], "call")
    meta = graph(
        [*INPUTS, ("out", "StatefulPartitionedCall", ["x", "y", "z"], "wrapper")], wrapper=wrapper, parts=PARTS
    )

    assert used(meta, "out:0") == {"y:0"}


def test_what_a_function_does_besides_counts():
    asserting = (["a", "b"], [("check", "Assert", ["b"])], ["a"], "check")
    meta = graph([*INPUTS, ("call", "StatefulPartitionedCall", ["x", "y"], "asserting")], asserting=asserting)

    assert used(meta, "call:0") == {"x:0", "y:0"}


def test_where_it_cannot_tell_everything_is_used():
    """Branches, loops, and functions that call themselves."""
    itself = (["a", "b"], [("again", "PartitionedCall", ["a", "b"], "itself")], ["again:output:0"])
    nodes = [*INPUTS, ("call", "PartitionedCall", ["x", "y"], "itself"), ("branch", "If", ["x", "y", "z"], "parts")]
    meta = graph(nodes, itself=itself, parts=PARTS)

    assert used(meta, "call:0") == {"x:0", "y:0"}
    assert used(meta, "branch:0") == {"x:0", "y:0", "z:0"}


# --- tables from files -----------------------------------------------------------------------------

FILL = "InitializeTableFromTextFileV2"
FOREIGN = {FILL: "fill"}
TABLE = [("table", "HashTableV2"), ("same", "Identity", ["name"]), ("fill", FILL, ["table", "same"])]


def with_asset(meta):
    meta.asset_file_def.add(filename="vocabulary.txt").tensor_info.name = "name:0"
    return meta


def test_a_table_from_an_asset_is_fine_and_from_another_file_is_foreign():
    meta = graph([("name", "Const"), *TABLE])
    assert graph_flow.foreign_tables(meta) == FOREIGN

    assert graph_flow.foreign_tables(with_asset(meta)) == {}


def test_a_name_that_is_put_together_is_foreign():
    """A constant is not the only way to say /etc/passwd; nor is an asset's own name with something behind it."""
    parts = [("end", "Const"), ("name", "StringJoin", ["end", "end"])]
    assert graph_flow.foreign_tables(graph([*parts, *TABLE])) == FOREIGN

    joined = [("name", "Const"), ("joined", "StringJoin", ["name", "end"]), ("fill", FILL, ["table", "joined"])]
    assert graph_flow.foreign_tables(with_asset(graph(joined))) == FOREIGN


@pytest.mark.parametrize(("op", "inputs"), [
    ("StatefulPartitionedCall", ["name", "table"]), ("If", ["is_new", "name", "table"]), ("While", ["name", "table"]),
])  # fmt: skip
def test_a_name_that_a_function_is_given_is_followed_to_its_callers(op, inputs):
    start = (["file", "table"], [("fill", FILL, ["table", "file"])], [])
    meta = graph([("name", "Const"), ("call", op, inputs, "start")], start=start)
    assert graph_flow.foreign_tables(meta) == FOREIGN
    assert graph_flow.foreign_tables(with_asset(meta)) == {}

    meta.graph_def.node.add(name="again", op="StatefulPartitionedCall", input=["other", "table"]).attr[
        "f"
    ].func.name = "start"
    assert graph_flow.foreign_tables(meta) == FOREIGN


def test_a_name_in_a_variable_is_followed_to_what_is_assigned():
    """So TensorFlow 2 does it; another op on the variable might put anything there."""
    variable = [
        ("name", "Placeholder"), ("v", "VarHandleOp"), ("put", "AssignVariableOp", ["v", "name"]),
        ("read", "ReadVariableOp", ["v", "^put"]), ("table", "HashTableV2"), ("fill", FILL, ["table", "read"]),
    ]  # fmt: skip
    assert graph_flow.foreign_tables(with_asset(graph(variable))) == {}

    for other in (("more", "AssignVariableOp", ["v", "other"]), ("call", "StatefulPartitionedCall", ["v"], "f")):
        assert graph_flow.foreign_tables(with_asset(graph([*variable, other]))) == FOREIGN


def test_what_tensorflow_binds_to_a_function_is_an_asset_or_foreign():
    """It calls the functions that fill tables by itself, where no node does."""
    meta = graph([], start=(["table", "file"], [("fill", FILL, ["table", "file"])], []))
    assert graph_flow.foreign_tables(meta) == {}  # nobody calls it

    _, asset, _ = (meta.object_graph_def.nodes.add() for _ in range(3))
    asset.asset.asset_file_def_index = 0
    bound = meta.object_graph_def.concrete_functions["start"].bound_inputs
    bound.extend([0, 1])
    assert graph_flow.foreign_tables(meta) == {}

    bound[1] = 2
    assert graph_flow.foreign_tables(meta) == FOREIGN

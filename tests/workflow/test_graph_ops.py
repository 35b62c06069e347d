"""Graphs of a few nodes, as messages: what reaches what needs no TensorFlow."""

import pytest

from slipway import graph_ops
from slipway_wire import messages


def graph(nodes, functions=()):
    """A meta graph whose signature `f` gives node `out`; functions are name -> nodes, a node is (name, op, inputs, calls)."""
    meta = messages.MetaGraphDef()
    meta.signature_def["f"].outputs["y"].name = "out:0"

    def add(to, name, op, inputs=(), calls=()):
        node = to.add(name=name, op=op, input=inputs)
        for key, function in enumerate(calls):
            node.attr[str(key)].func.name = function

    for node in nodes:
        add(meta.graph_def.node, *node)
    for name, body in functions:
        function = meta.graph_def.library.function.add()
        function.signature.name = name
        for node in body:
            add(function.node_def, *node)
    return meta


def reached(meta):
    return set(graph_ops.signature_ops(meta, "f"))


def test_only_what_a_signature_reaches_counts():
    meta = graph([("out", "Add", ["a", "^b"]), ("a", "Const"), ("b", "NoOp"), ("c", "PyFunc")])

    assert reached(meta) == {"Add", "Const", "NoOp"}
    assert set(graph_ops.all_ops(meta.graph_def)) == {"Add", "Const", "NoOp", "PyFunc"}


BRANCHES = [
    ("then", [("t", "PartitionedCall", [], ["inner"])]),
    ("inner", [("r", "RandomUniform")]),
    ("unused", [("p", "PyFunc")]),
]


def test_functions_are_followed_wherever_they_are_named():
    assert reached(graph([("out", "If", [], ["then"])], BRANCHES)) == {"If", "PartitionedCall", "RandomUniform"}
    assert reached(graph([("out", "inner")], BRANCHES)) == {"RandomUniform"}


def test_functions_in_a_list_are_followed():
    meta = graph([("out", "Case")], [("a", [("x", "PyFunc")])])
    meta.graph_def.node[0].attr["branches"].list.func.add().name = "a"

    assert reached(meta) == {"Case", "PyFunc"}


def test_functions_that_call_themselves_end():
    meta = graph([("out", "While", [], ["loop"])], [("loop", [("again", "While", [], ["loop"])])])

    assert reached(meta) == {"While"}


def test_a_chain_of_any_depth_is_followed():
    depth = 30_000
    chain = [("n0", "Placeholder"), *((f"n{i}", "Neg", [f"n{i - 1}"]) for i in range(1, depth))]

    assert reached(graph([*chain, ("out", "Add", [f"n{depth - 1}"])])) == {"Placeholder", "Neg", "Add"}


@pytest.mark.parametrize(("device", "kinds"), [
    ("/job:worker/task:3/device:CPU:0", {"Add", "/job:worker"}),
    ("/job:localhost/device:CPU:0", {"Add"}),
    ("/device:GPU:0", {"Add"}),
])  # fmt: skip
def test_a_place_in_another_process_is_a_kind_of_its_own(device, kinds):
    meta = graph([("out", "Add")])
    meta.graph_def.node[0].device = device

    assert reached(meta) == kinds


def test_sparse_outputs_are_followed_by_all_their_tensors():
    meta = graph([("v", "PyFunc"), ("i", "Where")])
    meta.signature_def["f"].outputs["y"].coo_sparse.values_tensor_name = "v:0"
    meta.signature_def["f"].outputs["y"].coo_sparse.indices_tensor_name = "i:0"

    assert reached(meta) == {"PyFunc", "Where"}


# --- what loading runs -----------------------------------------------------------------------------


def loading(meta):
    return {place: set(ops) for place, ops in graph_ops.loading_ops(meta).items()}


def test_the_main_op_of_tensorflow_1_runs_at_load():
    meta = graph([("out", "Const"), ("group", "NoOp", ["^write"]), ("write", "WriteFile")])
    meta.collection_def["saved_model_main_op"].node_list.value.append("group")

    assert loading(meta) == {"init": {"NoOp", "WriteFile"}, "restore": set()}


def test_the_init_op_of_tensorflow_2_runs_at_load():
    meta = graph([("out", "Const"), ("start", "PartitionedCall", [], ["inner"])], BRANCHES)
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "start"

    assert loading(meta)["init"] == {"PartitionedCall", "RandomUniform"}


def test_what_restores_variables_is_told_apart():
    meta = graph([("out", "Const"), ("all", "NoOp", ["^read"]), ("read", "RestoreV2"), ("save", "SaveV2")])
    meta.saver_def.restore_op_name = "all"

    assert loading(meta) == {"init": set(), "restore": {"NoOp", "RestoreV2"}}


def test_functions_that_make_and_restore_objects_run_at_load():
    """No signature and no init op need name them: TensorFlow 2 finds them by the object graph alone."""
    meta = graph([("out", "Const")], [("fill", [("w", "WriteFile")]), ("bring", [("r", "ReadFile")])])
    nodes = meta.object_graph_def.nodes
    table, fill, bring = nodes.add(), nodes.add(), nodes.add()
    table.children.add(node_id=1, local_name="_initialize")
    table.saveable_objects["x"].restore_function = 2
    fill.function.concrete_functions.append("fill")
    bring.bare_concrete_function.concrete_function_name = "bring"

    assert loading(meta) == {"init": {"WriteFile"}, "restore": {"ReadFile"}}


@pytest.mark.parametrize("node_id", [-1, 7])
def test_objects_that_are_not_there_are_passed_over(node_id):
    meta = graph([("out", "Const")])
    meta.object_graph_def.nodes.add().children.add(node_id=node_id, local_name="_initialize")

    assert loading(meta)["init"] == set()


# --- functions and constants -----------------------------------------------------------------------


def test_functions_that_are_bound_to_the_attributes_of_others_are_followed():
    """A function that calls whatever its caller names: no node calls the inner one by its name."""
    meta = graph([("out", "PartitionedCall", [], ["outer"])], [("outer", [("o", "NoOp")]), ("evil", [("p", "PyFunc")])])
    meta.graph_def.node[0].attr["0"].func.attr["body"].func.name = "evil"

    assert reached(meta) == {"PartitionedCall", "NoOp", "PyFunc"}


def test_functions_that_tensorflow_may_exchange_are_followed():
    """Grappler puts one function that `implements` a name in the place of another; no node names the second."""
    meta = graph([("out", "PartitionedCall", [], ["cpu"])], [("cpu", [("o", "NoOp")]), ("gpu", [("p", "PyFunc")])])
    assert reached(meta) == {"PartitionedCall", "NoOp"}

    for function in meta.graph_def.library.function:
        function.attr["api_implements"].s = b"lstm"
    assert reached(meta) == {"PartitionedCall", "NoOp", "PyFunc"}


def test_functions_that_are_not_there_are_named_with_who_calls_them():
    meta = graph([("out", "If", [], ["then", "gone"])], BRANCHES)
    meta.graph_def.library.function[0].node_def[0].attr["0"].func.name = "lost"

    assert graph_ops.missing_functions(meta.graph_def) == {"gone": "out", "lost": "t"}


def test_a_constant_counts_by_what_it_expands_to():
    meta = graph([("small", "Const"), ("bomb", "Const")])
    for node, size in zip(meta.graph_def.node, (1000, 2**20), strict=True):
        tensor = node.attr["value"].tensor
        tensor.float_val.append(1)
        for _ in range(2):
            tensor.tensor_shape.dim.add(size=size)

    assert graph_ops.large_constants(meta.graph_def) == {"bomb": 4 * 2**40}


def test_constants_count_together():
    """A hundred constants, each below the bound of one, are as much as one beyond it."""
    meta = graph([(f"c{i}", "Const") for i in range(100)])
    for node in meta.graph_def.node:
        node.attr["value"].tensor.tensor_shape.dim.add(size=2**24)
    assert graph_ops.large_constants(meta.graph_def) == {"c0": 100 * 2**26}

    del meta.graph_def.node[50:]
    assert graph_ops.large_constants(meta.graph_def) == {}

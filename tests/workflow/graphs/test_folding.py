import numpy as np
import pytest
from tests.workflow.graphs.graph_factory import (
    branches,
    const,
    graph,
    new_dropout,
    node,
    old_dropout,
    placeholder,
    select_dropout,
    uniform,
)

from slipway.graphs.cutting import needed
from slipway.graphs.folding import fold
from slipway_wire import tensors

RANDOM = {"RandomUniform", "RandomStandardNormal", "RandomUniformInt"}


def left(nodes, frozen, output="y:0"):
    """Fold, and tell the kinds of ops that the output still needs, in order of the graph."""
    found = graph(placeholder("x"), *nodes)
    protos = {name: tensors.to_proto(np.asarray(value), as_content=False) for name, value in frozen.items()}
    for n in found.node:
        if (proto := protos.get(f"{n.name}:0")) is not None:
            n.op = "Const"
            n.attr["value"].tensor.CopyFrom(proto)
    settled = fold(found, protos, [output])[output]
    behind = needed("g", found, [settled], frozenset(["x:0"]))
    return settled, [n.op for n in found.node if n.name in behind]


@pytest.mark.parametrize("dropout", [old_dropout, new_dropout, select_dropout])
def test_a_dropout_that_drops_nothing_draws_nothing(dropout):
    _, ops = left(dropout(), {"keep:0": np.float32(1)})

    assert not RANDOM & set(ops)


@pytest.mark.parametrize("dropout", [old_dropout, new_dropout, select_dropout])
@pytest.mark.parametrize("keep", [0.999, 0.5])
def test_a_dropout_that_drops_stays(dropout, keep):
    """It is live, and is told: it must not be folded away as if nobody had meant it."""
    _, ops = left(dropout(), {"keep:0": np.float32(keep)})

    assert "RandomUniform" in ops


def test_arithmetic_on_what_is_fed_stays_as_it_is():
    settled, ops = left(old_dropout(), {"keep:0": np.float32(1)})

    assert settled == "scaled:0"
    assert ops == ["Const", "RealDiv"]


@pytest.mark.parametrize(("training", "expected"), [(False, ["Add", "Const"]), (True, ["Const", "RandomStandardNormal", "Add"])])  # fmt: skip
def test_a_branch_that_is_never_taken_is_left_out(training, expected):
    _, ops = left(branches(), {"training:0": training})

    assert sorted(op for op in ops if op not in {"Identity", "Switch"}) == sorted([*expected, "Const"])


def test_branches_stay_where_nobody_knows():
    _, ops = left(branches(), {})

    assert ops.count("Switch") == 3
    assert "Merge" in ops


def test_a_merge_that_is_asked_which_it_was_stays():
    _, ops = left([*branches(), node("which", "Identity", "y:1")], {"training:0": False}, "which:0")

    assert "Merge" in ops


@pytest.mark.parametrize(
    "mask",
    [
        [
            const("two", 2.0),
            node("sum", "Mul", "u", "two"),
            const("keep", 1.0),
            node("mask", "GreaterEqual", "sum", "keep"),
        ],
        [const("keep", 0.5), node("mask", "GreaterEqual", "u", "keep")],
        [const("keep", 0.0), node("mask", "Greater", "u", "keep")],
        [const("keep", 0.0), node("mask", "GreaterEqual", "keep", "u")],
        [const("keep", np.zeros(3, np.float32)), node("mask", "GreaterEqual", "u", "keep")],
    ],
    ids=["wider numbers", "half of them", "zero itself", "the other way round", "a rate for each column"],
)
def test_only_what_is_proven_is_left_out(mask):
    nodes = [*uniform("u", "x"), *mask, node("ones", "Cast", "mask", DstT="float32"), node("y", "Mul", "x", "ones")]

    assert "RandomUniform" in left(nodes, {})[1]


def test_a_mask_of_a_shape_of_its_own_may_be_larger_and_stays():
    """One row of x times a mask of many gives many rows."""
    nodes = [*old_dropout()]
    nodes[1] = node("u/shape", "Pack", "x", "x")

    assert "RandomUniform" in left(nodes, {"keep:0": np.float32(1)})[1]


def test_numbers_are_cast_to_what_they_become():
    """0.7 as an integer is 0: the branch of `false`."""
    chain = [const("n", 0.7), node("i", "Cast", "n", DstT="int32"), node("b", "Cast", "i", DstT="bool")]
    nodes = [*branches()[1:], *chain]
    for n in nodes:
        inputs = ["b" if tensor == "training" else tensor for tensor in n.input]
        del n.input[:]
        n.input.extend(inputs)

    assert "RandomStandardNormal" not in left(nodes, {})[1]


@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], 1.0, [1.0]])
def test_a_product_with_numbers_that_are_known_is_left_as_it_is(value):
    """Several of them are no truth value; and ones of weights and inputs are arithmetic, which stays bit for bit."""
    made = graph(placeholder("x"), const("c", value), node("y", "Mul", "x", "c"), node("z", "SelectV2", "y", "x", "x"))

    assert fold(made, {}, ["z:0"]) == {"z:0": "z:0"}


@pytest.mark.parametrize(
    "op", ["Mul", "Add", "LogicalNot", "Switch", "Select", "Merge", "RandomUniform", "Floor", "Cast"]
)
@pytest.mark.parametrize("inputs", [[], ["a"], ["a", "b"], ["a", "b", "b", "b"]])
def test_ops_with_inputs_that_they_do_not_take_settle_nothing(op, inputs):
    made = graph(const("a", [1.0, 2.0]), const("b", [[True], [False], [True]]), node("y", op, *inputs, DstT="float32"))

    fold(made, {}, ["y:0"])

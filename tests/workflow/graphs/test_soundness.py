import pytest
from tests.workflow.conftest import ROOT
from tests.workflow.graphs.graph_factory import branches, const, graph, node, placeholder

from slipway.errors import SourceError
from slipway.graphs import soundness
from slipway_wire import messages


def calls(count, name):
    return [node(f"c{number}", "PartitionedCall", f=name) for number in range(count)]


def bomb(levels, width):
    """Functions that call the next one *width* times each: width ** levels nodes."""
    functions = {f"f{level}": calls(width, f"f{level + 1}") for level in range(levels)}
    return graph(*calls(1, "f0"), functions=functions | {f"f{levels}": [const("one", 1.0)]})


HARMFUL = {
    "a name twice": (graph(const("a", 1.0), node("a", "ReadFile")), "2 of the nodes are called a"),
    "a name that is none": (graph(const("a\nslipway: all is well", 1.0)), "'a\\nslipway: all is well' is no name"),
    "a name of a terminal's colours": (graph(const("\x1b[31m", 1.0)), "is no name (among the nodes)"),
    "a very long name": (graph(const("a" * 10_000, 1.0)), "is no name (among the nodes)"),
    "an op that is none": (graph(node("a", "a b")), "'a b' is no name (among the ops of nodes)"),
    "no op": (graph(node("a", "")), "'' is no name (among the ops of nodes)"),
    "a circle": (graph(node("a", "Neg", "b"), node("b", "Neg", "a:0")), "node a needs its own result"),
    "a circle in front of others": (
        graph(node("z", "Neg", "a"), node("a", "Neg", "b"), node("b", "Neg", "a")),
        "node a needs its own result",
    ),
    "a circle of one": (graph(node("a", "Neg", "a")), "node a needs its own result"),
    "a circle of control": (graph(node("a", "Neg", "^b"), node("b", "Neg", "^a")), "node a needs its own result"),
    "a circle in a function": (
        graph(functions={"f": [node("a", "Neg", "a:y:0")]}),
        "node a needs its own result",
    ),
    "a name twice in a function": (
        graph(functions={"f": [node("a", "Neg"), node("a", "ReadFile")]}),
        "2 of the nodes of function f are called a",
    ),
    "a function that calls itself": (
        graph(functions={"f": calls(1, "f")}),
        "function f calls itself",
    ),
    "functions that call each other": (
        graph(functions={"f": [node("a", "While", body="g", f="g")], "g": [node("x", "f")]}),
        "calls itself",
    ),
    "functions many times in each other": (bomb(20, 10), "with its functions put in where they are called, it has "),
    "functions deep in each other": (bomb(300, 1), "its functions call each other on 301 levels"),
}


@pytest.mark.parametrize(("made", "expected"), HARMFUL.values(), ids=HARMFUL)
def test_a_graph_that_no_program_wrote_is_one_line(made, expected):
    with pytest.raises(SourceError) as caught:
        soundness.check("m.pb", made)

    assert str(caught.value).startswith("m.pb: damaged, or made to do harm: ")
    assert expected in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_function_twice_is_refused():
    made = graph(functions={"f": [const("a", 1.0)]})
    made.library.function.add().CopyFrom(made.library.function[0])

    with pytest.raises(SourceError, match="2 of the functions are called f"):
        soundness.check("m.pb", made)


def loop():
    """A while loop as TensorFlow 1 writes it: the only circle there is."""
    return graph(
        placeholder("x"),
        node("enter", "Enter", "x"),
        node("merge", "Merge", "enter", "next"),
        node("cond", "LoopCond", "merge"),
        node("switch", "Switch", "merge", "cond"),
        node("body", "Neg", "switch:1"),
        node("next", "NextIteration", "body"),
        node("exit", "Exit", "switch"),
    )


@pytest.mark.parametrize("made", [graph(placeholder("x"), *branches()), loop(), bomb(5, 5), graph()])
def test_what_programs_write_is_sound(made):
    soundness.check("m.pb", made)


def test_what_tensorflow_wrote_is_sound():
    paths = list((ROOT / "tests/testdata").rglob("saved_model.pb"))
    for path in paths:
        for meta_graph in messages.SavedModel.FromString(path.read_bytes()).meta_graphs:
            soundness.check(path.name, meta_graph.graph_def)

    assert len(paths) > 5

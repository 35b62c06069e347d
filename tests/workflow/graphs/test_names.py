import pytest
from tests.workflow.graphs.graph_factory import const, graph, node, placeholder

from slipway.errors import SourceError
from slipway.graphs.names import Placeholder, find_ends, near, placeholders

GRAPH = graph(
    placeholder("ChatInputs", "int32", (None, None)),
    placeholder("Dropout", shape=()),
    node("project/logits", "Mul", "ChatInputs", "Dropout"),
    node("project/Reshape", "Reshape", "project/logits"),
    node("train/step", "NoOp", "^project/logits"),
)
IN, OUT = {"chars": "ChatInputs"}, {"logits": "project/logits:0"}


def refused(**changes):
    given = {"inputs": IN, "outputs": OUT, "frozen": {}} | changes
    with pytest.raises(SourceError) as caught:
        find_ends("m.meta", GRAPH, given["inputs"], given["outputs"], given["frozen"])
    return str(caught.value)


def test_names_become_tensors():
    ends = find_ends("m.meta", GRAPH, IN, OUT, {"Dropout": 1.0})

    assert ends.inputs == {"chars": "ChatInputs:0"}
    assert ends.outputs == {"logits": "project/logits:0"}
    assert ends.stops == {"ChatInputs:0", "Dropout:0"}


def test_a_wrong_name_is_told_with_those_that_come_near():
    """People know the last part of a name, or have a letter wrong."""
    assert refused(outputs={"y": "logits"}).endswith("outputs: no tensor logits in the graph; near it: project/logits.")
    assert "near it: ChatInputs." in refused(inputs={"chars": "CharInputs"})
    assert "freeze_inputs: no tensor dropout:0 in the graph; near it: Dropout." in refused(frozen={"dropout:0": 1})


def test_where_nothing_comes_near_what_could_be_meant_is_named():
    assert refused(inputs={"x": "zzz"}).endswith("there are: ChatInputs (int32 [?, ?]), Dropout (float []).")
    assert refused(outputs={"x": "zzz"}).endswith("there are: project/Reshape.")


def test_names_that_are_left_out_are_offered():
    lines = refused(inputs={}, outputs={}).splitlines()

    assert lines == [
        "m.meta: `outputs` names no tensor; nothing uses the result of: project/Reshape.",
        "m.meta: `inputs` names no tensor; the placeholders are: ChatInputs (int32 [?, ?]), Dropout (float []).",
    ]


def test_an_output_that_is_an_input_is_fed():
    assert "output y: Dropout is fed, not computed" in refused(outputs={"y": "Dropout"})
    assert "output y: project/logits:0 is fed, not computed" in refused(
        inputs={"x": "project/logits"}, outputs={"y": "project/logits:0"}
    )


def test_only_placeholders_are_frozen():
    assert "freeze_inputs: project/logits is a Mul; only placeholders can be frozen. There are: ChatInputs" in refused(
        frozen={"project/logits": 1}
    )


@pytest.mark.parametrize(("producer", "shape"), [(23, None), (24, ())])
def test_an_empty_shape_once_meant_nothing(producer, shape):
    assert placeholders(graph(placeholder("x", shape=()), producer=producer)) == [Placeholder("x", "float", shape)]


def test_near_names_have_the_word_or_are_written_alike():
    there = ["a/b/softmax_tensor", "softmax", "input", "inputs", "output"]

    assert near("head/softmax", there) == ["softmax", "a/b/softmax_tensor"]
    assert near("imput", there)[0] == "input"
    assert near("xyz", there) == []


def test_long_lists_end():
    many = graph(*(const(f"c{i}", 1.0) for i in range(3)), *(node(f"y{i}", "Relu", "c0") for i in range(30)))
    with pytest.raises(SourceError) as caught:
        find_ends("g.pb", many, {"x": "c0"}, {}, {})

    assert str(caught.value).endswith("y6, y7 and 22 more.")

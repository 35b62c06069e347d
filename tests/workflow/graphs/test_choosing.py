import pytest
from tests.workflow.graphs.graph_factory import const, graph, node, placeholder

from slipway.errors import SourceError
from slipway.graphs.choosing import choose
from slipway.graphs.reading import SourceGraph

# A graph to be served, with left-overs of the training.
NODES = (
    placeholder("x"),
    placeholder("labels", "int64", (None,)),
    placeholder("keep", shape=()),
    placeholder("training", "bool", (), "PlaceholderWithDefault"),
    node("w", "VariableV2", dtype="float32", shape=(3,)),
    node("hidden", "Mul", "x", "keep"),
    node("logits", "Mul", "hidden", "w", "^training"),
    node("scores/Softmax", "Softmax", "logits"),
    const("version", 1.0),
    node("gradients/logits", "Mul", "logits", "labels"),
)
STEP = node("step", "ApplyAdam", "w", "gradients/logits")


def chosen(*nodes, inputs=None, outputs=None, frozen=()):
    return choose(SourceGraph("g", graph(*nodes)), inputs or {}, outputs or {}, frozen)


def test_the_one_end_and_the_placeholders_that_it_needs_are_the_model():
    """Not labels, which only the loss needs; not a placeholder that has a default."""
    assert chosen(*NODES, frozen=["keep"]) == ({"x": "x:0"}, {"scores/Softmax": "scores/Softmax:0"})


def test_what_is_named_holds():
    ends = {"inputs": {"of_mine": "hidden"}, "outputs": {"logits": "logits", "hidden": "hidden:0"}}

    assert chosen(*NODES, **ends) == ({"of_mine": "hidden:0"}, {"logits": "logits:0", "hidden": "hidden:0"})


def test_a_value_for_all_rows_is_never_guessed():
    """Whether it is a rate or what is kept, only its user knows; 1.0 would be wrong for one of them."""
    with pytest.raises(SourceError, match=r"keep \(float \[\]\): one value for all rows.*--freeze keep=1.0"):
        chosen(*NODES)


@pytest.mark.parametrize(("nodes", "asked", "said"), [
    ((*NODES, node("other", "Neg", "x")), {}, "expected one tensor at its end; there are: scores/Softmax, other."),
    ((placeholder("x"), node("gradients/x", "Neg", "x")), {}, "there are: none."),
    ((*NODES, STEP), {}, "a graph that was trained in does not say what it is for; there are: logits, scores/Softmax. Name"),
    (NODES, {"outputs": {"p": "softmax"}}, "no tensor softmax in the graph; near it: scores/Softmax"),
    ((const("one", 1.0), node("y", "Neg", "one")), {"outputs": {"y": "y"}}, "y:0 needs no placeholder"),
])  # fmt: skip
def test_what_could_be_several_things_is_one_line_with_what_there_is(nodes, asked, said):
    with pytest.raises(SourceError) as caught:
        chosen(*nodes, **asked)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)

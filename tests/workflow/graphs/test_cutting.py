import pytest
from tests.workflow.graphs.graph_factory import const, graph, names, node, placeholder

from slipway.errors import SourceError
from slipway.graphs.cutting import check_ends, initializer_of, needed, part, without
from slipway.graphs.names import Ends

GRAPH = graph(
    placeholder("x"),
    placeholder("seen", shape=()),
    node("w", "VariableV2", dtype="float32", shape=(3,)),
    node("queue", "QueueDequeueV2"),
    node("y", "Mul", "x", "w", "^check"),
    node("check", "Assert", "seen"),
    node("z", "Add", "queue:1", "y"),
    node("unused", "PyFunc"),
)


def faults(inputs, outputs, frozen=None, found=GRAPH):
    with pytest.raises(SourceError) as caught:
        check_ends("g", found, Ends(inputs, outputs, frozen or {}))
    return str(caught.value)


def test_what_session_run_would_run_is_needed_and_nothing_else():
    assert needed("g", GRAPH, ["z:0"], frozenset(["queue:1"])) == {"z", "y", "x", "w", "check", "seen"}


def test_a_graph_that_ends_too_soon_is_cut_off():
    with pytest.raises(SourceError, match="g: y needs gone, which the graph has not: it is cut off or damaged"):
        needed("g", graph(node("y", "Mul", "gone")), ["y"])


def test_a_placeholder_that_nobody_feeds_is_named_with_the_remedy():
    line = faults({"x": "x:0", "q": "queue:1"}, {"z": "z:0"})

    assert "need the placeholder seen (float []), which nobody feeds" in line
    assert line.endswith("freeze_inputs: {seen: …}.")


def test_an_answer_that_is_the_same_for_every_request_is_no_answer():
    assert "g: w: not computed from the inputs x: it is the same for every request" in faults(
        {"x": "x:0"}, {"w": "w:0"}
    )


def test_an_input_that_nothing_needs_is_a_mistake():
    inputs = {"x": "x:0", "q": "queue:0", "seen": "seen:0"}

    assert faults(inputs, {"y": "y:0"}) == "g: no output is computed from the input q (queue:0). Leave it out."


def test_a_frozen_input_that_nothing_needs_is_a_mistake():
    found = graph(placeholder("x"), placeholder("rate"), node("y", "Relu", "x"))

    assert "do not need rate:0, which freeze_inputs names" in faults({"x": "x:0"}, {"y": "y:0"}, {"rate:0": 1.0}, found)


def test_weights_may_be_answers_beside_answers():
    """The transitions of a CRF are fetched with every request."""
    check_ends("g", GRAPH, Ends({"x": "x:0", "seen": "seen:0"}, {"y": "y:0", "w": "w:0"}, {}))


def test_a_part_is_for_any_machine_and_has_the_functions_that_it_calls():
    found = graph(
        node("a", "PartitionedCall", f="outer", _class="loc:@b"),
        node("b", "Relu", "a"),
        functions={"outer": [node("c", "inner")], "inner": [node("d", "Relu")], "other": [node("e", "PyFunc")]},
    )

    cut = part(found, {"a"})

    assert names(cut) == ["a"]
    assert [function.signature.name for function in cut.library.function] == ["outer", "inner"]
    assert {n.device for n in (*cut.node, *(n for f in cut.library.function for n in f.node_def))} == {""}
    assert "_class" not in cut.node[0].attr
    assert cut.versions.producer == 100


def test_what_is_left_out_is_no_longer_waited_for():
    cut = without(graph(const("a", 1.0), const("b", 2.0), node("y", "Add", "a", "b:0", "^a", "^b")), {"a"})

    assert names(cut) == ["b", "y"]
    assert list(cut.node[1].input) == ["a", "b:0", "^b"]


def test_a_table_is_filled_by_what_has_its_handle():
    found = graph(
        node("t", "HashTableV2"),
        node("i", "InitializeTableV2", "other", "k", "v"),
        node("f", "LookupTableImportV2", "t:0", "k", "v"),
    )

    assert initializer_of(found, "t").name == "f"
    assert initializer_of(found, "u") is None

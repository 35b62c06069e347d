"""What the op policy says of files before TensorFlow is shown them; recipes show the rest, on real ones."""

import pytest
from tests.dropin import saved_models
from tests.workflow.graphs.graph_factory import const, graph, node, placeholder

from slipway.errors import SourceError
from slipway.graphs import of_source
from slipway.source_settings import FrozenGraphSource, SavedModelSource

READS = (
    "op ReadFile (node read) reads files of the machine that serves; take it out of the graph, or say in the contract"
)
# y = f(x), where f calls g, and g has a branch that reads a file.
NESTED = {
    "f": [node("call", "StatefulPartitionedCall", "x", f="g")],
    "g": [node("branch", "If", "x", f="h")],
    "h": [node("read", "ReadFile", "name")],
}


def refused(source, directory, allowed=()):
    with pytest.raises(SourceError) as caught:
        of_source.check(source, directory, allowed)
    return str(caught.value)


@pytest.fixture
def frozen(tmp_path):
    """Write a frozen graph; its source takes `x` and gives `y`."""

    def write(*nodes, functions=None):
        (tmp_path / "frozen.pb").write_bytes(graph(*nodes, functions=functions).SerializeToString())
        ends = {"inputs": {"x": "x:0"}, "outputs": {"y": "y:0"}}
        return FrozenGraphSource.model_validate({"kind": "frozen_graph", "path": tmp_path / "frozen.pb"} | ends)

    return write


def test_functions_of_a_frozen_graph_are_judged_however_deep(frozen, tmp_path):
    source = frozen(placeholder("x"), node("y", "PartitionedCall", "x", f="f"), functions=NESTED)

    assert refused(source, tmp_path).startswith(f"frozen.pb: {READS}")
    of_source.check(source, tmp_path, ["ReadFile"])


def test_what_is_cut_away_is_not_judged(frozen, tmp_path):
    """A training graph reads its data; its model does not."""
    left = [const("name", b"/data"), node("left", "ReadFile", "name")]

    of_source.check(frozen(placeholder("x"), *left, node("y", "Neg", "x")), tmp_path, ())
    assert "op ReadFile (node left)" in refused(
        frozen(placeholder("x"), *left, node("y", "Neg", "x", "^left")), tmp_path
    )


def test_a_frozen_graph_has_nothing_to_restore(frozen, tmp_path):
    """Only a checkpoint's own saver reads files; elsewhere the op reads any checkpoint of the machine."""
    restore = node("y", "RestoreV2", "x", "x", "x")

    assert "op RestoreV2 (node y) reads files" in refused(frozen(placeholder("x", "string"), restore), tmp_path)


@pytest.fixture
def saved_model(tmp_path):
    """Write half_plus_two with more: what *change* does to its meta graph."""

    def write(change):
        made = saved_models.half_plus(2.0)
        change(made.meta)
        made.write(tmp_path / "model")
        return SavedModelSource.model_validate({"kind": "saved_model", "path": tmp_path / "model"})

    return write


def add_functions(meta):
    meta.graph_def.library.CopyFrom(graph(functions=NESTED).library)


def test_functions_of_a_saved_model_are_judged_however_deep(saved_model, tmp_path):
    def change(meta):
        add_functions(meta)
        meta.graph_def.node.add(name="call", op="StatefulPartitionedCall", input=["x"]).attr["f"].func.name = "f"
        meta.signature_def["serving_default"].outputs["y"].name = "call:0"

    assert refused(saved_model(change), tmp_path / "model").startswith(f"model: signature serving_default: {READS}")


def test_what_loading_a_saved_model_runs_is_judged(saved_model, tmp_path):
    def change(meta):
        add_functions(meta)
        meta.graph_def.node.add(name="start", op="StatefulPartitionedCall", input=["x"]).attr["f"].func.name = "f"
        meta.collection_def["saved_model_main_op"].node_list.value.append("start")

    assert refused(saved_model(change), tmp_path / "model").startswith(f"model: initialiser: {READS}")

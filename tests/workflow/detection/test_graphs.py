import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.detection.graphs import read_graph_file
from slipway_wire.protobuf import bytes_field, varint_field


def node(name, op, *inputs):
    return bytes_field(
        1, b"".join(bytes_field(n, t.encode()) for n, t in ((1, name), (2, op), *((3, i) for i in inputs)))
    )


GRAPH = node("x", "Placeholder") + node("c", "Const") + node("y", "Mul", "x", "c:0") + node("z", "Relu", "^x", "y")


def read(directory, content):
    path = directory / "graph"
    path.write_bytes(content)
    return read_graph_file(path)


def test_a_graph_tells_what_is_fed_and_what_comes_out(tmp_path):
    found = read(tmp_path, GRAPH + bytes_field(4, b"\x08\x15"))

    assert (found.kind, found.nodes, found.placeholders, found.ends) == ("graph", 4, ("x",), ("z",))
    assert (found.variables, found.constants_bytes > 0) == (0, True)


def test_a_graph_with_variables_is_not_frozen(tmp_path):
    assert read(tmp_path, GRAPH + node("v", "VarHandleOp")).variables == 1


def test_a_meta_graph_is_one_with_a_graph_in_it(tmp_path):
    found = read(tmp_path, bytes_field(1, b"") + bytes_field(2, GRAPH) + bytes_field(3, b""))

    assert (found.kind, found.placeholders) == ("meta graph", ("x",))


@pytest.mark.parametrize("objects", [b"", bytes_field(7, bytes_field(1, b""))])
def test_a_saved_model_of_tensorflow_2_says_how_its_objects_hang_together(objects, tmp_path):
    found = read(tmp_path, varint_field(1, 1) + bytes_field(2, bytes_field(2, GRAPH) + objects))

    assert (found.kind, found.has_objects) == ("saved model", bool(objects))


@given(junk=st.binary(max_size=300), kept=st.integers(0, 200))
def test_any_bytes_are_told_or_unknown(junk, kept, tmp_path_factory):
    read(tmp_path_factory.mktemp("junk"), GRAPH[:kept] + junk)


def test_an_empty_file_is_no_graph(tmp_path):
    assert read(tmp_path, b"") is None

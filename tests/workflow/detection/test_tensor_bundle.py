import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.workflow import index_factory
from tests.workflow.conftest import ROOT

from slipway.detection.tensor_bundle import Entry, read_index
from slipway.errors import SourceError
from slipway_wire.protobuf import varint

TENSORS = {"a/w": (1, [3, 4], 0, 0, 48), "b": (9, [], 1, 8, 8), "z": (7, [0], 0, 48, 3)}


def pack(data):
    """Snappy, as one literal."""
    return varint(len(data)) + bytes([62 << 2]) + (len(data) - 1).to_bytes(3, "little") + data


@pytest.mark.parametrize("packing", [None, pack])
def test_an_index_says_where_its_tensors_lie(packing, tmp_path):
    (tmp_path / "m.index").write_bytes(index_factory.index(TENSORS, 2, packing))

    found = read_index(tmp_path / "m.index")

    assert found.shards == 2
    assert found.tensors == {name: Entry(d, tuple(s), *place) for name, (d, s, *place) in TENSORS.items()}
    assert [str(found.tensors[name]) for name in TENSORS] == ["float [3, 4]", "int64 []", "string [0]"]
    assert (found.shard_bytes(0), found.shard_bytes(1), found.is_object_based) == (51, 16, False)


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/testdata/*/*/variables/variables.index")), ids=str)
def test_indexes_of_several_ages_are_read(path):
    """Those of TensorFlow 1.14 are packed with Snappy."""
    found = read_index(path)

    assert found.tensors
    assert found.shard_bytes(0) == path.with_name("variables.data-00000-of-00001").stat().st_size


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_flipped_bit_is_found_or_does_not_matter(data, tmp_path_factory):
    """Blocks carry checksums; the rest is padding and the table of its own parts."""
    path = tmp_path_factory.mktemp("flip") / "m.index"
    content = bytearray(index_factory.index(TENSORS, 2))
    at = data.draw(st.integers(0, len(content) * 8 - 1))
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    try:
        found = read_index(path)
    except SourceError as error:
        told = str(error)
    else:
        told = ""
        assert list(found.tensors) == list(TENSORS)
    assert "\n" not in told


def test_every_cut_is_found(tmp_path):
    path = tmp_path / "m.index"
    content = index_factory.index(TENSORS)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(SourceError, match="no index of a checkpoint, or damaged: "):
            read_index(path)

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.workflow.warmup_factory import CONTRACT

from slipway import rows
from slipway.golden import Golden
from slipway.warmup.sources import GoldenRows, RecordedRows, SyntheticRows

DRAWN = SyntheticRows(CONTRACT)
counts = st.integers(1, 20)


def fits(signature, found, count):
    tensors = CONTRACT.inputs_of(signature)
    assert found.keys() == tensors.keys()
    assert rows.misfits(tensors, found) == []
    assert {len(array) for array in found.values()} == {count}


@given(st.sampled_from(sorted(CONTRACT.signatures)), counts, st.none() | st.integers(0, 9))
def test_rows_are_made_up_for_every_signature(signature, count, seed):
    found = SyntheticRows(CONTRACT, seed).rows(signature, count)

    fits(signature, found.inputs, count)
    assert (found.source, found.synthetic) == ("synthetic", count)
    more = SyntheticRows(CONTRACT, seed).rows(signature, count + 3).inputs
    for name, array in found.inputs.items():
        np.testing.assert_array_equal(more[name][:count], array)


def test_the_seed_decides():
    one, other = (SyntheticRows(CONTRACT, seed).rows("serving_default", 4).inputs["x"] for seed in (1, 2))

    assert (one != other).any()


def test_golden_rows_are_taken_where_they_have_the_inputs():
    golden = Golden({"x": np.float32([[0.25, 0.5], [0.75, 1]])}, {"y": np.zeros((2, 3), np.float32)}, None)
    source = GoldenRows(CONTRACT, golden, DRAWN)

    found = source.rows("serving_default", 3)
    assert found.inputs["x"].tolist() == [[0.25, 0.5], [0.75, 1], [0.25, 0.5]]
    assert (found.source, found.synthetic) == ("golden", 0)
    assert source.rows("classify", 2).source == "golden"
    assert (source.rows("tokens", 2).source, source.rows("tokens", 2).synthetic) == ("synthetic", 2)


@given(counts, st.integers(1, 12), st.integers(1, 6))
def test_logged_rows_come_first_and_are_lengthened_with_rows_of_the_same_shape(count, logged, length):
    """Every batch size has exactly its rows; none of those that were logged is repeated or overtaken."""
    ids = np.arange(logged * length, dtype=np.int64).reshape(logged, length) % 100
    text = np.array([b"logged %d" % n for n in range(logged)], object)
    found = RecordedRows({"tokens": {"ids": ids, "text": text}}, DRAWN).rows("tokens", count)

    fits("tokens", found.inputs, count)
    have = min(count, logged)
    np.testing.assert_array_equal(found.inputs["ids"][:have], ids[:have])
    assert found.inputs["text"][:have].tolist() == text[:have].tolist()
    assert set(found.inputs["text"][have:]) <= {b"a", b"b"}
    assert (found.source, found.synthetic) == ("recorded", count - have)


def test_a_signature_that_nobody_called_is_made_up():
    assert RecordedRows({}, DRAWN).rows("classify", 5).source == "synthetic"

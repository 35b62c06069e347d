import time

import numpy as np
import pytest

from slipway import golden
from slipway.errors import SourceError
from slipway.golden import Golden

GOLDEN = Golden(
    inputs={
        "image": np.arange(12, dtype=np.float32).reshape(3, 4),
        "text": np.array([b"a", b"long\xff", b""], object),
    },
    outputs={"label": np.array([1, 2, 3], np.int64)},
    labels=np.array([1, 2, 0], np.int64),
)


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in left
    )


def test_what_is_written_is_read(tmp_path):
    golden.write(tmp_path / "golden.npz", GOLDEN)

    found = golden.read(tmp_path / "golden.npz")

    assert same(found.inputs, GOLDEN.inputs)
    assert same(found.outputs, GOLDEN.outputs)
    assert np.array_equal(found.labels, GOLDEN.labels)


def test_equal_arrays_give_equal_bytes_at_any_time(tmp_path, monkeypatch):
    golden.write(tmp_path / "now.npz", GOLDEN)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    golden.write(tmp_path / "later.npz", GOLDEN)

    assert (tmp_path / "now.npz").read_bytes() == (tmp_path / "later.npz").read_bytes()


def test_rows_begin_again_where_there_are_too_few():
    assert GOLDEN.first(5)["text"].tolist() == [b"a", b"long\xff", b"", b"a", b"long\xff"]


def test_strings_that_numpy_would_shorten_come_back_whole(tmp_path):
    """Serialized Examples end as they like; numpy takes zero bytes at the end for filling."""
    text = np.array([[b"a\0", b""], [b"\0\0", b"abc"]], object)

    golden.write(tmp_path / "golden.npz", Golden({"text": text}, {"y": np.zeros(2)}, None))

    found = golden.read(tmp_path / "golden.npz")
    assert found.inputs["text"].tolist() == text.tolist()
    assert list(found.inputs) == ["text"]


def test_answers_of_other_signatures_come_back(tmp_path):
    written = Golden({"x": np.zeros(2)}, {"y": np.zeros(2)}, None, {"tags": {"path": np.arange(4).reshape(2, 2)}})

    golden.write(tmp_path / "golden.npz", written)

    np.testing.assert_array_equal(golden.read(tmp_path / "golden.npz").others["tags"]["path"], [[0, 1], [2, 3]])


def damaged(path, *, cut=None, flip=None):
    data = bytearray(path.read_bytes())
    if flip is not None:
        data[flip] ^= 0xFF
    path.write_bytes(data[:cut])


@pytest.mark.parametrize("harm", [{"cut": 100}, {"cut": 0}, {"cut": -10}, {"flip": 200}])
def test_a_damaged_file_is_told_in_one_line(harm, tmp_path):
    golden.write(tmp_path / "golden.npz", GOLDEN)
    damaged(tmp_path / "golden.npz", **harm)

    with pytest.raises(SourceError) as caught:
        golden.read(tmp_path / "golden.npz")

    assert str(caught.value).startswith(f"{tmp_path}/golden.npz: cannot be read as .npz")
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(SourceError, match=r"not there\. Run `slipway checkpoint`"):
        golden.read(tmp_path / "golden.npz")


def test_other_arrays_are_not_golden_data(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))

    with pytest.raises(SourceError, match="expected arrays inputs/… and outputs/…, found x"):
        golden.read(tmp_path / "other.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{"code": 1}], object))

    with pytest.raises(SourceError, match=r"cannot be read .* Mend it\."):
        golden.read_arrays(tmp_path / "objects.npz", "Mend it.")


def test_a_single_array_is_told_from_named_ones(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))

    with pytest.raises(SourceError, match="found a single array"):
        golden.read_arrays(tmp_path / "one.npy", "Mend it.")

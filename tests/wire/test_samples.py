from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import samples
from slipway_wire.samples import Samples

micros = st.integers(0, 2**32 - 1)


def made(rows, origin_ns=5, begin_us=10, end_us=20):
    columns = [np.array(column, np.int64) for column in zip(*[row[:3] for row in rows], strict=True)] or [
        np.zeros(0, np.int64)
    ] * 3
    return Samples(origin_ns, begin_us, end_us, *columns, np.array([row[3] for row in rows], bool))


def rows_of(found):
    columns = (found.planned_us, found.slip_us, found.service_us, found.failed)
    return list(zip(*[column.tolist() for column in columns], strict=True))


@given(st.lists(st.tuples(micros, micros, micros, st.booleans())), st.integers(0, 2**62))
def test_what_is_written_is_read(tmp_path_factory, rows, origin_ns):
    path = tmp_path_factory.mktemp("samples") / "0.npz"
    samples.write(path, made(rows, origin_ns))

    found = samples.read(path)

    assert rows_of(found) == rows
    assert (found.origin_ns, found.begin_us, found.end_us) == (origin_ns, 10, 20)


def test_a_request_takes_a_few_bytes(tmp_path):
    random = np.random.default_rng(1)
    sent = np.cumsum(random.integers(50, 500, 10_000))
    service = random.lognormal(6, 0.5, 10_000).astype(np.int64)
    samples.write(tmp_path / "0.npz", Samples(0, 0, 1, sent, sent * 0, service, sent < 0))

    assert (tmp_path / "0.npz").stat().st_size < 6 * 10_000


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not quite", b"something else"])
def test_what_is_no_sample_file_is_named(tmp_path, content):
    path = tmp_path / "0.npz"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"0\.npz: not a sample file"):
        samples.read(path)


def test_an_archive_of_other_arrays_is_no_sample_file(tmp_path):
    np.savez(tmp_path / "0.npz", header=np.zeros(4, np.int64))

    with pytest.raises(ValueError, match="not a sample file"):
        samples.read(tmp_path / "0.npz")


def test_workers_are_put_together_in_order():
    together = samples.merged([made([(1, 0, 5, False), (7, 1, 1, True)]), made([]), made([(3, 2, 2, False)])])

    assert rows_of(together) == [(1, 0, 5, False), (3, 2, 2, False), (7, 1, 1, True)]
    assert together.done_us.tolist() == [6, 7, 9]


def test_what_was_sent_and_which_of_several_answers_came_is_kept_where_it_is_known(tmp_path):
    some = replace(
        made([(1, 0, 5, False), (7, 1, 1, True)]), fits=np.array([2, 0], np.uint8), payload=np.array([5, -1], np.int32)
    )
    others = replace(made([(3, 2, 2, False)]), fits=np.array([1], np.uint8), payload=np.array([9], np.int32))
    samples.write(tmp_path / "0.npz", samples.merged([some, others]))

    assert samples.read(tmp_path / "0.npz").fits.tolist() == [2, 1, 0]
    assert samples.read(tmp_path / "0.npz").payload.tolist() == [5, 9, -1]
    assert samples.merged([some, made([])]).fits is None
    assert samples.merged([some, made([])]).payload is None


def test_workers_of_different_loads_are_refused():
    with pytest.raises(ValueError, match="different windows"):
        samples.merged([made([]), made([], begin_us=11)])

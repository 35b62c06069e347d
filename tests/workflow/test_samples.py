import csv
import io

import numpy as np
import pytest

from slipway import cli
from slipway.errors import SourceError
from slipway.samples import sample_files, write_csv
from slipway_wire import samples
from slipway_wire.samples import Samples


@pytest.fixture
def directory(tmp_path):
    for name, first in (("b.npz", 0), ("a.npz", 500)):
        count = 5
        samples.write(
            tmp_path / name,
            Samples(
                origin_ns=7,
                begin_us=100,
                end_us=900,
                planned_us=first + 100 * np.arange(count),
                slip_us=np.arange(count),
                service_us=np.full(count, 42),
                failed=np.arange(count) == 3,
            ),
        )
    (tmp_path / "other.txt").write_text("")
    return tmp_path


def test_every_request_is_a_line_with_whether_it_counts(directory, capsys):
    assert cli.main(["samples", str(directory)]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    assert [line["file"] for line in lines] == ["a.npz"] * 5 + ["b.npz"] * 5
    assert [line["in_window"] for line in lines] == list("1111001111")
    assert lines[8] == {
        "file": "b.npz",
        "in_window": "1",
        "planned_us": "300",
        "slip_us": "3",
        "service_us": "42",
        "failed": "1",
    }


def test_a_directory_without_samples_is_told(tmp_path):
    with pytest.raises(SourceError, match=r"no sample file \(\*.npz\) is in it"):
        sample_files([tmp_path])


@pytest.mark.parametrize("content", [b"", b"no samples", None])
def test_a_file_that_is_none_of_samples_is_one_line(tmp_path, content):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SourceError, match=r"x\.npz: not (there|a sample file)"):
        write_csv([path], io.StringIO())

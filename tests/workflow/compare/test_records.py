from tests.workflow.compare_factory import cell, comparison, pair

from slipway import files
from slipway.compare.records import Comparison


def test_a_comparison_reads_back_as_it_was_written(tmp_path):
    written = comparison([cell([pair(i) for i in range(6)])])
    written.write(tmp_path / "comparison.json")

    assert Comparison.read(tmp_path / "comparison.json") == written


def test_a_comparison_of_an_older_slipway_reads_too(tmp_path):
    written = comparison([cell([pair(i) for i in range(6)])])
    older = written.jsonable()
    for name in ("ceilings", "open_window_s"):
        del older[name]
    for metric in older["metrics"]:
        del metric["unjudged"]
    files.write_json(tmp_path / "comparison.json", older)

    assert Comparison.read(tmp_path / "comparison.json") == written

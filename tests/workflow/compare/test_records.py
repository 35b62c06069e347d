from tests.workflow.compare_factory import cell, comparison, pair

from slipway.compare.records import Comparison


def test_a_comparison_reads_back_as_it_was_written(tmp_path):
    written = comparison([cell([pair(i) for i in range(6)])])
    written.write(tmp_path / "comparison.json")

    assert Comparison.read(tmp_path / "comparison.json") == written

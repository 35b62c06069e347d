from tests.workflow import result_factory as factory

from slipway.report.blocks import Items, Links
from slipway.report.content import measurements
from slipway.report.sections.data import cells, data


def test_every_cell_is_a_line_that_sorts_by_its_numbers(measurement):
    (table,) = cells([measurement]).blocks

    assert table.sortable
    assert len(table.rows) == 10
    values = [row[3].value for row in table.rows]
    assert all(isinstance(value, float) for value in values)


def test_what_was_not_measured_has_its_reason_once():
    made = factory.result([factory.model_result(benchmarked=(1, 2))])
    blocks = data(made, measurements(made)).blocks
    items = [block for block in blocks if isinstance(block, Items)]

    assert items[1].items == (("GPU", "this machine has none"),)
    assert [link.target for block in blocks if isinstance(block, Links) for link in block.links] == [
        "result.json",
        "cells.csv",
        "summary.md",
        "junit.xml",
        "badge.svg",
    ]

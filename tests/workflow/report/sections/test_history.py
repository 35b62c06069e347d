import re

from tests.workflow.run_factory import drawn_up, history, noisy

from slipway.report import blocks
from slipway.report.sections import history as subject


def blocks_of(entries, kind):
    part = subject.history(entries)
    return [block for block in part.sections[0].blocks if isinstance(block, kind)]


def test_a_single_run_has_no_history():
    assert subject.history(history([1000.0])) is None
    assert subject.history([]) is None


def test_trends_are_drawn_with_their_data():
    speed, size = blocks_of(history(noisy(1000.0, 9)), blocks.Figure)

    assert speed.title == "Speed over runs: no change point"
    assert [panel.title for panel in speed.panels] == [
        "Predictions per second",
        "Server CPU per prediction",
        "P50 latency",
    ]
    assert [panel.title for panel in size.panels] == ["Start until ready", "Size of the image"]
    assert len(speed.table.rows) == 9
    assert speed.table.rows[0][1].link == "run-0008/index.html"
    assert speed.panels[0].drawing.body.count('class="mark rest"') == 9
    assert "happened" not in speed.panels[0].drawing.body


def test_change_points_are_drawn_listed_and_never_called_a_failure():
    entries = [*history(noisy(850.0, 15), first=15, commit="c1"), *history(noisy(1000.0, 15))]
    speed = blocks_of(entries, blocks.Figure)[0]
    (listed,) = blocks_of(entries, blocks.Table)

    assert speed.title == "Speed over runs: 4 change points"
    assert speed.panels[0].drawing.body.count("happened") == 1
    assert ">1, 2</text>" in speed.panels[0].drawing.body
    assert [cell.text for cell in listed.rows[0]] == [
        "1",
        "predictions per second, REST",
        "1\u202f000/s → 850/s (−15%), worse",
        "16: 2031-01-01 00:00:15 UTC",
        "commit: c0 → c1",
    ]
    assert not [cell for row in listed.rows for cell in row if cell.mark == "bad"]


def test_runs_of_another_machine_are_not_joined_and_the_page_says_why():
    entries = [*history(noisy(1000.0, 4), first=4), *history(noisy(2000.0, 4), kernel="5")]
    speed = blocks_of(entries, blocks.Figure)[0]
    (apart,) = blocks_of(entries, blocks.Table)
    (folded,) = blocks_of(entries, blocks.Folded)

    assert len(speed.table.rows) == 4
    assert [cell.text for cell in apart.rows[0]] == ["B", "4", "2031-01-01", "kernel: 5, in series A 6"]
    assert folded.summary == "Series B: 4 runs"


def test_the_first_run_on_a_new_machine_says_that_it_is_the_first():
    entries = [drawn_up(5, 1000.0, CPU="two"), *history(noisy(1000.0, 4))]
    (section,) = subject.history(entries).sections

    assert section.lead.startswith("The newest run is the first of its kind")
    assert [block for block in section.blocks if isinstance(block, blocks.Folded)]


def test_what_is_the_same_all_the_time_is_drawn_all_the_same():
    figure = blocks_of(history([1000.0] * 5), blocks.Figure)[0]

    assert not re.search(r"nan|inf", figure.panels[0].drawing.body)

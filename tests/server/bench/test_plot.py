import importlib
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def plot(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "server" / "bench"))
    return importlib.import_module("harness.plot")


def found(median, least, most):
    return {"median": median, "min": least, "max": most}


RESULTS = {
    "environment": {"cpus": 2, "machine": "a <CPU>"},
    "rounds": 3,
    "seconds": 2.0,
    "tables": {
        "a & b": {
            "grpc, slipway": {"per_s": found(20_000, 15_000, 21_000), "cpu_us": found(50, 49, 51)},
            "grpc, grpcio": {"per_s": found(2_000, 2_000, 2_000), "cpu_us": found(400, 390, 450)},
        },
        "another": {"in process": {"per_s": found(1e6, 1e6, 1e6), "cpu_us": found(1, 1, 1)}},
    },
}


def test_every_cell_has_a_dot_where_its_median_is_and_a_line_as_far_as_its_rounds(plot):
    root = ET.fromstring(plot.svg(RESULTS))

    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"a & b", "another", "grpc, slipway", "grpc, grpcio", "in process", "20,000", "400", "1,000,000"} <= {*texts}
    rates, costs = ([float(dot.get("cx")) for dot in root.iter(f"{SVG}circle")][start::2] for start in (0, 1))
    assert rates[1] < rates[0] < rates[2]
    assert costs[2] < costs[0] < costs[1]
    lines = [line for line in root.iter(f"{SVG}line") if line.get("class") == "ours"]
    assert [float(line.get("x1")) < rates[0] < float(line.get("x2")) for line in lines[:1]] == [True]
    assert [dot.get("class") for dot in root.iter(f"{SVG}circle")] == ["ours"] * 2 + ["other"] * 4
    assert "a &amp; b: grpc, slipway 20,000" in plot.svg(RESULTS)


def test_nothing_lies_outside_the_drawing(plot):
    root = ET.fromstring(plot.svg(RESULTS))
    width, height = (float(root.get(name)) for name in ("width", "height"))

    for element in root.iter():
        for name, value in element.items():
            if name in {"x", "x1", "x2", "cx"}:
                assert 0 <= float(value) <= width
            if name in {"y", "y1", "y2", "cy"}:
                assert 0 <= float(value) <= height


def test_light_and_dark_pages_have_colours_of_their_own(plot):
    """And the drawing its own ground, so that a page that says nothing of itself cannot make it unreadable."""
    style = plot.svg(RESULTS)
    light, dark = (set(re.findall(r"--\w+: #\w+", part)) for part in style.split("prefers-color-scheme: dark"))

    assert len(light) == len(dark) == 6
    assert not light & dark
    assert '<rect width="1000"' in style


def test_the_page_shows_what_its_numbers_say(plot):
    """If this fails: `python server/bench/overhead.py --plot=docs/images/performance.json`."""
    images = ROOT / "docs" / "images"

    assert (images / "performance.svg").read_text() == plot.svg(json.loads((images / "performance.json").read_text()))

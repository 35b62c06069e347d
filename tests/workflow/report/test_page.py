import base64
import functools
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import html5lib
import pytest
from tests.workflow import result_factory as factory

from slipway import files, report
from slipway.publish import REPORT_FILES
from slipway.records import EngineRecord, Result
from slipway.report.page import render_report, result_bytes

HOSTILE = "</script><b>\"'&{{ 7*7 }}<!--"
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


def invalid(_cell, repetition):
    return repetition.model_copy(update={"invalid": [f"rule {HOSTILE}"]})


def bare(_cell, repetition):
    """What a server that tells nothing, and samples too few to prove anything, leave."""
    nothing = dict.fromkeys(("p50_us", "p90_us", "p95_us", "p99_us", "p999_us"))
    return repetition.model_copy(
        update={
            "latency": repetition.latency.model_copy(update=nothing),
            "server_cpu_us_per_request": None,
            "bytes_sent_per_request": None,
            "bytes_received_per_request": None,
            "foreign_cpu_cores": None,
            "slip_p99_us": None,
            "stages_us": {},
            "batch_sizes": {},
            "per_slot": [],
            "histogram": {},
        }
    )


def with_change(change, **more) -> Result:
    return factory.with_benchmark(
        factory.result(), factory.with_repetitions(factory.benchmark("digits", 2, **more), change)
    )


def hostile() -> Result:
    api = factory.api("digits", 2)
    told = [snippet.model_copy(update={"title": HOSTILE, "text": HOSTILE}) for snippet in api.snippets]
    model = factory.model_result(model=HOSTILE, api=api.model_copy(update={"snippets": told, "signature": HOSTILE}))
    first = model.versions[0]
    bad = first.checkpoint.model_copy(update={"description": HOSTILE})
    contract = first.validation.model_copy(
        update={"checks": [c.model_copy(update={"ok": False, "found": HOSTILE}) for c in first.validation.checks]}
    )
    versions = [first.model_copy(update={"checkpoint": bad, "validation": contract}), *model.versions[1:]]
    record = model.benchmarks[0].model_copy(update={"not_measured": {HOSTILE: HOSTILE}})
    return factory.result(
        [model.model_copy(update={"versions": versions, "benchmarks": [record]})], title=HOSTILE, command=HOSTILE
    )


def unisolated() -> Result:
    engine = EngineRecord(
        name="process", version="", isolated=False, network="host", rejected={"podman": "not installed"}
    )
    made = factory.with_benchmark(
        factory.result(), factory.benchmark("digits", 2).model_copy(update={"engine": engine})
    )
    launched = factory.launch("digits", [1, 2], engine=engine, exit_code=137)
    return made.model_copy(update={"models": [made.models[0].model_copy(update={"launch": launched})]})


def unlabelled() -> Result:
    """A user's model without labels: no accuracy anywhere."""
    model = factory.model_result()
    versions = [
        v.model_copy(
            update={
                "checkpoint": v.checkpoint.model_copy(update={"metrics": {}, "parameters": None}),
                "validation": v.validation.model_copy(update={"accuracy": None}),
            }
        )
        for v in model.versions
    ]
    answers = [a.model_copy(update={"accuracy": None}) for a in model.launch.answers]
    launched = model.launch.model_copy(update={"answers": answers})
    return factory.result([model.model_copy(update={"versions": versions, "launch": launched})], stage_times=[])


def infinite() -> Result:
    """An answer far from a zero has no finite relative distance."""
    made = factory.result()
    launched = made.models[0].launch
    far = [
        answer.model_copy(update={"parity": [p.model_copy(update={"max_rel": math.inf}) for p in answer.parity]})
        for answer in launched.answers
    ]
    model = made.models[0].model_copy(update={"launch": launched.model_copy(update={"answers": far})})
    return made.model_copy(update={"models": [model]})


CASES = {
    "infinite": infinite,
    "plain": factory.result,
    "one repetition": lambda: factory.result([factory.model_result(repetitions=1, cold_starts=0)]),
    "one load": lambda: factory.result(
        [factory.model_result(concurrency=(1,), rate=None, versions=(7,), benchmarked=(7,))]
    ),
    "several models and many versions": lambda: factory.result(
        [
            factory.model_result(model="a", versions=range(1, 9), benchmarked=(7, 8)),
            factory.model_result(model="b", versions=(2**62,), benchmarked=(2**62,)),
        ]
    ),
    "nothing told": lambda: with_change(bare),
    "everything invalid": lambda: with_change(invalid),
    "hostile": hostile,
    "no isolation": unisolated,
    "no labels": unlabelled,
    "tiny": lambda: factory.result([factory.model_result(scale=1e-3, rate=0.7)]),
    "huge": lambda: factory.result([factory.model_result(scale=1e4, rate=1e6, window_s=0.001)]),
}


@functools.cache
def result_of(case: str) -> Result:
    return CASES[case]()


@functools.cache
def page_of(case: str) -> str:
    return render_report(result_of(case))


@functools.cache
def document_of(case: str) -> ET.Element:
    return html5lib.HTMLParser(strict=True).parse(page_of(case))


@pytest.fixture(params=CASES)
def case(request) -> str:
    return request.param


def elements(document: ET.Element, *names: str):
    wanted = {space + name for space in (HTML, SVG) for name in names}
    return [element for element in document.iter() if element.tag in wanted]


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


# --- what any browser and any reader needs ---------------------------------------------------------


def test_it_is_html_that_a_strict_parser_takes(case):
    assert document_of(case) is not None


def test_ids_are_unique_and_every_reference_leads_somewhere(case):
    everything = list(document_of(case).iter())
    ids = [e.attrib["id"] for e in everything if "id" in e.attrib]
    referred = [r for e in everything for r in e.attrib.get("aria-labelledby", "").split()]
    anchors = [
        e.attrib["href"][1:] for e in elements(document_of(case), "a") if e.attrib.get("href", "").startswith("#")
    ]

    assert len(ids) == len(set(ids))
    assert set(referred) | set(anchors) <= set(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", i) for i in ids)


def test_every_figure_has_a_title_a_description_and_its_data(case):
    figures = elements(document_of(case), "figure")

    assert figures
    for figure in figures:
        drawings = [svg for svg in elements(figure, "svg") if svg.attrib.get("role") == "img"]
        assert words(elements(figure, "figcaption")[0])
        assert drawings
        for drawing in drawings:
            assert words(elements(drawing, "title")[0])
            assert words(elements(drawing, "desc")[0])
        assert elements(figure, "table")
        assert elements(figure, "td"), words(figure)


def test_tables_name_their_columns_and_rows(case):
    for table in elements(document_of(case), "table"):
        assert words(elements(table, "caption")[0])
        assert {e.attrib.get("scope") for e in elements(table, "th")} <= {"col", "row"}
        width = len(elements(elements(table, "thead")[0], "th"))
        assert {len(list(row)) for row in elements(elements(table, "tbody")[0], "tr")} <= {width}


def test_no_column_is_without_a_name(case):
    assert not [table for table in elements(document_of(case), "th") if not words(table)]


def test_regions_can_be_told_apart_by_their_names(case):
    """A screen reader lists them; of several models each has a section of the same title."""
    document = document_of(case)
    named = {e.attrib["id"]: words(e) for e in document.iter() if "id" in e.attrib}
    regions = [e for e in elements(document, "section", "article") if "aria-labelledby" in e.attrib]
    names = [(e.tag, *(named[r] for r in e.attrib["aria-labelledby"].split())) for e in regions]

    assert len(names) == len(set(names))
    assert not [e for e in document.iter() if e.attrib.get("role") == "region"]


def test_headings_descend_step_by_step_from_one_h1(case):
    levels = [int(e.tag[-1]) for e in elements(document_of(case), "h1", "h2", "h3", "h4")]

    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_no_number_is_broken(case):
    """Python's own words for missing and odd numbers never reach a reader."""
    for element in document_of(case).iter():
        if element.tag in (HTML + "script", HTML + "style"):
            continue
        assert not re.search(r"\b(nan|NaN|inf|None|Estimate|e[+-]\d\d)\b", element.text or ""), element.text
        for name in ("d", "x", "y", "cx", "cy", "width", "height", "viewBox"):
            assert not re.search(r"nan|inf|e", element.attrib.get(name, ""), re.IGNORECASE)


def test_what_is_drawn_lies_inside_the_picture(case):
    for drawing in (svg for svg in elements(document_of(case), "svg") if svg.attrib.get("role") == "img"):
        _, _, width, height = map(float, drawing.attrib["viewBox"].split())
        for shape in elements(drawing, "rect", "circle"):
            x = float(shape.attrib.get("x", shape.attrib.get("cx", 0)))
            y = float(shape.attrib.get("y", shape.attrib.get("cy", 0)))
            assert -1 <= x <= x + float(shape.attrib.get("width", 0)) <= width + 1
            assert -1 <= y <= y + float(shape.attrib.get("height", 0)) <= height + 1


# --- self-contained, safe, reproducible ------------------------------------------------------------


def test_it_is_small_enough_to_mail(case):
    assert len(page_of(case).encode()) < 1_000_000


def test_a_usual_report_is_quick_to_open():
    assert len(page_of("plain").encode()) < 350_000


def test_nothing_is_loaded_from_anywhere(case):
    for element in document_of(case).iter():
        for name in ("src", "href", "action", "data", "srcset", "{http://www.w3.org/1999/xlink}href"):
            target = element.attrib.get(name, "")
            assert target in ("", "data:,", *REPORT_FILES) or target.startswith(("#", "api/digits/"))
    style = words(elements(document_of(case), "style")[0])
    assert not re.search(r"url\(|@import", style)


def test_the_policy_allows_this_style_and_this_script_and_no_other(case):
    document = document_of(case)
    metas = {e.attrib.get("http-equiv"): e.attrib.get("content") for e in elements(document, "meta")}
    policy = dict(part.strip().split(" ", 1) for part in metas["Content-Security-Policy"].split(";"))

    def allowed(element: ET.Element) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256((element.text or '').encode()).digest()).decode()}'"

    scripts = [e for e in elements(document, "script") if "type" not in e.attrib]
    assert policy["default-src"] == "'none'"
    assert [policy["style-src"]] == [allowed(e) for e in elements(document, "style")]
    assert [policy["script-src"]] == [allowed(e) for e in scripts]
    # A style attribute or an event handler would be refused by the browser, silently.
    assert not [e for e in document.iter() for name in e.attrib if name == "style" or name.startswith("on")]


def test_names_are_text_wherever_they_come_from():
    document = document_of("hostile")
    page = page_of("hostile")

    assert HOSTILE not in page
    assert words(elements(document, "h1")[0]) == HOSTILE
    assert "49" not in words(elements(document, "h1")[0])
    assert not [e for e in elements(document, "b") if words(e).startswith('"')]
    assert len(elements(document, "script")) == 2


def test_the_page_carries_its_result(case):
    (carried,) = [e for e in elements(document_of(case), "script") if e.attrib.get("id") == "result"] or [None]

    if carried is None:
        assert len(result_bytes(result_of(case))) > 600_000
    else:
        assert Result.model_validate_json(carried.text) == result_of(case)
    assert files.sha256_bytes(result_bytes(result_of(case))) in page_of(case)


def test_the_same_result_gives_the_same_bytes_anywhere(tmp_path):
    """Another locale, time zone, hash seed and working directory change nothing."""
    source = tmp_path / "result.json"
    source.write_bytes(result_bytes(result_of("plain")))
    made = []
    for name, settings in {
        "one": {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
        "two": {"PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"},
    }.items():
        out = tmp_path / name
        subprocess.run(
            [sys.executable, "-m", "slipway", "report", "--from", str(source), "--out", str(out)],
            check=True,
            env=os.environ | settings,
            cwd=tmp_path,
        )
        made.append({path.name: path.read_bytes() for path in out.iterdir()})

    assert made[0] == made[1]
    assert set(made[0]) == set(REPORT_FILES)
    assert made[0]["index.html"].decode() == page_of("plain")


# --- colours ---------------------------------------------------------------------------------------

STYLE = (Path(report.__file__).parent / "templates" / "report.css").read_text()
COLOURS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(r"--([\w-]+):light-dark\((#[0-9a-f]{6}),(#[0-9a-f]{6})\)", STYLE)
}
# Text and lines that carry meaning -> what they stand on.
READ = [
    *((text, back) for text in ("text", "muted", "accent", "rest", "grpc") for back in ("page", "card")),
    *((f"k{n}", "card") for n in range(7)),
    ("tool", "card"),
    ("card", "accent"),
    *((tone, back) for tone in ("good", "bad", "warn") for back in ("card", f"{tone}-back")),
    ("text", "band"),
]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("text", "back"), READ)
def test_everything_can_be_read_in_both_themes(text, back, theme):
    light, dark = sorted((luminance(COLOURS[name][theme]) for name in (text, back)), reverse=True)

    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_every_colour_of_the_style_sheet_is_a_named_one():
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE)) - {"tone", "tone-back"}

    assert used <= set(COLOURS)
    assert set(COLOURS) - used == set()


def test_every_class_that_pages_use_has_a_style(case):
    styled = set(re.findall(r"\.([a-zA-Z][\w-]*)", STYLE))
    used = {word for e in document_of(case).iter() for word in e.attrib.get("class", "").split()}

    assert used <= styled | {"t", "mark"}


# --- what it says ----------------------------------------------------------------------------------


def test_the_verdict_comes_before_all_numbers():
    document = document_of("plain")
    first = elements(document, "section")[0]

    assert first.attrib["id"] == "digits-2-verdict"
    assert "✓ Proven" in words(first)
    assert "gRPC answers 1.8" in words(first)


def test_one_measured_version_has_its_sections_in_the_navigation_several_have_their_names():
    one, several = (
        [words(a) for a in elements(elements(document_of(case), "nav")[0], "a")]
        for case in ("plain", "several models and many versions")
    )

    assert one[:5] == ["Verdict", "REST vs gRPC", "Throughput", "Latency", "Cold start"]
    assert several[:3] == ["a, version 7", "a, version 8", f"b, version {2**62}"]


def test_what_was_not_measured_has_no_section_but_a_reason():
    document = document_of("nothing told")
    ids = {e.attrib["id"] for e in elements(document, "section")}

    assert "digits-2-latency" not in ids
    assert "digits-2-server" not in ids
    assert "this machine has none" in words(elements(document, "main")[0])


def test_missing_isolation_is_loud():
    (verdict,) = [
        e for e in elements(document_of("no isolation"), "div") if e.attrib.get("class", "").startswith("verdict")
    ]

    assert "unisolated" in verdict.attrib["class"]
    assert "Warning. The server ran as a plain local process" in words(verdict)
    assert "exit code 137" in words(verdict)


def test_what_broke_a_rule_is_drawn_as_such_and_said_below_the_figure():
    document = document_of("everything invalid")
    (figure,) = [e for e in elements(document, "figure") if e.attrib["id"] == "digits-2-throughput-lines"]

    (drawing,) = [svg for svg in elements(figure, "svg") if svg.attrib.get("role") == "img"]

    assert {e.attrib["class"] for e in elements(drawing, "circle")} == {"mark void"}
    assert "Not valid: every repetition of REST and gRPC" in words(figure)


# --- in a real browser -----------------------------------------------------------------------------

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
OVERFLOW = """
<!doctype html><meta charset="utf-8"><body><script>
const frame = document.createElement("iframe");
frame.style.cssText = "width:420px;height:2000px;border:0";
frame.onload = () => {
  const page = frame.contentDocument;
  const wide = [...page.querySelectorAll("body *")]
    .filter((e) => !e.closest(".scroll, svg, .bar nav, .unseen, .skip"))
    .filter((e) => e.getBoundingClientRect().right > 420.5)
    .map((e) => e.tagName + "." + e.className);
  const button = page.getElementById("theme");
  button.click();
  document.title = JSON.stringify({
    scroll: page.documentElement.scrollWidth, wide, theme: page.documentElement.dataset.theme, buttonHidden: button.hidden,
  });
};
frame.srcdoc = PAGE;
document.body.append(frame);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to lay the page out")
@pytest.mark.parametrize("case", ["plain", "hostile", "several models and many versions"])
def test_a_phone_shows_it_without_sideways_scrolling(tmp_path, case):
    page = json.dumps(page_of(case)).replace("<", "\\u003c")
    (tmp_path / "frame.html").write_text(OVERFLOW.replace("PAGE", page))
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--window-size=900,900"),
            *("--dump-dom", f"file://{tmp_path / 'frame.html'}"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=400,
    )
    found = json.loads(html5lib.parse(done.stdout).find(f".//{HTML}title").text)

    assert found["wide"] == []
    assert found["scroll"] <= 420
    assert found["theme"] in ("dark", "light"), "the script ran: its hash is the one the policy names"
    assert found["buttonHidden"] is False

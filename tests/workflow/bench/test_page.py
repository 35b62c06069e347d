"""The page and the table of a target, from made-up results."""

import json

import pytest
from tests.workflow import result_factory

from slipway import cli, repetitions
from slipway.bench import page
from slipway.records import ScenarioRecord, ScenarioValue, TargetRecord, TargetResult
from slipway.report import runs
from slipway.report.advice import ADVICE
from slipway.report.content import loads

UNTRIED = "not measured: what changes the versions is not known"


def made(**changes):
    record = result_factory.benchmark("half", 3, cold_starts=0)
    target = TargetRecord(
        addresses={"rest": "10.0.0.7:8501", "grpc": "10.0.0.7:8500"},
        versions={3: "AVAILABLE"},
        signature=result_factory.version("half", 3).validation.signatures[0],
        payload="drawn at random",
    )
    known = {"target": target, "servable_digest": None, "image_id": None, "resident_bytes": None}
    return TargetResult(
        run_id="20310506T071200Z-0123abcd",
        created="2031-05-06T07:12:00Z",
        title="half at 10.0.0.7:8501",
        command="slipway bench --target 10.0.0.7:8501 --model half",
        environment=result_factory.environment(),
        benchmark=record.model_copy(update=known | changes),
    )


def scenario(**changes):
    value = ScenarioValue(key="rate_at_slo", name="Highest rate", protocol="rest", value=812.0, unit="1/s")
    known = {"name": "server_slo", "kind": "server_slo", "settings": {}, "duration_s": 3.0, "values": [value]}
    return ScenarioRecord(**(known | {"windows": []} | changes))


def test_the_same_result_gives_the_same_page_and_is_read_again(tmp_path):
    result = made(scenarios=[scenario()])
    result.write(tmp_path / "result.json")
    text = page.render_page(result)

    assert text == page.render_page(TargetResult.read(tmp_path / "result.json"))
    for said in (
        "10.0.0.7:8501",
        "Measured",
        "predictions/s",
        "Highest rate",
        "812 /s",
        "The highest rate within a bound",
    ):
        assert said in text
    assert "nothing here speaks for the image" not in text


def test_a_result_of_a_target_is_drawn_again_by_the_report(tmp_path):
    """`slipway report --from`: byte for byte what `slipway bench` wrote."""
    page.write(made(), tmp_path)
    again = tmp_path / "again"
    assert cli.main(["report", "--from", str(tmp_path / "result.json"), "--out", str(again)]) == 0

    names = sorted(path.name for path in again.iterdir())
    assert names == ["cells.csv", "index.html", "result.json"]
    assert all((again / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_a_result_from_before_tls_labels_methods_and_configured_windows_is_still_drawn(tmp_path):
    page.write(made(), tmp_path)
    document = json.loads((tmp_path / "result.json").read_text())
    for name in ("tls", "label", "method"):
        del document["benchmark"]["target"][name]
    for name in ("window_s", "warmup_s"):
        del document["benchmark"][name]
    (tmp_path / "result.json").write_text(json.dumps(document))
    text = page.render_page(TargetResult.read(tmp_path / "result.json"))

    assert "called by predict" in text
    assert "Asked by label" not in text


def test_tls_and_label_are_told(tmp_path):
    target = made().benchmark.target.model_copy(update={"tls": {"grpc": "TLSv1.3, X"}, "label": "canary"})
    text = page.render_page(made(target=target))

    assert "gRPC: TLSv1.3, X" in text
    assert "canary" in text
    facts = runs.facts(made(target=target).benchmark, result_factory.environment())
    assert (facts["TLS"], facts["called"].rpartition(", ")[2]) == ("gRPC: TLSv1.3, X", "label canary")
    assert "TLS" not in runs.facts(result_factory.benchmark("half", 3), result_factory.environment())


@pytest.mark.parametrize(
    ("changes", "word", "headline"),
    [
        ({}, "Measured", r"gRPC up to"),
        ({"cut_short": "it died\nof age"}, "Cut short", "it died"),
        ({"scenarios": [scenario(faults=["it failed"])]}, "The server is at fault", "server_slo: it failed"),
        ({"cells": [], "scenarios": [scenario(invalid=["too busy"])]}, "Measurement invalid", "server_slo: too busy"),
        (
            {"cells": [], "scenarios": [scenario(invalid=[UNTRIED])]},
            "Measurement invalid",
            "No scenario counts: server_slo",
        ),
        ({"cells": [], "scenarios": [scenario(), scenario(invalid=["too busy"])]}, "Measured in part", "1 scenario;"),
    ],
)
def test_the_worst_of_what_was_found_comes_first(changes, word, headline):
    found = page.judge(loads(made(**changes).benchmark))

    assert found.word == word
    assert headline in found.headline


@pytest.mark.parametrize(
    ("why", "word", "printed"),
    [(UNTRIED, "Measured", f"  {UNTRIED}"), ("too busy", "Measured in part", "  does not count: too busy")],
)
def test_a_scenario_that_does_not_count_voids_nothing_but_itself(why, word, printed):
    """`--configfile config/ci.yaml` without `--reload-command`: every number of the loads is as good as without it."""
    seen = loads(made(scenarios=[scenario(), scenario(name="hot_reload", invalid=[why])]).benchmark)
    found = page.judge(seen)

    assert page.why_invalid(seen) == ""
    assert (found.word, found.warnings) == (word, (f"Without a finding: hot_reload: {why}.",))
    assert found.headline.startswith("REST up to")
    assert page.text_table(made(scenarios=seen.record.scenarios)).splitlines()[-1] == printed


def test_loads_that_do_not_count_void_the_whole_and_what_helps_is_said():
    record = result_factory.with_repetitions(
        made().benchmark, lambda _c, r: r.model_copy(update={"invalid": [repetitions.NEAR_CEILING]})
    )
    found = page.judge(loads(record))

    assert (found.word, found.headline.split(" windows")[0]) == ("Measurement invalid", "60 of 60")
    assert found.sentences[1:] == (ADVICE[repetitions.NEAR_CEILING],)


def test_the_terminal_gets_every_load_and_every_number():
    lines = page.text_table(made(scenarios=[scenario(invalid=["too busy"])])).splitlines()

    assert lines[0].split() == ["load", "protocol", "requests/s", "p50", "p99", "counts"]
    assert len([line for line in lines if " of 6" in line]) == 10
    assert lines[-2:] == ["  REST Highest rate: 812 /s", "  does not count: too busy"]

import re

import pytest
from tests.workflow import result_factory as factory

from slipway import cli
from slipway.compare.stored import compare
from slipway.compare.subjects import locate
from slipway.errors import SourceError


def written(path, name="digits", **changes):
    model = factory.model_result(model=name, repetitions=2, concurrency=(1,), cold_starts=0)
    record = model.benchmarks[0].model_copy(update=changes)
    factory.result([model.model_copy(update={"benchmarks": [record]})]).write(path)
    return path


@pytest.fixture
def base(tmp_path):
    return written(tmp_path / "base.json")


def test_two_results_are_put_beside_each_other_without_a_verdict(tmp_path, base):
    told = compare(base, written(tmp_path / "head.json", resident_bytes=918_000_000))

    assert "| memory of the server | 612 MB | 918 MB | +50.0 % |" in told
    assert "| predictions per second, REST | " in told
    assert "No verdict" in told


def test_a_window_that_was_measured_again_and_a_plan_that_was_measured_are_no_other_settings(tmp_path, base):
    record = factory.benchmark("digits", 2, repetitions=2, concurrency=(1,), cold_starts=0)
    longer = factory.with_repetitions(
        record, lambda _c, r: r.model_copy(update={"window_s": 6.0} if not r.order else {})
    )
    head = written(tmp_path / "head.json", cells=longer.cells, thread_plan="batch_per_core")
    other = written(tmp_path / "other.json", thread_plan="one_batch")

    assert "Thread plan: base has one_batch, head batch_per_core: part of" in compare(other, head)
    assert "Thread plan" not in compare(base, head)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"environment": factory.environment().model_copy(update={"cpu": "Another"})},
            "cannot be compared: CPU: AMD EPYC 7B13 in base, Another in head",
        ),
        ({"window_s": 6.0}, "window: 3 s in base, 6 s in head"),
        ({"server_flags": []}, "server flags: --port=8500 --rest_api_port=8501 in base, none in head"),
        ({"name": "letters"}, "model: digits in base, letters in head"),
        (
            {"cut_short": "stopped by SIGINT"},
            r"head.json: its numbers are not those of a whole run: .*: stopped by SIGINT\.",
        ),
    ],
)
def test_results_of_another_machine_settings_or_model_are_refused_with_the_fact_and_both_values(
    tmp_path, base, changes, message
):
    with pytest.raises(SourceError, match=message):
        compare(base, written(tmp_path / "head.json", **changes))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda text: text[: len(text) // 2], r"damaged or from another version: delete it and run again\."),
        (lambda _: "", r"damaged or from another version"),
        (
            lambda text: text.replace("slipway.result/1", "slipway.result/2"),
            r"it is slipway.result/2, and Slipway .* reads up",
        ),
        (
            lambda text: text.replace("slipway.result/1", "slipway.comparison/1"),
            r"found slipway.comparison/1: it is another",
        ),
    ],
)
def test_a_result_that_cannot_be_read_is_one_line(tmp_path, base, capsys, monkeypatch, harm, message):
    """Beside another result, or as what is to be made again and measured."""
    monkeypatch.setattr(cli.procs, "exit_on_signals", lambda: None)
    bad = tmp_path / "bad.json"
    bad.write_text(harm(base.read_text()))

    assert cli.main(["compare", "--base", str(bad), "--head", str(base), "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(rf"^slipway compare: error: .*bad\.json: .*{message}", line)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SourceError, match=message):
        locate(str(bad), tmp_path)


def test_the_command_tells_and_ends_well_or_refuses_with_2(tmp_path, base, capsys, monkeypatch):
    monkeypatch.setattr(cli.procs, "exit_on_signals", lambda: None)
    other = written(tmp_path / "other.json", batching=None)

    assert cli.main(["compare", "--base", str(base), "--head", str(base)]) == 0
    assert "| 0.0 % |" in capsys.readouterr().out
    assert cli.main(["compare", "--base", str(base), "--head", str(other)]) == 2
    assert "batching: allowed_batch_sizes" in capsys.readouterr().err

import pytest
from tests.workflow import result_factory as factory

from slipway.errors import SourceError
from slipway.records import Result
from slipway.report.gather import content_digest, gather, stage_times

MODELS = {"digits": [1, 2]}
MEASURED = {"digits": [2]}


def gathered(results, **changes) -> Result:
    arguments = {"title": "T", "usage": None} | changes
    return gather(results, MODELS, MEASURED, **arguments)


def test_every_record_finds_its_place(results):
    result = gathered(results)
    (model,) = result.models

    assert [version.version for version in model.versions] == [1, 2]
    assert [record.version for record in model.benchmarks] == [2]
    assert model.launch == factory.launch("digits", [1, 2])


def test_the_run_is_named_by_the_end_of_the_newest_measurement_and_what_was_measured(results):
    """Began 07:08:09, took 231.5 s."""
    result = gathered(results)

    assert result.created == "2031-05-06T07:12:00Z"
    assert result.run_id == f"20310506T071200Z-{content_digest(result.models)[7:15]}"


def test_the_same_records_give_the_same_run_whatever_the_title(results):
    assert gathered(results).run_id == gathered(results, title="Other").run_id


def test_another_measurement_is_another_run(results):
    before = gathered(results)
    factory.launch("digits", [1, 2], ready_s=9.9).write(results / "launch" / "digits.json")

    assert gathered(results).run_id != before.run_id


def test_the_environment_is_that_of_the_measurement(results):
    path = results / "benchmarks" / "digits" / "2" / "benchmark.json"
    factory.benchmark("digits", 2).model_copy(update={"environment": factory.environment()}).write(path)

    assert gathered(results).environment == factory.environment()


def test_a_result_survives_being_written_and_read(results, tmp_path):
    result = gathered(results)
    result.write(tmp_path / "result.json")

    assert Result.read(tmp_path / "result.json") == result


def test_a_missing_record_is_named(results):
    (results / "warmup" / "digits" / "1" / "warmup.json").unlink()

    with pytest.raises(SourceError, match=r"warmup/digits/1/warmup\.json: not there\. Run the stage"):
        gathered(results)


def test_a_benchmark_of_another_servable_is_refused(results):
    path = results / "benchmarks" / "digits" / "2" / "benchmark.json"
    factory.benchmark("digits", 2).model_copy(update={"servable_digest": factory.digest("old")}).write(path)

    with pytest.raises(SourceError, match=r"benchmark\.json: measured servable sha256.*Run the benchmark again"):
        gathered(results)


def test_a_measured_version_must_be_one_of_the_models(results):
    with pytest.raises(SourceError, match="version 3 was measured but is not among its versions"):
        gather(results, MODELS, {"digits": [3]}, title="T", usage=None)


def test_nothing_measured_is_no_report(results):
    with pytest.raises(SourceError, match="nothing was measured"):
        gather(results, MODELS, {}, title="T", usage=None)


# --- wall times ------------------------------------------------------------------------------------


def tsv(path, *seconds: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("s\th:m:s\tmax_rss\n" + "".join(f"{s}\t0:00:0{i}\t-\n" for i, s in enumerate(seconds)))


def test_wall_times_come_in_the_order_of_the_line(tmp_path):
    tsv(tmp_path / "launch" / "digits.tsv", "22.5")
    tsv(tmp_path / "export" / "digits" / "2.tsv", "3")
    tsv(tmp_path / "export" / "digits" / "1.tsv", "1", "2")
    tsv(tmp_path / "custom" / "x.tsv", "9")

    assert [(t.stage, t.job, t.seconds) for t in stage_times(tmp_path)] == [
        ("export", "digits/1", 1.5),
        ("export", "digits/2", 3.0),
        ("launch", "digits", 22.5),
        ("custom", "x", 9.0),
    ]


@pytest.mark.parametrize("text", ["", "s\th:m:s\n", "s\nNA\n", "time\n1\n"])
def test_a_damaged_wall_time_is_named(tmp_path, text):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "digits.tsv").write_text(text)

    with pytest.raises(SourceError, match=r"digits\.tsv: expected a Snakemake benchmark file"):
        stage_times(tmp_path)


def test_without_wall_times_there_are_none(tmp_path):
    assert stage_times(tmp_path / "nowhere") == []

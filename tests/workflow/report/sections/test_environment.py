from tests.workflow import result_factory as factory

from slipway.report.content import measurements
from slipway.report.sections.environment import environment, wall_time


def facts(result) -> dict[str, str]:
    return dict(environment(result, measurements(result)).blocks[0].items)


def test_the_machine_the_commit_and_the_settings_are_told():
    found = facts(factory.result())

    assert found["CPU"] == "AMD EPYC 7B13, 2 logical CPUs"
    assert found["GPU"] == "none"
    assert found["Batching"] == "allowed_batch_sizes [1, 2, 4, 8, 16, 32], batch_timeout_micros 0, max_batch_size 32"
    assert found["Commit"].startswith("9f3c2ab51d")
    assert found["Load generator"].endswith("; 1 process")


def test_uncommitted_changes_and_no_commit_are_said():
    where = factory.environment()

    assert facts(factory.result(environment=where.model_copy(update={"dirty": True})))["Commit"].endswith(
        "with uncommitted changes"
    )
    assert (
        facts(factory.result(environment=where.model_copy(update={"commit": None, "dirty": None})))["Commit"]
        == "not in a git repository"
    )


def test_wall_times_add_up_by_stage():
    made = factory.result()
    figure = wall_time(made).blocks[0]
    total = sum(time.seconds for time in made.stage_times)

    assert len(figure.table.rows) == len(made.stage_times)
    assert f"{int(total // 60)} min" in figure.title

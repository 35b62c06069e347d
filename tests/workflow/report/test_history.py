from tests.workflow.run_factory import drawn_up, history, noisy

from slipway.report.history import MOST_RUNS, differences, models, series, series_of_runs, tracks


def moved(entries):
    (found,) = series(entries, "digits")
    return [(point.name, point.place) for track in tracks(found) for point in track.moved]


def test_runs_that_are_alike_are_one_series_oldest_first():
    (found,) = series(history([1000.0, 1010.0, 990.0]), "digits")

    assert [run.entry.run_id for run in found.runs] == ["run-0000", "run-0001", "run-0002"]
    assert found.name == "A"


def test_runs_of_another_machine_are_a_series_of_their_own_and_the_fact_is_named():
    entries = [
        *history([1000.0], first=3),
        *history([2000.0, 2100.0], first=1, CPU="two"),
        *history([1000.0], first=0),
    ]
    newest, other = series(entries, "digits")

    assert [len(newest.runs), len(other.runs)] == [2, 2]
    assert (newest.name, other.name) == ("A", "B")
    assert differences(newest, other) == [("CPU", "one", "two")]


def test_a_fact_that_one_side_does_not_know_keeps_them_apart():
    newest, other = series([drawn_up(1, 1.0, microcode="7"), drawn_up(0, 1.0)], "digits")

    assert differences(newest, other) == [("microcode", "7", "not known")]


def test_models_are_not_mixed():
    entries = [drawn_up(2, 1.0, model="b"), drawn_up(1, 1.0, model="a"), drawn_up(0, 1.0, model="b")]

    assert models(entries) == ["b", "a"]
    assert [len(one.runs) for one in series(entries, "b")] == [2]
    assert set(series_of_runs(entries).values()) == {"A"}


def test_a_level_that_moved_is_found_with_what_else_changed():
    entries = [*history(noisy(850.0, 12), first=12, commit="c1"), *history(noisy(1000.0, 12))]
    (found,) = series(entries, "digits")
    points = [point for track in tracks(found) for point in track.moved]

    assert {(point.metric.id, point.protocol, point.place) for point in points} == {
        (metric, protocol, 12) for metric in ("predictions_per_s", "server_cpu_us") for protocol in ("rest", "grpc")
    }
    assert all(point.is_worse for point in points)
    assert {point.changed for point in points} == {(("commit", "c0", "c1"),)}
    assert (points[0].before.entry.run_id, points[0].after.entry.run_id) == ("run-0011", "run-0012")


def test_more_throughput_is_better_and_less_cpu_is_too():
    entries = [*history(noisy(1200.0, 12), first=12), *history(noisy(1000.0, 12))]
    (found,) = series(entries, "digits")

    assert not any(point.is_worse for track in tracks(found) for point in track.moved)


def test_a_change_of_machine_is_no_change_point():
    entries = [*history(noisy(2000.0, 12), first=12, CPU="two"), *history(noisy(1000.0, 12))]

    assert all(not track.moved for one in series(entries, "digits") for track in tracks(one))


def test_a_run_whose_numbers_do_not_count_is_passed_over():
    rates = [*noisy(1000.0, 8), None, *noisy(800.0, 8)]

    assert ("predictions per second, REST", 9) in moved(history(rates))


def test_a_long_history_is_cut_at_its_old_end_and_says_so():
    (found,) = series(history([1000.0] * (MOST_RUNS + 7)), "digits")

    assert len(found.runs) == MOST_RUNS
    assert found.left_out == 7
    assert found.runs[-1].entry.run_id == f"run-{MOST_RUNS + 6:04}"


def test_series_are_lettered_beyond_z():
    entries = [drawn_up(number, 1.0, CPU=str(number)) for number in range(28)]

    assert [one.name for one in series(entries, "digits")][25:] == ["Z", "AA", "AB"]

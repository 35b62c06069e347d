from tests.workflow import result_factory as factory

from slipway.report import numbers
from slipway.report.sections.figures import distinct, metric_line, untrusted


def test_a_line_carries_medians_and_intervals_in_the_axis_unit(measurement):
    line = metric_line(measurement.closed, "grpc", "p50_us", numbers.microseconds, scale=1e-3)
    estimate = measurement.closed[0].cells["grpc"].p50_us

    assert [point.x for point in line.points] == [1, 4, 16, 64]
    assert (line.points[0].y, line.points[0].low) == (estimate.value / 1e3, estimate.low / 1e3)


def test_the_peak_is_labelled_and_nothing_else(measurement):
    line = metric_line(measurement.closed, "grpc", "predictions_per_s", numbers.number, peak=True)

    assert [bool(point.label) for point in line.points] == [False, False, False, True]


def test_what_broke_a_rule_is_drawn_but_not_trusted(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"invalid": ["x"]})
    )
    measurement = measured(record)
    line = metric_line(measurement.closed, "rest", "predictions_per_s", numbers.number, peak=True)

    assert {point.trusted for point in line.points} == {False}
    assert not any(point.label for point in line.points)
    assert untrusted(measurement.closed[0].cells["rest"], "predictions_per_s").n == 6


def test_what_was_not_measured_is_no_line(measured):
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"server_cpu_us_per_request": None})
    )

    assert metric_line(measured(record).closed, "rest", "server_cpu_us", numbers.number) is None


def test_values_are_sorted_once_each():
    assert distinct([4, 1, 4]) == (1, 4)

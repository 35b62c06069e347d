import pytest
from tests.workflow import result_factory as factory

from slipway import repetitions as rules
from slipway.records import Distribution, Load
from slipway.report import content


def measured(record=None) -> content.Measurement:
    made = factory.result()
    return content.measurements(factory.with_benchmark(made, record) if record else made)[0]


def invalidated(*, protocol=None, indices=range(99), rule="too busy"):
    def change(cell, repetition):
        hit = cell.protocol in (protocol, protocol or cell.protocol) and repetition.index in indices
        return repetition.model_copy(update={"invalid": [rule]}) if hit else repetition

    return factory.with_repetitions(factory.benchmark("digits", 2), change)


def test_cells_of_the_same_load_stand_side_by_side():
    measurement = measured()

    assert [level.name for level in measurement.closed] == [f"{n} in flight" for n in (1, 4, 16, 64)]
    assert [level.name for level in measurement.open] == ["1\u202f400 requests/s offered"]
    assert all(set(level.cells) == {"rest", "grpc"} for level in measurement.levels)


def test_estimates_are_medians_over_valid_repetitions_alone():
    measurement = measured(invalidated(protocol="rest", indices={0, 1}))
    cell = measurement.closed[0].cells["rest"]

    assert cell.valid == 4
    assert cell.broken == {"too busy": 2}
    assert cell.throughput_rps.n == 4
    assert measurement.invalid == 2 * 5


def test_ratios_pair_repetitions_that_are_valid_on_both_sides():
    measurement = measured(invalidated(protocol="rest", indices={0, 1}))

    assert {level.ratios["throughput"].n for level in measurement.closed} == {4}


def test_a_ratio_above_one_always_means_that_grpc_is_ahead():
    ratios = measured().headline.ratios

    assert ratios["throughput"].value > 1
    assert ratios["p99"].value > 1
    assert ratios["server_cpu"].value == pytest.approx(310 / 172, rel=0.05)
    assert ratios["bytes"].value == pytest.approx(892 / 501)


def test_the_headline_is_the_load_where_the_better_protocol_peaks():
    assert measured().headline.load.concurrency == 64


def test_a_load_on_one_protocol_alone_is_no_headline():
    record = factory.benchmark("digits", 2)
    only = record.model_copy(update={"cells": [c for c in record.cells if c.protocol == "grpc"]})
    measurement = measured(only)

    assert measurement.headline is None
    assert measurement.peak("grpc").cell.load.concurrency == 64
    assert measurement.peak("rest") is None


def test_a_percentile_that_some_repetitions_lack_is_not_estimated():
    def change(_cell, repetition):
        missing = {"p99_us": None} if repetition.index == 3 else {}
        return repetition.model_copy(update={"latency": repetition.latency.model_copy(update=missing)})

    measurement = measured(factory.with_repetitions(factory.benchmark("digits", 2), change))

    assert {cell.p99_us for cell in measurement.cells} == {None}
    assert all(cell.p50_us for cell in measurement.cells)


def test_without_any_valid_repetition_nothing_is_estimated():
    measurement = measured(invalidated())

    assert all(cell.predictions_per_s is None and not cell.trusted for cell in measurement.cells)
    assert measurement.headline is None
    assert measurement.broken == {"too busy": 60}


def test_a_distribution_ends_where_samples_prove_nothing_more():
    cell = measured(factory.benchmark("digits", 2, repetitions=1)).open[0].cells["grpc"]
    points = content.distribution(cell)

    assert [q for q, _ in points] == sorted({q for q, _ in points})
    assert [us for _, us in points] == sorted(us for _, us in points)
    # 4200 samples: enough for p99 (459), too few for p99.9 (4603).
    assert points[-1][0] == 0.995
    assert dict(points)[0.5] == pytest.approx(cell.p50_us.value, rel=0.07)


def test_batches_and_stages_add_up_over_repetitions():
    cell = measured().closed[0].cells["rest"]

    assert sum(content.batch_sizes(cell).values()) == sum(sum(r.batch_sizes.values()) for r in cell.repetitions)
    assert list(content.stages(cell)) == ["parse", "batch_wait", "queue", "compute", "encode"]
    assert content.stages(cell)["compute"] == pytest.approx(130.0)


def test_a_server_that_tells_nothing_has_no_stages():
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"stages_us": {}, "batch_sizes": {}})
    )
    cell = measured(record).cells[0]

    assert content.stages(cell) == {}
    assert content.batch_sizes(cell) == {}


def test_alike_starts_are_summed_up_request_by_request():
    groups = measured().cold

    assert [(g.protocol, g.warmed, g.starts) for g in groups] == [
        ("rest", True, 3),
        ("rest", False, 3),
        ("grpc", True, 3),
        ("grpc", False, 3),
    ]
    assert all(
        low <= middle <= high
        for g in groups
        for low, middle, high in zip(g.low_us, g.median_us, g.high_us, strict=True)
    )
    assert measured(factory.benchmark("digits", 2, cold_starts=0)).cold == ()


def test_loads_with_other_payloads_are_not_mixed():
    record = factory.benchmark("digits", 2, concurrency=(1,), rate=None)
    more = record.payloads[0].model_copy(update={"id": "rows-8", "rows": 8})
    cells = [*record.cells, *(c.model_copy(update={"id": c.id + "-8", "payload": "rows-8"}) for c in record.cells)]
    levels = measured(record.model_copy(update={"cells": cells, "payloads": [*record.payloads, more]})).levels

    assert [(level.payload.rows, level.load) for level in levels] == [
        (1, Load(kind="closed", concurrency=1)),
        (8, Load(kind="closed", concurrency=1)),
    ]


@pytest.mark.parametrize(("name", "made"), [("Ab_1", "ab-1"), ("</b>ü", "--b--")])
def test_ids_are_made_of_letters_digits_and_hyphens(name, made):
    assert content.slug(name) == made


def test_a_distribution_of_raw_samples_is_preferred_to_histograms():
    cell = factory.benchmark("digits", 2).cells[0]
    exact = Distribution(samples=3, quantiles=[0.0, 0.5], latency_us=[100.0, 123.0])
    found = content.summarise(cell.model_copy(update={"distribution": exact}))

    assert content.distribution(found) == ((0.0, 100.0), (0.5, 123.0))
    assert len(content.distribution(content.summarise(cell))) > 5


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        *((rules.DISTURBED, True), (rules.SATURATED, True), (rules.NEAR_CEILING, True)),
        *((rules.MISCOUNTED, False), (rules.OFF_RATE, False), ("x", False)),
    ],
)
def test_what_only_disturbs_the_clock_on_the_wall_leaves_cpu_and_bytes(rule, counts):
    """On a shared runner CPU time is the one number left; a rule of another Slipway voids everything."""
    record = factory.with_repetitions(
        factory.benchmark("digits", 2, concurrency=(4,)), lambda _c, r: r.model_copy(update={"invalid": [rule]})
    )
    level = content.loads(record).closed[0]
    cell = level.cells["rest"]

    assert (cell.valid, cell.p50_us, cell.throughput_rps) == (0, None, None)
    assert bool(cell.server_cpu_us) == bool(cell.bytes_sent) == counts
    assert set(level.ratios) == ({"server_cpu", "bytes"} if counts else set())


def test_of_several_offered_rates_the_one_nearest_to_half_the_slower_peak_stands_for_all():
    """Tiles, the verdict and the summary tell one, whichever rates there are beside it."""
    record = factory.benchmark("digits", 2)
    peaks = [measured(record).peak(protocol).throughput_rps.value for protocol in ("rest", "grpc")]
    closed = [cell for cell in record.cells if cell.load.kind == "closed"]
    rates = [share * min(peaks) for share in (0.1, 0.6, 0.9)]
    opened = [
        cell
        for rate in rates
        for cell in factory.benchmark("digits", 2, concurrency=(1,), cold_starts=0, rate=rate).cells
        if cell.load.kind == "open"
    ]
    found = measured(record.model_copy(update={"cells": [*closed, *opened]}))

    assert [level.load.rate for level in found.open] == rates
    assert found.rated.load.rate == rates[1]
    assert measured(record.model_copy(update={"cells": closed})).rated is None

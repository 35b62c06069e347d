import pytest
from tests.tools import generator_truth as truth


def found(rate, p50_us, share=None):
    return truth.Found(rate, share, p50_us, 2 * p50_us, 3 * p50_us, p50_us / 2)


AGREEING = {
    ("closed, 8 connections", "rest", "wire tier"): [found(990, 2050), found(1010, 2000), found(980, 2100)],
    ("closed, 8 connections", "rest", "h2load"): [found(1000, 2000), found(1000, 2010), found(1000, 2020)],
    ("rate 1000/s", "grpc", "wire tier"): [found(950, 2000, 0.999)] * 3,
    ("rate 1000/s", "grpc", "h2load"): [found(1000, 2000, 1.0)] * 3,
}


def test_rounds_are_compared_each_with_its_own():
    rows = {(load, protocol): (name, rates, p50s) for load, protocol, name, rates, p50s in truth.differences(AGREEING)}

    name, rates, p50s = rows["closed, 8 connections", "rest"]
    assert name == "h2load"
    assert rates == pytest.approx([-0.01, 0.01, -0.02])
    assert p50s == [50, -10, 80]
    # What arrived at random was 5 % fewer; nearly all of it was answered.
    assert rows["rate 1000/s", "grpc"][1] == pytest.approx([-0.001] * 3)


def test_who_is_apart_is_told():
    told, near = truth.table_of_differences(AGREEING)
    assert near
    assert (
        "| closed, 8 connections | REST | h2load | -1.00% (-2.00% to +1.00%) | +0.050 (-0.010 to +0.080) | agrees |"
        in told
    )

    late = AGREEING | {("rate 1000/s", "grpc", "wire tier"): [found(1000, 2101, 1.0)] * 3}
    told, near = truth.table_of_differences(late)
    assert not near
    assert "+0.101 (+0.101 to +0.101) | **apart** |" in told

    fewer = AGREEING | {("closed, 8 connections", "rest", "wire tier"): [found(979, 2000)] * 3}
    assert not truth.table_of_differences(fewer)[1]


def test_a_table_has_a_line_for_each_generator():
    lines = truth.table_of_found(AGREEING).splitlines()

    assert len(lines) == 2 + len(AGREEING)
    assert "| closed, 8 connections | REST | wire tier | 990 (980 to 1,010) | – | 2,050 (2,000 to 2,100) |" in lines
    assert any("99.90%" in line for line in lines)


def test_what_wrk_writes_is_read():
    output = 'Running 1s test\n  Latency {2ms}\n{"requests": 500, "duration_us": 1000000, "p50_us": 2100.0, '
    output += '"p90_us": 2200.0, "p99_us": 2300.0, "min_us": 2001, "errors": %d}'

    assert truth.parse_wrk(output % 0) == truth.Found(500.0, None, 2100.0, 2200.0, 2300.0, 2001)
    with pytest.raises(SystemExit, match="3 requests failed"):
        truth.parse_wrk(output % 3)

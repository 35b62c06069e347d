from types import SimpleNamespace

import pytest

from slipway.errors import InvalidMeasurement
from slipway.load_plan import Planned, closed_cells, interleaved, offered_rate, open_cells, place
from slipway.records import Load


def measured(*throughputs, invalid=()):
    return [
        SimpleNamespace(throughput_rps=value, invalid=["broken"] if number in invalid else [])
        for number, value in enumerate(throughputs)
    ]


def planned(protocol, users):
    return Planned(protocol, Load(kind="closed", concurrency=users))


def test_the_order_is_random_seeded_and_different_each_time():
    cells = closed_cells([1, 4, 16, 64])
    orders = [interleaved(cells, 1, index) for index in range(20)]

    assert all(sorted(order, key=place) == cells for order in orders)
    assert orders == [interleaved(cells, 1, index) for index in range(20)]
    assert orders != [interleaved(cells, 2, index) for index in range(20)]
    assert len({tuple(map(str, order)) for order in orders}) > 15
    assert {order[0].protocol for order in orders} == {"rest", "grpc"}


def test_the_offered_rate_is_a_share_of_the_slower_protocols_peak():
    """Both must be able to keep up with it, and only windows that count may set it."""
    cells = {
        planned("rest", 1): measured(100, 110, 90),
        planned("rest", 16): measured(900, 1000, 5000, invalid=[2]),
        planned("grpc", 1): measured(300, 300),
        planned("grpc", 16): measured(2000, 2000),
    }

    assert offered_rate(cells, 0.5) == pytest.approx(475)


def test_where_nothing_counts_the_rate_rests_on_what_there_is():
    cells = {planned(p, 1): measured(100, 200, invalid=[0, 1]) for p in ("rest", "grpc")}

    assert offered_rate(cells, 0.5) == pytest.approx(75)


def test_a_model_slower_than_the_window_is_told_with_the_setting_to_change():
    cells = {planned("rest", 1): measured(100), planned("grpc", 1): measured(0)}

    with pytest.raises(InvalidMeasurement, match=r"gRPC answered nothing .* benchmark\.window_s"):
        offered_rate(cells, 0.5)


def test_cells_are_named_for_files_and_for_people():
    names = [(cell.id, str(cell)) for cell in (*closed_cells([1, 16]), *open_cells(1234.6))]

    assert names == [
        ("rest-closed-1", "REST, 1 user"),
        ("grpc-closed-1", "gRPC, 1 user"),
        ("rest-closed-16", "REST, 16 users"),
        ("grpc-closed-16", "gRPC, 16 users"),
        ("rest-open-1235", "REST, 1235 requests/s offered"),
        ("grpc-open-1235", "gRPC, 1235 requests/s offered"),
    ]


def test_rates_of_a_slow_server_have_files_of_their_own():
    """A tenth and nine tenths of three requests a second round to whole ones that others have."""
    cells = [cell for share in (0.5, 0.1, 0.3) for cell in open_cells(share * 3, ["grpc"])]

    assert [cell.id for cell in cells] == ["grpc-open-1.5", "grpc-open-0.3", "grpc-open-0.9"]
    assert sorted(cells, key=place) == [*cells[1:], cells[0]]

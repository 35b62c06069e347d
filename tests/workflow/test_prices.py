import pytest
from pydantic import ValidationError

from slipway.prices import Prices, by_core, by_machine


def test_a_million_predictions_are_priced_by_cpu_time_and_by_machine_time():
    prices = Prices(currency="EUR", core_hour=0.036, machine_hour=0.18)

    # 100 µs each are 100 s of a core, and 1,000 predictions/s are 1,000 s of the machine.
    assert by_core(prices, 100.0) == pytest.approx(0.001)
    assert by_machine(prices, 1000.0) == pytest.approx(0.05)


def test_what_has_no_price_costs_nothing_that_is_known():
    assert by_core(Prices(currency="EUR", machine_hour=1), 100.0) is None
    assert by_machine(Prices(currency="EUR", core_hour=1), 100.0) is None
    assert by_machine(Prices(currency="EUR", machine_hour=1), 0.0) is None


@pytest.mark.parametrize(
    "given",
    [
        {"currency": "EUR"},
        {"currency": "", "core_hour": 1},
        {"currency": "EUR", "core_hour": 0},
        {"currency": "EUR", "machine_hour": "inf"},
        {"currency": "EUR", "core_hour": 1, "per_day": 3},
        {"core_hour": 1},
    ],
)
def test_prices_that_say_nothing_are_refused(given):
    with pytest.raises(ValidationError):
        Prices.model_validate(given)

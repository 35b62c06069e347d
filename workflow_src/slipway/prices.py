"""What computing costs where a report is read: given by the user, never guessed. Kept in the result, so that it can be drawn again."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_SECONDS_PER_HOUR = 3600.0
_MILLION = 1e6


class Prices(BaseModel):
    """A price per hour of a core, of the whole machine, or of both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str = Field(min_length=1, max_length=8, description="As it is written behind a price, such as EUR.")
    core_hour: float | None = Field(None, gt=0, allow_inf_nan=False, description="Price of one core for an hour.")
    machine_hour: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Price of the machine that serves, for an hour."
    )

    @model_validator(mode="after")
    def _has_a_price(self) -> Self:
        if self.core_hour is None and self.machine_hour is None:
            raise ValueError("give core_hour, machine_hour or both")
        return self


def by_core(prices: Prices, cpu_us_per_prediction: float) -> float | None:
    """Price a million predictions by the CPU time that they take; None without a price of a core."""
    if prices.core_hour is None:
        return None
    return cpu_us_per_prediction / 1e6 * _MILLION / _SECONDS_PER_HOUR * prices.core_hour


def by_machine(prices: Prices, predictions_per_s: float) -> float | None:
    """Price a million predictions by the time that a machine needs which does nothing else; None without its price."""
    if prices.machine_hour is None or predictions_per_s <= 0:
        return None
    return _MILLION / predictions_per_s / _SECONDS_PER_HOUR * prices.machine_hour

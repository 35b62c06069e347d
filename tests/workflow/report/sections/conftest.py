import pytest
from tests.workflow import result_factory as factory

from slipway.report.content import Measurement, measurements


@pytest.fixture(scope="session")
def measurement() -> Measurement:
    return measurements(factory.result())[0]


@pytest.fixture
def measured():
    """Make a measurement of a given benchmark."""
    return lambda record: measurements(factory.with_benchmark(factory.result(), record))[0]

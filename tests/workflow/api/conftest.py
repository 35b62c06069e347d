import pytest
from tests.workflow import served_models as served

from slipway.api.calls import calls


@pytest.fixture(scope="session")
def golden():
    return served.digits_golden(8)


@pytest.fixture(scope="session")
def digits(golden):
    """A call of each signature of `digits`, by its name."""
    return {call.signature: call for call in calls(served.digits_contract(), golden, "digits")}

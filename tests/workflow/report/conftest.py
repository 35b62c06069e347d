import pytest
from tests.workflow import result_factory as factory


@pytest.fixture
def results(tmp_path):
    """The records of one made-up run, where the stages leave them."""
    factory.write_records(factory.model_result(), tmp_path / "results")
    return tmp_path / "results"

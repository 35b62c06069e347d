import pytest
from tests.workflow.contract.contract_factory import small, with_default, with_signature

from slipway.contract import Contract
from slipway.contract.batching import check_batching
from slipway.errors import SettingsError
from slipway.settings import ServerSettings

ALONE = {"batching": None}


def judge(contract, **server):
    check_batching("m", Contract.model_validate(contract), ServerSettings(**server))


@pytest.mark.parametrize(("contract", "server", "said"), [
    (small(row_independent=False), {}, "server.batching: must be null (for this model alone: models.m.server): m's signature serving_default is row_independent"),
    (with_default(row_independent=False), {}, "server.batching: must be null (for this model alone: models.m.server): m's signature serving_default"),
    (small(row_independent=False), ALONE | {"flags": ["--enable_batching=true"]}, "server.flags: --enable_batching=true must"),
    (with_signature(method="predict", batched=False, outputs={"m": {"shape": [2, 2]}}), {},
     "server.batching: must be null (for this model alone: models.m.server): m's signature other is batched: false"),
    (small(max_rows=8), {}, "server.batching.max_batch_size: must be at most 8, the max_rows of m's contract, got 32"),
])  # fmt: skip
def test_a_server_that_would_break_a_promise_is_refused(contract, server, said):
    with pytest.raises(SettingsError) as caught:
        judge(contract, **server)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_section_of_the_models_own_is_named():
    with pytest.raises(SettingsError, match=r"^models.m.server.batching: must be null: m's signature serving_default"):
        check_batching("m", Contract.model_validate(small(row_independent=False)), ServerSettings(), "models.m.server")


@pytest.mark.parametrize(("contract", "server"), [
    (small(), {}),
    (small(row_independent=False), ALONE),
    (small(row_independent=False), ALONE | {"flags": ["--enable_batching=false", "--num_load_threads=2"]}),
    (small(max_rows=32), {}),
    (small(max_rows=8), ALONE),
    (with_signature(method="predict", batched=False, outputs={"m": {"shape": [2, 2]}}), ALONE),
])  # fmt: skip
def test_a_server_that_keeps_them_is_not(contract, server):
    judge(contract, **server)

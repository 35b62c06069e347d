import pytest

from slipway_server.config_files import BatchingPolicy
from slipway_server.servables.batched import BatchedLoader, own_policy
from slipway_wire.status import InvalidArgument

POOL = BatchingPolicy(num_batch_threads=3, thread_pool_name="shared")


def test_a_version_is_batched_as_its_own_file_says(fakes, tmp_path, caplog):
    (tmp_path / "batching_params.pbtxt").write_text(
        "max_batch_size { value: 7 } max_enqueued_batches { value: 1000000 }"
    )

    servable = BatchedLoader(fakes.FakeLoader(), tmp_path, own_policy(POOL), tells_doubts=True).load()

    assert servable.batching_policy.max_batch_size == 7
    assert servable.batching_policy.num_batch_threads == 3
    assert f"{tmp_path}/batching_params.pbtxt: max_enqueued_batches is 1000000" in caplog.text


def test_a_version_without_a_file_is_not_batched(fakes, tmp_path):
    servable = BatchedLoader(fakes.FakeLoader(), tmp_path, own_policy(POOL), tells_doubts=True).load()

    assert servable.batching_policy is None


def test_a_broken_file_fails_the_load_before_anything_is_loaded(fakes, tmp_path):
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 0 }")
    loader = fakes.FakeLoader(failures=1)

    with pytest.raises(
        InvalidArgument, match=r"batching_params\.pbtxt: input_batch_size_limit must be positive; was 0"
    ):
        BatchedLoader(loader, tmp_path, own_policy(POOL), tells_doubts=True).load()
    assert loader.failures == 1

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.servables.bundle import DATA_FILE, DamagedIndex, shard_sizes

MODELS = {
    "saved_model_half_plus_two_2_versions/00000123": {0: 12},
    "saved_model_counter/00000123": {0: 4},
    # Written by a build that compresses: nothing is known, and nothing is held against it.
    "saved_model_half_plus_two_cpu/00000123": {},
}


@pytest.mark.parametrize("model", MODELS)
def test_an_index_says_how_long_its_data_files_are(testdata, model):
    variables = testdata / model / "variables"

    sizes = shard_sizes((variables / "variables.index").read_bytes())

    assert sizes == MODELS[model]
    for shard, size in sizes.items():
        assert (variables / f"variables.data-{shard:05d}-of-00001").stat().st_size == size


def test_an_index_of_what_tensorflow_writes_today(tmp_path):
    """Thousands of names, so that the table has several blocks; two shards are what a partitioned save gives."""
    import tensorflow as tf

    names = [f"layer_{number:04d}/kernel" for number in range(2000)]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "variables"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.zeros([number % 7], tf.float32) for number in range(len(names))],
    )

    sizes = shard_sizes((tmp_path / "variables.index").read_bytes())

    assert sizes == {0: (tmp_path / "variables.data-00000-of-00001").stat().st_size}


def test_an_index_that_is_cut_off_is_no_index(testdata):
    whole = (testdata / "saved_model_counter/00000123/variables/variables.index").read_bytes()

    for end in range(len(whole)):
        with pytest.raises(DamagedIndex):
            shard_sizes(whole[:end])


@given(st.binary(max_size=120))
def test_nothing_but_a_damaged_index_comes_of_other_bytes(data):
    for footer in (b"", (0xDB4775248B80FB57).to_bytes(8, "little")):
        with contextlib.suppress(DamagedIndex):
            shard_sizes(data + footer)


def test_names_of_data_files():
    assert DATA_FILE.fullmatch("variables.data-00001-of-00002").groups() == ("00001", "00002")
    assert not DATA_FILE.fullmatch("variables.data-00001-of-00002.partial")

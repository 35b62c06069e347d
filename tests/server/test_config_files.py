from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.config_files import (
    All,
    BatchingPolicy,
    Latest,
    ModelConfig,
    Specific,
    read_batching_policy,
    read_metrics_path,
    read_model_configs,
)
from slipway_wire.status import InvalidArgument, Unimplemented

MODEL = 'name: "a" base_path: "/a" model_platform: "tensorflow"'


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "config"
        path.write_text(text)
        return path

    return write


def test_models_with_their_policies_and_labels(written):
    path = written("""
        model_config_list: {
          config { name: "a", base_path: "/m/a", model_platform: "tensorflow" },
          config { name: 'b' base_path: '/m/b' model_platform: 'tensorflow' model_version_policy { all {} } }
          config {
            name: "c" base_path: "/m/c" model_type: TENSORFLOW
            model_version_policy: { specific: { versions: 42 versions: 43 } }
            version_labels { key: "stable" value: 42 }
            version_labels { key: "canary" value: 43 }
          }
          config {
            name: "d" base_path: "/m/d" model_platform: "tensorflow"
            model_version_policy { latest { num_versions: 2 } }
          }
        }""")

    assert read_model_configs(path) == (
        ModelConfig("a", Path("/m/a"), Latest(1)),
        ModelConfig("b", Path("/m/b"), All()),
        ModelConfig("c", Path("/m/c"), Specific(frozenset({42, 43})), {"stable": 42, "canary": 43}),
        ModelConfig("d", Path("/m/d"), Latest(2)),
    )


def test_an_empty_list_serves_nothing(written):
    assert read_model_configs(written("model_config_list {}")) == ()


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (f"config {{ {MODEL} }} config {{ {MODEL} }}", "Illegal to list model a multiple times in config list"),
        (
            'config { name: "a" base_path: "m/a" model_platform: "tensorflow" }',
            r"Expected model a to have an absolute path or URI; got base_path\(\)=m/a",
        ),
        ('config { name: "a" base_path: "/a" }', "Illegal setting neither"),
        (f"config {{ {MODEL} model_type: TENSORFLOW }}", "Illegal setting both"),
        ('config { name: "a" base_path: "/a" model_platform: "torch" }', "Model a requests unsupported platform torch"),
    ],
)
def test_models_that_cannot_be_are_refused_in_tf_servings_words(written, models, message):
    with pytest.raises(InvalidArgument, match=message):
        read_model_configs(written(f"model_config_list {{ {models} }}"))


def test_a_file_that_does_not_parse_is_told_on_stderr_and_by_name(testdata, capsys):
    """TF Serving's own suite looks for the line on stderr."""
    path = testdata / "bad_model_config.txt"

    with pytest.raises(InvalidArgument, match=f"^Invalid protobuf file: '{path}'$"):
        read_model_configs(path)

    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidArgument, match="nowhere': No such file"):
        read_model_configs(tmp_path / "nowhere")


def test_batching_parameters_of_tf_servings_own_example(testdata):
    policy = read_batching_policy(testdata / "batching_config.txt")

    assert policy == BatchingPolicy(
        max_batch_size=128, batch_timeout_s=0.0, max_enqueued_batches=1_000_000, num_batch_threads=8
    )


def test_unset_batching_parameters_are_tf_servings_defaults(written):
    policy = read_batching_policy(written(""))

    assert (policy.max_batch_size, policy.batch_timeout_s, policy.max_enqueued_batches) == (1000, 0.0, 10)
    assert policy.num_batch_threads >= 1
    assert policy.allowed_batch_sizes == ()


def test_sizes_and_timeout_are_read(written):
    policy = read_batching_policy(
        written(
            "max_batch_size { value: 8 } batch_timeout_micros { value: 1500 } "
            "allowed_batch_sizes: 2 allowed_batch_sizes: 8 thread_pool_name { value: 'x' }"
        )
    )

    assert policy.batch_timeout_s == 0.0015
    assert policy.allowed_batch_sizes == (2, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 4", "strictly increasing"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        ("max_enqueued_batches { value: -1 }", "max_enqueued_batches must be non-negative; was -1"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
    ],
)
def test_batching_parameters_that_cannot_be_are_refused(written, text, message):
    with pytest.raises(InvalidArgument, match=message):
        read_batching_policy(written(text))


@pytest.mark.parametrize("text", ["pad_variable_length_inputs: true", "enable_large_batch_splitting { value: true }"])
def test_what_we_cannot_do_yet_is_not_passed_over(written, text):
    with pytest.raises(Unimplemented):
        read_batching_policy(written(text))


@given(st.sets(st.integers(1, 64), min_size=1).map(sorted), st.data())
def test_padding_goes_to_the_next_allowed_size(sizes, data):
    rows = data.draw(st.integers(1, sizes[-1]))

    padded = BatchingPolicy(sizes[-1], allowed_batch_sizes=tuple(sizes)).padded(rows)

    assert padded in sizes
    assert padded >= rows
    assert not any(rows <= size < padded for size in sizes)
    assert BatchingPolicy().padded(rows) == rows


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true path: '/metrics' }", "/metrics"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ("prometheus_config { path: '/metrics' }", None),
        ("", None),
    ],
)
def test_metrics_path(written, text, path):
    assert read_metrics_path(written(text)) == path

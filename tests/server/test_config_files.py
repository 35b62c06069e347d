import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.config_files import (
    All,
    BatchingPolicy,
    Latest,
    ModelConfig,
    Specific,
    doubts_about,
    model_configs,
    read_batching_policy,
    read_metrics_path,
    read_model_batching_policy,
    read_model_server_config,
    single_model_config,
)
from slipway_wire.status import FailedPrecondition, InvalidArgument


def read_model_configs(path, present=None):
    return model_configs(read_model_server_config(path), present)


SPLITTING = " enable_large_batch_splitting { value: true }"
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
        ModelConfig("a", "/m/a", Latest(1)),
        ModelConfig("b", "/m/b", All()),
        ModelConfig("c", "/m/c", Specific(frozenset({42, 43})), {"stable": 42, "canary": 43}),
        ModelConfig("d", "/m/d", Latest(2)),
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
        ('config { name: "a" base_path: "/a" model_type: OTHER }', "Model a requests unsupported platform other"),
        ('config { base_path: "/a" model_platform: "tensorflow" }', "has no name; its base_path is '/a'"),
    ],
)
def test_models_that_cannot_be_are_refused_in_tf_servings_words(written, models, message):
    with pytest.raises(InvalidArgument, match=message):
        read_model_configs(written(f"model_config_list {{ {models} }}"))


def test_a_uri_is_a_base_path(written):
    (model,) = read_model_configs(
        written('model_config_list { config { name: "a" base_path: "gs://b/a" model_platform: "tensorflow" } }')
    )

    assert model.base_path == "gs://b/a"


def test_a_list_can_only_be_followed_by_a_list(written):
    """An emptied file must not pass for a wish to serve nothing."""
    present = read_model_server_config(written(f"model_config_list {{ config {{ {MODEL} }} }}"))

    assert read_model_configs(written("model_config_list {}"), present) == ()
    for text in ("", 'custom_model_config { type_url: "a" }'):
        with pytest.raises(FailedPrecondition, match=r"^Cannot transition to requested config"):
            read_model_configs(written(text), present)
    with pytest.raises(InvalidArgument, match=r"^Illegal to change a model's platform\. For model a platform was"):
        read_model_configs(written(f"model_config_list {{ config {{ {MODEL.replace('tensorflow', 'b')} }} }}"), present)


def test_what_a_server_without_a_list_cannot_do(written):
    assert read_model_configs(written("")) == ()
    with pytest.raises(InvalidArgument, match="custom_model_config"):
        read_model_configs(written('custom_model_config { type_url: "a" }'))


def test_a_single_model_may_have_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert model_configs(single_model_config("m", "there")) == (ModelConfig("m", str(tmp_path / "there")),)
    assert model_configs(single_model_config("m", "ram://there")) == (ModelConfig("m", "ram://there"),)


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
    assert policy.thread_pool_name == "x"


def test_splitting_and_padding_are_read(written):
    policy = read_batching_policy(
        written(
            "max_batch_size { value: 64 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 16 } pad_variable_length_inputs: true "
            "allowed_batch_sizes: 4 allowed_batch_sizes: 16"
        )
    )

    assert (policy.max_batch_size, policy.largest_batch) == (64, 16)
    assert policy.pad_variable_length_inputs
    assert policy.enable_large_batch_splitting


def test_the_size_that_runs_is_the_size_of_requests_unless_said_otherwise(written):
    """TF Serving passes max_execution_batch_size over where requests are not divided."""
    split = "max_batch_size { value: 64 } enable_large_batch_splitting { value: true }"

    assert read_batching_policy(written(split)).largest_batch == 64
    assert read_batching_policy(written("max_execution_batch_size { value: 9 }")).largest_batch == 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "^Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8$",
        ),
        (
            "allowed_batch_sizes: 4",
            "^Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 1000$",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 5 max_execution_batch_size { value: 4 }" + SPLITTING,
            "^Last entry in allowed_batch_sizes must match max_batch_size; last entry was 5; expected 8$",
        ),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 4", "monotonically increasing"),
        ("num_batch_threads { value: 0 }", "^num_batch_threads must be positive; was 0$"),
        ("batch_timeout_micros { value: -1 }", "^batch_timeout_micros must be non-negative; was -1$"),
        ("max_enqueued_batches { value: -1 }", "^max_enqueued_batches must be positive; was -1$"),
        (
            "max_enqueued_batches { value: 0 } enable_large_batch_splitting { value: true }",
            "^max_enqueued_batches must be positive; was 0$",
        ),
        ("max_batch_size { value: 0 }", "^input_batch_size_limit must be positive; was 0"),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 0 }",
            "^max_execution_batch_size must be positive; was 0$",
        ),
        (
            "max_batch_size { value: 4 } max_execution_batch_size { value: 8 }" + SPLITTING,
            "^When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to max_exec",
        ),
        ("max_batch_size: 8", "^Invalid protobuf file: "),
    ],
)
def test_batching_parameters_that_cannot_be_are_refused(written, text, message):
    with pytest.raises(InvalidArgument, match=message):
        read_batching_policy(written(text))


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("max_enqueued_batches { value: 100000000 }", "max_enqueued_batches is 100000000"),
        ("max_enqueued_batches { value: 0 }", "counts as 1"),
        ("batch_timeout_micros { value: 5000000 }", "will wait 5 s for company"),
        ("max_batch_size { value: 1 }", "nothing will be put together"),
        ("max_batch_size { value: 64 } allowed_batch_sizes: 64", "a batch of 1 will be 98% padding"),
        (
            "max_batch_size { value: 64 } allowed_batch_sizes: 1 allowed_batch_sizes: 64",
            "from 1 to 64: a batch of 2 will be 97% padding",
        ),
        ("max_execution_batch_size { value: 8 }", "no effect without enable_large_batch_splitting"),
        (
            "max_batch_size { value: 100 } max_execution_batch_size { value: 4 }" + SPLITTING,
            "requests of more than 40 rows will always be refused",
        ),
    ],
)
def test_parameters_that_hardly_ever_make_sense_are_named(written, text, doubt):
    """A bad file is why "batching does nothing"; TF Serving takes all of these without a word."""
    (told,) = doubts_about(read_batching_policy(written(text)))

    assert doubt in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "max_batch_size { value: 32 } batch_timeout_micros { value: 2000 } max_enqueued_batches { value: 64 }",
        "max_batch_size { value: 32 } allowed_batch_sizes: 1 allowed_batch_sizes: 8 allowed_batch_sizes: 32",
        "max_batch_size { value: 40 } max_execution_batch_size { value: 4 }" + SPLITTING,
    ],
)
def test_ordinary_parameters_raise_no_doubts(written, text):
    assert doubts_about(read_batching_policy(written(text))) == []


def test_a_version_brings_its_own_parameters_but_not_its_own_threads(tmp_path):
    (tmp_path / "batching_params.pbtxt").write_text(
        "max_batch_size { value: 10 } num_batch_threads { value: 0 } thread_pool_name { value: 'mine' }"
    )
    pool = BatchingPolicy(max_batch_size=4, num_batch_threads=3, thread_pool_name="shared", batch_timeout_s=1.0)

    policy = read_model_batching_policy(tmp_path, pool)

    assert policy == BatchingPolicy(max_batch_size=10, num_batch_threads=3, thread_pool_name="shared")


def test_a_version_without_parameters_of_its_own_has_no_policy(tmp_path):
    assert read_model_batching_policy(tmp_path, BatchingPolicy()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 4", "batching_params.pbtxt: Error parsing text-format tensorflow.serving.BatchingParameters"),
        ("max_batch_size { value: -4 }", "batching_params.pbtxt: input_batch_size_limit must be positive; was -4"),
    ],
)
def test_a_versions_parameters_that_cannot_be_used_are_refused_by_name(tmp_path, text, message):
    (tmp_path / "batching_params.pbtxt").write_text(text)

    with pytest.raises(InvalidArgument, match=message):
        read_model_batching_policy(tmp_path, BatchingPolicy())


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

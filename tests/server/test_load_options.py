import logging
import os

import pytest

from slipway_server.load_options import LoadOptions, ThreadOptions, WarmupOptions, from_settings
from slipway_server.settings import Settings
from slipway_wire import messages
from slipway_wire.status import InvalidArgument, Unimplemented


def session_config(**flags):
    return messages.ConfigProto.FromString(from_settings(Settings(**flags)).session_config)


@pytest.fixture
def write(tmp_path):
    def file(text):
        path = tmp_path / "config.txt"
        path.write_text(text)
        return str(path)

    return file


def test_without_flags_sessions_have_threads_of_their_own_and_all_else_is_tensorflows():
    config = session_config()

    assert config == messages.ConfigProto(use_per_session_threads=True, allow_soft_placement=True)


@pytest.mark.parametrize(
    ("flags", "intra", "inter"),
    [
        ({"tensorflow_session_parallelism": 3}, 3, 3),
        ({"tensorflow_session_parallelism": 3, "tensorflow_intra_op_parallelism": 2}, 2, 3),
        ({"tensorflow_intra_op_parallelism": 2, "tensorflow_inter_op_parallelism": 5}, 2, 5),
    ],
)
def test_threads(flags, intra, inter):
    config = session_config(**flags)

    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (intra, inter)


def test_a_thread_plan_is_measured_unless_somebody_says_it():
    assert from_settings(Settings()).threads == ThreadOptions("auto")

    options = from_settings(Settings(thread_plan="a=one_batch,batch_per_core,b=auto", thread_plan_limit_s=3.0)).threads

    assert [options.wanted(model) for model in ("a", "b", "c")] == ["one_batch", "auto", "batch_per_core"]
    assert (options.limit_s, options.configured_by) == (3.0, "")


@pytest.mark.parametrize("text", ["all", "a=", "=auto", "a=b=c", "one_batch,x=2"])
def test_what_is_no_thread_plan_is_told_with_those_there_are(text):
    with pytest.raises(InvalidArgument, match=r"^--thread_plan: expected auto, one_batch, batch_per_core, .*; got '"):
        from_settings(Settings(thread_plan=text))


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        ({"tensorflow_session_parallelism": 3}, "--tensorflow_session_parallelism"),
        ({"tensorflow_intra_op_parallelism": 1}, "--tensorflow_intra_op_parallelism"),
        ({"tensorflow_inter_op_parallelism": 2}, "--tensorflow_inter_op_parallelism"),
        ({"tensorflow_session_config_file": "intra_op_parallelism_threads: 7"}, "--tensorflow_session_config_file"),
        ({"tensorflow_session_config_file": "session_inter_op_thread_pool {}"}, "--tensorflow_session_config_file"),
    ],
)
def test_whoever_sets_threads_wins_over_any_plan(write, caplog, flags, where):
    if text := flags.get("tensorflow_session_config_file"):
        flags = {"tensorflow_session_config_file": write(text)}

    assert from_settings(Settings(**flags)).threads.configured_by == where
    assert not caplog.text
    assert from_settings(Settings(**flags, thread_plan="batch_per_core")).threads.configured_by == where
    assert f"--thread_plan=batch_per_core has no effect: {where} sets the threads" in caplog.text


def test_threads_for_ops_go_into_a_session_config_that_stays_as_it_was_otherwise():
    options = from_settings(Settings(gpu_memory_growth=True))

    planned = options.with_intra_op_threads(3)

    config = messages.ConfigProto.FromString(planned.session_config)
    assert config.intra_op_parallelism_threads == 3
    config.ClearField("intra_op_parallelism_threads")
    assert config == messages.ConfigProto.FromString(options.session_config)


def test_gpu_memory():
    options = session_config(
        per_process_gpu_memory_fraction=0.25, gpu_memory_growth=True, gpu_memory_limit_mb=2048.0
    ).gpu_options

    assert options.per_process_gpu_memory_fraction == 0.25
    assert options.allow_growth
    assert [list(one.memory_limit_mb) for one in options.experimental.virtual_devices] == [[2048.0]]


@pytest.mark.parametrize("is_wanted", [False, True])
def test_host_memory_is_pinned_for_who_wants_that(is_wanted):
    assert session_config(gpu_pinned_host_memory=is_wanted).gpu_options.force_gpu_compatible == is_wanted


@pytest.mark.parametrize("flag", ["xla_cpu_compilation_enabled", "xla_gpu_compilation_enabled"])
def test_xla_is_switched_on(flag):
    optimizer = session_config(**{flag: True}).graph_options.optimizer_options

    assert optimizer.global_jit_level == optimizer.ON_2
    assert optimizer.cpu_global_jit


def test_bfloat16_is_switched_on_and_nothing_else_is_understood(caplog):
    rewriter = session_config(mixed_precision="bfloat16").graph_options.rewrite_options
    assert rewriter.auto_mixed_precision_onednn_bfloat16 == rewriter.ON

    with caplog.at_level(logging.WARNING):
        assert not session_config(mixed_precision="float16").HasField("graph_options")

    assert "--mixed_precision=float16 has no effect" in caplog.text


def test_flags_go_over_the_session_config_file(write):
    path = write(
        "intra_op_parallelism_threads: 7, inter_op_parallelism_threads: 8 "
        "gpu_options { per_process_gpu_memory_fraction: 0.5 allow_growth: true } "
        "graph_options { rewrite_options { constant_folding: OFF } } "
        "session_inter_op_thread_pool { num_threads: 2 global_name: 'shared' }"
    )

    config = session_config(tensorflow_session_config_file=path, tensorflow_intra_op_parallelism=1)

    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (1, 8)
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.5
    assert config.graph_options.rewrite_options.constant_folding == 2
    # Pools by name are what the user wants instead of threads of each session's own.
    assert not config.use_per_session_threads
    assert config.session_inter_op_thread_pool[0].global_name == "shared"


@pytest.mark.parametrize("flag", ["tensorflow_session_config_file", "platform_config_file"])
def test_a_file_that_does_not_parse_is_told(write, flag, capsys):
    path = write("intra_op_threads: 7")

    with pytest.raises(InvalidArgument, match=f"^Invalid protobuf file: '{path}'$"):
        from_settings(Settings(**{flag: path}))

    assert "Error parsing text-format tensorflow." in capsys.readouterr().err


def test_tags_libraries_and_modules_are_lists():
    options = from_settings(
        Settings(saved_model_tags="serve, gpu", op_library="/a.so,b.so,", import_module="tensorflow_text")
    )

    assert options.tags == ("serve", "gpu")
    assert options.op_libraries == ("/a.so", "b.so")
    assert options.modules == ("tensorflow_text",)


@pytest.mark.parametrize(("pools", "per_pool", "interpreters"), [(0, 1, os.cpu_count()), (3, 2, 6), (2, 0, 2)])
def test_tflite_pools(pools, per_pool, interpreters):
    options = from_settings(Settings(num_tflite_pools=pools, num_tflite_interpreters_per_pool=per_pool))

    assert options.tflite_interpreters == interpreters


def test_warm_up():
    assert from_settings(Settings()).warmup == WarmupOptions()
    options = from_settings(
        Settings(
            enable_model_warmup=False,
            num_request_iterations_for_warmup=4,
            num_model_warmup_threads=2,
            enable_all_batch_sizes_warmup=False,
            synthesize_warmup_requests=True,
        )
    )
    assert options.warmup == WarmupOptions(
        is_enabled=False, iterations=4, threads=2, has_all_batch_sizes=False, is_synthesized=True
    )


PLATFORM = """
platform_configs {
  key: "tensorflow"
  value {
    source_adapter_config {
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config {
          session_config { intra_op_parallelism_threads: 2 }
          saved_model_tags: "serve" saved_model_tags: "tpu"
          enable_model_warmup: true
          model_warmup_options {
            num_request_iterations { value: 3 }
            num_model_warmup_threads { value: 4 }
            enable_all_batch_sizes_warmup: true
          }
          prefer_tflite_model: true
          num_tflite_pools: 2
          num_tflite_interpreters_per_pool: 3
          %s
        }
      }
    }
  }
}
"""


def test_a_platform_config_takes_the_place_of_flags(write, caplog):
    settings = Settings(platform_config_file=write(PLATFORM % ""), tensorflow_intra_op_parallelism=9, op_library="x.so")

    with caplog.at_level(logging.WARNING):
        options = from_settings(settings)

    assert messages.ConfigProto.FromString(options.session_config).intra_op_parallelism_threads == 2
    assert options.tags == ("serve", "tpu")
    assert options.prefers_tflite
    assert options.tflite_interpreters == 6
    assert options.warmup == WarmupOptions(iterations=3, threads=4)
    assert options.op_libraries == ("x.so",)
    assert "--tensorflow_intra_op_parallelism has no effect: --platform_config_file takes its place" in caplog.text


def test_an_empty_platform_config_has_tf_servings_defaults(write):
    """Its messages' own: no warm-up, and the tag `serve`."""
    empty = PLATFORM.partition("session_config")[0] + "} } } } }"

    options = from_settings(Settings(platform_config_file=write(empty)))

    assert options == LoadOptions(
        session_config=from_settings(Settings()).session_config,
        threads=ThreadOptions("auto"),
        tflite_interpreters=options.tflite_interpreters,
        warmup=WarmupOptions(is_enabled=False),
    )


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InvalidArgument, 'no configuration for the platform "tensorflow"; it has none'),
        ('platform_configs { key: "xgboost" value {} }', InvalidArgument, "it has xgboost"),
        ('platform_configs { key: "tensorflow" value {} }', InvalidArgument, "source_adapter_config is empty"),
        (PLATFORM % 'session_target: "grpc://elsewhere"', Unimplemented, "session_target is not supported"),
        (PLATFORM % 'experimental_fixed_input_tensors { name: "x" }', Unimplemented, "is not supported; remove it"),
    ],
)
def test_platform_configs_that_cannot_be_used_are_told(write, text, error, message):
    with pytest.raises(error, match=message):
        from_settings(Settings(platform_config_file=write(text)))

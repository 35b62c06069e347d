"""Command line, order of start-up, flags."""

import dataclasses
import socket

import grpc
import numpy as np
import pytest
from tests.dropin.processes import START_S, WAIT_S, wait_for

from slipway_wire import paths, predict

# Name -> default, as in main.cc; None: it depends on the machine.
FLAGS = {
    "port": "8500",
    "grpc_socket_path": "",
    "rest_api_port": "0",
    "rest_api_num_threads": None,
    "rest_api_timeout_in_ms": "30000",
    "rest_api_enable_cors_support": "false",
    "enable_batching": "false",
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": "false",
    "allow_version_labels_for_unavailable_models": "false",
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": "0",
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": "0",
    "num_unload_threads": "0",
    "max_num_load_retries": "5",
    "load_retry_interval_micros": "60000000",
    "file_system_poll_wait_seconds": "1",
    "flush_filesystem_caches": "true",
    "tensorflow_session_parallelism": "0",
    "tensorflow_intra_op_parallelism": "0",
    "tensorflow_inter_op_parallelism": "0",
    "tensorflow_session_config_file": "",
    "use_alts_credentials": "false",
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": "0.0",
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "grpc_max_threads": None,
    "enable_model_warmup": "true",
    "num_request_iterations_for_warmup": "0",
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": "true",
    "prefer_tflite_model": "false",
    "num_tflite_pools": None,
    "num_tflite_interpreters_per_pool": "1",
    "enable_signature_method_name_check": "false",
    "xla_cpu_compilation_enabled": "false",
    "xla_gpu_compilation_enabled": "false",
    "enable_profiler": "true",
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": "false",
    "enable_grpc_healthcheck_service": "false",
    "enable_serialization_as_tensor_content": "false",
}


@pytest.fixture(scope="module")
def usage(fleet):
    process = fleet.start("--help")
    assert process.exit_code() != 0
    return process.stdout + process.stderr


@pytest.mark.behaviour("1.3-all-flags")
def test_every_flag_is_known_with_its_default(usage):
    known = dict(line.strip().removeprefix("--").partition("=")[::2] for line in usage.splitlines() if "  --" in line)

    assert FLAGS.keys() <= known.keys()
    assert {name: known[name] for name, default in FLAGS.items() if default is not None} == {
        name: default for name, default in FLAGS.items() if default is not None
    }


@dataclasses.dataclass(frozen=True)
class Failing:
    """A command line that does not start, and what it says; `{…}` are files of the test."""

    flags: tuple[str, ...]
    stdout: str = ""
    stderr: str = ""


# All of them fail before TensorFlow is loaded: these are quick.
FAILING = {
    "a value that cannot be read": Failing(("--port=many", "--model_base_path=/m"), stderr="--port"),
    "a flag and its value apart": Failing(("--model_base_path", "/m"), stderr="--model_base_path"),
    "no model": Failing(("--port=0",), stderr="model_base_path"),
    "no gRPC": Failing(("--port=0", "--model_base_path=/m"), "Failed to start server. Error: INVALID_ARGUMENT: "),
    "parameters without batching": Failing(
        ("--model_base_path=/m", "--batching_parameters_file=/b"),
        "INVALID_ARGUMENT: server_options.batching_parameters_file requires server_options.enable_batching",
    ),
    "parallelism thrice": Failing(
        (
            "--model_base_path=/m",
            "--tensorflow_session_parallelism=1",
            "--tensorflow_intra_op_parallelism=1",
            "--tensorflow_inter_op_parallelism=1",
        ),
        "Error: INVALID_ARGUMENT: ",
    ),
    "no text proto": Failing(
        ("--model_config_file={testdata}/bad_model_config.txt",),
        "Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{testdata}/bad_model_config.txt'",
        "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:",
    ),
    "a name twice": Failing(
        ("--model_config_file={duplicate}",), "Illegal to list model m multiple times in config list"
    ),
    "a relative path": Failing(
        ("--model_config_file={relative}",), "Expected model m to have an absolute path or URI; got base_path()=here/m"
    ),
    "no platform": Failing(("--model_config_file={neither}",), "INVALID_ARGUMENT: Illegal setting neither"),
    "two platforms": Failing(("--model_config_file={both}",), "INVALID_ARGUMENT: Illegal setting both"),
    "an unknown platform": Failing(
        ("--model_config_file={unknown}",), "INVALID_ARGUMENT: Model m requests unsupported platform caffe"
    ),
    "the last allowed size": Failing(
        ("--model_base_path=/m", "--enable_batching", "--batching_parameters_file={sizes}"),
        "INVALID_ARGUMENT: Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 16",
    ),
    "no batch threads": Failing(
        ("--model_base_path=/m", "--enable_batching", "--batching_parameters_file={threads}"), "INVALID_ARGUMENT"
    ),
    "a negative timeout": Failing(
        ("--model_base_path=/m", "--enable_batching", "--batching_parameters_file={timeout}"), "INVALID_ARGUMENT"
    ),
}
FILES = {
    "duplicate": "model_config_list { "
    + 2 * 'config { name: "m" base_path: "/m" model_platform: "tensorflow" } '
    + "}",
    "relative": 'model_config_list { config { name: "m" base_path: "here/m" model_platform: "tensorflow" } }',
    "neither": 'model_config_list { config { name: "m" base_path: "/m" } }',
    "both": 'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" model_type: TENSORFLOW } }',
    "unknown": 'model_config_list { config { name: "m" base_path: "/m" model_platform: "caffe" } }',
    "sizes": "max_batch_size { value: 16 } allowed_batch_sizes: 4 allowed_batch_sizes: 8",
    "threads": "num_batch_threads { value: 0 }",
    "timeout": "batch_timeout_micros { value: -1 }",
}


@pytest.fixture(scope="module")
def failing(fleet, testdata):
    """`failing(name)` gives the process of a failing start, which began with all others of them."""
    files = {name: fleet.write(f"failing/{name}", content) for name, content in FILES.items()}
    return {
        name: fleet.start(*(flag.format(testdata=testdata, **files) for flag in case.flags))
        for name, case in FAILING.items()
    }


@pytest.mark.behaviour(
    "1.1-start-failure",
    "1.1-text-proto-error",
    "1.1-unreadable-value",
    "1.1-value-form",
    "1.3-batching_parameters_file",
    "1.3-model_base_path",
    "1.3-port",
    "1.3-tensorflow_session_parallelism",
    "6.2-duplicate-name",
    "6.2-platform",
    "6.2-relative-path",
    "8.1-errors",
)
@pytest.mark.parametrize("name", FAILING)
def test_what_cannot_start_says_why(failing, testdata, name):
    process, case = failing[name], FAILING[name]

    assert process.exit_code() == 255
    assert case.stdout.format(testdata=testdata) in process.stdout
    assert case.stderr in process.stderr
    if not case.stdout:
        assert "model_config_file" in process.stderr + process.stdout
    assert "Traceback" not in process.stderr


@pytest.mark.behaviour("1.1-version")
def test_version(fleet):
    process = fleet.start("--version")

    assert process.exit_code() == 0
    first, second = process.stdout.splitlines()
    assert first.startswith("TensorFlow ModelServer: ")
    assert second.startswith("TensorFlow Library: 2.")


@pytest.mark.behaviour(
    "1.1-value-form", "1.1-unknown-argument", "1.3-model_name", "1.3-saved_model_tags", "1.2-log-lines"
)
def test_the_flags_of_a_script_do_what_they_say(bare):
    assert "unknown argument: --no_such_flag=1" in bare.stdout + bare.stderr
    assert f"Running gRPC ModelServer at 0.0.0.0:{bare.ports[0]} ..." in bare.stderr
    # Of two names the last counts; of two MetaGraphs the one with the tag.
    assert bare.predict("bare", {"x": np.float32([2.0])})[1] == {"y": [3.0]}
    assert bare.ask("bare:predict", {"instances": [2.0]}) == (200, {"predictions": [3.0]})


@pytest.mark.behaviour(
    "1.3-rest_api_num_threads",
    "1.3-flush_filesystem_caches",
    "1.3-remove_unused_fields_from_bundle_metagraph",
    "1.3-num_tflite_pools",
    "1.3-thread_pool_factory_config_file",
    "1.3-skip_initialize_tpu",
    "1.3-xla",
    "1.3-mixed_precision",
    "1.3-per_process_gpu_memory_fraction",
    "1.3-tensorflow_intra_op_parallelism",
    "1.3-num_load_threads",
)
def test_flags_that_need_no_effect_are_taken(bare):
    from tests.dropin.conftest import IGNORED_FLAGS

    for flag in IGNORED_FLAGS:
        assert f"unknown argument: {flag}" not in bare.stdout + bare.stderr
    assert bare.states("bare") == {1: "AVAILABLE"}


@pytest.mark.behaviour("1.3-grpc_channel_arguments")
def test_channel_arguments_reach_grpc(bare):
    request = predict.encode_request("bare", {"x": np.ones(40_000, np.float32)})

    assert bare.refusal(paths.GRPC_PREDICT, request)[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.behaviour("1.3-grpc_socket_path", "1.2-log-lines")
def test_the_unix_socket_replaces_a_stale_file_and_answers(server, fleet):
    with grpc.insecure_channel(f"unix:{fleet.socket}") as channel:
        answer = channel.unary_unary(paths.GRPC_PREDICT)(
            predict.encode_request("half_plus_two", {"x": np.float32([1.0])}), timeout=WAIT_S
        )

    assert predict.decode_response(answer)[1]["y"].tolist() == [2.5]
    assert f"Running gRPC ModelServer at UNIX socket {fleet.socket} ..." in server.stderr


@pytest.mark.behaviour("1.2-models-before-ports", "1.2-waits-for-version", "1.3-rest_api_port")
def test_the_port_opens_when_every_model_serves(fleet, late, copy_model):
    def is_loaded():
        assert late.process.poll() is None, late.log()
        return "not_late" in late.stderr

    wait_for(is_loaded, lambda: f"the model that is there to load\n{late.log()}")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", late.port)) != 0
    copy_model(fleet.models / "not_late" / "1", late.base_path / "00000001")
    with grpc.insecure_channel(f"127.0.0.1:{late.port}") as channel:
        answer = channel.unary_unary(paths.GRPC_PREDICT)(
            predict.encode_request("late", {"x": np.float32([2.0])}), wait_for_ready=True, timeout=START_S
        )

    assert predict.decode_response(answer)[1]["y"].tolist() == [4.0]
    assert "REST is not served" in late.stderr


@pytest.mark.behaviour(
    "1.2-failed-model", "1.1-start-failure", "1.3-max_num_load_retries", "1.3-load_retry_interval_micros"
)
def test_a_model_that_fails_fails_the_start(broken):
    """With the default pause of a minute the retry alone would outlast the test."""
    assert broken.exit_code() == 255
    assert (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: "
        "{{{name: broken version: 1} due to error: " in broken.stdout
    )

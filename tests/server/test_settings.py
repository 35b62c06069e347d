import dataclasses

import pytest

from slipway_server.errors import UsageError
from slipway_server.settings import Settings, parse, usage
from slipway_wire.status import InvalidArgument, Unimplemented

# Names and defaults of tensorflow_serving/model_servers/main.cc that users lean on.
DEFAULTS = {
    "port": 8500,
    "rest_api_port": 0,
    "rest_api_timeout_in_ms": 30000,
    "model_name": "default",
    "model_base_path": "",
    "model_config_file": "",
    "enable_batching": False,
    "batching_parameters_file": "",
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60_000_000,
    "file_system_poll_wait_seconds": 1,
    "saved_model_tags": "serve",
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "enable_grpc_healthcheck_service": False,
    "grpc_socket_path": "",
}


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
def test_defaults_are_tf_servings(name, default):
    assert getattr(parse([]).settings, name) == default


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--port=auto", "port", "auto"),
        ("--rest_api_port=8501", "rest_api_port", 8501),
        ("--enable_batching", "enable_batching", True),
        ("--enable_batching=true", "enable_batching", True),
        ("--enable_batching=1", "enable_batching", True),
        ("--enable_model_warmup=false", "enable_model_warmup", False),
        ("--enable_model_warmup=0", "enable_model_warmup", False),
        ("--load_retry_interval_micros=-1", "load_retry_interval_micros", -1),
        ("--per_process_gpu_memory_fraction=0.5", "per_process_gpu_memory_fraction", 0.5),
        ("--grpc_channel_arguments=a=1,b=c", "grpc_channel_arguments", "a=1,b=c"),
    ],
)
def test_values_are_read(argument, name, value):
    assert getattr(parse([argument]).settings, name) == value


def test_the_last_of_a_flag_counts():
    """Users of the image append flags to those of its entrypoint."""
    assert parse(["--port=1", "--port=2"]).settings.port == 2


@pytest.mark.parametrize("argument", ["stray", "--unknown=3", "--unknown", "-port=3", "8500"])
def test_unknown_arguments_are_told_apart_and_not_fatal(argument):
    command = parse([argument, "--model_name=m"])

    assert command.unknown == (argument,)
    assert command.settings.model_name == "m"


@pytest.mark.parametrize(
    "argument",
    ["--port", "--port=eighty", "--port=65536", "--port=-1", "--enable_batching=maybe", "--drain_timeout_s=soon"],
)
def test_a_value_that_cannot_be_read_names_its_flag(argument):
    with pytest.raises(UsageError, match=f"^{argument.partition('=')[0]}"):
        parse([argument])


def test_a_value_in_an_argument_of_its_own_is_not_understood():
    """TF Serving does not either; silently taking half of it would be worse."""
    with pytest.raises(UsageError, match="--port needs a value: --port=VALUE"):
        parse(["--port", "8500"])


def test_version_and_help():
    assert parse(["--version"]).wants_version
    assert parse(["--help"]).wants_help
    assert not parse(["--help=false"]).wants_help


def test_usage_names_every_flag():
    text = usage()

    for field in dataclasses.fields(Settings):
        assert f"  --{field.name}=" in text
        assert field.metadata["help"]


@pytest.mark.behaviour("1.3-use_alts_credentials")
@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ([], UsageError, "--model_base_path and --model_config_file"),
        (["--model_base_path=/m", "--port=0"], InvalidArgument, "--port and --grpc_socket_path"),
        (["--model_base_path=/m", "--batching_parameters_file=/b"], InvalidArgument, "requires .*enable_batching"),
        (
            [
                "--model_base_path=/m",
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ],
            InvalidArgument,
            "tensorflow_session_parallelism cannot be set",
        ),
        (
            ["--model_base_path=/m", "--use_alts_credentials"],
            Unimplemented,
            "--use_alts_credentials is not supported yet",
        ),
        (
            ["--model_base_path=/m", "--use_alts_credentials", "--ssl_config_file=/s"],
            InvalidArgument,
            "only one of --use_alts_credentials and --ssl_config_file",
        ),
        (["--model_base_path=/m", "--rest_api_tls"], InvalidArgument, "--rest_api_tls needs --ssl_config_file"),
    ],
)
def test_what_cannot_be_is_refused_at_start(flags, error, message):
    with pytest.raises(error, match=message):
        parse(flags).settings.check()


def test_what_can_be_is_not():
    parse(["--model_base_path=/m"]).settings.check()
    parse(["--model_config_file=/c", "--port=0", "--grpc_socket_path=/s"]).settings.check()


@pytest.mark.parametrize(("flag", "seconds"), [("500", 0.5), ("0", float("inf")), ("-1", float("inf"))])
def test_rest_timeout(flag, seconds):
    assert parse([f"--rest_api_timeout_in_ms={flag}"]).settings.rest_api_timeout_s == seconds

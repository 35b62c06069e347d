import pytest

from slipway_server.entrypoint import command_line


@pytest.fixture
def config(tmp_path):
    (tmp_path / "model").write_text("digits\n")
    (tmp_path / "flags").write_text("--enable_batching=true\n--num_load_threads=2\n")
    return tmp_path


INSIDE = {"MODEL_NAME": "digits", "MODEL_BASE_PATH": "/models"}


def test_the_image_as_it_is_serves_every_version_of_its_model(config):
    assert command_line(INSIDE, [], config) == [
        "--port=8500",
        "--rest_api_port=8501",
        f"--model_config_file={config}/models.config",
        "--enable_batching=true",
        "--num_load_threads=2",
    ]


@pytest.mark.behaviour("2-arguments-are-appended")
def test_what_the_user_adds_comes_last_and_wins(config):
    assert command_line(INSIDE, ["--port=9000"], config)[-1] == "--port=9000"


@pytest.mark.behaviour("2-ports-and-environment")
@pytest.mark.parametrize(
    ("environment", "base_path"),
    [
        (INSIDE | {"MODEL_NAME": "mine"}, "/models/mine"),
        (INSIDE | {"MODEL_BASE_PATH": "/mnt"}, "/mnt/digits"),
    ],
)
def test_a_mounted_model_is_served_as_in_tf_serving(config, environment, base_path):
    """`docker run -v dir:/models/mine -e MODEL_NAME=mine`: the image's own model list must not stand in the way."""
    flags = command_line(environment, [], config)

    assert f"--model_name={environment['MODEL_NAME']}" in flags
    assert f"--model_base_path={base_path}" in flags
    assert not [flag for flag in flags if flag.startswith("--model_config_file")]


@pytest.mark.parametrize("argument", ["--model_name=x", "--model_base_path=/x", "--model_config_file=/x"])
def test_a_user_who_chooses_a_model_gets_no_other(config, argument):
    flags = command_line(INSIDE, [argument], config)

    assert [flag for flag in flags if flag.startswith("--model_config_file")] == [
        flag for flag in [argument] if flag.startswith("--model_config_file")
    ]
    assert flags[-1] == argument

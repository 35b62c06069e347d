import pytest

from slipway.oci import serving_config
from slipway.serving_settings import ServingSettings
from slipway.settings import BatchingSettings, ServerSettings
from slipway_wire import messages, text_config


def test_the_server_is_asked_for_every_version():
    found = text_config.parse(messages.ModelServerConfig, serving_config.models_config("digits", ServingSettings()))
    (model,) = found.model_config_list.config

    assert (model.name, model.base_path, model.model_platform) == ("digits", "/models/digits", "tensorflow")
    assert model.model_version_policy.WhichOneof("policy_choice") == "all"


def test_batching_is_written_as_tf_serving_reads_it():
    settings = BatchingSettings(max_batch_size=8, batch_timeout_micros=500, allowed_batch_sizes=[2, 8])
    found = text_config.parse(messages.BatchingParameters, serving_config.batching_config(settings))

    assert found.max_batch_size.value == 8
    assert found.batch_timeout_micros.value == 500
    assert list(found.allowed_batch_sizes) == [2, 8]


def test_flags_name_the_files_and_end_with_the_users_own():
    files = serving_config.config_files("digits", ServerSettings(flags=["--num_load_threads=2"]))
    flags = files["flags"].decode().splitlines()

    assert flags[-1] == "--num_load_threads=2"
    assert "--enable_batching=true" in flags
    named = {flag.rpartition("/")[2] for flag in flags if "/etc/slipway/" in flag}
    assert named <= files.keys()
    assert serving_config.max_batch_size(files) == 32
    text_config.parse(messages.MonitoringConfig, files["monitoring.config"])


def test_the_backend_is_a_flag_where_it_is_not_tensorflow():
    flags = [
        serving_config.config_files("digits", ServerSettings(backend=backend, flags=["--last"]))["flags"].decode()
        for backend in ("saved_model", "stablehlo")
    ]

    assert "stablehlo" not in flags[0]
    assert flags[1].splitlines()[-2:] == ["--prefer_stablehlo=true", "--last"]


def test_without_batching_there_is_no_word_of_it():
    files = serving_config.config_files("digits", ServerSettings(batching=None))

    assert "batching.config" not in files
    assert b"batching" not in files["flags"]
    assert serving_config.max_batch_size(files) is None


def test_outside_the_image_every_path_leads_outside():
    files = serving_config.config_files("digits", ServerSettings())
    moved = serving_config.moved(files, "digits", "/tmp/config", "/work/servables/digits")

    assert b"/etc/slipway" not in b"".join(moved.values())
    assert b'base_path: "/work/servables/digits"' in moved["models.config"]


@pytest.mark.parametrize(
    ("policy", "written", "served"),
    [
        ("all", "all {}", [1, 2, 10]),
        ("latest", "latest { num_versions: 1 }", [10]),
        ({"latest": 2}, "latest { num_versions: 2 }", [2, 10]),
        ({"specific": [2, 1]}, "specific { versions: 1 versions: 2 }", [1, 2]),
    ],
)
def test_the_server_is_asked_for_what_the_settings_say(policy, written, served):
    """What is written, what a server makes of it and what the settings say are the same."""
    serving = ServingSettings(policy=policy, labels={"stable": served[0]})
    files = serving_config.config_files("digits", ServerSettings(), serving)

    assert f"model_version_policy {{ {written} }}" in files["models.config"].decode()
    assert serving_config.served_versions(files, [10, 1, 2]) == serving.served([10, 1, 2]) == served
    (model,) = text_config.parse(messages.ModelServerConfig, files["models.config"]).model_config_list.config
    assert dict(model.version_labels) == {"stable": served[0]}


def test_by_default_the_configuration_is_what_it_always_was():
    assert serving_config.models_config("digits", ServingSettings()) == (
        'model_config_list {\n  config {\n    name: "digits"\n    base_path: "/models/digits"\n'
        '    model_platform: "tensorflow"\n    model_version_policy { all {} }\n  }\n}\n'
    )

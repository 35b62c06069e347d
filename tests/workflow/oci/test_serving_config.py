from slipway.oci import serving_config
from slipway.settings import BatchingSettings, ServerSettings
from slipway_wire import messages, text_config


def test_the_server_is_asked_for_every_version():
    found = text_config.parse(messages.ModelServerConfig, serving_config.models_config("digits"))
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

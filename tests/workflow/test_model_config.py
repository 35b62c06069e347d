import pytest

from slipway import model_config
from slipway.errors import SettingsError
from slipway.serving_settings import ServingSettings
from slipway_wire import messages, text_config

CONFIG = """\
model_config_list {
  config {
    name: "a"  base_path: "/models/a"  model_platform: "tensorflow"
    version_labels { key: "stable" value: 1 }
  }
  config {
    name: "b"  base_path: "gs://bucket/b"  model_platform: "tensorflow"
    model_version_policy { specific { versions: 3 versions: 1 } }
    logging_config { log_collector_config { type: "jsonl" filename_prefix: "/log/b" } sampling_config { sampling_rate: 0.1 } }
  }
}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(CONFIG)
    return path


def test_what_is_served_is_read_as_a_server_reads_it(config):
    found = model_config.read(config)

    assert model_config.serving_of(found, "a", "x") == ServingSettings(policy="latest", labels={"stable": 1})
    assert model_config.serving_of(found, "b", "x") == ServingSettings(policy={"specific": [1, 3]})
    assert model_config.base_path_of(found, "b", "x") == "gs://bucket/b"


@pytest.mark.parametrize("policy", ["all", "latest", {"latest": 2}, {"specific": [1, 2]}])
def test_one_models_serving_changes_and_the_rest_stays(config, policy):
    serving = ServingSettings(policy=policy, labels={"canary": 2})
    before = model_config.read(config)

    model_config.write(config, model_config.with_serving(before, "b", serving, "x"))

    after = model_config.read(config)
    assert model_config.serving_of(after, "b", "x") == serving
    assert after.model_config_list.config[0] == before.model_config_list.config[0]
    assert after.model_config_list.config[1].logging_config == before.model_config_list.config[1].logging_config
    assert before == text_config.parse(messages.ModelServerConfig, CONFIG), "the one given is not touched"


def test_a_model_that_is_not_listed_is_told_with_those_that_are(config):
    with pytest.raises(SettingsError, match="no model c in its model_config_list; there are: a, b"):
        model_config.serving_of(model_config.read(config), "c", "x")


def test_what_cannot_be_read_is_told_with_its_place(config, tmp_path):
    config.write_text(CONFIG.replace("base_path", "base_pth", 1))
    with pytest.raises(SettingsError, match=r"models\.config: .*3:16"):
        model_config.read(config)

    with pytest.raises(SettingsError, match="cannot be read"):
        model_config.read(tmp_path / "gone")

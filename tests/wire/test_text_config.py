import pytest

from slipway_wire import messages, text_config
from slipway_wire.status import InvalidArgument


def test_the_suites_model_config_is_read(testdata):
    config = text_config.parse(messages.ModelServerConfig, (testdata / "good_model_config.txt").read_bytes())

    assert [model.name for model in config.model_config_list.config] == ["half_plus_two", "half_plus_three"]


def test_the_suites_batching_and_monitoring_files_are_read(testdata):
    batching = text_config.parse(messages.BatchingParameters, (testdata / "batching_config.txt").read_bytes())
    monitoring = text_config.parse(messages.MonitoringConfig, (testdata / "monitoring_config.txt").read_bytes())

    assert batching.max_batch_size.value == 128
    assert batching.HasField("batch_timeout_micros")
    assert not batching.HasField("thread_pool_name")
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_policies_labels_and_odd_but_legal_text_are_read():
    config = text_config.parse(
        messages.ModelServerConfig,
        """
        model_config_list: { config: {
          name: 'm', base_path: "/models" '/m' # adjacent strings join
          model_platform: "tensorflow"
          model_version_policy { specific { versions: 42 versions: [43, 44] } }
          version_labels { key: "stable" value: 42 }
        } }
        """,
    )

    (model,) = config.model_config_list.config
    assert model.base_path == "/models/m"
    assert model.model_version_policy.WhichOneof("policy_choice") == "specific"
    assert list(model.model_version_policy.specific.versions) == [42, 43, 44]
    assert dict(model.version_labels) == {"stable": 42}


def test_tls_keys_are_pem_texts_not_file_names():
    config = text_config.parse(messages.SSLConfig, r'server_key: "-----BEGIN\nKEY" client_verify: true')

    assert config.server_key == "-----BEGIN\nKEY"
    assert config.client_verify


@pytest.mark.parametrize(
    ("message_class", "text", "expected"),
    [
        (messages.ModelServerConfig, "improperly formatted file", r"ModelServerConfig: 1:1: .*improperly"),
        (
            messages.ModelServerConfig,
            "model_config_list {\n  config { name: 1 }\n}",
            r"ModelServerConfig: 2:18: .*string",
        ),
        (messages.ModelServerConfig, "model_config_list {", r"ModelServerConfig: \d+:\d+: "),
        (messages.BatchingParameters, "max_batch_size: 3", r"BatchingParameters: 1:\d+: "),
        (messages.BatchingParameters, "max_batch { value: 3 }", r"BatchingParameters: 1:1: .*max_batch"),
        (messages.MonitoringConfig, b"prometheus_config {\n}\n\xff", r"MonitoringConfig: 3:1: not UTF-8 text"),
    ],
)
def test_a_fault_has_the_line_scripts_look_for(message_class, text, expected):
    with pytest.raises(InvalidArgument, match=f"^Error parsing text-format tensorflow.serving.{expected}"):
        text_config.parse(message_class, text)

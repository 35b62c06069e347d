import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor, descriptor_pool

from slipway_wire import messages

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "server" / "protos"
FILES = [
    "tensorflow.proto",
    "tensorflow_config.proto",
    "tensorflow_error.proto",
    "tensorflow_serving.proto",
    "grpc_health.proto",
]


def declared(descriptors):
    """Every message below these, nested ones too."""
    for message in descriptors:
        yield message
        yield from declared(message.nested_types)


OURS = {
    message.full_name: message
    for file in FILES
    for message in declared(messages.POOL.FindFileByName(file).message_types_by_name.values())
}


def test_the_committed_descriptors_are_what_the_protos_compile_to(tmp_path):
    compiled = tmp_path / "descriptors.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}", f"--descriptor_set_out={compiled}"]

    subprocess.run([*command, *map(str, sorted(PROTOS.glob("*.proto")))], check=True)

    committed = ROOT / "server" / "slipway_wire" / "descriptors.binpb"
    assert compiled.read_bytes() == committed.read_bytes(), "compile them again: see server/protos/README.md"


@pytest.fixture(scope="module")
def upstream():
    """The messages TensorFlow and tensorflow-serving-api register in protobuf's default pool."""
    from tensorflow.core.protobuf import config_pb2, named_tensor_pb2, saved_model_pb2  # noqa: F401 - the import registers them
    from tensorflow_serving.apis import (  # noqa: F401
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_management_pb2,
        prediction_log_pb2,
    )
    from tensorflow_serving.config import platform_config_pb2  # noqa: F401

    return descriptor_pool.Default()


# pip's tensorflow-serving-api leaves these out.
NOT_PACKAGED = {
    "tensorflow.serving.BatchingParameters",
    "tensorflow.serving.ModelWarmupOptions",
    "tensorflow.serving.SavedModelBundleSourceAdapterConfig",
    "tensorflow.serving.SessionBundleConfig",
    "tensorflow.serving.MonitoringConfig",
    "tensorflow.serving.PrometheusConfig",
    "tensorflow.serving.SSLConfig",
    "grpc.health.v1.HealthCheckRequest",
    "grpc.health.v1.HealthCheckResponse",
}


def shape_of(field):
    kind = field.message_type or field.enum_type
    return (field.name, field.number, field.type, field.is_repeated, kind.full_name if kind else None)


@pytest.mark.parametrize("name", sorted(OURS.keys() - NOT_PACKAGED))
def test_our_fields_are_upstreams(name, upstream):
    """Names, numbers and types: a typo here would be garbage on the wire."""
    theirs = {shape_of(field) for field in upstream.FindMessageTypeByName(name).fields}

    assert {shape_of(field) for field in OURS[name].fields} <= theirs


CONFIGURATION = [
    "PlatformConfig",
    "PlatformConfigMap",
    "ModelServerConfig",
    "ModelConfigList",
    "ModelConfig",
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy",
    "LoggingConfig",
    "LogCollectorConfig",
    "SamplingConfig",
]


@pytest.mark.parametrize("name", CONFIGURATION)
def test_messages_that_people_write_as_text_are_complete(name, upstream):
    """Text format refuses names it does not know."""
    theirs = upstream.FindMessageTypeByName(f"tensorflow.serving.{name}")

    assert {field.name for field in OURS[theirs.full_name].fields} == {field.name for field in theirs.fields}


SESSION_CONFIGURATION = sorted(
    message.full_name
    for message in declared(messages.POOL.FindFileByName("tensorflow_config.proto").message_types_by_name.values())
)


@pytest.mark.parametrize("name", SESSION_CONFIGURATION)
def test_the_session_configuration_is_complete(name, upstream):
    """It is generated from TensorFlow's descriptors; a newer TensorFlow may add to it."""
    theirs = upstream.FindMessageTypeByName(name)

    assert {shape_of(field) for field in OURS[name].fields} == {shape_of(field) for field in theirs.fields}


@pytest.mark.parametrize(
    "name", ["tensorflow.DataType", "tensorflow.error.Code", "tensorflow.serving.ModelVersionStatus.State"]
)
def test_our_enums_are_upstreams(name, upstream):
    def values(pool):
        return {value.name: value.number for value in pool.FindEnumTypeByName(name).values}

    assert values(messages.POOL) == values(upstream)


def test_the_services_are_upstreams():
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

    for file, name in ((prediction_service_pb2, "PredictionService"), (model_service_pb2, "ModelService")):
        ours = messages.POOL.FindServiceByName(f"tensorflow.serving.{name}")
        theirs = file.DESCRIPTOR.services_by_name[name]
        for method in theirs.methods:
            mine = ours.methods_by_name[method.name]
            assert mine.input_type.full_name == method.input_type.full_name
            assert mine.output_type.full_name == method.output_type.full_name


def test_our_classes_and_upstreams_live_in_one_process(upstream):
    from tensorflow_serving.apis import predict_pb2

    ours = messages.PredictRequest()
    ours.model_spec.name = "m"
    ours.inputs["x"].float_val.append(1.5)

    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())

    assert theirs.inputs["x"].float_val == [1.5]
    assert type(ours) is not type(theirs)
    assert isinstance(ours, messages.Message)


def test_fields_we_do_not_declare_survive_a_read_and_a_write(testdata):
    path = testdata / "saved_model_half_plus_two_tf2_cpu" / "00000123" / "saved_model.pb"
    from tensorflow.core.protobuf import saved_model_pb2

    rewritten = messages.SavedModel.FromString(path.read_bytes()).SerializeToString()

    # The order of fields may change, so TensorFlow's own classes compare.
    assert saved_model_pb2.SavedModel.FromString(rewritten) == saved_model_pb2.SavedModel.FromString(path.read_bytes())


def test_every_name_the_module_offers_is_a_message_or_an_enum():
    offered = {
        name: value for name, value in vars(messages).items() if name[0].isupper() and name not in ("Any", "POOL")
    }

    for name, value in offered.items():
        assert isinstance(value.DESCRIPTOR, descriptor.Descriptor | descriptor.EnumDescriptor | type(None)), name

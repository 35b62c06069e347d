"""
The protobuf messages of TensorFlow, TensorFlow Serving and gRPC's own services, from a descriptor pool of our own.

TensorFlow and tensorflow-serving-api register the same names in protobuf's default pool; a second copy there
that differs in one field raises TypeError on import. A private pool holds ours beside theirs in one process:
the bytes are the same, the classes are not, so a message crosses from one to the other as bytes only.

The messages are declared in `server/protos/`; its README says how `descriptors.binpb` is made from them.
"""

from importlib import resources
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

__all__ = ["POOL", "Message"]


def _load_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for well_known in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(well_known.DESCRIPTOR.serialized_pb)
    committed = resources.files(__package__).joinpath("descriptors.binpb").read_bytes()
    # protoc writes the files of a set so that each comes after what it imports.
    for file in descriptor_pb2.FileDescriptorSet.FromString(committed).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load_pool()


def _message(full_name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def _enum(full_name: str) -> Any:
    return EnumTypeWrapper(POOL.FindEnumTypeByName(full_name))


# tensorflow: tensors
DataType = _enum("tensorflow.DataType")
TensorProto = _message("tensorflow.TensorProto")
TensorShapeProto = _message("tensorflow.TensorShapeProto")
NamedTensorProto = _message("tensorflow.NamedTensorProto")

# tensorflow: saved models
SavedModel = _message("tensorflow.SavedModel")
MetaGraphDef = _message("tensorflow.MetaGraphDef")
SignatureDef = _message("tensorflow.SignatureDef")
TensorInfo = _message("tensorflow.TensorInfo")
GraphDef = _message("tensorflow.GraphDef")
NodeDef = _message("tensorflow.NodeDef")
AttrValue = _message("tensorflow.AttrValue")
FunctionDefLibrary = _message("tensorflow.FunctionDefLibrary")
FunctionDef = _message("tensorflow.FunctionDef")
VersionDef = _message("tensorflow.VersionDef")
SaverDef = _message("tensorflow.SaverDef")
CollectionDef = _message("tensorflow.CollectionDef")
AssetFileDef = _message("tensorflow.AssetFileDef")

# tensorflow: examples
Example = _message("tensorflow.Example")
Features = _message("tensorflow.Features")
Feature = _message("tensorflow.Feature")
BytesList = _message("tensorflow.BytesList")
FloatList = _message("tensorflow.FloatList")
Int64List = _message("tensorflow.Int64List")

# tensorflow.serving: inference
ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
Input = _message("tensorflow.serving.Input")
ExampleList = _message("tensorflow.serving.ExampleList")
ExampleListWithContext = _message("tensorflow.serving.ExampleListWithContext")
ClassificationRequest = _message("tensorflow.serving.ClassificationRequest")
ClassificationResponse = _message("tensorflow.serving.ClassificationResponse")
ClassificationResult = _message("tensorflow.serving.ClassificationResult")
RegressionRequest = _message("tensorflow.serving.RegressionRequest")
RegressionResponse = _message("tensorflow.serving.RegressionResponse")
RegressionResult = _message("tensorflow.serving.RegressionResult")
InferenceTask = _message("tensorflow.serving.InferenceTask")
InferenceResult = _message("tensorflow.serving.InferenceResult")
MultiInferenceRequest = _message("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = _message("tensorflow.serving.MultiInferenceResponse")

# tensorflow.serving: metadata, status, management
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = _message("tensorflow.serving.ModelVersionStatus")
StatusProto = _message("tensorflow.serving.StatusProto")
ReloadConfigRequest = _message("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = _message("tensorflow.serving.ReloadConfigResponse")

# tensorflow.serving: logs
PredictionLog = _message("tensorflow.serving.PredictionLog")
PredictLog = _message("tensorflow.serving.PredictLog")
ClassifyLog = _message("tensorflow.serving.ClassifyLog")
RegressLog = _message("tensorflow.serving.RegressLog")
MultiInferenceLog = _message("tensorflow.serving.MultiInferenceLog")
PredictStreamedLog = _message("tensorflow.serving.PredictStreamedLog")
SessionRunLog = _message("tensorflow.serving.SessionRunLog")
LogMetadata = _message("tensorflow.serving.LogMetadata")

# tensorflow.serving: configuration, read as text
ModelServerConfig = _message("tensorflow.serving.ModelServerConfig")
ModelConfigList = _message("tensorflow.serving.ModelConfigList")
ModelConfig = _message("tensorflow.serving.ModelConfig")
ModelType = _enum("tensorflow.serving.ModelType")
FileSystemStoragePathSourceConfig = _message("tensorflow.serving.FileSystemStoragePathSourceConfig")
LoggingConfig = _message("tensorflow.serving.LoggingConfig")
BatchingParameters = _message("tensorflow.serving.BatchingParameters")
ConfigProto = _message("tensorflow.ConfigProto")
SessionBundleConfig = _message("tensorflow.serving.SessionBundleConfig")
SavedModelBundleSourceAdapterConfig = _message("tensorflow.serving.SavedModelBundleSourceAdapterConfig")
PlatformConfigMap = _message("tensorflow.serving.PlatformConfigMap")
MonitoringConfig = _message("tensorflow.serving.MonitoringConfig")
SSLConfig = _message("tensorflow.serving.SSLConfig")

# grpc.reflection.v1; those of v1alpha are the same on the wire
ServerReflectionRequest = _message("grpc.reflection.v1.ServerReflectionRequest")
ServerReflectionResponse = _message("grpc.reflection.v1.ServerReflectionResponse")

# grpc.health.v1
HealthCheckRequest = _message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = _message("grpc.health.v1.HealthCheckResponse")

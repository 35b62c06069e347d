"""
Triton serving one SavedModel by its Python backend (nvidia-pytriton), for the comparison.

    python triton_app.py serve DIRECTORY SIGNATURE HTTP_PORT GRPC_PORT METRICS_PORT SETTINGS
    python triton_app.py requests ROW OUTPUT      writes OUTPUT.body, OUTPUT.headers and OUTPUT.message
    python triton_app.py ask GRPC_PORT MESSAGE    prints the outputs as JSON, and the answer's size

Its protocol is the Open Inference Protocol (V2), over HTTP and gRPC. Over either, tensors are sent as they lie in memory and come
back so; over HTTP that is the protocol's extension for binary tensor data, which Triton's own client uses unless it is told not to.
JSON has no form for bytes that are no text, as a serialized tf.Example is: as text of another encoding they arrive as others, and as
they are, which Triton happens to take, they make the body no JSON, and are not answered quicker (within 2 % of the CPU time, as is a
raw body without any JSON). Numbers are sent so for Triton's sake: small ones cost the same in JSON, an image for ResNet50 a fifth
more CPU time (61 ms a request instead of 51).

ROW is a file of numpy's, one row; SETTINGS is JSON: max_batch_size, max_queue_delay (s), instances.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

NAME = "model"
_DTYPES = {"FP32": np.float32, "INT64": np.int64}


def serve(directory: str, signature: str, http: str, grpc_port: str, metrics: str, settings: str) -> None:
    """Run the server."""
    import session_call  # noqa: PLC0415
    from pytriton.decorators import batch  # noqa: PLC0415
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor  # noqa: PLC0415
    from pytriton.triton import Triton, TritonConfig  # noqa: PLC0415

    told = json.loads(settings)
    loaded = session_call.load(directory, signature)

    # A tensor needs an axis beside that of the batch.
    @batch
    def infer(x: np.ndarray) -> dict[str, np.ndarray]:
        rows = x if loaded.row else x[:, 0]
        outputs = loaded.call(rows.astype(object) if loaded.dtype.hasobject else rows)
        return {name: array if array.ndim > 1 else array[:, None] for name, array in outputs.items()}

    dtype = bytes if loaded.dtype.hasobject else loaded.dtype
    config = TritonConfig(http_port=int(http), grpc_port=int(grpc_port), metrics_port=int(metrics), log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=NAME,
            infer_func=[infer] * told["instances"],
            inputs=[Tensor(name="x", dtype=dtype, shape=loaded.row or (1,))],
            outputs=[
                Tensor(name=name, dtype=bytes if kind.hasobject else kind, shape=row or (1,))
                for name, (kind, row) in loaded.outputs.items()
            ],
            config=ModelConfig(
                batching=told["max_batch_size"] > 1,
                max_batch_size=max(told["max_batch_size"], 1),
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(1e6 * told["max_queue_delay"])),
            ),
            strict=False,
        )
        triton.serve()


def requests(row: str, output: str) -> None:
    """Write the request for *row*, over HTTP and gRPC."""
    from tritonclient.grpc import service_pb2 as pb  # noqa: PLC0415

    array = np.load(row, allow_pickle=True)
    tensor, raw = in_binary(array)
    asked = pb.ModelInferRequest(model_name=NAME)
    asked.inputs.add(**tensor)
    asked.raw_input_contents.append(raw)
    Path(f"{output}.message").write_bytes(asked.SerializeToString())
    body, headers = over_http(tensor, raw)
    Path(f"{output}.body").write_bytes(body)
    Path(f"{output}.headers").write_text(json.dumps(headers))


def in_binary(array: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """Describe the input *array*, and write its elements: numbers as they lie, bytes each behind their length."""
    is_bytes = array.dtype == object
    shape = [len(array), 1] if is_bytes else list(array.shape)
    tensor = {"name": "x", "datatype": "BYTES" if is_bytes else "FP32", "shape": shape}
    sized = (struct.pack("<I", len(item)) + item for item in array.ravel()) if is_bytes else [array.tobytes()]
    return tensor, b"".join(sized)


def over_http(tensor: dict[str, Any], raw: bytes) -> tuple[bytes, dict[str, str]]:
    """Write the body of a request with the input in binary, which is to be answered in binary, and its headers."""
    described = {
        "parameters": {"binary_data_output": True},
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
    }
    head = json.dumps(described, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + raw, headers


def ask(port: str, message: str) -> None:
    """Ask once over gRPC."""
    import grpc  # noqa: PLC0415
    from tritonclient.grpc import service_pb2 as pb  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            written = call(Path(message).read_bytes(), timeout=120)
        except grpc.RpcError as error:
            sys.exit(f"ModelInfer answered {error.code().name}: {error.details()}")
    answer = pb.ModelInferResponse.FromString(written)
    raw = zip(answer.outputs, answer.raw_output_contents, strict=True)
    found = {one.name: np.frombuffer(content, _DTYPES[one.datatype]).tolist() for one, content in raw}
    print(json.dumps({"outputs": found, "bytes": len(written) + 5}))  # noqa: T201


if __name__ == "__main__":
    {"serve": serve, "requests": requests, "ask": ask}[sys.argv[1]](*sys.argv[2:])

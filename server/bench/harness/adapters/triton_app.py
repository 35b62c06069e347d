"""
Triton serving one SavedModel by its Python backend (nvidia-pytriton), for the comparison.

    python triton_app.py serve DIRECTORY SIGNATURE HTTP_PORT GRPC_PORT METRICS_PORT SETTINGS
    python triton_app.py requests ROW OUTPUT      writes OUTPUT.message and, of numbers, OUTPUT.json
    python triton_app.py ask GRPC_PORT MESSAGE    prints the outputs as JSON, and the answer's size

Its protocol is the Open Inference Protocol (V2), over HTTP and gRPC; bytes have no JSON there. ROW is a file of numpy's, one row;
SETTINGS is JSON: max_batch_size, max_queue_delay (s), instances.
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
    """Write the request for *row*: as users of Triton send it, in binary over gRPC, and as JSON where it is numbers."""
    from tritonclient.grpc import service_pb2 as pb  # noqa: PLC0415

    array = np.load(row, allow_pickle=True)
    is_text = array.dtype == object
    shape = [len(array), 1] if is_text else list(array.shape)
    datatype = "BYTES" if is_text else "FP32"
    asked = pb.ModelInferRequest(model_name=NAME)
    asked.inputs.add(name="x", datatype=datatype, shape=shape)
    sized = (struct.pack("<I", len(item)) + item for item in array.ravel()) if is_text else [array.tobytes()]
    asked.raw_input_contents.append(b"".join(sized))
    Path(f"{output}.message").write_bytes(asked.SerializeToString())
    if not is_text:
        tensor: dict[str, Any] = {"name": "x", "shape": shape, "datatype": datatype, "data": array.ravel().tolist()}
        Path(f"{output}.json").write_text(json.dumps({"inputs": [tensor]}, separators=(",", ":")))


def ask(port: str, message: str) -> None:
    """Ask once over gRPC."""
    import grpc  # noqa: PLC0415
    from tritonclient.grpc import service_pb2 as pb  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        written = call(Path(message).read_bytes(), timeout=120)
    answer = pb.ModelInferResponse.FromString(written)
    raw = zip(answer.outputs, answer.raw_output_contents, strict=True)
    found = {one.name: np.frombuffer(content, _DTYPES[one.datatype]).tolist() for one, content in raw}
    print(json.dumps({"outputs": found, "bytes": len(written) + 5}))  # noqa: T201


if __name__ == "__main__":
    {"serve": serve, "requests": requests, "ask": ask}[sys.argv[1]](*sys.argv[2:])

"""
MLServer serving one SavedModel, for the comparison.

    python mlserver_app.py serve DIRECTORY SIGNATURE HTTP_PORT GRPC_PORT METRICS_PORT SETTINGS
    python mlserver_app.py requests ROW OUTPUT      writes OUTPUT.body, OUTPUT.headers and OUTPUT.message
    python mlserver_app.py ask GRPC_PORT MESSAGE    prints the outputs as JSON, and the answer's size

Its protocol is the Open Inference Protocol (V2), over HTTP and gRPC. ROW is a file of numpy's, one row; SETTINGS is JSON:
max_batch_size, max_batch_time (s), parallel_workers.
"""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

NAME = "model"
_RAW_FROM = 1000


def serve(directory: str, signature: str, http: str, grpc_port: str, metrics: str, settings: str) -> None:
    """Run the server."""
    from mlserver import MLServer, ModelSettings, Settings  # noqa: PLC0415
    from mlserver.settings import ModelParameters  # noqa: PLC0415

    told = json.loads(settings)
    of_server = Settings(
        host="127.0.0.1",
        http_port=int(http),
        grpc_port=int(grpc_port),
        metrics_port=int(metrics),
        parallel_workers=told["parallel_workers"],
        grpc_max_message_length=-1,
        debug=False,
    )
    model = ModelSettings(
        name=NAME,
        implementation="mlserver_model.Model",
        max_batch_size=told["max_batch_size"],
        max_batch_time=told["max_batch_time"],
        parameters=ModelParameters(uri=directory, extra={"signature": signature}),
    )

    async def run() -> None:
        # Made inside of the loop: its worker processes are tasks from the beginning.
        await MLServer(of_server).start([model])

    asyncio.run(run())


def requests(row: str, output: str) -> None:
    """Write the request for *row*, over HTTP and gRPC."""
    import mlserver.grpc.dataplane_pb2 as pb  # noqa: PLC0415

    array = np.load(row, allow_pickle=True)
    is_text = array.dtype == object
    shape = [len(array), 1] if is_text else list(array.shape)
    tensor: dict[str, Any] = {"name": "x", "shape": shape, "datatype": "BYTES" if is_text else "FP32"}
    data = [base64.b64encode(item).decode() for item in array] if is_text else array.ravel().tolist()
    tensor |= {"data": data, **({"parameters": {"content_type": "base64"}} if is_text else {})}
    Path(f"{output}.body").write_text(json.dumps({"inputs": [tensor]}, separators=(",", ":")))
    Path(f"{output}.headers").write_text(json.dumps({"Content-Type": "application/json"}))
    asked = pb.ModelInferRequest(model_name=NAME)
    if array.size > _RAW_FROM:
        # What a user would do with an image; the answer is raw, too.
        asked.inputs.add(name="x", datatype=tensor["datatype"], shape=shape)
        asked.raw_input_contents.append(array.tobytes())
    else:
        contents = pb.InferTensorContents(**({"bytes_contents": list(array)} if is_text else {"fp32_contents": data}))
        asked.inputs.add(name="x", datatype=tensor["datatype"], shape=shape, contents=contents)
    Path(f"{output}.message").write_bytes(asked.SerializeToString())


def ask(port: str, message: str) -> None:
    """Ask once over gRPC."""
    import grpc  # noqa: PLC0415
    import mlserver.grpc.dataplane_pb2 as pb  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            written = call(Path(message).read_bytes(), timeout=120)
        except grpc.RpcError as error:
            sys.exit(f"ModelInfer answered {error.code().name}: {error.details()}")
    answer = pb.ModelInferResponse.FromString(written)
    if answer.raw_output_contents:
        raw = zip(answer.outputs, answer.raw_output_contents, strict=True)
        found = {one.name: np.frombuffer(content, np.float32).tolist() for one, content in raw}
    else:
        found = {one.name: list(one.contents.fp32_contents) for one in answer.outputs}
    print(json.dumps({"outputs": found, "bytes": len(written) + 5}))  # noqa: T201


if __name__ == "__main__":
    # The implementation above is imported by name.
    sys.path.insert(0, os.fspath(Path(__file__).parent))
    {"serve": serve, "requests": requests, "ask": ask}[sys.argv[1]](*sys.argv[2:])

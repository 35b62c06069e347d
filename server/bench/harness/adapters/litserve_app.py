"""
LitServe serving one SavedModel, for the comparison: `python litserve_app.py DIRECTORY SIGNATURE PORT SETTINGS`.

Takes the body that our server takes (`{"instances": [row]}`, bytes as `{"b64": …}`), one row. SETTINGS is JSON:
max_batch_size, batch_timeout (s), workers_per_device, num_api_servers, fast_queue.
"""

import base64
import json
import sys
from typing import Any

import litserve
import numpy as np
import session_call


class Api(litserve.LitAPI):
    """One row in, its outputs out; LitServe puts rows together."""

    def __init__(self, directory: str, signature: str, **options: Any) -> None:
        super().__init__(**options)
        self._where = directory, signature

    def setup(self, device: str) -> None:
        """Load the model, in each worker."""
        self._call, self._dtype, *_ = session_call.load(*self._where)

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        """Read the row."""
        (row,) = request["instances"]
        if self._dtype.hasobject:
            return np.array(base64.b64decode(row["b64"]), object)
        return np.array(row, self._dtype)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Stack rows."""
        return np.stack(inputs)

    def predict(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the model; without batching *inputs* is one row."""
        return self._call(inputs) if self.max_batch_size > 1 else self._call(inputs[None])

    def unbatch(self, output: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Split rows."""
        rows = len(next(iter(output.values())))
        return [{name: array[row : row + 1] for name, array in output.items()} for row in range(rows)]

    def encode_response(self, output: dict[str, np.ndarray]) -> dict[str, Any]:
        """Write the row."""
        return {"predictions": session_call.as_lists(output)}


if __name__ == "__main__":
    directory, signature, port, settings = sys.argv[1:]
    told = json.loads(settings)
    api = Api(directory, signature, max_batch_size=told["max_batch_size"], batch_timeout=told["batch_timeout"])
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=told["workers_per_device"], fast_queue=told["fast_queue"]
    )
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=told["num_api_servers"],
        generate_client_file=False,
        log_level="error",
        access_log=False,
    )

#!/usr/bin/env bash
# What the GPU options do, on a machine that has a GPU: memory taken, speed, and whether answers are those of the CPU.
#
#   server/bench/gpu.sh [VERSION_BASE_PATH]      e.g. server/bench/gpu.sh models/resnet50 > gpu.md
#
# Needs nvidia-smi and `pip install 'slipway[server-gpu]'`; PYTHON names the interpreter (default: python3). Without a
# path a convolution net is made. For each set of flags a server is started alone, answers the same requests, and is
# stopped; the table on stdout has one line for each. Not run in CI, which has no GPU: it checks nothing by exit code but
# that every server starts and that its answers agree with the CPU's.
set -euo pipefail

python=${PYTHON:-python3}
work=$(mktemp -d)
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"' EXIT

command -v nvidia-smi > /dev/null || { echo "gpu.sh: nvidia-smi: not found; this needs a machine with an NVIDIA GPU" >&2; exit 2; }
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader >&2

base_path=${1:-$work/model}
if [ $# -eq 0 ]; then
  "$python" - "$base_path/1" << 'END'
import sys

import numpy as np
import tensorflow as tf


class Net(tf.Module):
    """Eight convolutions of 64 channels: enough for a GPU to be the faster one."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(0)
        channels = [3] + [64] * 8
        self.kernels = [
            tf.Variable((random.standard_normal((3, 3, *pair)) / 30).astype(np.float32))
            for pair in zip(channels, channels[1:], strict=False)
        ]

    @tf.function(input_signature=[tf.TensorSpec([None, 64, 64, 3], tf.float32)], autograph=False)
    def features(self, x):
        for kernel in self.kernels:
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        return {"features": tf.reduce_mean(x, [1, 2])}


net = Net()
tf.saved_model.save(net, sys.argv[1], signatures=net.features)
END
fi

cat > "$work/batching" << 'END'
max_batch_size { value: 32 }
allowed_batch_sizes: 1
allowed_batch_sizes: 8
allowed_batch_sizes: 32
END

# Sends requests of 1, 8 and 32 rows, compares them with the first server's answers, and prints one line of the table.
cat > "$work/client.py" << 'END'
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np

from slipway_server.servables import synthesis
from slipway_wire import paths, predict, signatures

label, ready_file, base_path, reference = sys.argv[1:]
ready = json.loads(Path(ready_file).read_text())
versions = sorted(Path(base_path).iterdir(), key=lambda path: int(path.name))
signature = signatures.read_signatures(versions[-1])["serving_default"]
channel = grpc.insecure_channel(
    f"127.0.0.1:{ready['grpc_port']}",
    options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
)
call = channel.unary_unary(paths.GRPC_PREDICT)
cells, answers = [label], {}
for rows in (1, 8, 32):
    body = predict.encode_request("m", synthesis.inputs(signature, rows=rows, seed=rows))
    for alias, array in predict.decode_response(call(body, timeout=600))[1].items():
        answers[f"{rows}/{alias}"] = array
    times = []
    for _ in range(30):
        began = time.perf_counter()
        call(body, timeout=600)
        times.append(time.perf_counter() - began)
    cells.append(f"{statistics.median(times) * 1e3:.2f}")
used = subprocess.run(
    ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
    capture_output=True, text=True, check=True,
).stdout
memory = {int(pid): mib.strip() for pid, _, mib in (line.partition(",") for line in used.splitlines() if line.strip())}
cells.append(memory.get(ready["pid"], "0"))
if not Path(reference).exists():
    np.savez(reference, **answers)
expected = np.load(reference, allow_pickle=True)
worst = max(
    (float(np.max(np.abs(answers[key] - expected[key]))) for key in expected.files if answers[key].dtype.kind == "f"),
    default=0.0,
)
cells.append(f"{worst:.1e}")
print("| " + " | ".join(cells) + " |", flush=True)
agrees = all(
    np.allclose(answers[key], expected[key], rtol=5e-2, atol=5e-2) if answers[key].dtype.kind == "f"
    else np.array_equal(answers[key], expected[key])
    for key in expected.files
)
sys.exit(0 if agrees else f"{label}: its answers are not the CPU's")
END

measure() { # label, flags...
  local label=$1
  shift
  rm -f "$work/ready.json"
  "$python" -m slipway_server --port=auto --bind_address=127.0.0.1 --ready_file="$work/ready.json" --model_name=m \
    --model_base_path="$(realpath "$base_path")" --enable_batching --batching_parameters_file="$work/batching" \
    --synthesize_warmup_requests --grpc_channel_arguments=grpc.max_receive_message_length=-1 "$@" \
    > "$work/log" 2>&1 &
  server=$!
  until [ -s "$work/ready.json" ]; do
    kill -0 "$server" 2> /dev/null || { echo "gpu.sh: $label: the server did not start" >&2; tail -n 5 "$work/log" >&2; exit 1; }
    sleep 0.2
  done
  "$python" "$work/client.py" "$label" "$work/ready.json" "$base_path" "$work/reference.npz"
  kill -TERM "$server"
  wait "$server" || true
  server=
}

echo "| flags | 1 row, ms | 8 rows, ms | 32 rows, ms | GPU memory, MiB | largest difference from the CPU |"
echo "|---|---|---|---|---|---|"
CUDA_VISIBLE_DEVICES='' measure "CPU only"
measure "none"
measure "--gpu_memory_growth" --gpu_memory_growth
measure "--gpu_memory_limit_mb=2048" --gpu_memory_limit_mb=2048
measure "--per_process_gpu_memory_fraction=0.25" --per_process_gpu_memory_fraction=0.25
measure "--gpu_pinned_host_memory" --gpu_memory_growth --gpu_pinned_host_memory
measure "--xla_gpu_compilation_enabled" --gpu_memory_growth --xla_gpu_compilation_enabled
measure "--freeze_variables" --gpu_memory_growth --freeze_variables

"""
half_plus_two over REST and gRPC behind TF Serving's flags, without TensorFlow: what the benchmark measures in its tests.

The first argument is what goes wrong and from which request on, e.g. `dies@50`, or as soon as which file is there, e.g.
`dies@/tmp/now`; `nothing@0` is a good server. Without ports it chooses its own and says them: gRPC's, then REST's.
"""

import http.server
import itertools
import json
import os
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
import numpy as np

from slipway_wire import json_predict, messages, model_metadata, predict
from slipway_wire.model_spec import ModelSpec
from slipway_wire.paths import GRPC_GET_MODEL_METADATA, GRPC_PREDICT, METRICS_PATH

MISCHIEF, _, BEGIN = sys.argv[1].partition("@")
FLAGS = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[2:])
HOST = FLAGS["bind_address"]
requests = itertools.count(1)
counts = {"REST": 0, "gRPC": 0}
lock = threading.Lock()


def has_begun(number):
    return number >= int(BEGIN) if BEGIN.isdecimal() else os.path.exists(BEGIN)  # noqa: PTH110  # for each request


def answer(protocol, x):
    with lock:
        counts[protocol] += 1
    number = next(requests)
    if has_begun(number):
        if MISCHIEF == "dies":
            sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
            sys.stderr.flush()
            os._exit(134)
        if MISCHIEF == "lies":
            return x
        if MISCHIEF == "refuses":
            return None
        if MISCHIEF in {"errs", "halves"} and protocol == "REST":
            return MISCHIEF
        if MISCHIEF == "dawdles":
            with lock:  # one request at a time: at most 500 a second on any machine
                time.sleep(0.002)
    return x / 2 + 2


def metrics():
    label = {"REST": "rest", "gRPC": "grpc"}
    lines = [f'slipway_requests_total{{model="m",protocol="{label[p]}",status="OK"}} {n}' for p, n in counts.items()]
    lines.append(f'slipway_batches_total{{model="m",size="1",reason="idle"}} {sum(counts.values())}')
    for protocol, count in counts.items():
        labels = f'model="m",protocol="{label[protocol]}",stage="compute"'
        lines.append(f"slipway_stage_seconds_sum{{{labels}}} {count * 1e-6}")
        lines.append(f"slipway_stage_seconds_count{{{labels}}} {count}")
    return "\n".join(lines).encode() + b"\n"


def definitions():
    definition = messages.SignatureDef(method_name="tensorflow/serving/predict")
    for tensors, name in ((definition.inputs, "x"), (definition.outputs, "y")):
        tensors[name].dtype = 1
        for size in (-1, 3):
            tensors[name].tensor_shape.dim.add(size=size)
    return {"serving_default": definition}


METADATA = model_metadata.encode_response(ModelSpec("m", 1), definitions())
METADATA_JSON = model_metadata.encode_json(ModelSpec("m", 1), definitions())


class Rest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def do_GET(self):
        state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        status = json.dumps({"model_version_status": [state]}).encode()
        if self.path.endswith("/metadata"):
            known = self.path == "/v1/models/m/metadata"
            told = METADATA_JSON if known else b'{"error": "Could not find any versions of model"}'
            self.finish_with(200 if known else 404, told)
            return
        self.finish_with(200, metrics() if self.path == METRICS_PATH else status)

    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        y = answer("REST", np.array(document.get("instances", document.get("inputs")), np.float32))
        if isinstance(y, str) and y == "errs":
            return self.finish_with(200, b'{"error": "out of luck"}')
        if isinstance(y, str):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"predictions": [')
            self.close_connection = True
            return None
        if y is None:
            self.finish_with(429, b'{"error": "queue is full"}')
        else:
            self.finish_with(200, json_predict.encode_response({"y": y}, row_format="instances" in document))
        return None

    def finish_with(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def over_grpc(message, context):
    """Predict, without the checks of a real server."""
    request = predict.decode_request(message)
    y = answer("gRPC", request.inputs["x"])
    if y is None:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full")
    return predict.encode_response(request.spec, {"y": y})


class Predict(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == GRPC_GET_MODEL_METADATA:
            return grpc.unary_unary_rpc_method_handler(lambda *_: METADATA)
        return grpc.unary_unary_rpc_method_handler(over_grpc) if details.method == GRPC_PREDICT else None


def leave(*_):
    os._exit(0)


signal.signal(signal.SIGTERM, leave)
grpc_server = grpc.server(futures.ThreadPoolExecutor(8))
grpc_server.add_generic_rpc_handlers((Predict(),))
grpc_port = grpc_server.add_insecure_port(f"{HOST}:{FLAGS.get('port', 0)}")
grpc_server.start()
http.server.ThreadingHTTPServer.request_queue_size = 128
rest_server = http.server.ThreadingHTTPServer((HOST, int(FLAGS.get("rest_api_port", 0))), Rest)
rest_server.daemon_threads = True
rest_server.handle_error = lambda *_: None  # clients hang up when a load ends
if "port" not in FLAGS:
    sys.stdout.write(f"{grpc_port} {rest_server.server_port}\n")
    sys.stdout.flush()
rest_server.serve_forever()

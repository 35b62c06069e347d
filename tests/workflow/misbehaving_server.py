"""A server with TF Serving's flags and REST status alone, which misbehaves as it is told. Standard library only."""

import http.server
import json
import signal
import socket
import sys

FLAGS = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[2:])
MISCHIEF = sys.argv[1]
STATE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
if MISCHIEF == "never_ready":
    STATE["state"] = "LOADING"
if MISCHIEF == "bad_model":
    STATE = {"state": "END", "status": {"error_code": "NOT_FOUND", "error_message": "no saved_model.pb"}}


class Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"model_version_status": [{"version": "1"} | STATE]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def leave(*_):
    raise SystemExit(3 if MISCHIEF == "bad_exit" else 0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if MISCHIEF == "ignores_sigterm" else leave)
sys.stdout.write("first line\n")
sys.stdout.flush()
if MISCHIEF == "dies_early":
    sys.stdout.write("Failed to start server. Error: UNKNOWN: no luck\n")
    raise SystemExit(255)
grpc = socket.create_server((FLAGS["bind_address"], int(FLAGS["port"])))
http.server.ThreadingHTTPServer((FLAGS["bind_address"], int(FLAGS["rest_api_port"])), Status).serve_forever()

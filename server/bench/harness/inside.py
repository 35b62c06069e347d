"""What `overhead.py` runs in processes of their own: exports, echoes, the call without a server, requests at a rate."""

import argparse
import json
import sys
from pathlib import Path

from harness import echoes, models, paced


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write a SavedModel")
    export.add_argument("model")
    export.add_argument("directory", type=Path)
    echo = commands.add_parser("echo", help="answer every call with the content of a file")
    echo.add_argument("kind", choices=("grpc", "rest"))
    echo.add_argument("answer", type=Path)
    echo.add_argument("port", type=int)
    call = commands.add_parser("call", help="call a model; a line of standard input starts a measurement")
    call.add_argument("model")
    call.add_argument("question", help="of the recommender, Predict or Classify")
    call.add_argument("directory", type=Path)
    call.add_argument("seconds", type=float)
    call.add_argument("callers", type=int)
    call.add_argument("rows", type=int, help="of each call, each on one thread; 0: as it is asked, on all")
    call.add_argument("--count", type=int, default=0, help="calls of each caller, whatever time they take")
    call.add_argument("--frozen", action="store_true", help="variables become constants")
    rate = commands.add_parser("paced", help="send requests at a rate, and print what they took")
    rate.add_argument("protocol", choices=("grpc", "rest"))
    rate.add_argument("port", type=int)
    rate.add_argument("path")
    rate.add_argument("body", type=Path, help="of gRPC with its five bytes in front")
    rate.add_argument("connections", type=int)
    rate.add_argument("per_s", type=float)
    rate.add_argument("seconds", type=float)
    rate.add_argument("seed", type=int, help="of the arrivals")
    arguments = parser.parse_args()
    if arguments.command == "export":
        models.export(arguments.model, arguments.directory)
    elif arguments.command == "echo":
        serve = {"grpc": echoes.serve_grpc_echo, "rest": echoes.serve_http_echo}[arguments.kind]
        serve(arguments.answer.read_bytes(), arguments.port)
    elif arguments.command == "paced":
        body = arguments.body.read_bytes()
        made = paced.connected(arguments.protocol, arguments.port, arguments.path, body, arguments.connections)
        found = paced.paced(made, arguments.per_s, arguments.seconds, arguments.seed)
        print(json.dumps(found))  # noqa: T201
    else:
        asked = models.questions(arguments.model)[arguments.question]
        models.call_in_process(
            arguments.directory,
            asked,
            arguments.seconds,
            arguments.callers,
            arguments.rows,
            count=arguments.count,
            is_frozen=arguments.frozen,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

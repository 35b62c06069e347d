"""
What the server adds to a model call: CPU per request and throughput, next to an echo, to the call in one process, to other servers.

    python server/bench/overhead.py [--quick] [--rounds=5] [--seconds=5] [--output=DIRECTORY] [--peers=litserve,mlserver]

Needs `wrk` and `h2load` (Debian: apt-get install wrk nghttp2-client), TensorFlow, and for the compute-bound part Keras. Writes
`overhead.json`, `overhead.md` and `overhead.svg`, and prints the second. `--plot=FILE.json` only draws what an earlier run wrote.

small: half_plus_two, a CNN of the size of the digits model, one for 28x28 pixels, and a recommender that is sent serialized tf.Examples. The server on one
CPU, the load generator on the others; next to the server an echo on grpc.aio and one on our own HTTP layer, which take the same
requests and give answers of the same size, and the same call in a process without any protocol. latency: p99 of the small models at
half of the rate that they reach, by an open loop; placed as in small. plans: the small models with either thread plan, nothing
pinned. compute_bound (ResNet50, batch 8, as it is and frozen): nothing
is pinned, and the same calls are made in the process that loaded the model. large (224x224x3, batch 32): one request at a
time, REST and gRPC in turn. peers, if any are named: the small models on other servers, each in an environment of its own (made by
pip where it is missing), with the same model call, at the best of a few settings, answers checked; nothing is pinned, for those
servers are several processes. Where one of them does not answer, or answers wrong, its cell is left out and what it answers is
told; the run goes on. peers_compute_bound: the same with ResNet50, an image a request, and p99 by an open loop of 300 answers
a round, each server at half of its own peak, and ours at half of the best of the others', too.

Everything is measured in rounds, each cell once a round, in an order that changes; a ratio is taken within its round, and the
median of rounds is told with the smallest and the largest. Ratios within one run are what counts: times move with the machine.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from harness import peers, plot, table
from harness.models import SMALL
from harness.parts import Bench
from harness.run import say

ENVIRONMENTS = Path(__file__).parents[2] / ".cache" / "bench-peers"

PARTS: Mapping[str, Callable[[Bench], None]] = {
    "small": Bench.small,
    "latency": Bench.latency,
    "plans": Bench.plans,
    "compute_bound": Bench.compute_bound,
    "large": Bench.large,
    "peers": Bench.beside,
    "peers_compute_bound": Bench.beside_compute_bound,
}


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of each: shows that it works, no more")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument(
        "--output", type=Path, help="directory for results and logs; by default results go to standard output only"
    )
    parser.add_argument(
        "--plot", type=Path, help="measure nothing: write the drawing of this overhead.json beside it, as .svg"
    )
    parser.add_argument("--only", type=_names, help=f"parts, with commas: {', '.join(PARTS)}")
    parser.add_argument(
        "--models", type=_names, default=list(SMALL), help="of small and peers, with commas (default: all)"
    )
    parser.add_argument("--batching", action="store_true", help="measure the small models with --enable_batching")
    parser.add_argument(
        "--peers", type=_names, default=[], help=f"other servers, with commas: {', '.join(peers.PEERS)}"
    )
    parser.add_argument(
        "--peer-environments",
        type=Path,
        default=ENVIRONMENTS,
        help="where the virtual environments of other servers are, or are made",
    )
    arguments = parser.parse_args()
    if arguments.plot:
        arguments.plot.with_suffix(".svg").write_text(plot.svg(json.loads(arguments.plot.read_text())))
        return 0
    parts = arguments.only or [part for part in PARTS if not part.startswith("peers") or arguments.peers]
    for given, known in (
        (parts, tuple(PARTS)),
        (arguments.models, SMALL),
        (arguments.peers, tuple(peers.PEERS)),
    ):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    for tool in ("wrk", "h2load", "taskset"):
        if shutil.which(tool) is None:
            say(f"{tool} is not installed; on Debian or Ubuntu: apt-get install wrk nghttp2-client util-linux")
            return 2
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1.0
    with tempfile.TemporaryDirectory() as scratch:
        directory = (arguments.output or Path(scratch)).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        bench = Bench(arguments, directory)
        try:
            for part in parts:
                PARTS[part](bench)
        finally:
            bench.servers.close()
            # Also when it ends early: a whole run takes half an hour.
            told = table.markdown(bench.results)
            if arguments.output:
                (directory / "overhead.json").write_text(json.dumps(bench.results, indent=2) + "\n")
                (directory / "overhead.md").write_text(told)
                if bench.results["tables"]:
                    (directory / "overhead.svg").write_text(plot.svg(bench.results))
            sys.stdout.write(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""
An earlier server beside this one: requests/s, CPU a request, and latency at half of the peak, as ratios within a round.

    git worktree add ../earlier COMMIT
    python server/bench/earlier.py --earlier ../earlier [--rounds=4] [--seconds=2] [--in-flight=64] [--cpus=0] [MODEL/PROTOCOL …]

Both serve the same SavedModels, batched, with one thread an op, on the same CPUs, with this environment's packages, and are asked in turn
by `h2load` or `wrk`; half of the lower peak comes as a Poisson process (`harness/paced.py`). Whoever generates the load has the
last CPU; `--cpus=0,1` lets them share two.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import loads, models
from harness.processes import Servers, Started
from harness.rounds import Cell, by_round, ratio, run_rounds, spread
from harness.table import shown

CASES = [f"{model}/{protocol}" for model in models.SMALL for protocol in ("grpc", "rest")]
FLAGS = ("--tensorflow_intra_op_parallelism=1", "--enable_batching")
ROOT = Path(__file__).parents[2]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, help="as in half_plus_two/grpc")
    parser.add_argument("--earlier", type=Path, required=True, help="a checkout")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--cpus", default="0", help="of the servers")
    given = parser.parse_args()
    if not (given.earlier / "server" / "slipway_server").is_dir():
        parser.error(f"no server/slipway_server in {given.earlier}; --earlier names a checkout of this project")
    if unknown := sorted(set(given.cases) - {f"{m}/{p}" for m in models.SMALL for p in ("grpc", "rest")}):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(models.SMALL)}, each with /grpc and /rest")
    with tempfile.TemporaryDirectory() as scratch:
        servers = Servers(Path(scratch), [int(cpu) for cpu in given.cpus.split(",")])
        try:
            print("| this : earlier | requests/s | CPU a request | p50 at half of the peak | p99, ms: earlier, this |")  # noqa: T201
            print("|---|--:|--:|--:|--:|")  # noqa: T201
            for case in given.cases:
                print(_row(servers, case, given), flush=True)  # noqa: T201
        finally:
            servers.close()


def _row(servers: Servers, case: str, given: argparse.Namespace) -> str:
    model, protocol = case.split("/")
    base_path = servers.export(model)
    request = loads.request_of(model, models.questions(model)["Predict"].payload(model), servers.directory)
    both = {
        name: servers.slipway(
            f"{name}-{model}-{protocol}", {model: base_path}, FLAGS, is_pinned=True, checkout=checkout
        )
        for name, checkout in (("earlier", given.earlier.resolve()), ("this", ROOT))
    }
    generator = [(os.cpu_count() or 1) - 1]

    def peak(server: Started) -> dict[str, float]:
        return loads.drive(protocol, server, request, given.seconds, generator, given.in_flight)

    # The first calls are no measurement.
    half = min(peak(both[name])["per_s"] for name in ("this", "earlier")) / 2

    def measured(server: Started, number: int) -> dict[str, float]:
        # Both tell requests/s: that of the peak counts.
        return {**loads.at_rate(protocol, server, request, half, given.seconds, generator, number), **peak(server)}

    cells = {name: Cell(name, by_round(partial(measured, server))) for name, server in both.items()}
    run_rounds(list(cells.values()), given.rounds, lambda text: print(f"{case}: {text}", file=sys.stderr))  # noqa: T201
    for server in both.values():
        servers.end(server.process)
    ratios = [shown(ratio(cells, "this", "earlier", key)) for key in ("per_s", "cpu_us", "p50_ms")]
    p99 = [shown(spread([one["p99_ms"] for one in cell.rounds])) for cell in cells.values()]
    return f"| {' | '.join([case, *ratios, ', '.join(p99)])} |"


if __name__ == "__main__":
    main()

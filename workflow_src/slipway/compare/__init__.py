"""
Did it get worse? Measure two servers side by side, in one job: `slipway compare --base main`.

Base and head are project directories in which `snakemake images` has run; git revisions, which are then checked out
below .slipway/revisions and built; a result.json, which stands for the revision that it was measured at; or an image by
itself, in the OCI layout, with the same servable as the other side. Both servers run at once and are loaded in turns, in pairs of windows, until each metric
is decided: PASS, FAIL or INCONCLUSIVE. What broke the rules of measuring is INVALID, and never shown as a slowdown.
Server CPU per prediction decides on every machine; throughput and latency only where the machine was quiet.

Two result.json files are put beside each other without a verdict: numbers of different hours prove nothing.

Exit codes: 0 pass (or inconclusive), 1 fail, 2 invalid, or an option that cannot be, or a fault of this program, 3 a wrong
answer, 6 inconclusive with --strict.
"""

import argparse
import shlex
import sys
from pathlib import Path

from slipway import files, procs
from slipway.benchmark import available_cpus, lock_path, say_waiting
from slipway.compare import outputs, stored
from slipway.compare.images import image_side, is_image
from slipway.compare.plan import MOST_OPEN_WINDOW_S, Plan, plan_of
from slipway.compare.session import Session
from slipway.compare.subjects import Side, check_comparable, is_project, is_result, locate, read_side
from slipway.compare.verdict import EXIT_CODES, STRICT_INCONCLUSIVE
from slipway.errors import SettingsError
from slipway.locks import waiting_lock
from slipway.measuring import Machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    plan = Plan()
    parser.add_argument(
        "--base",
        required=True,
        metavar="PLACE",
        help="what to compare with: a project directory, a git revision, a result.json or an OCI layout",
    )
    parser.add_argument("--head", default=".", metavar="PLACE", help="what is judged; default: this directory")
    parser.add_argument("--model", help="which model; needed where a project has several")
    parser.add_argument(
        "--base-version", type=int, help="version of base; default: the one that its benchmark measures"
    )
    parser.add_argument("--head-version", type=int, help="version of head; default: likewise")
    parser.add_argument(
        "--signature",
        help="signature to call; default: serving_default, or where that takes tf.Examples the model's own form",
    )
    parser.add_argument("--rows", type=int, default=1, help="rows in each request; default: 1")
    parser.add_argument("--protocols", default="rest,grpc", help="what to measure; default: rest,grpc")
    parser.add_argument(
        "--users", type=int, default=plan.users, help=f"closed loop: connections; default: {plan.users}"
    )
    parser.add_argument(
        "--window",
        type=float,
        default=plan.window_s,
        metavar="S",
        help=f"seconds in a window; default: {plan.window_s:g}",
    )
    parser.add_argument(
        "--open-window",
        type=float,
        metavar="S",
        help="seconds in a window of the open loop; default: as --window, or longer where a p99 needs it, up to "
        f"{MOST_OPEN_WINDOW_S:g}",
    )
    loads = parser.add_mutually_exclusive_group()
    loads.add_argument(
        "--no-latency", action="store_true", help="leave the open loop out: server CPU and throughput only"
    )
    loads.add_argument("--no-throughput", action="store_true", help="leave the closed loop out: latency only")
    parser.add_argument(
        "--no-calibration",
        action="store_true",
        help="do not find out first what the load generator can do at most (some 5 s): throughput near that counts, too",
    )
    parser.add_argument("--seed", type=int, default=plan.seed, help="of orders and arrivals")
    parser.add_argument(
        "--threads", type=int, default=len(available_cpus(1 << 20)), help="CPUs that may be used; default: all"
    )
    parser.add_argument(
        "--generator-processes",
        type=int,
        metavar="N",
        help="of each load generator; default: one for each CPU that it has",
    )
    parser.add_argument("--title", default="", help="of the page")
    parser.add_argument("--strict", action="store_true", help="exit with 6 if it is inconclusive")
    parser.add_argument(
        "--out", type=Path, default=Path("results/comparison"), help="directory to write; default: results/comparison"
    )


def read_sides(arguments: argparse.Namespace) -> tuple[Side, Side]:
    """
    Read base and head, each from where it is.

    Raises:
        SettingsError: Neither is a project, or what was asked for is not there.
        SourceError: A project was not made yet, or a side cannot be compared.
    """
    asked = {"base": (arguments.base, arguments.base_version), "head": (arguments.head, arguments.head_version)}
    projects = {place for place, _ in asked.values() if not is_image(place)}
    if not projects:
        raise SettingsError(
            "base and head are both images: name a project for one of them, which has the golden rows to ask both"
        )
    sides: dict[str, Side] = {}
    # Directories first: what is wrong with one is told before minutes go into building the other side.
    for place in sorted(projects, key=lambda one: (not is_project(one), one)):
        directory = locate(place, Path())
        sides |= {
            which: read_side(
                place,
                directory,
                model=arguments.model,
                version=version,
                signature=arguments.signature,
                rows=arguments.rows,
            )
            for which, (asked_place, version) in asked.items()
            if asked_place == place
        }
    project = next(iter(sides.values()))
    sides |= {
        which: image_side(place, project, version) for which, (place, version) in asked.items() if which not in sides
    }
    return sides["base"], sides["head"]


def run(arguments: argparse.Namespace) -> int:
    """Compare, write everything below --out, print the summary; the exit code says how it went."""
    plan = plan_of(arguments)
    # Servers and load generators are ended in good order.
    procs.exit_on_signals()
    if is_result(arguments.base) and is_result(arguments.head):
        sys.stdout.write(stored.compare(Path(arguments.base), Path(arguments.head)))
        return 0
    base, head = read_sides(arguments)
    check_comparable(base, head)
    title = arguments.title or f"{head.record.model}: {head.record.label} against {base.record.label}"
    with waiting_lock(lock_path(), say_waiting), files.new_directory(arguments.out) as directory:
        session = Session(
            base=base,
            head=head,
            plan=plan,
            machine=Machine(available_cpus(arguments.threads), arguments.generator_processes),
            directory=directory,
            title=title,
            command=shlex.join(["slipway", *sys.argv[1:]]),
        )
        comparison = session.run()
        outputs.write(comparison, directory)
    sys.stdout.write(outputs.plain(comparison))
    sys.stdout.write(outputs.annotations(comparison))
    sys.stdout.write(f"\nThe page: {arguments.out / 'index.html'}\n")
    if comparison.verdict == "inconclusive" and arguments.strict:
        return STRICT_INCONCLUSIVE
    return EXIT_CODES[comparison.verdict]

"""`runbook load`: any load on any target, with what was measured printed; for looking by hand, not for a verdict."""

import argparse
import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path

from runbook.evidence.store import write_atomically
from runbook.load.plan import ARRIVALS
from runbook.load.traffic import DISTRIBUTIONS, OPERATIONS, Traffic
from runbook.notebooks import UsageError
from runbook.targets import open_target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what describes a load."""
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--rate-per-s", type=float, default=1000.0, metavar="R", help="calls a second in an open loop (default: 1000)")
    rate.add_argument("--closed", action="store_true", help="a closed loop instead, which measures capacity and hides stalls")
    parser.add_argument("--arrivals", choices=ARRIVALS, default="constant", help="of an open loop (default: constant)")
    parser.add_argument("--connections", type=int, default=10, metavar="N", help="how many (default: 10)")
    parser.add_argument("--depth", type=int, default=1, metavar="N", help="calls under way on a connection (default: 1)")
    parser.add_argument("--duration-s", type=float, default=5.0, metavar="S", help="seconds of load that count (default: 5)")
    parser.add_argument("--warm-up-s", type=float, default=0.3, metavar="S", help="seconds before that do not (default: 0.3)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that send (default: 1)")
    operations = f"weights of {', '.join(OPERATIONS)} (default: GET=1,SET=1,PING=1)"
    parser.add_argument("--operations", default="GET=1,SET=1,PING=1", metavar="GET=9,SET=1", help=operations)
    sizes = "lengths of values, 1 byte to 1 MiB, with their weights (default: 64)"
    parser.add_argument("--sizes-bytes", default="64", metavar="64=9,4096=1", help=sizes)
    parser.add_argument("--keys", type=int, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument("--distribution", choices=DISTRIBUTIONS, default="uniform", help="of the keys (default: uniform)")
    parser.add_argument("--ttl-s", type=int, default=None, metavar="S", help="lifetime of the strings (default: none)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all choices (default: 1)")
    parser.add_argument("--hgrm", type=Path, default=None, metavar="FILE", help="write the latencies there, for HdrHistogram's plotter")


def load_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Offer one load, and print what was measured; the status is 1 if a call failed."""
    # Not at the top: a command line that is only parsed needs neither pandas nor the drills.
    from runbook.drills.stage import staged
    from runbook.report.latency_tables import loads_table, percentile_table

    if options.hgrm and not options.hgrm.resolve().parent.is_dir():
        raise UsageError(f"--hgrm: there is no folder {options.hgrm.parent}: make it, or name another")
    try:
        traffic = Traffic(
            f"runbook:load:{uuid.uuid4().hex}:",
            _weights("--operations", options.operations),
            {_size(text): weight for text, weight in _weights("--sizes-bytes", options.sizes_bytes).items()},
            keys=options.keys,
            distribution=options.distribution,
            ttl_s=options.ttl_s,
            seed=options.seed,
        )
        with contextlib.closing(open_target(options.target, environ)) as target, staged(target, traffic) as stage:
            print(stage.placement.words, flush=True)
            offered = stage.offer(
                duration_s=options.duration_s,
                warm_up_s=options.warm_up_s,
                rate_per_s=None if options.closed else options.rate_per_s,
                arrivals=options.arrivals,
                connections=options.connections,
                depth=options.depth,
                processes=options.processes,
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.hgrm:
        write_atomically(options.hgrm, offered.histogram().percentile_distribution().encode())
    print("", loads_table({"load": offered}).text(), "", percentile_table({"load": offered}).text(), sep="\n")
    made = offered.recording
    for (operation, text), count in made.errors.most_common():
        print(f"{count:,} {operation} failed: {text}")
    if made.lost:
        print(f"{made.lost} connections were lost")
    return 1 if made.errors or made.lost else 0


def _weights(option: str, text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            weights[name.strip()] = float(weight or 1)
        except ValueError:
            raise UsageError(f"{option} takes names with weights, such as a=9,b=1; {part!r} is none") from None
    return weights


def _size(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--sizes-bytes takes whole numbers of bytes, such as 64 or 64=9,4096=1; got {text!r}") from None

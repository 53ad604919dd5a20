"""The commands `runbook drill`, `plan` and `heal`."""

import argparse
import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from runbook.drilling import Done, Order, perform
from runbook.drills.catalogue import DRILLS
from runbook.drills.drill import PROFILES, QUICK
from runbook.drills.safety import check_healed, exclusive
from runbook.drills.undo import heal, left_behind, state_folder
from runbook.evidence.store import PAGE, write_atomically
from runbook.notebooks import UsageError
from runbook.report.measured import measured_text
from runbook.targets import TARGETS
from runbook.whole_number import whole_number

# A plan that was read longer ago than this has to be read again.
CONFIRMATION_S = 15 * 60
DEFAULT_SEED = 1


def add_arguments(parser: argparse.ArgumentParser, *, performs: bool) -> None:
    """Declare the options of `drill` and `plan`."""
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"of the drills: {', '.join(DRILLS)}")
    parser.add_argument("--all", action="store_true", help="every drill that there is")
    parser.add_argument("--target", default="embedded", choices=list(TARGETS), help="where the Redis runs (default: embedded)")
    parser.add_argument("--profile", default=QUICK, choices=PROFILES, help="how thorough: all in under 4 minutes, or as often as it takes")
    parser.add_argument("--times", type=whole_number, metavar="N", help="how often the fault happens (default: what the profile says)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, metavar="N", help="of everything that is chosen by chance (default: 1)")
    if performs:
        parser.add_argument("--confirm", metavar="TOKEN", help="what `runbook plan` printed; needed on a target that is not embedded")


def orders_of(options: argparse.Namespace) -> list[Order]:
    """Turn the options into what is to be done.

    Raises:
        UsageError: a drill that there is not, or none at all.
    """
    if bool(options.name) == options.all:
        raise UsageError(f"name the drills, or say --all; there are {', '.join(DRILLS)}")
    for name in options.name:
        if name not in DRILLS:
            raise UsageError(f"there is no drill {name}; there are {', '.join(DRILLS)}")
    names = list(DRILLS) if options.all else list(dict.fromkeys(options.name))
    return [Order(DRILLS[name], options.target, options.profile, options.seed, options.times) for name in names]


def orders_on(target: str, environ: Mapping[str, str]) -> list[Order]:
    """Return every drill that a target supports, as a verification does them: quick, and on servers that it starts itself.

    Raises:
        Refusal: a drill that crashed has left something behind.
    """
    supported = [drill for drill in DRILLS.values() if target in drill.targets]
    if supported:
        check_healed(state_folder(environ))
    return [Order(drill, target, QUICK, DEFAULT_SEED) for drill in supported]


def perform_command(orders: Sequence[Order], options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[list[Done], Path]:
    """Do what was ordered, print what was found, and return both that and the run folder.

    Raises:
        Refusal: another drill is at work, or has left something behind.
        UsageError: the target asks for a confirmation, and there is none that fits.
    """
    state = state_folder(environ)
    needs_confirmation = options.target != "embedded" and any(order.target in order.drill.targets for order in orders)
    began_s = time.monotonic()

    def show(name: str, what: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {name:20s} {what}", flush=True)

    def permit() -> None:
        if needs_confirmation:
            _check_confirmation(state, orders, options.confirm)

    done, folder = perform(orders, options.runs, environ, show, permit)
    print(results_text(done))
    return done, folder.path


def plan_command(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print what drills would do: target, faults, blast radius, roll-back; and the token that lets them."""
    orders = orders_of(options)
    for order in orders:
        drill = order.drill
        print(f"{drill.name}: {drill.question}")
        print(f"    promise       {drill.promise}")
        supported = "" if order.target in drill.targets else f", where it is INCONCLUSIVE: it takes {' or '.join(drill.targets)}"
        print(f"    target        {order.target}{supported}")
        print(f"    faults        {'; '.join(drill.faults)}; {order.effective_times} ×")
        print(f"    blast radius  {drill.blast_radius}")
        print(f"    roll-back     {drill.roll_back}")
        print(f"    ends          after {order.limit_s:g} s at the latest, by its watchdog")
    if options.target == "embedded":
        print("\nNo confirmation is needed: the servers are processes of our own, in folders of our own.")
        return
    token = secrets.token_hex(4)
    pending = {"sha256": hashlib.sha256(token.encode()).hexdigest(), "orders": _described(orders), "until": time.time() + CONFIRMATION_S}
    state = state_folder(environ)
    state.mkdir(parents=True, exist_ok=True)
    write_atomically(state / "plan.json", json.dumps(pending).encode())
    print(f"\nTo do this, within {CONFIRMATION_S // 60} minutes and once: the same options, and --confirm {token}")


def heal_command(environ: Mapping[str, str]) -> int:
    """Undo what drills that crashed have left behind; return of how many things.

    Raises:
        Refusal: a drill is at work.
        UndoError: something can't be undone.
    """
    state = state_folder(environ)
    with exclusive(state, "heal"):
        count = 0
        for healed in heal(state) if left_behind(state) else ():
            print(f"undone: {healed}")
            count += 1
    return count


def results_text(done: Sequence[Done]) -> str:
    """Write what drills have found as a text for a terminal."""
    lines = []
    for each in done:
        lines += ["", f"{each.order.drill.name}: {'BROKEN, ' + each.broken if each.broken else each.verdict}"]
        for finding in each.findings or ():
            named = f"{finding.verdict} (known)" if finding.is_known else str(finding.verdict)
            lines.append(f"    {named:13s} {finding.claim}")
            lines += [f"{'':17s} {finding.reason}"] if finding.reason else []
            lines += [f"{'':17s} known of the server: {finding.known}"] if finding.is_known else []
            lines += [f"{'':17s} {measured_text(finding.measured)}"] if finding.measured else []
    return "\n".join(lines)


def page_of(folder: Path, runs: Path) -> Path:
    """Return the path of a run's page, as short as the user named the folder of the runs."""
    return runs / folder.name / PAGE


def _check_confirmation(state: Path, orders: Sequence[Order], token: str | None) -> None:
    needed = "read what would happen with `runbook plan` and the same options, and give the token that it prints with --confirm"
    if not token:
        raise UsageError(f"a drill on the target {orders[0].target} asks for a confirmation: {needed}")
    path = state / "plan.json"
    try:
        pending = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        raise UsageError(f"no plan waits for a confirmation: {needed}") from None
    if not secrets.compare_digest(pending["sha256"], hashlib.sha256(token.encode()).hexdigest()):
        raise UsageError(f"this is not the token of the last plan: {needed}")
    if pending["until"] < time.time():
        raise UsageError(f"the plan is older than {CONFIRMATION_S // 60} minutes: {needed}")
    if pending["orders"] != _described(orders):
        raise UsageError(f"the plan was another one: {needed}")
    path.unlink()  # once


def _described(orders: Sequence[Order]) -> list[list[object]]:
    return [[order.drill.name, order.target, order.profile, order.effective_times] for order in orders]

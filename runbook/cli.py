"""The command line of the runbook: a function for each command, and what they share."""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cachelib import Config, ConfigError
from runbook import cli_drill, cli_evidence, cli_history, cli_load, notebooks, verification
from runbook.coverage import coverage_finding
from runbook.drilling import Done, Order, perform
from runbook.drills.undo import UndoError
from runbook.evidence.archive import Archive
from runbook.evidence.decision import Decision, decision_of
from runbook.evidence.store import MANIFEST, NOTEBOOK, PAGE, RESULT, EvidenceError, write_atomically
from runbook.evidence.verdict import Verdict, combine
from runbook.execute import CELL_TIMEOUT_S, RUN_TIMEOUT_S, Job, Progress, Run, execute
from runbook.load.sockets import LoadError
from runbook.load.steal import StealMeter
from runbook.notebooks import Notebook, UsageError
from runbook.report.latest import LATEST
from runbook.report.pdf import print_run
from runbook.targets import TARGETS, Embedded, TargetError, open_target
from runbook.targets.binary import find_server
from runbook.targets.docker import Docker
from runbook.targets.project import PROJECT_VARIABLE
from runbook.whole_number import whole_number

EXIT_PASS, EXIT_FAIL, EXIT_USAGE, EXIT_INCONCLUSIVE, EXIT_BROKEN, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130

_STATUS = {Verdict.PASS: EXIT_PASS, Verdict.FAIL: EXIT_FAIL, Verdict.INCONCLUSIVE: EXIT_INCONCLUSIVE}
_STATUS_OF_DECISION = {
    Decision.READY: EXIT_PASS,
    Decision.NOT_EXAMINED: EXIT_PASS,  # all that this target can examine passes
    Decision.UNDECIDED: EXIT_INCONCLUSIVE,
    Decision.BROKEN: EXIT_BROKEN,
    Decision.FAILED: EXIT_FAIL,
}

EPILOG = "exit status: 0 PASS, 1 FAIL, 2 wrong usage, 3 INCONCLUSIVE, 4 broken run, 130 interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # what a CI sends when it gives up; it should clean up as after Ctrl-C
    try:
        status: int = options.command(options, os.environ)
        return status
    except (UsageError, ConfigError, TargetError, EvidenceError, LoadError, UndoError) as error:
        print(f"runbook: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # whoever read what we print wants no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try once more at its end
        return EXIT_BROKEN
    except KeyboardInterrupt:
        print("runbook: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def exit_status(runs: Sequence[Run]) -> int:
    """Turn runs into an exit status: a FAIL outweighs a broken run, which outweighs INCONCLUSIVE, which outweighs PASS.

    Args:
        runs: what was executed.
    """
    if any(run.interrupted for run in runs):
        return EXIT_INTERRUPTED
    verdicts = [run.verdict for run in runs]
    return _status(combine(verdict for verdict in verdicts if verdict), is_broken=None in verdicts)


def status_of(result: Mapping[str, Any]) -> int:
    """Read off the exit status of a verification, so that it says what the page says.

    Args:
        result: of the verification, as its `result.json` holds it.
    """
    return EXIT_INTERRUPTED if result["interrupted"] else _STATUS_OF_DECISION[decision_of(result)]


def _status(verdict: Verdict, *, is_broken: bool) -> int:
    return EXIT_BROKEN if is_broken and verdict is not Verdict.FAIL else _STATUS[verdict]


def list_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print each notebook with its question and its parameters."""
    for notebook in notebooks.list_notebooks(options.notebooks):
        print(f"{notebook.name}\n    {notebook.question}")
        for parameter in notebook.parameters:
            print(f"    -p {parameter.name}={parameter.default}  {parameter.meaning}")
    return EXIT_PASS


def run_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Execute one notebook."""
    notebook = notebooks.find_notebook(options.name, options.notebooks)
    job = Job(notebook, notebook.parse(_assignments(options.parameter)))
    target = str(job.parameters.get("target", notebook.default_target))
    if not notebook.applies_to(target):
        raise UsageError(f"{notebook.name} can't be answered on the target {target}: choose {' or '.join(notebook.targets)}")
    _check_ground(target, environ)
    _check_history(options, environ)
    runs = _execute([job], options, environ)
    _render([runs[0].folder.path])
    print(verification.findings_text(runs[0].folder))
    print(f"page: {options.runs / runs[0].folder.name / PAGE}")
    return _recorded([runs[0].folder.path], exit_status(runs), options, environ)


def verify_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Execute the notebooks of a profile, in the profile `full` all drills as well, and sum up."""
    of_profile = [notebook for notebook in notebooks.list_notebooks(options.notebooks) if notebook.is_in(options.profile)]
    found = [notebook for notebook in of_profile if notebook.applies_to(options.target)]
    if not found:
        raise UsageError(f"{options.notebooks} holds no notebook for the target {options.target} and the profile {options.profile}")
    if options.target.startswith("compose") and environ.get(PROJECT_VARIABLE) and len(found) > 1:
        raise UsageError(
            f"{PROJECT_VARIABLE} names one project, and verify runs {len(found)} notebooks side by side: unset it, or run one at a time "
            "with `runbook run NAME`"
        )
    _check_ground(options.target, environ)
    _check_history(options, environ)
    baseline = _baseline(options, environ)
    orders = cli_drill.orders_on(options.target, environ) if options.profile == notebooks.FULL else []
    drill_names = tuple(order.drill.name for order in orders)
    plan = verification.Plan(options.target, options.profile, tuple(notebook.name for notebook in found), drill_names)
    accepted, before = cli_evidence.accepted_of(options.target, options.runs, environ)
    ended = _run_plan([_job(notebook, options.target) for notebook in found], orders, options, environ)
    paths = [run.folder.path for run in ended.runs] + ([ended.drilled.path] if ended.drilled else [])
    folder = verification.conclude(ended, plan, options.runs, environ, baseline=accepted, before=before, tested=coverage_finding())
    if baseline and not ended.interrupted:  # what had not begun would count as worse
        cli_evidence.hold_against_command(baseline, folder)
    _render([folder.path])
    print(verification.criteria_text(folder))
    print(f"page: {options.runs / folder.name / PAGE}")
    return _recorded([*paths, folder.path], status_of(folder.read_json(RESULT)), options, environ)


def _run_plan(jobs: Sequence[Job], orders: Sequence[Order], options: argparse.Namespace, environ: Mapping[str, str]) -> verification.Ended:
    """Execute the notebooks, then do the drills, and render all of them: the verification holds the digests of their manifests."""
    started, progress, steal = datetime.now(UTC), _printer(), StealMeter()
    runs = _execute(jobs, options, environ, progress)
    drilled, refusal = None, ""
    if orders and not any(run.interrupted for run in runs) and len(runs) == len(jobs):
        try:
            _, drilled = perform(orders, options.runs, environ, progress)
        except TargetError as error:  # another drill has begun meanwhile; what the notebooks found is kept
            refusal = str(error)
    stolen = steal.share()
    _render([*(run.folder.path for run in runs), *([drilled.path] if drilled else [])])
    return verification.Ended(runs, drilled, refusal, started, stolen)


def refresh_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Execute the notebooks with their defaults, and put the outputs of those that pass into the notebooks themselves."""
    chosen = [notebooks.find_notebook(name, options.notebooks) for name in options.name] or notebooks.list_notebooks(options.notebooks)
    for target in dict.fromkeys(notebook.default_target for notebook in chosen):
        try:
            _check_ground(target, environ)
        except TargetError as error:
            if options.name:
                raise
            chosen = [notebook for notebook in chosen if notebook.default_target != target]
            print(f"left out what needs the target {target}: {error}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="runbook-refresh-") as scratch:
        options.runs = Path(scratch)
        runs = _execute([Job(notebook, {}) for notebook in chosen], options, environ)
        for run in runs:
            if run.verdict is Verdict.PASS:
                content = json.dumps(run.folder.read_json(NOTEBOOK), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
                write_atomically(run.notebook.path, content.encode())
                print(f"refreshed {run.notebook.name}")
            else:
                print(f"left {run.notebook.name} as it was: {run.breakage or run.verdict}", file=sys.stderr)
        return exit_status(runs)


def report_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Render the page of a run again from its evidence, if that was not altered; as PDF as well if asked for."""
    path = _run_folder(options.run, options.runs, environ)
    page = cli_evidence.report_command(path, options.page, environ)
    if options.pdf is not None:
        print(f"pdf: {print_run(path, page, environ, None if options.pdf is True else options.pdf)}")
    return EXIT_PASS


def diff_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Tell what became worse, better or failed between two runs, beyond noise; worse is a FAIL."""
    before, after = (_run_folder(run, options.runs, environ).resolve() for run in (options.before, options.after))
    if before == after:
        raise UsageError(f"{options.before} and {options.after} are the same run: name two")
    return _STATUS[cli_evidence.diff_command(before, after, options.runs, options.page)]


def integrity_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Check that a run's evidence is as it was written; the status is 1 if it was altered."""
    whole = cli_evidence.integrity_command(_run_folder(options.run, options.runs, environ), options.digest, environ)
    return EXIT_PASS if whole else EXIT_FAIL


def accept_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Record that somebody accepts a verification, with the digest of all its evidence."""
    path = _run_folder(options.run, options.runs, environ)
    cli_evidence.accept_command(path, options, environ)
    # The scorecard tells who accepted what; that went into the history where the run lies, which need not be where the others do.
    there = path.resolve().parent
    runs = options.runs if there == options.runs.resolve() else there
    cli_history.write_scorecard(runs, options, Archive(runs, environ))
    return EXIT_PASS


def history_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Tell what was found from run to run: as a table, as CSV or JSON, or as a page with the trends."""
    cli_history.history_command(options, environ)
    return EXIT_PASS


def scorecard_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Tell what is fresh, stale, failing or was never run; stale or failing is a FAIL."""
    card = cli_history.scorecard_command(options, environ)
    return EXIT_BROKEN if card.broken and card.verdict is not Verdict.FAIL else _STATUS[card.verdict]


def bench_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Compare our client or our load engine with others, on a server of our own; or time our recorder, which needs none."""
    # Not at the top: only this command needs them.
    from runbook.drills import instrument, recorder, speed
    from runbook.report.measured import measured_text
    from runbook.report.tables import instrument_table, recorder_table, speed_table

    if options.subject != "history":
        _check_ground(options.target, environ)
    if options.subject == "history":
        recorded = recorder.measure(options.records, _say)
        table, findings = recorder_table(recorded), recorded.findings
    elif options.subject == "client":
        with contextlib.closing(open_target(options.target, environ)) as target:
            compared = speed.compare(target, seconds=options.seconds or 27.0, full=True)
        table, findings = speed_table(compared), compared.findings
    else:
        if options.target != "embedded":
            raise UsageError("the engine is measured on a server of our own: leave --target away")
        with Embedded(environ, instrument.FLAGS) as server:
            measured = instrument.measure(server, seconds=options.seconds or 85.0, progress=_say)
        table, findings = instrument_table(measured), measured.findings
    print(table.text())
    print()
    for finding in findings:
        print(f"{finding.verdict:12s}  {finding.claim}: {measured_text(finding.measured[:1])}{finding.reason and '; ' + finding.reason}")
    return _STATUS[combine(finding.verdict for finding in findings)]


def load_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Offer a load of your own making, and print what was measured; the status is 1 if a call failed."""
    _check_ground(options.target, environ)
    return cli_load.load_command(options, environ)


def drill_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Break a Redis on purpose, and account for every acknowledged write."""
    orders = cli_drill.orders_of(options)
    _check_ground(options.target, environ)
    _check_history(options, environ)
    done, folder = cli_drill.perform_command(orders, options, environ)
    _render([folder])
    print(f"\npage: {cli_drill.page_of(folder, options.runs)}")
    return _recorded([folder], _drill_status(done), options, environ)


def plan_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Tell what drills would do, and print the token that confirms it."""
    cli_drill.plan_command(options, environ)
    return EXIT_PASS


def heal_command(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Undo what drills that crashed have left behind."""
    print(f"{cli_drill.heal_command(environ) or 'nothing'} left to undo was undone")
    return EXIT_PASS


def _drill_status(done: Sequence[Done]) -> int:
    if any(each.interrupted for each in done):
        return EXIT_INTERRUPTED
    if any(each.verdict is Verdict.FAIL for each in done):
        return EXIT_FAIL
    return EXIT_BROKEN if any(each.broken for each in done) else _STATUS[combine(each.verdict for each in done if each.verdict)]


def _recorded(paths: Sequence[Path], status: int, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Take finished runs into the history, and return their status; it says what they found also where that fails, but never 0."""
    try:
        cli_history.record_runs(paths, options, environ)
    except EvidenceError as error:
        print(f"runbook: not recorded: {error}", file=sys.stderr)
        return status or EXIT_BROKEN
    return status


def _say(what: str) -> None:
    print(what, flush=True)


def _execute(jobs: Sequence[Job], options: argparse.Namespace, environ: Mapping[str, str], progress: Progress | None = None) -> list[Run]:
    return execute(
        jobs,
        options.runs,
        environ,
        progress=progress or _printer(),
        cell_timeout_s=options.cell_timeout_s,
        run_timeout_s=options.run_timeout_s,
    )


def _run_folder(run: str, runs: Path, environ: Mapping[str, str]) -> Path:
    if run == LATEST or Path(run).absolute() == (runs / LATEST).absolute():
        return cli_history.latest_run(runs, environ)
    path = Path(run) if Path(run).is_dir() else runs / run
    if not run.strip() or not path.is_dir():
        raise UsageError(f"there is no run {run or 'without a name'}; {runs} holds {', '.join(_newest(runs)) or 'none'}")
    if not any((path / name).exists() for name in (RESULT, MANIFEST)):
        raise UsageError(f"{path} is not the folder of a run: it holds neither {RESULT} nor {MANIFEST}")
    return path


def _baseline(options: argparse.Namespace, environ: Mapping[str, str]) -> Path | None:
    if options.against is None:
        return None
    named = None if options.against == cli_evidence.ACCEPTED else _run_folder(options.against, options.runs, environ)
    return cli_evidence.baseline_of(named, options.target, options.runs, environ)


def _render(paths: Sequence[Path]) -> None:
    # Not at the top: nbconvert takes half a second to import, and the notebooks should start first.
    from runbook.report.page import write_page

    for path in paths:
        write_page(path)


def _job(notebook: Notebook, target: str) -> Job:
    takes_target = any(parameter.name == "target" for parameter in notebook.parameters)
    return Job(notebook, notebook.parse({"target": target}) if takes_target else {})


def _check_ground(target: str, environ: Mapping[str, str]) -> None:
    """Fail before the first notebook starts where none could work."""
    if target not in TARGETS:
        raise UsageError(f"there is no target {target!r}; choose one of {', '.join(TARGETS)}")
    Config.from_env(environ)
    if target == "embedded":
        find_server(environ)
    elif target != "remote":
        Docker.find(environ)
    elif not (environ.get("REDIS_HOST") or environ.get("REDIS_URL")):
        raise UsageError("the target remote is somebody's server: name it with REDIS_HOST or REDIS_URL in the environment")


def _check_history(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Fail before anything runs where what it finds could not be recorded."""
    Archive(options.runs, environ).entries()


def _assignments(texts: Sequence[str]) -> dict[str, str]:
    assignments = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"-p takes name=value, got {text!r}" if "=" not in text else "-p takes name=value, got no name")
        if name in assignments:
            raise UsageError(f"parameter {name} is given twice: give it once")
        assignments[name] = value
    return assignments


def _printer() -> Progress:
    began_s = time.monotonic()

    def show(name: str, event: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {name:20s} {event}", flush=True)

    return show


def _newest(runs: Path, count: int = 3) -> list[str]:
    return sorted((path.name for path in runs.glob("2*") if path.is_dir()), reverse=True)[:count] if runs.is_dir() else []


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


_positive.__name__ = "number of seconds above 0"  # argparse names the type in its message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runbook", description="Prove that a Redis keeps, answers and is survived.", epilog=EPILOG)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function: object, *, executes: bool) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=(function.__doc__ or "").strip(), description=function.__doc__, epilog=EPILOG)
        added.set_defaults(command=function)
        added.add_argument("--notebooks", type=Path, default=notebooks.FOLDER, metavar="DIR", help="folder of the notebooks")
        added.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the evidence (default: runs)")
        if executes:
            added.add_argument("--cell-timeout-s", type=_positive, default=CELL_TIMEOUT_S, metavar="S", help="bound of a cell")
            added.add_argument("--run-timeout-s", type=_positive, default=RUN_TIMEOUT_S, metavar="S", help="bound of a notebook")
        return added

    command("list", list_command, executes=False)
    run = command("run", run_command, executes=True)
    run.add_argument("name", help="of the notebook")
    run.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set a parameter; may be repeated")
    verify = command("verify", verify_command, executes=True)
    verify.add_argument("--target", default="embedded", choices=list(TARGETS), help="where the Redis runs (default: embedded)")
    verify.add_argument(
        "--profile",
        default=notebooks.DEFAULT,
        choices=notebooks.PROFILES,
        help="what is run: `full` adds power loss, damaged files, restores and all drills (default: default)",
    )
    verify.add_argument("--against", metavar="RUN", help="hold it against an earlier verification, or against the last one `accepted`")
    refresh = command("refresh", refresh_command, executes=True)
    refresh.add_argument("name", nargs="*", help="of the notebooks; all by default")
    bench = command("bench", bench_command, executes=False)
    bench.add_argument("subject", choices=["client", "engine", "history"], help="what is measured")
    bench.add_argument("--target", default="embedded", choices=list(TARGETS), help="where the Redis runs (default: embedded)")
    bench.add_argument("--seconds", type=_positive, metavar="S", help="what it takes at the most (default: client 27, engine 85)")
    bench.add_argument("--records", type=whole_number, default=10_000_000, metavar="N", help="records of the history (default: 10,000,000)")
    load = command("load", load_command, executes=False)
    load.add_argument("--target", default="embedded", choices=list(TARGETS), help="where the Redis runs (default: embedded)")
    cli_load.add_arguments(load)
    drill = command("drill", drill_command, executes=False)
    cli_drill.add_arguments(drill, performs=True)
    plan = command("plan", plan_command, executes=False)
    cli_drill.add_arguments(plan, performs=False)
    command("heal", heal_command, executes=False)
    report = command("report", report_command, executes=False)
    report.add_argument("run", help="name of the run, or its folder; `latest` is the newest verification")
    pdf = "print it as PDF as well, with an installed Chromium (default: runs/RUN.pdf)"
    report.add_argument("--pdf", type=Path, nargs="?", const=True, metavar="FILE", help=pdf)
    report.add_argument("--page", type=Path, metavar="FILE", help="where the page goes instead; the run stays as it is")
    integrity = command("integrity", integrity_command, executes=False)
    integrity.add_argument("run", help="name of the run, its folder, or `latest`")
    integrity.add_argument("--digest", metavar="SHA256", help="what was noted of it elsewhere, as in the e-mail of its acceptance")
    accept = command("accept", accept_command, executes=False)
    accept.add_argument("run", help="name of the verification, its folder, or `latest`")
    accept.add_argument("--by", required=True, metavar="NAME", help="who accepts it")
    accept.add_argument("--despite", metavar="REASON", help="why, although something fails or was not examined")
    diff = command("diff", diff_command, executes=False)
    diff.add_argument("before", metavar="RUN", help="what it was like: name of a run, its folder, or `latest`")
    diff.add_argument("after", metavar="RUN", help="what it is like now")
    diff.add_argument("--page", type=Path, metavar="FILE", help="where the page goes (default: beside the runs)")
    history = command("history", history_command, executes=False)
    cli_history.add_arguments(history, list(TARGETS))
    command("scorecard", scorecard_command, executes=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The commands `runbook history` and `scorecard`, and what every run, verify and drill adds to them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from runbook.drills.catalogue import DRILLS
from runbook.evidence.archive import Archive, Entry
from runbook.evidence.records import RUN, record
from runbook.evidence.store import PAGE, EvidenceError, write_atomically
from runbook.notebooks import UsageError, list_notebooks
from runbook.report.history import as_csv, as_json, as_text
from runbook.report.latest import LATEST, newest_verification, write_latest
from runbook.report.scorecard import Scorecard
from runbook.whole_number import whole_number

_STANDARD_OUTPUT = "-"


def add_arguments(parser: argparse.ArgumentParser, targets: Sequence[str]) -> None:
    """Declare the options of `history`."""
    parser.add_argument("name", nargs="*", metavar="NAME", help="of notebooks or drills, or `verify` (default: all)")
    parser.add_argument("--target", choices=targets, help="only what ran on it")
    parser.add_argument("--last", type=whole_number, metavar="N", help="only the newest N runs")
    parser.add_argument("--csv", metavar="FILE", help="write a row for each measurement there; - prints it instead of the table")
    parser.add_argument("--json", metavar="FILE", help="write the entries of the archive there; - prints them instead of the table")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write a page with the trends there")


def history_command(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Tell what was found from run to run.

    Raises:
        UsageError: there is no such run.
        EvidenceError: the archive is damaged, or a file can't be written.
    """
    if options.csv == options.json == _STANDARD_OUTPUT:
        raise UsageError("--csv - and --json - would print both into one another: name a file for one of them")
    entries = _chosen(options, environ)
    exports = {"csv": (options.csv, as_csv), "json": (options.json, as_json)}
    printed = [write for file, write in exports.values() if file == _STANDARD_OUTPUT]
    print(printed[0](entries).removesuffix("\n") if printed else as_text(entries))
    written = {name: (Path(file), write) for name, (file, write) in exports.items() if file not in (None, _STANDARD_OUTPUT)}
    if options.page:
        # Not at the top: a table needs no templates.
        from runbook.report.history_page import history_page

        written["page"] = (options.page, history_page)
    for name, (path, write) in written.items():
        _write(path, write(entries), name)
        if not printed:
            print(f"{name}: {path}")


def record_runs(paths: Sequence[Path], options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Take finished runs into the history, and write the scorecard anew.

    Raises:
        EvidenceError: the archive is damaged, or can't be written.
    """
    archive = Archive(options.runs, environ)
    for path in paths:
        record(path, archive)
    write_scorecard(options.runs, options, archive)


def scorecard_command(options: argparse.Namespace, environ: Mapping[str, str]) -> Scorecard:
    """Write the scorecard anew, and print it.

    Raises:
        EvidenceError: the archive is damaged, or the page can't be written.
    """
    archive = Archive(options.runs, environ)
    card = write_scorecard(options.runs, options, archive)
    print()
    print(card.text())
    return card


def latest_run(runs: Path, environ: Mapping[str, str]) -> Path:
    """Return the folder of the newest verification, which `latest` names on the command line.

    Raises:
        UsageError: there is none.
        EvidenceError: the archive is damaged.
    """
    newest = newest_verification(runs, Archive(runs, environ).entries(RUN))
    if newest is None:
        raise UsageError(f"{runs} holds no verification yet: `runbook verify` makes one, and {LATEST} is then its name")
    return newest


def write_scorecard(runs: Path, options: argparse.Namespace, archive: Archive) -> Scorecard:
    """Write the scorecard of a folder of runs anew.

    Args:
        runs: the folder.
        options: of the command, which say where the notebooks are.
        archive: of those runs.

    Raises:
        EvidenceError: the archive is damaged, or the page can't be written.
    """
    catalogue = {"notebook": [notebook.name for notebook in list_notebooks(options.notebooks)], "drill": list(DRILLS)}
    card = write_latest(runs, archive, catalogue)
    print(f"scorecard: {runs / LATEST / PAGE}")
    return card


def _chosen(options: argparse.Namespace, environ: Mapping[str, str]) -> list[Entry]:
    entries = Archive(options.runs, environ).entries(RUN)
    if not entries:
        raise UsageError(f"{options.runs} holds no history yet: each `runbook run`, `verify` and `drill` adds to it")
    names = sorted({entry.content["name"] for entry in entries})
    for name in options.name:
        if name not in names:
            raise UsageError(f"there is no run of {name} in the history; there are runs of {', '.join(names)}")
    chosen = [
        entry
        for entry in entries
        if (not options.name or entry.content["name"] in options.name) and options.target in (None, entry.content["target"])
    ]
    if not chosen:
        raise UsageError(f"nothing of that ran on the target {options.target} yet: leave --target away to see where it did")
    return chosen[-options.last :] if options.last else chosen


def _write(path: Path, text: str, option: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise EvidenceError(f"{path} can't be written ({error.strerror}): name another file with --{option}") from error

"""What each run adds to the history and the scorecard, by real processes on a real server."""

import hashlib
import subprocess
import sys

import nbformat

from runbook.drills.catalogue import DRILLS
from runbook.evidence.archive import Archive
from runbook.evidence.store import MANIFEST

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CELLS = (
    "import runbook; book = runbook.open('quick')",
    "book.show(runbook.setup.check_health(book.target))",
    "book.verdict()",
)


def runbook(runs, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "runbook", *map(str, arguments), "--runs", str(runs)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_verification_and_its_runs_are_recorded_once_and_shown_by_latest(tmp_path, run_here):
    runs = tmp_path / "runs"
    (tmp_path / "books").mkdir()
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), tmp_path / "books" / "quick.ipynb")
    done = runbook(runs, "verify", "--notebooks", tmp_path / "books")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"scorecard: {runs / 'latest' / 'index.html'}" in done.stdout
    (run,), (verification,) = runs.glob("*-quick"), runs.glob("*-verify")
    entries = Archive(runs, {}).entries()
    assert [(entry.run, entry.content["name"]) for entry in entries] == [(run.name, "quick"), (verification.name, "verify")]
    manifests = [hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest() for path in (run, verification)]
    assert [entry.content["manifest_sha256"] for entry in entries] == manifests
    assert (runs / "latest" / "acceptance.html").read_bytes() == (verification / "index.html").read_bytes()
    assert f"Fresh, as far as it ran: 1 of {len(DRILLS) + 1} are fresh" in (runs / "latest" / "index.html").read_text(encoding="utf-8")
    done = run_here("report", "latest", "--runs", runs)
    assert (done.returncode, done.stdout) == (0, f"page: {verification / 'index.html'}\n")
    assert Archive(runs, {}).entries() == entries  # a page that is rendered again is no run

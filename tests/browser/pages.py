"""Pages to look at, rendered from evidence that no server was needed for: the committed notebooks with verdicts of every kind."""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook import verification
from runbook.drills.catalogue import DRILLS
from runbook.evidence.archive import Archive
from runbook.evidence.environment import describe_host, describe_versions
from runbook.evidence.notebook import read_verdict
from runbook.evidence.records import record
from runbook.evidence.store import NOTEBOOK, PAGE, RESULT, SCHEMA_VERSION, RunFolder
from runbook.evidence.verdict import Verdict
from runbook.execute import Run
from runbook.notebooks import DEFAULT, Notebook, list_notebooks
from runbook.report.diff import compare
from runbook.report.diff_page import write_diff
from runbook.report.history_page import history_page
from runbook.report.latest import LATEST, write_latest
from runbook.report.page import write_page
from tests.unit.runbook.report import test_diff as loads
from tests.unit.runbook.report.entries import entry, measured

Json = dict[str, Any]

STARTED = "2026-01-01T00:00:00+00:00"
# A verification with a notebook of each kind, and with known failures of the server; what needs an engine is not examined.
MIXED = {
    "aof-damage-drill": Verdict.PASS,
    "latency-benchmark": Verdict.INCONCLUSIVE,
    "persistence-drill": Verdict.PASS,
    "reconnection-drill": Verdict.FAIL,
    "setup": None,
}
REASONS = {
    Verdict.FAIL: "1 of 4 writers never came back; the first, writer-2, waited from 3.1 s to the end",
    Verdict.INCONCLUSIVE: "the interval of 99 % reaches from 0.7 to 1.4 ms, and the limit lies within: the host was too busy to tell",
}
# Long words, as servers and kernels say them, which no browser breaks by itself.
BREAKAGE = "code cell 2 of 9 raised ConnectionError: Error 111 connecting to 127.0.0.1:6379: " + "/proc/sys/vm/overcommit_memory" * 4


def notebook_run(runs: Path, notebook: Notebook, verdict: Verdict | None = Verdict.PASS) -> Run:
    """Make the run folder of a committed notebook that came to this verdict; its last finding decided it."""
    folder = RunFolder.create(runs, notebook.name, {})
    shutil.copy(notebook.path, folder.path / NOTEBOOK)
    reading = read_verdict(folder.read_json(NOTEBOOK))
    findings = [dict(finding) for finding in reading.details["findings"]]
    if verdict in REASONS:
        findings[-1].update(verdict=verdict, reason=REASONS[verdict])
    criteria = {} if verdict is None else {**reading.data["criteria"], findings[-1]["criterion"]: verdict}
    result = {
        "schema_version": SCHEMA_VERSION,
        "kind": "notebook",
        "run": folder.name,
        "notebook": notebook.name,
        "title": notebook.title,
        "question": notebook.question,
        "limits": getattr(notebook, "limits", ""),
        "verdict": verdict,
        "broken": "" if verdict else BREAKAGE,
        "interrupted": False,
        "criteria": criteria,
        "parameters": {"target": "embedded", "rate_per_s": 1000},
        "started_utc": STARTED,
        "finished_utc": STARTED,
        "duration_s": 12.3,
        **{name: reading.details.get(name) for name in ("target", "engine", "host", "versions")},
        "findings": findings if verdict else [],
    }
    folder.write_json(RESULT, result)
    folder.write_manifest()
    return Run(notebook, folder, verdict, str(result["broken"]), {name: Verdict(each) for name, each in criteria.items()})


def verified(runs: Path, verdicts: Mapping[str, Verdict | None]) -> Path:
    """Make a verification of these notebooks, and return its folder."""
    chosen = [notebook for notebook in list_notebooks() if notebook.name in verdicts]
    done = [notebook_run(runs, notebook, verdicts[notebook.name]) for notebook in chosen]
    plan = verification.Plan("embedded", DEFAULT, tuple(run.notebook.name for run in done))
    folder = verification.conclude(verification.Ended(done, None, "", datetime.now(UTC)), plan, runs, {})
    folder.write_manifest()
    return folder.path


def _page(folder: Path) -> Path:
    write_page(folder)
    return folder / PAGE


def drills_result(count: int) -> Json:
    """A result of so many drills, with a verdict of each kind, a broken one, and known failures of the server."""
    drills = list(DRILLS.values())
    done = []
    measured = {"name": "acknowledged writes lost", "value": 1234, "unit": "writes", "samples": 56789, "threshold": "= 0"}
    for number in range(count):
        drill, verdict = drills[number % len(drills)], [Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, None][number % 4]
        findings = [
            {"criterion": "I-4", "claim": "No acknowledged write is lost", "verdict": verdict, "reason": REASONS.get(verdict, "")},
            {"criterion": "I-5", "claim": "Every writer goes on by itself", "verdict": "PASS", "reason": ""},
            {
                "criterion": "I-4",
                "claim": "Redis notices a changed byte",
                "verdict": "FAIL",
                "reason": "1 of 1 was loaded, and served",
                "known": "its append-only file carries no checksum of a command",
            },
        ]
        done.append(
            {
                "name": drill.name if number < len(drills) else f"{drill.name}-{number // len(drills) + 1}",
                "question": drill.question,
                "promise": drill.promise,
                "faults": list(drill.faults),
                "verdict": verdict,
                "broken": "" if verdict else BREAKAGE,
                "known": 1 if verdict else 0,
                "times": 3,
                "duration_s": 12.3,
                "findings": [{**finding, "measured": [measured, measured]} for finding in findings] if verdict else [],
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "drills",
        "run": "20260101T000000Z-drill",
        "verdict": Verdict.FAIL,
        "broken": ", ".join(each["name"] for each in done if each["broken"]),
        "interrupted": False,
        "target": "embedded",
        "parameters": {"profile": "quick", "seed": 7},
        "started_utc": STARTED,
        "finished_utc": STARTED,
        "duration_s": 12.3 * count,
        "controls": {"failed_as_they_must": 3, "of": 4},
        "drills": done,
        "engine": {"product": "redis", "version": "7.0.15", "found_by": "redis-server on PATH"},
        "host": describe_host(),
        "versions": describe_versions(),
    }


def drills_run(runs: Path, count: int) -> Path:
    """Make the run folder of so many drills."""
    folder = runs / "20260101T000000Z-drill"
    folder.mkdir(parents=True)
    (folder / RESULT).write_text(json.dumps(drills_result(count)))
    return folder


def _notebook(name: str, verdict: Verdict | None) -> Callable[[Path], Path]:
    def make(runs: Path) -> Path:
        notebook = next(each for each in list_notebooks() if each.name == name)
        return _page(notebook_run(runs, notebook, verdict).folder.path)

    return make


def _diff(runs: Path) -> Path:
    slower = loads.run("20260101T000001Z-latency-benchmark", loads.offered("b", 300))
    write_diff(compare(loads.run("20260101T000000Z-latency-benchmark", loads.offered("a")), slower), runs / "diff.html")
    return runs / "diff.html"


def _scorecard(runs: Path) -> Path:
    """After a verification that is stale by now: drills that are fresh, failed, broken, undecided, and some that never ran."""
    archive = Archive(runs, {})
    for run in (verified(runs, MIXED), *runs.glob("*-persistence-drill"), *runs.glob("*-setup")):
        record(run, archive)
    today = datetime.now(UTC).date().isoformat()
    for number, (name, verdict) in enumerate(zip(DRILLS, ["PASS", "FAIL", "INCONCLUSIVE", None], strict=False)):
        content = entry(number, day=today, kind="drill", name=name, verdict=verdict, broken="" if verdict else BREAKAGE).content
        archive.append("run", f"20260101T000000Z-{number}-drill", content)
    write_latest(runs, archive, {"notebook": [each.name for each in list_notebooks()], "drill": list(DRILLS)})
    return runs / LATEST / PAGE


def _history(runs: Path) -> Path:
    numbers = [(0.31, "PASS"), (0.42, "PASS"), (1.7, "FAIL"), (None, None), (0.35, "PASS")]
    told = [
        entry(number, measured(value), measured(0, "= 0", "writes lost", "writes"), day=f"2026-03-0{number}", verdict=verdict)
        for number, (value, verdict) in enumerate(numbers, 1)
    ]
    page = runs / "history.html"
    page.write_text(history_page(told), encoding="utf-8")
    return page


# Each page by name, and how it is made under an empty folder of runs; a new page is a line here.
PAGES: dict[str, Callable[[Path], Path]] = {
    "verification": lambda runs: _page(verified(runs, MIXED)),
    "notebook": _notebook("latency-benchmark", Verdict.PASS),
    "notebook-broken": _notebook("setup", None),
    "drills": lambda runs: _page(drills_run(runs, 8)),
    "diff": _diff,
    "scorecard": _scorecard,
    "history": _history,
}


@functools.cache
def content(name: str) -> bytes:
    """Make a page once, and return what it holds; the folder that it was made in is gone by then."""
    with tempfile.TemporaryDirectory(prefix="runbook-pages-") as scratch:
        return PAGES[name](Path(scratch)).read_bytes()

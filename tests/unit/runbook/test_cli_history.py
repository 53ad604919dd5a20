"""`runbook history`, `runbook scorecard` and `latest` over entries of the archive: what is printed, what is written, how it ends."""

import csv
import io
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbook.cli import main
from runbook.evidence.archive import Archive
from runbook.notebooks import FOLDER, list_notebooks
from tests.unit.runbook.report.entries import entry, measured


class Done:
    """What a command printed, and how it ended."""

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        self.status, self.stdout, self.stderr = status, stdout, stderr


Runbook = Callable[..., Done]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def runbook(runs: Path, capsys: pytest.CaptureFixture[str]) -> Runbook:
    def call(*arguments: object) -> Done:
        before = signal.getsignal(signal.SIGTERM)
        try:
            status = main([*map(str, arguments), "--runs", str(runs)])
        except SystemExit as ended:  # argparse's way to refuse
            status = int(ended.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
        return Done(status, *capsys.readouterr())

    return call


def add(runs: Path, name: str = "setup", days_ago: float = 0.0, verdict: str | None = "PASS", **content: Any) -> None:
    began = datetime.now(UTC) - timedelta(days=days_ago)
    times = dict.fromkeys(("started_utc", "finished_utc"), began.isoformat(timespec="seconds"))
    numbers = [measured(0.3 + days_ago, verdict=verdict)] if verdict else []
    runs.mkdir(exist_ok=True)
    kept = entry(1, *numbers, **{"name": name, "verdict": verdict, **times, **content}).content
    Archive(runs, {}).append("run", f"{began:%Y%m%dT%H%M%SZ}-{name}", kept)


def test_the_folder_latest_is_never_taken_for_a_run(runbook: Runbook, runs: Path) -> None:
    add(runs)
    assert runbook("scorecard").status == 0
    before = (runs / "latest" / "index.html").read_bytes()
    for name in ("latest", runs / "latest", f"{runs}/latest/"):
        done = runbook("report", name)
        assert done.status == 2
        assert "holds no verification yet: `runbook verify` makes one" in done.stderr
    assert (runs / "latest" / "index.html").read_bytes() == before


@pytest.mark.parametrize(
    ("last", "status", "words"),
    [
        ({}, 0, "Fresh, as far as it ran: 1 of "),
        ({"days_ago": 8.0}, 1, "Stale: 0 of "),
        ({"verdict": "FAIL"}, 1, "Failing: "),
        ({"name": "stop", "kind": "drill", "days_ago": 8.0}, 0, "Fresh, as far as it ran: 1 of "),
    ],
)
def test_the_scorecard_exits_with_what_needs_somebody(runbook: Runbook, runs: Path, last: dict[str, Any], status: int, words: str) -> None:
    add(runs, **last)
    done = runbook("scorecard")
    assert done.status == status, done.stdout + done.stderr
    assert words in done.stdout


@pytest.mark.parametrize(
    ("last", "status"), [({"verdict": "INCONCLUSIVE"}, 3), ({"verdict": None, "broken": "the kernel died"}, 4), ({"verdict": "FAIL"}, 1)]
)
def test_a_last_run_that_decided_nothing_is_told_apart_from_a_failure(
    runbook: Runbook, runs: Path, last: dict[str, Any], status: int
) -> None:
    add(runs, days_ago=1.0)
    add(runs, **last)
    assert runbook("scorecard").status == status


def test_without_any_run_the_scorecard_lists_all_that_there_is(runbook: Runbook, runs: Path) -> None:
    done = runbook("scorecard")
    assert done.status == 3
    assert all(notebook.name in done.stdout for notebook in list_notebooks(FOLDER))
    assert "power-loss " in done.stdout


def test_the_history_is_narrowed_and_exported(runbook: Runbook, runs: Path, tmp_path: Path) -> None:
    for days_ago, target in ((3.0, "embedded"), (2.0, "compose"), (1.0, "embedded"), (0.0, "embedded")):
        add(runs, days_ago=days_ago, target=target)
    add(runs, "deployment", verdict="FAIL")
    done = runbook("history", "setup", "--target", "embedded", "--last", "2", "--csv", tmp_path / "all.csv")
    assert done.status == 0, done.stdout + done.stderr
    assert f"csv: {tmp_path / 'all.csv'}" in done.stdout
    assert done.stdout.count(" setup ") == 2
    assert "GET p99: 0.3 ms (< 1 ms, of 1,200)" in done.stdout
    rows = list(csv.DictReader((tmp_path / "all.csv").open(newline="", encoding="utf-8")))
    assert [row["value"] for row in rows] == ["1.3", "0.3"]
    printed = runbook("history", "--csv", "-").stdout
    assert len(list(csv.DictReader(io.StringIO(printed)))) == 5
    page = tmp_path / "page.html"
    done = runbook("history", "--page", page)
    assert f"page: {page}" in done.stdout
    assert "GET p99 of setup in 3 runs" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["stup"], "there is no run of stup in the history; there are runs of deployment, setup"),
        (["--target", "remote"], "nothing of that ran on the target remote yet"),
        (["--csv", "-", "--json", "-"], "name a file for one of them"),
        (
            ["--csv", "/no/such/folder/a.csv"],
            "/no/such/folder/a.csv can't be written (No such file or directory): name another file with --csv",
        ),
        (["--last", "0"], "invalid whole number from 1 value: '0'"),
    ],
)
def test_wrong_usage_is_explained_and_exits_with_2(runbook: Runbook, runs: Path, arguments: list[str], complaint: str) -> None:
    add(runs)
    add(runs, "deployment")
    done = runbook("history", *arguments)
    assert done.status == 2
    assert complaint in done.stderr


def test_before_the_first_run_it_is_said_what_makes_a_history(runbook: Runbook, runs: Path) -> None:
    done = runbook("history")
    assert done.status == 2
    assert "holds no history yet: each `runbook run`, `verify` and `drill` adds to it" in done.stderr


def test_an_altered_history_is_refused(runbook: Runbook, runs: Path) -> None:
    add(runs)
    (runs / "history.sqlite3").write_bytes(b"no database at all, but long enough to be read as one" * 100)
    for subcommand in ("history", "scorecard"):
        done = runbook(subcommand)
        assert done.status == 2
        assert "history.sqlite3 can't be used" in done.stderr

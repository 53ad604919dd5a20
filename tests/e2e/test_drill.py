"""The drills as their users meet them: done, interrupted, killed, refused, healed; and nothing of them stays behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from runbook.drilling import Order, perform
from runbook.drills.catalogue import DRILLS
from runbook.drills.undo import STATE_VARIABLE
from runbook.evidence.archive import Archive
from tests.e2e.conftest import Ended
from tests.schema import read_result

pytestmark = pytest.mark.timeout(120)

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root may mount a disk")


class Ground:
    """A user's folders: state, runs and temporary files, all below one, so that what stays behind is seen."""

    def __init__(self, folder: Path) -> None:
        self.state, self.runs, self.scratch = (folder / name for name in ("state", "runs", "scratch"))
        self.scratch.mkdir()
        self.environ = {**os.environ, STATE_VARIABLE: str(self.state), "TMPDIR": str(self.scratch)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "runbook", *arguments, "--runs", str(self.runs)]

    def run(self, *arguments: str, timeout_s: float = 100, **environ: str) -> subprocess.CompletedProcess[str]:
        environ = {**self.environ, **environ}
        return subprocess.run(self.command(*arguments), env=environ, capture_output=True, text=True, timeout=timeout_s, check=False)

    @contextlib.contextmanager
    def running(self, *arguments: str, until: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command and wait until it prints something; interrupt it in the end if it still runs."""
        with subprocess.Popen(
            self.command(*arguments), env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                _read_until(process.stdout, until)
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    process.communicate(timeout=60)

    def result(self) -> dict[str, Any]:
        (path,) = self.runs.glob("*-drill")
        return read_result(path)

    @property
    def left(self) -> list[str]:
        """What stayed behind: files, mounts, entries of the ledger, processes."""
        return [
            *(str(path) for path in self.scratch.iterdir()),
            *self.mounts,
            *(str(path) for path in (self.state / "undo").glob("*")),
            *(f"process {pid}" for pid in _working_below(self.scratch)),
        ]

    @property
    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.scratch) in line]


def _read_until(stream: IO[str] | None, word: str) -> None:
    assert stream
    seen = ""
    while word not in seen:
        line = stream.readline()
        assert line, seen
        seen += line


def _working_below(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(f"{folder}/"):
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


class TestDone:
    def test_a_drill_passes_writes_its_page_and_leaves_nothing_behind(self, ground: Ground) -> None:
        done = ground.run("drill", "stop", "--seed", "7")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "stop: PASS" in done.stdout
        assert ground.left == []
        result = ground.result()
        assert (result["verdict"], result["parameters"]) == ("PASS", {"profile": "quick", "seed": 7})
        assert result["started_utc"] < result["finished_utc"]
        (folder,) = ground.runs.glob("*-drill")
        assert "What becomes of this Redis when something breaks?" in (folder / "index.html").read_text()
        assert (folder / "manifest.json").exists()
        assert list(folder.glob("samples-stop-*.csv.gz"))
        (recorded,) = Archive(ground.runs, {}).entries()
        assert (recorded.run, recorded.content["kind"], recorded.content["name"]) == (folder.name, "drill", "stop")
        page = (folder / "index.html").read_bytes()
        assert ground.run("report", folder.name).returncode == 0
        assert (folder / "index.html").read_bytes() == page

    def test_where_it_can_t_be_answered_it_is_inconclusive_with_the_reason(self, ground: Ground, run_here: Callable[..., Ended]) -> None:
        environ = {STATE_VARIABLE: str(ground.state), "REDIS_HOST": "127.0.0.1"}
        done = run_here("drill", "power-loss", "--target", "remote", "--runs", ground.runs, **environ)
        assert done.returncode == 3
        assert "choose embedded" in done.stdout


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ((), "name the drills, or say --all"),
            (("stop", "--all"), "name the drills, or say --all"),
            (("nosuch",), "there is no drill nosuch; there are stop"),
            (("stop", "--times", "0"), "whole number from 1"),
            (("stop", "--profile", "slow"), "invalid choice"),
        ],
    )
    def test_wrong_input_is_told_and_nothing_is_done(
        self, ground: Ground, arguments: tuple[str, ...], told: str, run_here: Callable[..., Ended]
    ) -> None:
        done = run_here("drill", *arguments, "--runs", ground.runs, **{STATE_VARIABLE: str(ground.state)})
        assert done.returncode == 2
        assert told in done.stderr
        assert not ground.runs.exists()

    def test_two_at_once_are_refused(self, ground: Ground, run_here: Callable[..., Ended]) -> None:
        with ground.running("drill", "power-loss", until="cut 1"):
            second = run_here("drill", "stop", "--runs", ground.runs, **{STATE_VARIABLE: str(ground.state)})
        assert second.returncode == 2
        assert "another drill is at work (power-loss, pid" in second.stderr


class TestBroken:
    def test_ctrl_c_heals_keeps_what_was_found_and_says_so(self, ground: Ground) -> None:
        with ground.running("drill", "stop", "power-loss", until="cut 1") as process:
            _await(lambda: bool(list(ground.scratch.glob("runbook-drill-*/runbook-journal-*/lane-*"))))  # the load has begun
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)  # by somebody who can't wait
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "interrupted: healing" in output
        assert list(ground.runs.glob("*-drill/samples-power-loss-unfinished-*.csv.gz"))
        assert ground.left == []
        result = ground.result()
        assert [(drill["name"], drill["verdict"], drill["broken"]) for drill in result["drills"]] == [
            ("stop", "PASS", ""),
            ("power-loss", None, "it was interrupted"),
        ]

    @needs_root
    def test_a_crash_leaves_a_ledger_which_refuses_the_next_drill_until_it_is_healed(self, ground: Ground) -> None:
        with ground.running("drill", "power-loss", until="cut 1") as process:
            process.kill()
            process.wait()
        _await(lambda: not _working_below(ground.scratch))  # its processes end with it
        assert len(ground.mounts) == 1
        refused = ground.run("drill", "stop")
        assert refused.returncode == 2
        assert "run `runbook heal` first" in refused.stderr
        healed = ground.run("heal")
        assert healed.returncode == 0
        assert "undone: mount" in healed.stdout
        assert ground.left == []
        assert "nothing left to undo" in ground.run("heal").stdout

    @needs_root
    def test_the_death_of_the_worker_alone_is_healed_by_the_one_who_watches(self, ground: Ground) -> None:
        with ground.running("drill", "power-loss", until="cut 1") as process:
            (worker,) = (int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
            os.kill(worker, signal.SIGKILL)
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 4
        assert "healed what it left: mount" in output
        assert "BROKEN: it ended with status -9" in output
        assert ground.left == []

    def test_the_watchdog_ends_a_drill_that_takes_too_long(self, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(ground.scratch))
        monkeypatch.setattr("tempfile.tempdir", None)
        drill = replace(DRILLS["power-loss"], limit_s={"quick": 2.0})
        said: list[str] = []
        (done,), _ = perform([Order(drill, "embedded", "quick", 1)], ground.runs, ground.environ, lambda name, what: said.append(what))
        assert done.verdict is None
        assert done.broken == "the watchdog ended it after 2 s"
        assert ground.left == []


class TestConfirmed:
    def test_a_plan_tells_what_would_happen_and_does_nothing(self, ground: Ground, run_here: Callable[..., Ended]) -> None:
        planned = run_here("plan", "--all", "--profile", "full", "--runs", ground.runs, **{STATE_VARIABLE: str(ground.state)})
        assert planned.returncode == 0
        for name in DRILLS:
            assert f"{name}: {DRILLS[name].question}" in planned.stdout
        for word in ("target", "faults", "blast radius", "roll-back", "watchdog"):
            assert word in planned.stdout
        assert not ground.runs.exists()


def _await(condition: Callable[[], bool], patience_s: float = 20.0) -> None:
    until_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.05)

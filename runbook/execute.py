"""papermill, made honest: notebooks side by side, each in its own process, and a result only for those that earned one."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from cachelib import Config
from runbook.cleanup import CLEANUP_VARIABLE, await_all
from runbook.evidence.environment import circumstances
from runbook.evidence.notebook import Reading, read_verdict
from runbook.evidence.secrets import redact, secrets_of
from runbook.evidence.store import FOLDER_VARIABLE, NOTEBOOK, RESULT, SCHEMA_VERSION, EvidenceError, RunFolder
from runbook.evidence.verdict import Verdict
from runbook.notebooks import Notebook, Value
from runbook.progress import PROGRESS_VARIABLE
from runbook.stopping import INTERRUPTED, stoppable
from runbook.targets.project import with_password
from runbook.tether import tethered

CELL_TIMEOUT_S = 300.0
RUN_TIMEOUT_S = 600.0
# How often it is looked whether the user wants it to stop, and whether a notebook's time is over.
LOOK_S = 0.2
# How long an interrupted notebook may take to save what it has.
GRACE_S = 10.0
# How long what a killed notebook has left may take to be removed.
CLEANUP_TIMEOUT_S = 60.0
CLEANUP_LOCK = "cleanup.lock"

# Called with the notebook's name and what just happened to it.
Progress = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A notebook to execute, with the values of its parameters."""

    notebook: Notebook
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Run:
    """An executed notebook.

    Attributes:
        notebook: which.
        folder: its evidence.
        verdict: the one that it earned; None if it is broken.
        breakage: why it is broken; empty otherwise.
        criteria: its verdict on each criterion.
        interrupted: whether it was ended by Ctrl-C.
    """

    notebook: Notebook
    folder: RunFolder
    verdict: Verdict | None
    breakage: str
    criteria: Mapping[str, Verdict]
    interrupted: bool = False


@dataclass(slots=True)
class _Worker:
    job: Job
    folder: RunFolder
    process: subprocess.Popen[str]
    complaints: IO[str]
    said: IO[str]
    environ: Mapping[str, str]
    started: datetime
    began_s: float = field(default_factory=time.monotonic)
    took_s: float | None = None
    problem: str = ""


def execute(
    jobs: Sequence[Job],
    runs: Path,
    environ: Mapping[str, str],
    *,
    progress: Progress,
    cell_timeout_s: float = CELL_TIMEOUT_S,
    run_timeout_s: float = RUN_TIMEOUT_S,
) -> list[Run]:
    """Execute notebooks side by side, and then, one after the other, those that measure.

    Args:
        jobs: what to execute.
        runs: the folder under which each gets a run folder.
        environ: handed on to the notebooks; its secrets are kept out of everything that is written.
        progress: told when a cell begins, and when a notebook ends.
        cell_timeout_s: bound of each cell, in seconds.
        run_timeout_s: bound of each notebook, in seconds.

    After Ctrl-C, or SIGTERM, the notebooks are ended, and each keeps what it had recorded; the runs say `interrupted`, and those that had
    not begun are left out. A second one changes nothing.
    """
    with (
        tempfile.TemporaryDirectory(prefix="runbook-") as scratch,
        stoppable("it keeps what was recorded, and ends then") as stop,
        contextlib.ExitStack() as started,
    ):
        started.callback(_await_cleanup, Path(scratch), progress)  # after all of them have ended, however they did
        workers: list[_Worker] = []
        for phase in _phases(jobs):
            if workers:
                _await_cleanup(Path(scratch), progress)
            begun = [started.enter_context(_working(job, runs, Path(scratch), environ, cell_timeout_s)) for job in phase]
            workers += begun
            _follow(begun, progress, run_timeout_s, stop)
            if stop.is_set():
                progress("runbook", "interrupted: ending the notebooks and keeping what they recorded")
                _end(begun)
                break
        workers.sort(key=lambda worker: jobs.index(worker.job))
        return [_conclude(worker, progress, stop.is_set()) for worker in workers]


def _phases(jobs: Sequence[Job]) -> list[list[Job]]:
    """Put first what may run side by side; then, each alone on a host that has become quiet, what measures."""
    busy = [job for job in jobs if job.notebook.pace != "measures"]
    return [*([busy] if busy else []), *([job] for job in jobs if job not in busy)]


@contextlib.contextmanager
def _working(job: Job, runs: Path, scratch: Path, environ: Mapping[str, str], cell_timeout_s: float) -> Iterator[_Worker]:
    environ = with_password(environ)
    folder = RunFolder.create(runs, job.notebook.name, environ)
    said = scratch / f"{folder.name}.progress"
    said.touch()
    private = {
        FOLDER_VARIABLE: str(folder.path.resolve()),
        PROGRESS_VARIABLE: str(said),
        CLEANUP_VARIABLE: str(scratch / CLEANUP_LOCK),
        # Whatever a notebook leaves behind, were it killed, is under a folder that we remove.
        "TMPDIR": str(scratch),
        "JUPYTER_RUNTIME_DIR": str(scratch),
        "IPYTHONDIR": str(scratch / "ipython"),
        # The kernel is the one of this environment, not one that the user has installed under the same name.
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]),
    }
    with contextlib.ExitStack() as opened:
        reader = opened.enter_context(said.open(encoding="utf-8"))
        complaints = opened.enter_context((scratch / f"{folder.name}.stderr").open("w+", errors="replace"))
        process = subprocess.Popen(
            tethered([sys.executable, "-m", "runbook.worker", str(job.notebook.path), str(folder.path.resolve()), str(cell_timeout_s)]),
            env={**environ, **private},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us alone, and we decide how each worker ends
        )
        worker = _Worker(job, folder, process, complaints, reader, environ, datetime.now(UTC))
        try:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError), process.stdin:
                json.dump(dict(job.parameters), process.stdin)
            yield worker
        finally:
            if process.poll() is None:
                _end([worker])
            if process.stdout:
                process.stdout.close()


def _follow(workers: Sequence[_Worker], progress: Progress, run_timeout_s: float, stop: threading.Event) -> None:
    """Follow workers until all have ended, or are to be stopped."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            assert worker.process.stdout
            selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        while selector.get_map() and not stop.is_set():
            for key, _ in selector.select(LOOK_S):
                worker = key.data
                line = worker.process.stdout.readline()
                if line:
                    _heed(worker, line, progress)
                else:
                    selector.unregister(key.fileobj)
                    worker.process.wait()
                    worker.took_s = time.monotonic() - worker.began_s
                    progress(worker.job.notebook.name, "ended")
            for worker in workers:
                for text in worker.said:
                    progress(worker.job.notebook.name, text.rstrip())
                if worker.process.poll() is None and time.monotonic() - worker.began_s > run_timeout_s:
                    worker.problem = f"it took longer than {run_timeout_s:g} s"
                    _end([worker])


def _heed(worker: _Worker, line: str, progress: Progress) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        return  # something else that a library printed
    if "error" in event:
        worker.problem = event["error"]
    elif event.get("cell"):
        progress(worker.job.notebook.name, f"cell {event['cell']} of {event['of']}")


def _end(workers: Sequence[_Worker]) -> None:
    """Interrupt workers, and kill those that don't end in time; a worker's kernel and server end with it."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGINT)
    until_s = time.monotonic() + GRACE_S
    for worker in workers:
        try:
            worker.process.wait(max(0.1, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


def _await_cleanup(scratch: Path, progress: Progress) -> None:
    if not await_all(scratch / CLEANUP_LOCK, CLEANUP_TIMEOUT_S):
        progress("runbook", f"what a notebook left is not removed after {CLEANUP_TIMEOUT_S:g} s; that goes on in the background")


def _conclude(worker: _Worker, progress: Progress, interrupted: bool) -> Run:
    notebook, folder = worker.job.notebook, worker.folder
    try:
        reading = read_verdict(folder.read_json(NOTEBOOK))
    except EvidenceError:
        reading = Reading(None, "it did not start", {}, {})
    breakage = _breakage(worker, reading, interrupted)
    verdict = None if breakage else reading.verdict
    findings = reading.details.get("findings", [])
    took_s = time.monotonic() - worker.began_s if worker.took_s is None else worker.took_s
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "notebook",
        "run": folder.name,
        "notebook": notebook.name,
        "title": notebook.title,
        "question": notebook.question,
        "limits": notebook.limits,
        "verdict": verdict,
        "broken": breakage,
        "interrupted": breakage == INTERRUPTED,
        "criteria": reading.data.get("criteria", {}) if verdict else {},
        "parameters": notebook.defaults | dict(worker.job.parameters),
        "started_utc": worker.started.isoformat(timespec="seconds"),
        "finished_utc": (worker.started + timedelta(seconds=took_s)).isoformat(timespec="seconds"),
        "duration_s": round(took_s, 1),
        **_circumstances(worker, reading.details),
        "findings": findings,
    }
    folder.write_json(RESULT, result)
    progress(notebook.name, f"BROKEN: {breakage}" if breakage else str(verdict))
    criteria = {name: Verdict(value) for name, value in result["criteria"].items()}
    return Run(notebook, folder, verdict, breakage, criteria, interrupted)


def _circumstances(worker: _Worker, told: Mapping[str, Any]) -> dict[str, Any]:
    """Take what the notebook has told with its verdict; where it came to none, what can be told without its server."""
    notebook, parameters = worker.job.notebook, worker.job.parameters
    target = str(parameters.get("target", notebook.default_target))
    seed = (notebook.defaults | dict(parameters)).get("seed")
    known = {
        "target": target,
        **circumstances(None, Config.from_env(worker.environ), target, seed if isinstance(seed, int) else None),
    }
    return {name: known[name] if told.get(name) is None else told[name] for name in known}


def _breakage(worker: _Worker, reading: Reading, interrupted: bool) -> str:
    if interrupted and reading.verdict is None:
        return INTERRUPTED
    if not (reading.breakage or worker.problem):
        return ""
    worker.complaints.seek(0)
    complaint = worker.complaints.read().strip().splitlines()
    reasons = [worker.problem, reading.breakage, complaint[-1] if complaint and not worker.problem else ""]
    return str(redact("; ".join(dict.fromkeys(filter(None, reasons))), secrets_of(worker.environ)))

"""Does drills one after the other, each in a process of its own that is watched: bounded in time, healed after, whatever it does.

Two at once are refused: a drill breaks what another one may rest on, and takes the time that the other one measures.
"""

import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook.drills.drill import Drill
from runbook.drills.undo import UndoLog, heal, left_behind, state_folder
from runbook.evidence import Finding, Measurement, RunFolder, Verdict, combine, verdict_of
from runbook.evidence.environment import describe_host, describe_versions
from runbook.evidence.secrets import redact, secrets_of
from runbook.evidence.store import RESULT, SCHEMA_VERSION
from runbook.load.journal import PREFIX, read_journal
from runbook.notebooks import UsageError
from runbook.tether import tethered

# How long a drill that was interrupted may take to heal; then it is killed, and healed from its ledger.
GRACE_S = 30.0
# How the claim of a negative control begins: that the drill sees a failure where there must be one.
CONTROL = "Control: "

Progress = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done.

    Attributes:
        drill: which.
        target: where the Redis runs, one of `TARGETS`.
        profile: `quick` or `full`.
        seed: of everything that is chosen by chance.
        times: how often its fault happens; None takes what the profile says.
    """

    drill: Drill
    target: str
    profile: str
    seed: int
    times: int | None = None

    @property
    def effective_times(self) -> int:
        """How often the fault is to happen."""
        return self.times or self.drill.times[self.profile]

    @property
    def limit_s(self) -> float:
        """When the watchdog ends it: as much later as it is to happen more often."""
        return self.drill.limit_s[self.profile] * max(1.0, self.effective_times / self.drill.times[self.profile])


@dataclass(slots=True)
class Done:
    """One drill that was done.

    Attributes:
        order: what was to be done.
        findings: what it found; None if it did not come to an end.
        broken: why it did not; empty if it did.
        engine: which server was drilled.
        took_s: how long it took, in seconds.
        interrupted: whether that was by the user.
    """

    order: Order
    findings: tuple[Finding, ...] | None = None
    broken: str = ""
    engine: Mapping[str, str] | None = None
    took_s: float = 0.0
    interrupted: bool = False

    @property
    def verdict(self) -> Verdict | None:
        """Its verdict, None if it is broken."""
        return None if self.broken or self.findings is None else verdict_of(self.findings)

    @property
    def known(self) -> int:
        """How many failures of the server itself it has shown that are documented."""
        return sum(finding.is_known for finding in self.findings or ())


@dataclass(slots=True)
class _Watched:
    process: subprocess.Popen[str]
    complaints: Any
    said: list[dict[str, Any]] = field(default_factory=list)


def perform(orders: Sequence[Order], runs: Path, environ: Mapping[str, str], progress: Progress) -> tuple[list[Done], RunFolder]:
    """Do drills in turn, and write down what they found, after each of them.

    Args:
        orders: what to do.
        runs: folder of the evidence.
        environ: configuration of the client, choice of the server program, where the state is kept.
        progress: is told the drill's name and what it is about.

    Returns:
        What was done, also if the user interrupted it, and the run folder.

    Raises:
        UsageError: another drill is at work, or one that crashed has left something behind.
        UndoError: what a drill has broken could not be undone.
    """
    state = state_folder(environ)
    with exclusive(state, orders[0].drill.name):
        if left := left_behind(state):
            raise UsageError(f"a drill that crashed has left {len(left)} things behind: run `runbook heal` first")
        folder = RunFolder.create(runs, "drill", environ)
        done: list[Done] = []
        began = datetime.now(UTC)
        for order in orders:
            done.append(_perform_one(order, folder, environ, progress))
            _write(folder, done, began)
            if done[-1].interrupted:
                break
        return done, folder


@contextlib.contextmanager
def exclusive(state: Path, name: str) -> Iterator[None]:
    """Keep other drills of this user from beginning during the block.

    Raises:
        UsageError: one is at work.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "drill.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UsageError(f"another drill is at work ({lock.read().strip()}): wait for its end, or interrupt it") from None
        lock.truncate(0)
        lock.write(f"{name}, pid {os.getpid()}")
        lock.flush()
        yield
        lock.truncate(0)


def _perform_one(order: Order, folder: RunFolder, environ: Mapping[str, str], progress: Progress) -> Done:
    name, state = order.drill.name, state_folder(environ)
    progress(name, f"on {order.target}, {order.effective_times} ×, at most {order.limit_s:g} s")
    began_s, done = time.monotonic(), Done(order)
    log = UndoLog(state)
    with tempfile.TemporaryDirectory(prefix="runbook-drill-", ignore_cleanup_errors=True) as scratch, log.undoing("folder", path=scratch):
        with _working(order, Path(scratch), folder, environ) as worker:
            try:
                _follow(worker, order, progress, began_s + order.limit_s)
            except KeyboardInterrupt:
                done.interrupted, done.broken = True, "it was interrupted"
                progress(name, "interrupted: healing")
            except TimeoutError:
                done.broken = f"the watchdog ended it after {order.limit_s:g} s"
                progress(name, f"{done.broken}: healing")
            _end(worker.process)
            _conclude(done, worker, environ)
        if done.broken:
            _keep_unfinished(Path(scratch), folder, name)
        for healed in heal(state):
            progress(name, f"healed what it left: {healed}")
    done.took_s = time.monotonic() - began_s
    named = f", {done.known} known failures of the server itself" if done.known else ""
    progress(name, f"BROKEN: {done.broken}" if done.broken else f"{done.verdict}{named}")
    return done


@contextlib.contextmanager
def _working(order: Order, scratch: Path, folder: RunFolder, environ: Mapping[str, str]) -> Iterator[_Watched]:
    options = {
        "target": order.target,
        "profile": order.profile,
        "times": order.effective_times,
        "seed": order.seed,
        "evidence": str(folder.path.resolve()),
    }
    with (scratch / "stderr").open("w+", errors="replace") as complaints:
        process = subprocess.Popen(
            tethered([sys.executable, "-m", "runbook.drill_worker", order.drill.name]),
            env={**environ, "TMPDIR": str(scratch)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us alone, and we decide how it ends
        )
        try:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError), process.stdin:
                json.dump(options, process.stdin)
            yield _Watched(process, complaints)
        finally:
            _end(process)
            assert process.stdout
            process.stdout.close()


def _follow(worker: _Watched, order: Order, progress: Progress, until_s: float) -> None:
    """Follow a worker to its end.

    Raises:
        TimeoutError: it takes too long.
    """
    assert worker.process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(worker.process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, until_s - time.monotonic())):
                raise TimeoutError
            line = worker.process.stdout.readline()
            if not line:
                worker.process.wait()
                return
            with contextlib.suppress(ValueError):  # something else that a library printed
                event = json.loads(line)
                worker.said.append(event)
                if "say" in event:
                    progress(order.drill.name, event["say"])


def _end(process: subprocess.Popen[str]) -> None:
    """Let a worker heal and end, and kill it if it does not in time; its servers end with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _conclude(done: Done, worker: _Watched, environ: Mapping[str, str]) -> None:
    found = next((event for event in reversed(worker.said) if "findings" in event), None)
    if found:
        done.findings, done.engine = tuple(map(_finding, found["findings"])), found["engine"]
    elif not done.broken:
        worker.complaints.seek(0)
        complaint = worker.complaints.read().strip().splitlines()
        said = complaint[-1] if complaint else "it said nothing"
        done.broken = str(redact(f"it ended with status {worker.process.returncode}: {said}", secrets_of(environ)))


def _keep_unfinished(scratch: Path, folder: RunFolder, name: str) -> None:
    """Take what a drill that did not come to its end had recorded into the evidence."""
    # Not at the top: pandas takes its time, and the drill should begin first.
    from runbook.report.frame import frame

    for number, path in enumerate(sorted(scratch.glob(f"{PREFIX}*")), 1):
        with contextlib.suppress(FileNotFoundError):
            folder.write_gzip(f"samples-{name}-unfinished-{number}.csv.gz", frame(read_journal(path)).to_csv(index=False))


def _finding(data: Mapping[str, Any]) -> Finding:
    measured = tuple(Measurement(**each) for each in data["measured"])
    return Finding(**{**data, "verdict": Verdict(data["verdict"]), "measured": measured})


def _write(folder: RunFolder, done: Sequence[Done], began: datetime) -> None:
    last = done[-1].order
    folder.write_json(
        RESULT,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "drills",
            "run": folder.name,
            "verdict": combine(each.verdict or Verdict.INCONCLUSIVE for each in done),
            "broken": ", ".join(each.order.drill.name for each in done if each.broken),
            "interrupted": done[-1].interrupted,
            "target": last.target,
            "parameters": {"profile": last.profile, "seed": last.seed},
            "started_utc": began.isoformat(timespec="seconds"),
            "duration_s": round(sum(each.took_s for each in done), 1),
            "controls": _controls(done),
            "drills": [_data(each) for each in done],
            "engine": next((each.engine for each in done if each.engine), None),
            "host": describe_host(),
            "versions": describe_versions(),
        },
    )


def _controls(done: Sequence[Done]) -> dict[str, int]:
    """Count what had to fail, so that the drills can be believed, and how much of it did."""
    controls = [finding for each in done for finding in each.findings or () if finding.claim.startswith(CONTROL)]
    return {"failed_as_they_must": sum(finding.verdict is Verdict.PASS for finding in controls), "of": len(controls)}


def _data(done: Done) -> dict[str, Any]:
    drill = done.order.drill
    return {
        "name": drill.name,
        "question": drill.question,
        "promise": drill.promise,
        "faults": drill.faults,
        "verdict": done.verdict,
        "broken": done.broken,
        "known": done.known,
        "times": done.order.effective_times,
        "duration_s": round(done.took_s, 1),
        "findings": [asdict(finding) for finding in done.findings or ()],
    }

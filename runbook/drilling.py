"""Does drills one after the other, each in a process of its own that is watched: bounded in time, healed after, whatever it does.

Two at once are refused: a drill breaks what another one may rest on, and takes the time that the other one measures.
"""

import contextlib
import json
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cachelib import Config
from runbook.drills.drill import Drill
from runbook.drills.safety import check_healed, exclusive
from runbook.drills.undo import UndoError, UndoLog, heal, left_behind, state_folder
from runbook.evidence import Finding, Measurement, RunFolder, Verdict, combine, verdict_of
from runbook.evidence.environment import circumstances
from runbook.evidence.samples import as_csv
from runbook.evidence.secrets import Rule, redact, secrets_of
from runbook.evidence.store import RESULT, SCHEMA_VERSION
from runbook.evidence.verdict import CONTROL
from runbook.load.journal import PREFIX, read_journal
from runbook.stopping import INTERRUPTED, stoppable
from runbook.targets.project import with_password
from runbook.tether import tethered

# How long a drill that was interrupted may take to heal; then it is killed, and healed from its ledger.
GRACE_S = 30.0
# How often it is looked whether the user wants it to stop, and whether its time is over.
LOOK_S = 0.2

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
    engine: Mapping[str, Any] | None = None
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


def perform(
    orders: Sequence[Order], runs: Path, environ: Mapping[str, str], progress: Progress, permit: Callable[[], None] = lambda: None
) -> tuple[list[Done], RunFolder]:
    """Do drills in turn, and write down what they found, after each of them.

    Args:
        orders: what to do.
        runs: folder of the evidence.
        environ: configuration of the client, choice of the server program, where the state is kept.
        progress: is told the drill's name and what it is about.
        permit: asked when nothing else stands in the way; it raises what does.

    Returns:
        What was done, and the run folder; less than was ordered if the user interrupted it, or if something could not be healed.

    Raises:
        Refusal: another drill is at work, or one that crashed has left something behind.
    """
    environ, state = with_password(environ), state_folder(environ)
    with stoppable("it heals, and ends then") as stop, exclusive(state, orders[0].drill.name):
        check_healed(state)
        permit()
        folder = RunFolder.create(runs, "drill", environ)
        done: list[Done] = []
        began = datetime.now(UTC)
        for order in orders:
            done.append(_perform_one(order, folder, environ, progress, stop))
            _write(folder, done, began, environ)
            if done[-1].interrupted or left_behind(state):
                break
        return done, folder


def _perform_one(order: Order, folder: RunFolder, environ: Mapping[str, str], progress: Progress, stop: threading.Event) -> Done:
    name, state = order.drill.name, state_folder(environ)
    progress(name, f"on {order.target}, {order.effective_times} ×, at most {order.limit_s:g} s")
    began_s, done = time.monotonic(), Done(order)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="runbook-drill-", ignore_cleanup_errors=True) as scratch,
            UndoLog(state).undoing("folder", path=scratch),
        ):
            _watch(done, Path(scratch), folder, environ, progress, stop)
            if done.broken:
                _keep_unfinished(Path(scratch), folder, name)
            for healed in heal(state):
                progress(name, f"healed what it left: {healed}")
    except UndoError as error:
        done.broken = f"{done.broken}; {error}" if done.broken else str(error)
    done.took_s = time.monotonic() - began_s
    named = f", {done.known} known failures of the server itself" if done.known else ""
    progress(name, f"BROKEN: {done.broken}" if done.broken else f"{done.verdict}{named}")
    return done


def _watch(done: Done, scratch: Path, folder: RunFolder, environ: Mapping[str, str], progress: Progress, stop: threading.Event) -> None:
    order, name = done.order, done.order.drill.name
    with _working(order, scratch, folder, environ) as worker:
        try:
            done.interrupted = _follow(worker, order, progress, stop, secrets_of(environ))
            if done.interrupted:
                done.broken = INTERRUPTED
                progress(name, "interrupted: healing")
        except TimeoutError:
            done.broken = f"the watchdog ended it after {order.limit_s:g} s"
            progress(name, f"{done.broken}: healing")
        _end(worker.process)
        _conclude(done, worker, folder, environ)


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


def _follow(worker: _Watched, order: Order, progress: Progress, stop: threading.Event, secrets: tuple[Rule, ...]) -> bool:
    """Follow a worker to its end, and return whether it is to be stopped before.

    Raises:
        TimeoutError: it takes too long.
    """
    until_s = time.monotonic() + order.limit_s
    assert worker.process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(worker.process.stdout, selectors.EVENT_READ)
        while not stop.is_set():
            if time.monotonic() > until_s:
                raise TimeoutError
            if not selector.select(LOOK_S):
                continue
            line = worker.process.stdout.readline()
            if not line:
                worker.process.wait()
                return False
            with contextlib.suppress(ValueError):  # something else that a library printed
                event = redact(json.loads(line), secrets)
                worker.said.append(event)
                if "say" in event:
                    progress(order.drill.name, event["say"])
    return True


def _end(process: subprocess.Popen[str]) -> None:
    """Let a worker heal and end, and kill it if it does not in time; its servers end with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _conclude(done: Done, worker: _Watched, folder: RunFolder, environ: Mapping[str, str]) -> None:
    found = next((event for event in reversed(worker.said) if "findings" in event), None)
    if found and not worker.process.returncode:
        done.findings, done.engine = tuple(map(_finding, found["findings"])), found["engine"]
    elif not done.broken:
        worker.complaints.seek(0)
        complaint = str(redact(worker.complaints.read().strip(), secrets_of(environ)))
        folder.write_text(f"{done.order.drill.name}.stderr", complaint + "\n")
        said = complaint.splitlines()[-1] if complaint else "it said nothing"
        done.broken = f"it ended with status {worker.process.returncode}: {said}"


def _keep_unfinished(scratch: Path, folder: RunFolder, name: str) -> None:
    """Take what a drill that did not come to its end had recorded into the evidence."""
    for number, path in enumerate(sorted(scratch.glob(f"{PREFIX}*")), 1):
        with contextlib.suppress(FileNotFoundError):
            folder.write_gzip(f"samples-{name}-unfinished-{number}.csv.gz", as_csv(read_journal(path)))


def _finding(data: Mapping[str, Any]) -> Finding:
    measured = tuple(Measurement(**each) for each in data["measured"])
    return Finding(**{**data, "verdict": Verdict(data["verdict"]), "measured": measured})


def _write(folder: RunFolder, done: Sequence[Done], began: datetime, environ: Mapping[str, str]) -> None:
    last, engine = done[-1].order, next((each.engine for each in done if each.engine), None)
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
            "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "duration_s": round(sum(each.took_s for each in done), 1),
            "controls": _controls(done),
            "drills": [_data(each) for each in done],
            **circumstances(engine, Config.from_env(environ), last.target, last.seed),
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

"""The object that a notebook works with: it opens the target, records findings, and ends with the verdict."""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import redis

from runbook.drills.drill import QUICK, Ground
from runbook.drills.safety import exclusive
from runbook.drills.undo import UndoLog, state_folder
from runbook.evidence import Finding, RunFolder, Verdict, verdict_of
from runbook.evidence.environment import circumstances
from runbook.evidence.notebook import VERDICT_MIME
from runbook.evidence.samples import as_csv
from runbook.evidence.store import SCHEMA_VERSION
from runbook.load import History
from runbook.load.offered import Offered
from runbook.progress import progress
from runbook.report.display import Bundle, Measured, Table
from runbook.report.tables import findings_table
from runbook.targets import Engine, Target, open_target


@runtime_checkable
class Judged(Protocol):
    """The result of a drill: findings, and the histories from which they came."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The claims judged."""
        ...

    @property
    def histories(self) -> Mapping[str, History]:
        """What was recorded, by name."""
        ...


@runtime_checkable
class Loaded(Protocol):
    """The result of a drill that offered loads."""

    @property
    def loads(self) -> Mapping[str, Offered]:
        """What was offered and measured, by name."""
        ...


J = TypeVar("J", bound=Judged)


def open(name: str, *, target: str = "embedded", environ: Mapping[str, str] = os.environ) -> "Session":  # noqa: A001
    """Open the session of a notebook.

    Args:
        name: of the notebook.
        target: where the Redis runs, one of `TARGETS`.
        environ: configuration of the client, choice of the server program, folder of the evidence.

    Raises:
        TargetError: there is no such target, or it did not start.
        ConfigError: the environment's configuration is invalid.
    """
    return Session(name, open_target(target, environ), RunFolder.from_environ(environ))


class Session:
    """What a notebook has found so far; made by `open`.

    Args:
        name: of the notebook.
        target: opened; the verdict closes it.
        folder: where evidence goes; None keeps it in the notebook alone.
    """

    def __init__(self, name: str, target: Target, folder: RunFolder | None) -> None:
        self.name, self.target, self._folder = name, target, folder
        self.findings: list[Finding] = []
        self._opened, self._has_ground = contextlib.ExitStack(), False
        self._started = datetime.now(UTC)
        self._engine = _engine_of(target)
        self._seed: int | None = None

    def __repr__(self) -> str:
        return f"<Session {self.name} on {self.target.name}, {len(self.findings)} findings>"

    def target_table(self) -> Table:
        """Show which server answers."""
        return Table("Target", ("target", "server"), [(self.target.name, Measured(_engine_text(self._engine)))])

    def configuration_table(self) -> Table:
        """Show the client's configuration as resolved, secrets masked."""
        config = self.target.config
        values = {field.name: getattr(config, field.name) for field in fields(config)}
        rows = [(name, Measured("not set" if value is None else str(value))) for name, value in values.items()]
        return Table("Configuration of the client, as resolved", ("setting", "value"), rows)

    def ground(self, drill: str, *, times: int, seed: int = 1) -> Ground:
        """Hand out the ground for a drill that starts servers of its own: a private folder, and a ledger of what it breaks.

        It waits until no other drill is at work, and keeps others from beginning until the verdict.

        Args:
            drill: its name, which its choices by chance depend on.
            times: how often its fault is to happen.
            seed: of those choices.
        """
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="runbook-ground-")))
        state = state_folder(os.environ)
        if not self._has_ground:
            self._opened.enter_context(exclusive(state, self.name, wait=True))
            self._has_ground = True
        undo, self._seed = UndoLog(state), seed
        self._opened.enter_context(undo.undoing("folder", path=str(folder)))
        return Ground(drill, os.environ, self.target.name, QUICK, times, seed, folder, undo, say=progress)

    def record(self, result: J) -> J:
        """Take a drill's findings into the verdict, keep its samples, and hand it back."""
        self.findings += result.findings
        for name, history in result.histories.items():
            self._keep(name, history)
        if isinstance(result, Loaded):
            for name, offered in result.loads.items():
                self._keep_load(name, offered)
        return result

    def show(self, findings: tuple[Finding, ...]) -> Table:
        """Take findings into the verdict, and show them."""
        self.findings += findings
        return findings_table(findings)

    def summary(self) -> Table:
        """Show all findings so far."""
        return findings_table(self.findings)

    def verdict(self) -> "VerdictCell":
        """Close the target and sum up; the last cell of a notebook."""
        if self._folder:
            self._folder.write_text("server.log", self.target.log())
        self._opened.close()
        self.target.close()
        details = {
            "schema_version": SCHEMA_VERSION,
            "started_utc": self._started.isoformat(timespec="seconds"),
            "duration_s": round((datetime.now(UTC) - self._started).total_seconds(), 2),
            "target": self.target.name,
            **circumstances(asdict(self._engine) if self._engine else None, self.target.config, self.target.name, self._seed),
            "findings": [asdict(finding) for finding in self.findings],
        }
        return VerdictCell(self.name, tuple(self.findings), details)

    def _keep(self, name: str, history: History) -> None:
        if self._folder and len(history):
            self._folder.write_gzip(f"samples-{name}.csv.gz", as_csv(history))

    def _keep_load(self, name: str, offered: Offered) -> None:
        if self._folder:
            self._folder.write_json_gzip(f"load-{name}.json.gz", offered.to_data())
            for operation in offered.recording.operations:
                samples = offered.histogram(operation)
                self._folder.write_text(f"load-{name}-{operation}.hgrm", samples.percentile_distribution())
                self._folder.write_text(f"load-{name}-{operation}.hdr", samples.encoded() + "\n")


class VerdictCell:
    """The last output of a notebook: the verdict and its criteria as data, what was measured as metadata."""

    def __init__(self, name: str, findings: tuple[Finding, ...], details: Mapping[str, Any]) -> None:
        self.name, self.findings, self._details = name, findings, details
        self.verdict = verdict_of(findings)

    @property
    def criteria(self) -> dict[str, Verdict]:
        """The verdict on each criterion that a finding names."""
        names = dict.fromkeys(finding.criterion for finding in self.findings)
        return {name: verdict_of(f for f in self.findings if f.criterion == name) for name in names}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        criteria = {name: str(verdict) for name, verdict in self.criteria.items()}
        data = {"schema_version": SCHEMA_VERSION, "notebook": self.name, "verdict": str(self.verdict), "criteria": criteria}
        lines = [f"{self.name}: {self.verdict}", *(f"  {verdict:12s} {name}" for name, verdict in criteria.items())]
        marks = "".join(f"<li><strong>{verdict}</strong> {name}</li>" for name, verdict in criteria.items())
        page = f"<p><strong>{self.verdict}</strong> {self.name}</p><ul>{marks}</ul>"
        return {VERDICT_MIME: data, "text/plain": "\n".join(lines), "text/html": page}, {VERDICT_MIME: dict(self._details)}


def _engine_of(target: Target) -> Engine | None:
    try:
        return target.engine
    except redis.RedisError:  # an unreachable server is a finding of the checks, not a crash of the notebook
        return None


def _engine_text(engine: Engine | None) -> str:
    return f"{engine.product} {engine.version}, {engine.found_by}" if engine else "does not answer"

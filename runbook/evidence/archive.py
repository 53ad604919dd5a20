"""The store of all results under `runs/`: it is only ever appended to, and each entry holds the digest of the one before it.

SQLite keeps it whole when a writer dies in the middle of a run's entries, and lets several write at once. Its triggers refuse changes, and
whoever removes them changes digests that every later entry depends on. Who cuts the newest entries off, or rewrites the whole chain, is not
found out here, but by whoever noted what an acceptance printed: the digest of the run's manifest.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook.evidence.secrets import redact, secrets_of
from runbook.evidence.store import EvidenceError

ARCHIVE = "history.sqlite3"
# How long a writer waits for the others.
PATIENCE_S = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    number INTEGER PRIMARY KEY,
    recorded_utc TEXT NOT NULL,
    kind TEXT NOT NULL,
    run TEXT NOT NULL,
    content TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE
);
CREATE TRIGGER IF NOT EXISTS entry_is_never_changed BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER IF NOT EXISTS entry_is_never_removed BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never removed'); END;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the archive.

    Attributes:
        number: counted from 1, without a gap.
        recorded_utc: when it was appended, in ISO format with microseconds.
        kind: `run` for a result, `acceptance` for a run that somebody accepted.
        run: name of the run folder that it speaks of.
        content: what is said, as JSON values.
        sha256: of the digest before it and of all of the above.
    """

    number: int
    recorded_utc: str
    kind: str
    run: str
    content: Mapping[str, Any]
    sha256: str


class Archive:
    """The store of one `runs/` folder; it is made by the first entry.

    Args:
        runs: the folder.
        environ: whose secrets must not be written.
    """

    def __init__(self, runs: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.path = runs / ARCHIVE
        self._secrets = secrets_of(environ)

    def append(self, kind: str, run: str, content: Mapping[str, Any]) -> Entry:
        """Add an entry, each secret replaced; when this returns, it is on the disk.

        Args:
            kind: `run` or `acceptance`.
            run: name of the run folder.
            content: what is to be kept, as JSON values.

        Raises:
            EvidenceError: it can't be written.
        """
        return self._add(kind, run, [content])[0]

    def append_once(self, kind: str, run: str, contents: Sequence[Mapping[str, Any]]) -> list[Entry]:
        """Add entries as `append` does, all of them or none; none if there is one of this kind for this run already.

        Args:
            kind: `run` or `acceptance`.
            run: name of the run folder.
            contents: of one entry each.

        Returns:
            what was added.

        Raises:
            EvidenceError: they can't be written.
        """
        return self._add(kind, run, contents, once=True)

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Read all entries, or those of one kind, the oldest first; none where there is no archive yet.

        Raises:
            EvidenceError: it is damaged, or was altered.
        """
        if not self.path.exists():
            return []
        found, before = [], ""
        with self._opened() as connection:
            rows = connection.execute("SELECT number, recorded_utc, kind, run, content, sha256 FROM entry ORDER BY number").fetchall()
        for expected, (number, recorded_utc, its_kind, run, text, digest) in enumerate(rows, 1):
            if number != expected or digest != _digest(before, number, recorded_utc, its_kind, run, text):
                raise EvidenceError(
                    f"{self.path} was altered at entry {expected}, recorded {recorded_utc}: nothing in it can be trusted any more; "
                    "move it away, and a new one begins with the next run"
                )
            before = digest
            if kind in (None, its_kind):
                found.append(Entry(number, recorded_utc, its_kind, run, json.loads(text), digest))
        return found

    def _add(self, kind: str, run: str, contents: Sequence[Mapping[str, Any]], *, once: bool = False) -> list[Entry]:
        texts = [json.dumps(redact(content, self._secrets), ensure_ascii=False, sort_keys=True) for content in contents]
        added: list[Entry] = []
        with self._opened() as connection:
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")  # so that nobody comes between the look at what is there and ours
            if once and connection.execute("SELECT 1 FROM entry WHERE kind = ? AND run = ? LIMIT 1", (kind, run)).fetchone():
                return []
            last = connection.execute("SELECT number, sha256 FROM entry ORDER BY number DESC LIMIT 1").fetchone()
            newest, before = last or (0, "")
            for number, text in enumerate(texts, newest + 1):
                recorded_utc = datetime.now(UTC).isoformat(timespec="microseconds")
                before = _digest(before, number, recorded_utc, kind, run, text)
                connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", (number, recorded_utc, kind, run, text, before))
                added.append(Entry(number, recorded_utc, kind, run, json.loads(text), before))
            connection.execute("COMMIT")
        return added

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            # Transactions are ours to begin: the module would begin one only at the first change, after the last entry was looked at.
            with contextlib.closing(sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                yield connection
        except sqlite3.DatabaseError as error:
            raise EvidenceError(f"{self.path} can't be used ({error}): if it is damaged, move it away, and a new one begins") from error


def _digest(before: str, *values: object) -> str:
    return hashlib.sha256(json.dumps([before, *values], ensure_ascii=False).encode()).hexdigest()

"""What a fresh server makes of a backup, and whether that is a consistent prefix of what the writers did."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachelib import connect
from runbook.drills.backups.backup import PATIENCE_S, Backup, administering
from runbook.drills.checkers import account
from runbook.drills.digest import digest_of
from runbook.drills.starting import start_or_refusal
from runbook.load import History, Outcome, Record
from runbook.targets import Embedded

# The writers' ledger is in the first database, what nobody writes to meanwhile in the second.
LEDGER, STATIC_DB = "runbook:backup:ledger", 1
# Fewer writes on either side of a backup don't show that it was taken while they went on.
FEWEST_WRITES = 100


@dataclass(frozen=True, slots=True)
class Content:
    """What a server holds.

    Attributes:
        ledger: the appends, in their order.
        static: digest of what nobody wrote to.
    """

    ledger: tuple[str, ...]
    static: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was taken while writers were at work.

    Attributes:
        backup: where it is, and when it was taken.
        history: every append that was tried.
        static: digest, before the backup, of what nobody wrote to.
        doubts: why it can't be said that it was taken under the circumstances that were meant.
    """

    backup: Backup
    history: History
    static: str
    doubts: tuple[str, ...] = ()

    def acknowledged(self, *, before_ns: float = math.inf, after_ns: float = -math.inf) -> list[Record]:
        """Return the appends that were acknowledged within a time, ordered by that."""
        return [each for each in self.history if each.outcome is Outcome.OK and after_ns < each.done_ns < before_ns]


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a fresh server made of a backup.

    Attributes:
        taken: the backup.
        content: what the server held; None where it refused to start.
        refusal: with which words it refused.
        serves_s: seconds from the loss of the old server to the first read that succeeded on the new one.
    """

    taken: Taken
    content: Content | None
    refusal: str = ""
    serves_s: float = math.nan

    @property
    def age_s(self) -> float:
        """How old the newest restored write was when the backup was complete, in seconds; infinite if there is none."""
        present = set(self.content.ledger if self.content else ())
        newest_ns = max((each.done_ns for each in self.taken.acknowledged() if each.value in present), default=-math.inf)
        return max(0.0, (self.taken.backup.ended_ns - newest_ns) / 1e9)

    def missing(self, window_s: float) -> list[str]:
        """Return the appends that were acknowledged more than so many seconds before the backup was begun, and are not there."""
        present = set(self.content.ledger if self.content else ())
        until_ns = self.taken.backup.began_ns - window_s * 1e9
        return [each.value for each in self.taken.acknowledged(before_ns=until_ns) if each.value not in present]

    def problems(self, window_s: float) -> list[str]:
        """Tell what is wrong with what was restored, where appends of so many seconds before the backup may be missing."""
        if self.content is None:
            return [f"the server refused to start: {self.refusal}"]
        missing = self.missing(window_s)
        problems = [f"{len(missing)} writes missing that the backup had to hold, first {missing[0]}"] if missing else []
        # Whatever is missing in front of something that is there is a hole, whenever that was: so the cut is behind them all.
        end_ns = max((record.done_ns for record in self.taken.history), default=0) + 1
        problems += account(self.taken.history, self.content.ledger, [end_ns]).corrupt
        return problems if self.content.static == self.taken.static else [*problems, "the digest of the rest is another one"]

    def doubts(self, window_s: float) -> list[str]:
        """Tell why it can't be said that the backup was taken while writers were at work."""
        backup = self.taken.backup
        counts = {
            f"{window_s:g} s before": len(self.taken.acknowledged(before_ns=backup.began_ns - window_s * 1e9)),
            "after": len(self.taken.acknowledged(after_ns=backup.ended_ns)),
        }
        scarce = [f"only {n} acknowledged {side} the backup, {FEWEST_WRITES} are needed" for side, n in counts.items() if n < FEWEST_WRITES]
        return [*self.taken.doubts, *scarce]


@contextlib.contextmanager
def restored(environ: Mapping[str, str], flags: tuple[str, ...], taken: Taken, parent: Path) -> Iterator[tuple[Restoration, Embedded]]:
    """Put a backup into a fresh server for the length of the block, start it, and read what it holds.

    Args:
        environ: which server program.
        flags: of the server.
        taken: the backup.
        parent: the folder in which the server makes its own.

    Yields:
        What came of it, timed from here on, and the server, which does not run where it refused.

    Raises:
        TargetError: it neither served nor refused, which tells nothing of the backup.
    """
    lost_ns = time.monotonic_ns()
    with Embedded(environ, flags, parent=parent, data=taken.backup.folder, started=False) as server:
        if refusal := start_or_refusal(server, PATIENCE_S):
            yield Restoration(taken, None, refusal), server
            return
        with administering(server) as client:
            client.lindex(LEDGER, 0)
        serves_s = (time.monotonic_ns() - lost_ns) / 1e9
        yield Restoration(taken, content_of(server), serves_s=serves_s), server


def content_of(server: Embedded) -> Content:
    """Read what a server holds."""
    with administering(server) as client:
        ledger = tuple(value.decode() for value in client.lrange(LEDGER, 0, -1))
    return Content(ledger, static_of(server))


def static_of(server: Embedded) -> str:
    """Digest what nobody writes to."""
    with connect(dataclasses.replace(server.config, db=STATIC_DB, deadline_s=PATIENCE_S)) as client:
        return digest_of(client)

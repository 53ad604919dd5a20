"""How a server is ended or silenced by the persistence drills, and what is promised of its data then."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from runbook.drills.faults import Outage, crashed, killed, killed_in_rewrite, out_of_memory, paused, recreated, removed, stopped
from runbook.drills.overshoot import GRACE_S
from runbook.targets import Contained, Embedded, Pausable, Restartable, Target

# How late the server's own clock may be, by which it decides to hold back no longer (`hz 10`).
CLOCK_S = 0.1


@dataclass(frozen=True, slots=True)
class Fault:
    """How a server is ended or silenced, and what is promised of its data.

    Attributes:
        breaks: does it for the length of a block.
        ability: what a target must be able to.
        criterion: which the data that are kept decide.
        after: what has happened afterwards, in the words of a claim.
        cause: what keeps the server away meanwhile, in the words of a claim.
        window_s: the newest writes that may be lost, in seconds.
    """

    breaks: Callable[[Target], contextlib.AbstractContextManager[Outage]]
    ability: type
    criterion: str
    after: str
    cause: str
    window_s: float

    @property
    def most_lost_s(self) -> float:
        """The longest window of a loss that keeps the promise, in seconds; 0 where nothing may be lost."""
        return self.window_s + CLOCK_S if self.window_s else 0.0

    @property
    def claims(self) -> dict[str, tuple[str, str]]:
        """What is promised: criterion and claim, by what it is about; first of the data, then of the callers."""
        window = f"the last {self.window_s:g} s"
        loss = f"only writes of {window} may be lost" if self.window_s else "no acknowledged write is lost"
        once = f", but once for at most {window}" if self.window_s else ""
        those = f"but those of {window} " if self.window_s else ""
        return {
            "ledger": (self.criterion, f"After {self.after} {loss}; none is doubled, invented or out of order"),
            "registers": (self.criterion, f"After {self.after} no key reads older than what was acknowledged or read before{once}"),
            "members": (self.criterion, f"After {self.after} each acknowledged member of a set {those}is in it, and no other"),
            "writers": ("I-5", f"After {self.after} every writer goes on by itself"),
            "grace": ("I-6", f"While {self.cause} keeps Redis down, callers are told so by their deadline (+{GRACE_S * 1e3:g} ms)"),
        }


FAULTS = {
    "SIGTERM": Fault(stopped, Restartable, "I-4", "SIGTERM and a restart", "SIGTERM", 0.0),
    "SIGKILL": Fault(killed, Restartable, "I-4", "SIGKILL and a restart", "SIGKILL", 2.0),
    "SIGSTOP": Fault(paused, Pausable, "I-4", "SIGSTOP and SIGCONT", "SIGSTOP", 0.0),
    "out-of-memory": Fault(out_of_memory, Embedded, "I-4", "an out-of-memory kill and a restart", "the out-of-memory kill", 2.0),
    "rewrite": Fault(killed_in_rewrite, Embedded, "I-4", "SIGKILL in a rewrite of the file and a restart", "the kill in a rewrite", 2.0),
    "recreation": Fault(recreated, Contained, "AC-3", "the container's recreation", "the recreation", 0.0),
    "removal": Fault(removed, Contained, "AC-3", "the removal of container and network by down, and up again,", "the removal", 0.0),
    "crash": Fault(crashed, Contained, "I-4", "a crash and the restart by the engine's policy", "the crash", 2.0),
}

"""What a drill is, and the ground on which it works."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runbook.drills.safety import check_ours, problems_of
from runbook.drills.undo import UndoLog
from runbook.evidence import Finding, Verdict
from runbook.load import History
from runbook.targets import Embedded, Engine, Target, open_target
from runbook.targets.embedded import STORY_FLAGS

QUICK, FULL = "quick", "full"
PROFILES = (QUICK, FULL)
STEADY_CLAIM = "The server is as steady after the drill as before"


@dataclass(slots=True)
class Ground:
    """What a drill works with.

    Attributes:
        drill: its name.
        environ: configuration of the client, choice of the server program.
        target: where the Redis runs, one of `TARGETS`.
        profile: `quick` or `full`.
        times: how often the fault is to happen.
        seed: of everything that is chosen by chance.
        folder: private, for whatever the drill makes; it is removed afterwards.
        undo: where it writes down what it breaks and what outlives it.
        say: tells the user how far it is, in a few words.
        keep: takes a history into the evidence, under a name.
        findings: what the ground itself has found, beside what the drill finds.
        engine: which server was drilled; None until one was opened.
    """

    drill: str
    environ: Mapping[str, str]
    target: str
    profile: str
    times: int
    seed: int
    folder: Path
    undo: UndoLog
    say: Callable[[str], None]
    keep: Callable[[str, History], None] = lambda name, history: None
    findings: list[Finding] = field(default_factory=list)
    engine: Engine | None = None

    @property
    def full(self) -> bool:
        """Whether there is time for all of it."""
        return self.profile == FULL

    def chance(self, what: str = "") -> random.Random:
        """Return a generator of its own for each purpose: the same seed gives the same choices."""
        return random.Random(f"{self.seed}:{self.drill}:{what}")

    @contextlib.contextmanager
    def server(self, criterion: str, flags: tuple[str, ...] = STORY_FLAGS) -> Iterator[Target]:
        """Open the target for the length of the block, check that it is ours to break and steady, and that it is so again in the end.

        Args:
            criterion: for which the finding counts.
            flags: of the command line, where the server is a process of our own; elsewhere they are what the deployment says.

        Raises:
            Refusal: it holds what is not ours, or is not well to begin with.
            TargetError: it did not start.
        """
        opened = self.embedded(flags) if self.target == "embedded" else contextlib.closing(open_target(self.target, self.environ))
        with opened as target:
            check_ours(target)
            self.engine = target.engine
            yield target
            self.check_steady(criterion, target)

    def check_steady(self, criterion: str, target: Target) -> None:
        """Look whether a server is well again when a drill is done with it, and take that for a finding; what is said once is not repeated.

        Args:
            criterion: for which the finding counts.
            target: the server.
        """
        problems = problems_of(target)
        verdict = Verdict.FAIL if problems else Verdict.PASS
        if not any(finding.claim == STEADY_CLAIM and finding.verdict is verdict for finding in self.findings):
            self.findings.append(Finding(criterion, STEADY_CLAIM, verdict, "; ".join(problems)))

    def embedded(self, flags: tuple[str, ...] = STORY_FLAGS, parent: Path | None = None, data: Path | None = None) -> Embedded:
        """Start a server of our own, whatever the target; use it in a `with` statement.

        Args:
            flags: of its command line.
            parent: the folder in which it makes its own; by default that of the drill.
            data: a folder whose content it starts on; it is copied.

        Raises:
            TargetError: it did not start.
        """
        return Embedded(self.environ, flags, parent=parent or self.folder, data=data)


@dataclass(frozen=True, slots=True)
class Drill:
    """A question about what a Redis does when something breaks, and how it is answered.

    Attributes:
        name: for the command line.
        question: in one sentence.
        promise: what must hold, in one sentence.
        faults: what is broken, each in a few words.
        blast_radius: what is touched.
        roll_back: how it is undone.
        targets: on which it can be answered.
        times: how often the fault happens, by profile; 1 where it is a fixed list of cases.
        limit_s: seconds after which the watchdog ends it, by profile.
        perform: does it; what it returns is judged, what it raises makes it INCONCLUSIVE or broken.
    """

    name: str
    question: str
    promise: str
    faults: tuple[str, ...]
    blast_radius: str
    roll_back: str
    targets: tuple[str, ...]
    times: Mapping[str, int]
    limit_s: Mapping[str, float]
    perform: Callable[[Ground], Sequence[Finding]]

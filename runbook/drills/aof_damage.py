"""What a server does with damaged append-only files, what its own tool makes of them, and what our checks see that both of them miss.

Promise: wherever the server starts on other data than were written, our checks tell: that of the manifest before the start, or else a
digest over all keys after the load. Whether the data are others is told by the very values that were written. Damage and repair are done
to copies; the original stays as it is.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cachelib import connect
from runbook.drills.backups.backup import rewrite
from runbook.drills.damage.cases import CUT_OFF, REWRITTEN, Case, Kind, Original, cases
from runbook.drills.damage.check_aof import CheckAof, find_check_aof
from runbook.drills.damage.items import read_values, write_items
from runbook.drills.damage.judging import judge_original, judge_outcomes
from runbook.drills.damage.manifest import DIRECTORY, NAME, manifest_of, problems_of_set
from runbook.drills.damage.outcome import Held, Outcome
from runbook.drills.digest import digest_of
from runbook.drills.drill import FULL, QUICK, Drill, Ground
from runbook.drills.faults.files import damaged_copy, digest_of_files
from runbook.drills.starting import complaint_in, start_or_refusal
from runbook.evidence import Finding
from runbook.load import History
from runbook.targets import Embedded, NotServing

ITEMS = 300  # in the base, and as many in the increment
EACH = {QUICK: 1, FULL: 6}
MANIFEST = f"{NAME}.manifest"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of each case, and what is concluded from that."""

    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...]

    @property
    def histories(self) -> dict[str, History]:
        """None: what counts is what the files hold."""
        return {}


def drill(ground: Ground) -> Result:
    """Damage copies of a set of files in each way, `ground.times` of them by cutting it off, and look who notices.

    Raises:
        TargetError: the server that writes the original did not start.
    """
    original = write_original(ground)
    before = digest_of_files(original.folder)
    tool = find_check_aof(ground.environ, ground.folder)
    outcomes: list[Outcome] = []
    todo = list(cases(original, ground.chance("cases"), ground.times, EACH[ground.profile]))
    for number, case in enumerate(todo, 1):
        if number % 10 == 1:
            ground.say(f"case {number} of {len(todo)}: {case.kind}")
        outcomes.append(try_case(ground, original, case, tool))
    findings = judge_outcomes(outcomes, Held(original.written, original.digest), has_tool=tool is not None)
    return Result(tuple(outcomes), (*findings, judge_original(before, digest_of_files(original.folder))))


def _perform(ground: Ground) -> Sequence[Finding]:
    return drill(ground).findings


def write_original(ground: Ground) -> Original:
    """Have a server write a base and an increment, and copy its files when it has closed them."""
    chance, folder = ground.chance("items"), ground.folder / "original"
    with ground.embedded() as server, connect(server.config) as client:
        ground.engine = server.engine
        before = write_items(client, range(ITEMS), chance)
        rewrite(client)
        written = before | write_items(client, range(ITEMS, 2 * ITEMS), chance)
        digest = digest_of(client)
        server.stop()
        shutil.copytree(server.folder / DIRECTORY, folder / DIRECTORY)
    return Original(folder, before, written, digest)


def try_case(ground: Ground, original: Original, case: Case, tool: CheckAof | None) -> Outcome:
    """Damage a copy, ask everyone about it, start a server on it, repair it, and start a server on it again."""
    with damaged_copy(original.folder, case.damage, ground.folder) as copy:
        files = copy.folder / DIRECTORY
        accused = tuple(problems_of_set(copy.folder))
        checked = tool.check(files / MANIFEST) if tool else None
        held, said, crashed = _start(ground, copy.folder)
        repaired: Held | None = None
        if case.kind in CUT_OFF and tool:
            # Of the increment alone: given the manifest, Valkey's tool gets no further than its own base (its pull request 4739).
            tool.fix(files / original.increment.name)
            repaired, *_ = _start(ground, copy.folder)
        if case.kind in REWRITTEN:
            (files / MANIFEST).write_text(manifest_of([path.name for path in files.iterdir() if path.name != MANIFEST]))
            repaired, *_ = _start(ground, copy.folder)
        doubts = () if case.kind is Kind.NOTHING else copy.doubts
    return Outcome(case.kind, case.name, original.whole_before(case.units), held, said, crashed, accused, checked, repaired, doubts)


def _start(ground: Ground, data: Path) -> tuple[Held | None, str, bool]:
    """Start a server on a copy of the files; return what it holds, or None, what it said when it refused, and whether it crashed over them.

    One changed byte of a snapshot can make two keys one, over which Redis 7.0.15 panics, or fail an assertion about a list. Of 441 places,
    14 were of the first sort.

    Raises:
        NotServing: it crashed, and not over the files.
        TargetError: it neither served nor ended by itself.
    """
    with Embedded(ground.environ, parent=ground.folder, data=data, started=False) as server, connect(server.config) as client:
        try:
            refusal = start_or_refusal(server)
        except NotServing:
            if not (complaint := complaint_in(server.log())):
                raise
            return None, complaint, True
        return None if refusal else Held(read_values(client), digest_of(client)), refusal, False


DRILL = Drill(
    name="aof-damage",
    question="Does anyone notice when append-only files have been damaged, and can they be repaired?",
    promise="Wherever the server starts on other data than were written, our checks tell; a repair on a copy brings back what is whole",
    faults=(
        "the increment cut off",
        "single bytes of framing and values changed",
        "a tail of zeros",
        "files missing",
        "a manifest missing, of garbage, or cut off",
    ),
    blast_radius="copies of the files of a server process of our own",
    roll_back="each copy is removed after its case; everything is removed at the end",
    targets=("embedded",),
    times={QUICK: 10, FULL: 50},
    limit_s={QUICK: 90, FULL: 300},
    perform=_perform,
)

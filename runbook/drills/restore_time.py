"""How long does it take to restore a backup, and how does that grow with the data?

Promise: ten seconds, and ten more for each 100 MiB: some ten times what was measured here, so that it holds on a busy host, and yet what an
operator can plan with. It counts from the moment in which the old server is lost: bringing the backup back to the server's folder, the
start, the load, and the first read that succeeds. The growth is the slope of a straight line through the logarithms of sizes and medians.
"""

import dataclasses
import math
import random
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook.drills.backups.backup import Backup, administering, copy_append_only_set, copy_snapshot, rewrite
from runbook.drills.digest import digest_of
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults.files import overwrite
from runbook.drills.starting import start_or_refusal
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.targets import Embedded, TargetError
from runbook.targets.embedded import STORY_FLAGS

CRITERION = "I-4"
MIB = 2**20
SIZES_MIB = {"quick": (4, 16, 64), "full": (10, 100, 400)}
FIXED_S, PER_100_MIB_S = 10.0, 10.0
# So long that with what Redis keeps beside a value it just fits into a piece of 4 KiB: less of the memory is wasted.
VALUE_BYTES, VALUES_AT_ONCE = 4000, 256
KEY = "runbook:restore:{}"

COMMANDS, BASE, SNAPSHOT = "an append-only set of commands alone", "an append-only set after a rewrite", "a snapshot"
CLAIMS = {
    kind: f"A server restored from {kind} serves within {FIXED_S:g} s and {PER_100_MIB_S:g} s more for each 100 MiB"
    for kind in (COMMANDS, BASE, SNAPSHOT)
}
SPOILED_CLAIM = "Control: a backup of which one byte of one value was changed is found out"
# Nothing but what we ask for is written to disk.
FLAGS = (*STORY_FLAGS, "--save", "", "--auto-aof-rewrite-percentage", "0")
FLAGS_OF = {COMMANDS: FLAGS, BASE: FLAGS, SNAPSHOT: ("--appendonly", "no", *FLAGS[2:])}
# The live files, the next ones, their backup and the copy of that are on the disk at once.
COPIES_ON_DISK = 4


@dataclass(frozen=True, slots=True)
class Timing:
    """One restoration.

    Attributes:
        size_mib: of all values together.
        backup_mib: of the backup's files.
        copy_s: seconds until the backup was in the server's folder.
        serve_s: seconds from there to the first read that succeeded; infinite where the server did not serve in time.
        problem: what is wrong with what was restored; empty if nothing is.
    """

    size_mib: float
    backup_mib: float
    copy_s: float
    serve_s: float
    problem: str = ""

    @property
    def total_s(self) -> float:
        """Seconds from the loss of the old server to the first read that succeeded."""
        return self.copy_s + self.serve_s


@dataclass(frozen=True, slots=True)
class Growth:
    """How a time grows with a size.

    Attributes:
        exponent: it grows as this power of the size.
        per_100_mib_s: the slope of a straight line through sizes and times, in seconds.
    """

    exponent: float
    per_100_mib_s: float

    @property
    def name(self) -> str:
        """The growth in words."""
        if self.exponent < 0.2:
            return "hardly grows"
        if self.exponent < 0.8:
            return "less than linear: what every start takes still counts"
        return "linear" if self.exponent <= 1.2 else "more than linear"

    def __str__(self) -> str:
        return f"{self.name} (size to the power of {self.exponent:.2f})"


def growth_of(points: Mapping[float, float]) -> Growth | None:
    """Fit a power to the times by size; None if there are fewer than three sizes, which any line of two parameters would nearly fit."""
    if len(points) < 3 or not all(math.isfinite(took_s) and took_s > 0 for took_s in points.values()):
        return None
    sizes, took_s = list(points), list(points.values())
    power = statistics.linear_regression([math.log(size) for size in sizes], [math.log(seconds) for seconds in took_s])
    return Growth(power.slope, 100 * statistics.linear_regression(sizes, took_s).slope)


def allowed_s(size_mib: float) -> float:
    """Return how long a restoration may take."""
    return FIXED_S + PER_100_MIB_S * size_mib / 100


def judge_timings(kind: str, timings: Sequence[Timing]) -> Finding:
    """Judge the restorations from backups of one kind: pure, so that its tests can hand it any."""

    def in_time() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        sizes = sorted({each.size_mib for each in timings})
        totals = {size: [each.total_s for each in timings if each.size_mib == size] for size in sizes}
        medians = {size: statistics.median(took) for size, took in totals.items()}
        growth = growth_of(medians)
        measured = (
            *(Measurement(f"{size:g} MiB", _rounded(medians[size]), "s", len(totals[size]), f"≤ {allowed_s(size):g} s") for size in sizes),
            Measurement("growth", str(growth) if growth else None, samples=len(sizes)),
            Measurement("each 100 MiB more", round(growth.per_100_mib_s, 2) if growth else None, "s"),
            Measurement("of it copying, at the largest size", _rounded(max((each.copy_s for each in timings[-1:]), default=math.inf)), "s"),
        )
        if problems := [f"{each.size_mib:g} MiB: {each.problem}" for each in timings if each.problem]:
            return Verdict.FAIL, f"{len(problems)} of {len(timings)}, first {problems[0]}", measured
        if late := [each for each in timings if each.total_s > allowed_s(each.size_mib)]:
            worst = max(late, key=lambda each: each.total_s / allowed_s(each.size_mib))
            reason = f"{len(late)} of {len(timings)} came late, worst {worst.total_s:.1f} s for {worst.size_mib:g} MiB"
            return Verdict.FAIL, reason, measured
        return (Verdict.PASS, "", measured) if timings else (Verdict.INCONCLUSIVE, "nothing was restored", measured)

    return judge(CRITERION, CLAIMS[kind], in_time)


def judge_spoiled(timing: Timing) -> Finding:
    """Judge whether the harness tells that a backup which a server loads without a word is spoiled."""

    def told() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("what it sees", timing.problem or "nothing"),)
        if not math.isfinite(timing.serve_s):
            return Verdict.INCONCLUSIVE, "the server did not load it", measured
        return (Verdict.PASS, "", measured) if timing.problem else (Verdict.INCONCLUSIVE, "it passes for a good one", measured)

    return judge(CRITERION, SPOILED_CLAIM, told)


@dataclass(frozen=True, slots=True)
class Result:
    """The restorations by kind of backup, and what is concluded from them."""

    timings: Mapping[str, Sequence[Timing]]
    findings: tuple[Finding, ...]

    @property
    def histories(self) -> dict[str, History]:
        """None: nobody writes meanwhile."""
        return {}


def drill(ground: Ground) -> Result:
    """Restore backups of each kind, of data of growing size, `ground.times` times each, and look how long it takes.

    Raises:
        TargetError: a server did not start, or its backup could not be taken.
    """
    sizes_mib = SIZES_MIB[ground.profile]
    free_mib, needed_mib = shutil.disk_usage(ground.folder).free // MIB, COPIES_ON_DISK * max(sizes_mib)
    if free_mib < needed_mib:
        reason = f"the disk has {free_mib} MiB left, and {needed_mib} are needed: make room, or set TMPDIR to a larger one"
        return Result({}, tuple(Finding(CRITERION, claim, Verdict.INCONCLUSIVE, reason) for claim in CLAIMS.values()))
    timings: dict[str, list[Timing]] = {kind: [] for kind in CLAIMS}
    for size_mib in sizes_mib:
        with Embedded(ground.environ, FLAGS, parent=ground.folder) as server:
            ground.engine = server.engine
            ground.say(f"{size_mib} MiB: writing them")
            written = _fill(server, size_mib, ground.chance(f"{size_mib} MiB"))
            for kind in CLAIMS:
                ground.say(f"{size_mib} MiB: {kind}")
                backup = _take(server, kind, ground.folder / "backup")
                timings[kind] += [_timed(ground, kind, backup, size_mib, written) for _ in range(ground.times)]
                if kind == COMMANDS and size_mib == min(sizes_mib):
                    _spoil(backup)
                    spoiled = _timed(ground, kind, backup, size_mib, written)
                shutil.rmtree(backup.folder)
    return Result(timings, (*(judge_timings(kind, taken) for kind, taken in timings.items()), judge_spoiled(spoiled)))


def _perform(ground: Ground) -> Sequence[Finding]:
    return drill(ground).findings


def _fill(server: Embedded, size_mib: int, chance: random.Random) -> str:
    """Write values that can't be compressed, and return a digest of them."""
    block, keys = chance.randbytes(MIB), size_mib * MIB // VALUE_BYTES
    with administering(server) as client:
        for first in range(0, keys, VALUES_AT_ONCE):
            with client.pipeline(transaction=False) as writing:
                for number in range(first, min(keys, first + VALUES_AT_ONCE)):
                    at = chance.randrange(MIB - VALUE_BYTES)
                    writing.set(KEY.format(number), block[at : at + VALUE_BYTES])
                writing.execute()
        return digest_of(client)


def _take(server: Embedded, kind: str, into: Path) -> Backup:
    if kind == SNAPSHOT:
        return copy_snapshot(server, into)
    if kind == BASE:
        with administering(server) as client:
            rewrite(client)
    return copy_append_only_set(server, into)


def _spoil(backup: Backup) -> None:
    """Change the last byte of the last value, of an append-only set of commands alone."""
    (increment,) = backup.folder.rglob("*.incr.aof")
    at = increment.stat().st_size - len("\r\n") - 1
    overwrite(increment, at, bytes([increment.read_bytes()[at] ^ 1]))


def _timed(ground: Ground, kind: str, backup: Backup, size_mib: int, written: str) -> Timing:
    """Restore a backup, and compare what came of it with a digest of what was written.

    Raises:
        TargetError: the server neither served nor refused, and it was not for lack of time.
    """
    backup_mib = sum(path.stat().st_size for path in backup.folder.rglob("*") if path.is_file()) / MIB
    lost_s = time.monotonic()
    with Embedded(ground.environ, FLAGS_OF[kind], parent=ground.folder, data=backup.folder, started=False) as server:
        copied_s = time.monotonic()
        timing = Timing(size_mib, backup_mib, copied_s - lost_s, math.inf)
        try:
            refusal = start_or_refusal(server, allowed_s(size_mib))
        except TargetError:
            if time.monotonic() - copied_s < allowed_s(size_mib):
                raise
            return timing
        if refusal:
            return dataclasses.replace(timing, problem=f"the server refused to start: {refusal}")
        with administering(server) as client:
            client.get(KEY.format(0))
            timing = dataclasses.replace(timing, serve_s=time.monotonic() - copied_s)
            held = digest_of(client)
    return timing if held == written else dataclasses.replace(timing, problem="the digest of what it holds is another one")


def _rounded(seconds: float) -> float | None:
    return round(seconds, 2) if math.isfinite(seconds) else None


DRILL = Drill(
    name="restore-time",
    question="How long does it take to restore a backup, and how does that grow with the data?",
    promise=f"A restored server serves within {FIXED_S:g} s and {PER_100_MIB_S:g} s more for each 100 MiB",
    faults=("loss of the server and of its folder", "a spoiled backup, as a control"),
    blast_radius="server processes of our own, two at a time; up to 1 GiB of memory and 2 GiB of disk with the profile full",
    roll_back="none needed: servers and copies are removed",
    targets=("embedded",),
    times={"quick": 1, "full": 3},
    limit_s={"quick": 120, "full": 420},
    perform=_perform,
)

"""How much of what was acknowledged is gone after a power cut?

Promise: under `appendfsync everysec`, while the disk syncs in time, at most the writes of the last two seconds are (`redis.conf`: one
second, which Redis may exceed by the one for which a sync may be under way), and only the tail of the log. `always` loses nothing and `no`
loses much: they run beside it, so that it shows that this drill can tell them apart.
"""

import contextlib
import dataclasses
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from cachelib import Client, connect
from runbook.drills.checkers import Account, account
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults.power import PAGE_BYTES, Disk, copy_as_cut, modelled_cut, own_disk, power_cut
from runbook.drills.faults.process import Outage
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Ledger, Load, collector_off
from runbook.targets import Embedded, TargetError

WINDOW_S = 2.0
WRITES_PER_S, WRITERS = 2000, 4
# Long enough for a sync to lie in it, whose moment is then anywhere.
BEFORE_S = 2.5
# Who calls when the server is gone gives up soon: it comes back only after the accounting.
DEADLINE_S = 0.5
# How often it is looked whether a sync is under way. Where each takes D seconds, a cut costs 2 D + 1 at most: the two promised.
LOOK_S, HEALTHY_SYNC_S = 0.05, 0.5
FEWEST_WRITES = 500
TRUE = "true"
POLICIES = ("everysec", "always", "no")
ZEROS = (
    "`aof-load-truncated` forgives a tail that is missing, not one of zeros, as a cut can leave it; the repair is `redis-check-aof --fix`"
)
# Cuts of each control: they have to differ clearly, not to give a distribution.
CONTROLS = {"quick": 1, "full": 5}
FLAGS = ("--appendonly", "yes", "--save", "", "--auto-aof-rewrite-percentage", "0")


@dataclass(frozen=True, slots=True)
class Cut:
    """One power cut under load.

    Attributes:
        policy: of `appendfsync`.
        outage: what the fault did.
        writes: every append.
        account: what became of them.
        slowest_sync_s: the longest time for which a sync was seen under way before it.
        model_lost: how many acknowledged writes the model says are lost; None where the cut was the model itself, or where a sync went on
            between the two.
        page_writes: how many writes a page of the file holds at most, with the one that its end cuts in two.
    """

    policy: str
    outage: Outage
    writes: History = field(repr=False)
    account: Account
    slowest_sync_s: float
    model_lost: int | None = None
    page_writes: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """Cuts under each policy.

    Attributes:
        how: `TRUE`, or `modelled` and why.
        cuts: by policy.
        findings: the claims judged.
    """

    how: str
    cuts: Mapping[str, Sequence[Cut]]
    findings: tuple[Finding, ...]

    @property
    def histories(self) -> dict[str, History]:
        """What was recorded, by name."""
        return {f"{policy}-cut-{number}": cut.writes for policy, cuts in self.cuts.items() for number, cut in enumerate(cuts, 1)}


def drill(ground: Ground) -> Result:
    """Cut the power `ground.times` times under `everysec`, and some times under the two controls.

    Raises:
        TargetError: a server did not start, or neither the true cut nor the model can be had here.
    """
    numbers = {"everysec": ground.times, "always": CONTROLS[ground.profile], "no": CONTROLS[ground.profile]}
    with contextlib.ExitStack() as mounted:
        disk, how = None, TRUE
        try:
            disk = mounted.enter_context(own_disk(ground.undo, ground.folder))
        except TargetError as error:
            how = f"modelled, since {error}"
            ground.say(how)
        cuts = {policy: list(_cuts(ground, policy, numbers[policy], disk)) for policy in POLICIES}
    return Result(how, cuts, judge_cuts(cuts, how))


def _cuts(ground: Ground, policy: str, times: int, disk: Disk | None) -> Iterator[Cut]:
    parent = disk.mount_point if disk else None
    chance = ground.chance(policy)
    with ground.embedded((*FLAGS, "--appendfsync", policy), parent) as server:
        ground.engine = server.engine
        for number in range(1, times + 1):
            ground.say(f"{'cut' if disk else 'modelled cut'} {number} of {times}, appendfsync {policy}")
            yield _cut(ground, server, policy, BEFORE_S + chance.random(), disk)
        ground.check_steady("I-4", server)


def _cut(ground: Ground, server: Embedded, policy: str, before_s: float, disk: Disk | None) -> Cut:
    key, copy = f"runbook:power:{uuid.uuid4().hex}", ground.folder / f"runbook-model-{uuid.uuid4().hex}"
    settled: list[bool] = []
    with (
        contextlib.ExitStack() as healing,  # the load ends before it, so that the accounting is that of the cut alone
        collector_off(),
        connect(dataclasses.replace(server.config, deadline_s=DEADLINE_S)) as client,
        Load(client, Ledger(key), rate_per_s=WRITES_PER_S, workers=WRITERS) as load,
    ):
        slowest_sync_s = _watch_syncs(client, before_s)
        fault = power_cut(server, disk, lambda folder: settled.append(copy_as_cut(folder, copy))) if disk else modelled_cut(server)
        outage = healing.enter_context(fault)
    found = account(load.history, _read(server, key, unlink=True), [outage.down_ns])
    model_lost = None
    if all(settled) and disk:
        with ground.embedded((*FLAGS, "--appendfsync", "no"), data=copy) as model:
            model_lost = len(account(load.history, _read(model, key), [outage.down_ns]).lost)
    shutil.rmtree(copy, ignore_errors=True)
    return Cut(policy, outage, load.history, found, slowest_sync_s, model_lost, PAGE_BYTES // _size_bytes(key) + 1)


def _watch_syncs(client: Client, duration_s: float) -> float:
    """Look for a while how long the server's syncs take, and return the longest time for which one was seen under way."""
    until_s = time.monotonic() + duration_s
    began_s, longest_s = None, 0.0
    while (now_s := time.monotonic()) < until_s:
        if client.info("persistence").get("aof_pending_bio_fsync"):
            began_s = began_s or now_s
            longest_s = max(longest_s, time.monotonic() - began_s)
        else:
            began_s = None
        time.sleep(LOOK_S)
    return longest_s


def _read(server: Embedded, key: str, *, unlink: bool = False) -> list[str]:
    with connect(server.config) as client:
        present = [value.decode() for value in client.lrange(key, 0, -1)]
        if unlink:
            client.unlink(key)
    return present


def _size_bytes(key: str) -> int:
    """Return how long the shortest append is in the file, which holds the commands as they were sent."""
    return len(b"*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$3\r\n0:0\r\n" % (len(key), key.encode()))


def judge_cuts(cuts: Mapping[str, Sequence[Cut]], how: str) -> tuple[Finding, ...]:
    """Judge what was recorded: pure, so that its tests can hand it any cuts."""
    everysec, always, no = (cuts[policy] for policy in POLICIES)

    def bounded() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        lost = [len(cut.account.lost) for cut in everysec]
        windows_s = [cut.account.lost_window_s for cut in everysec]
        wide = [cut for cut in everysec if cut.account.lost_window_s > WINDOW_S]
        measured = (
            _distribution("window of the loss", windows_s, "s", f"≤ {WINDOW_S:g} s", digits=2),
            _distribution("acknowledged writes lost", lost, "writes"),
            # Bounded by the number of cuts where none of them exceeded the promise, and not otherwise.
            Measurement(
                "share of cuts that may lose more, 95 % confidence", None if wide else _percent_below(len(everysec)), "%", len(everysec)
            ),
            _distribution("slowest sync before a cut", [cut.slowest_sync_s for cut in everysec], "s", digits=2),
            Measurement("how", how),
        )
        if corrupt := _corrupt(everysec):
            return Verdict.FAIL, corrupt, measured
        worst = max(wide, key=lambda cut: cut.account.lost_window_s, default=None)
        if worst:
            reason = (
                f"{len(wide)} of {len(everysec)} cuts lost more than {WINDOW_S:g} s, the worst {len(worst.account.lost)} writes over "
                f"{worst.account.lost_window_s:.2f} s, first {worst.account.lost[0]}"
            )
            # The promise holds while the disk syncs in time.
            healthy = [cut for cut in wide if cut.slowest_sync_s <= HEALTHY_SYNC_S]
            return (Verdict.FAIL, reason, measured) if healthy else (Verdict.INCONCLUSIVE, f"{reason}; but the disk was slow", measured)
        doubts = _doubts(everysec)
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), doubts, measured

    def nothing() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        lost = sum(len(cut.account.lost) for cut in always)
        acknowledged = sum(cut.account.acknowledged for cut in always)
        measured = (Measurement("acknowledged writes lost", lost, "writes", acknowledged, "= 0"),)
        if corrupt := _corrupt(always):
            return Verdict.FAIL, corrupt, measured
        if lost:
            return (
                Verdict.FAIL,
                f"{lost} of {acknowledged} lost, first {next(value for cut in always for value in cut.account.lost)}",
                measured,
            )
        doubts = _doubts(always)
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), doubts, measured

    def much() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (_distribution("acknowledged writes lost", [len(cut.account.lost) for cut in no], "writes", "> 0"),)
        if spared := sum(not cut.account.lost for cut in no):
            return Verdict.INCONCLUSIVE, f"{spared} of {len(no)} cuts lost nothing: this drill can't tell what a cut takes", measured
        doubts = _doubts(no)
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), doubts, measured

    def agrees() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        both = [(cut, cut.model_lost) for each in cuts.values() for cut in each if cut.model_lost is not None]
        if not both:
            return Verdict.INCONCLUSIVE, "in each cut a sync went on between the model's look and the cut: make more", ()
        apart = [abs(modelled - len(cut.account.lost)) for cut, modelled in both]
        limit = max(cut.page_writes for cut, _ in both)
        measured = (
            _distribution("between the model and the true cut", apart, "writes", f"≤ {limit}"),
            Measurement("cuts not compared, as a sync went on between the two", sum(map(len, cuts.values())) - len(both), "cuts"),
        )
        if far := [number for number in apart if number > limit]:
            return Verdict.FAIL, f"in {len(far)} of {len(both)} cuts they were further apart, at the most {max(far)} writes", measured
        doubts = _doubts([cut for cut, _ in both])
        if not any(cut.account.lost for cut, _ in both):
            doubts = f"no cut lost anything: there is nothing to agree on{doubts and '; ' + doubts}"
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), doubts, measured

    def alone() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        all_cuts = [cut for each in cuts.values() for cut in each]
        refused = [cut.outage.unhealed for cut in all_cuts if cut.outage.unhealed]
        measured = (Measurement("cuts after which the file had to be repaired", len(refused), "cuts", len(all_cuts), "= 0"),)
        if refused:
            return Verdict.FAIL, f"after {len(refused)} of {len(all_cuts)} cuts {refused[0]}", measured
        doubts = _doubts(all_cuts)
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), doubts, measured

    claims = [
        (
            f"After a power cut under everysec only writes of the last {WINDOW_S:g} s are lost; none is doubled, invented or out of order",
            bounded,
        ),
        ("After a power cut under always no acknowledged write is lost", nothing),
        ("Control: after a power cut under no, acknowledged writes are lost", much),
    ]
    found = [judge("I-4", claim, check) for claim, check in claims]
    if how == TRUE:
        # A model says nothing of itself, and leaves no file that a server refuses.
        found.append(judge("I-4", "The model by cachestat agrees with the true cut to a page of the file", agrees))
        found.append(judge("I-4", "After a power cut the server starts by itself", alone, ZEROS))
    return tuple(found)


def _distribution(name: str, values: Sequence[float], unit: str, threshold: str = "", digits: int = 0) -> Measurement:
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return Measurement(name, f"{low} to {high}, median {middle}", unit, len(values), threshold)


def _percent_below(cuts: int) -> str:
    """Bound the share of cuts that exceed the promise when none of them did, with 95 % confidence: 1 − 0.05^(1/n).

    Exact for what "the rule of three" approximates: Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983.
    """
    return f"below {100 * (1 - 0.05 ** (1 / cuts)):.0f}"


def _corrupt(cuts: Sequence[Cut]) -> str:
    return "; ".join(f"cut {number}: {', '.join(cut.account.corrupt)}" for number, cut in enumerate(cuts, 1) if cut.account.corrupt)


def _doubts(cuts: Sequence[Cut]) -> str:
    doubts = list(dict.fromkeys(doubt for cut in cuts for doubt in cut.outage.doubts))
    scarce = [cut.account.acknowledged for cut in cuts if cut.account.acknowledged < FEWEST_WRITES]
    return "; ".join(doubts + [f"only {number} acknowledged writes before a cut, {FEWEST_WRITES} are needed" for number in scarce])


def _perform(ground: Ground) -> Sequence[Finding]:
    result = drill(ground)
    for name, history in result.histories.items():
        ground.keep(name, history)
    return result.findings


DRILL = Drill(
    name="power-loss",
    question="How much of what it acknowledged does the Redis lose in a power cut?",
    promise="Under everysec at most the newest two seconds are lost, and nothing but the tail; always loses nothing, and no loses",
    faults=("the power of the disk is cut (ext4 shut down without its log, journal replayed), or modelled where we are not root",),
    blast_radius="a server process of our own, on a disk image of our own that is mounted meanwhile",
    roll_back="the image is unmounted and removed",
    targets=("embedded",),
    times={"quick": 2, "full": 30},
    limit_s={"quick": 90, "full": 400},
    perform=_perform,
)

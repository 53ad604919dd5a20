"""Does the Redis keep what it acknowledged, when its process is stopped or killed, or its container replaced, under load?

Promise: where the server may close its files, nothing is lost. After SIGKILL at most the newest two seconds are (Redis holds back a write
for up to two seconds while an fsync is in flight: `aof.c`, `flushAppendOnlyFile`), and never one out of the middle.
"""

import contextlib
import dataclasses
import math
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachelib import connect
from runbook.drills.checkers import Account, account
from runbook.drills.faults import Outage, crashed, killed, killed_in_rewrite, out_of_memory, paused, recreated, removed, stopped
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Ledger, Load, Outcome, Ping, Record, collector_off
from runbook.load.canary import Canary, stalled_seconds, worth_timing
from runbook.targets import Contained, Embedded, Pausable, Restartable, Target

# How late a caller may get its error after its deadline.
GRACE_S = 0.05
# How late the server's own clock may be, by which it decides to hold back no longer (`hz 10`).
CLOCK_S = 0.1
# Fewer writes on either side of the outage say nothing.
FEWEST_WRITES = 100
# By when a reply that the server had sent before it ended has been read.
UNDER_WAY_NS = 50_000_000
LOOKS_PER_S = 50
LOOK_DEADLINE_S = 0.2


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
_WHERE = {Contained: "compose", Embedded: "embedded"}


@dataclass(frozen=True, slots=True)
class Result:
    """One outage under load, or several of the same kind.

    Attributes:
        fault: its name, one of `FAULTS`.
        outages: what the fault did, each time.
        writes: every append to the ledger.
        looks: every PING of a caller with a short deadline.
        account: what became of the appends.
        findings: the claims judged.
    """

    fault: str
    outages: tuple[Outage, ...]
    writes: History
    looks: History
    account: Account
    findings: tuple[Finding, ...]

    @property
    def histories(self) -> dict[str, History]:
        """What was recorded, by name."""
        return {f"{self.fault.lower()}-writes": self.writes, f"{self.fault.lower()}-looks": self.looks}


def drill(
    target: Target,
    *,
    fault: str,
    rate_per_s: float,
    writers: int,
    before_s: float,
    down_s: float,
    after_s: float,
    times: int = 1,
    chance: random.Random | None = None,
) -> Result:
    """Append to a ledger, end the server meanwhile, start it again, read the ledger and account for every append.

    Args:
        target: which server; one to which we can't do this gives INCONCLUSIVE findings.
        fault: one of `FAULTS`.
        rate_per_s: appends a second, of all writers together.
        writers: how many callers append; each numbers its own appends.
        before_s: seconds of load before the fault.
        down_s: seconds for which the server stays down; an engine's policy does not wait for them.
        after_s: seconds of load after it serves again.
        times: how often, all within one load; each outage has a window of its own.
        chance: makes each wait before the fault up to a second longer; without it, none is.

    Raises:
        ValueError: there are no outages.
    """
    if times < 1:
        raise ValueError(f"a drill takes at least one outage, got {times}")
    if not isinstance(target, FAULTS[fault].ability):
        where = _WHERE.get(FAULTS[fault].ability, "embedded or compose")
        refusal = f"a {target.name} target is not ours to stop: run this drill on {where}"
        findings = tuple(Finding(criterion, claim, Verdict.INCONCLUSIVE, refusal) for criterion, claim in _claims(fault).items())
        return Result(fault, (), History([]), History([]), account(History([]), [], ()), findings)

    key = f"runbook:ledger:{uuid.uuid4().hex}"
    impatient = dataclasses.replace(target.config, deadline_s=LOOK_DEADLINE_S, pool_size=2)
    with connect(target.config) as client, connect(impatient) as looker:
        with (
            collector_off(),
            Load(client, Ledger(key), rate_per_s=rate_per_s, workers=writers) as load,
            Load(looker, Ping(), rate_per_s=LOOKS_PER_S, workers=1) as looking,
            Canary() as canary,
        ):
            time.sleep(before_s)
            outages = []
            for _ in range(times):
                time.sleep(chance.random() if chance else 0.0)
                with FAULTS[fault].breaks(target) as outage:
                    time.sleep(down_s)
                time.sleep(after_s)
                outages.append(outage)
            stalled_s = stalled_seconds(canary.overslept())
        present = [value.decode() for value in client.lrange(key, 0, -1)]
        client.unlink(key)
    writes, looks = load.history, looking.history
    found = account(writes, present, [outage.down_ns for outage in outages])
    findings = judge_result(fault, outages, writes, looks, found, stalled_s)
    return Result(fault, tuple(outages), writes, looks, found, findings)


def judge_result(
    fault: str,
    outages: Sequence[Outage],
    writes: History,
    looks: History,
    found: Account,
    stalled_s: frozenset[int] = frozenset(),
) -> tuple[Finding, ...]:
    """Judge what was recorded: pure, so that its tests can hand it any history; `stalled_s` are seconds in which the host stalled."""
    claims = _claims(fault)
    unproven = [doubt for outage in outages for doubt in outage.doubts]
    recovered = [recoveries_s(writes, outage, until_ns) for outage, until_ns in zip(outages, _ends_ns(outages), strict=True)]

    def durability() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (
            Measurement("acknowledged writes lost", len(found.lost), "writes", found.acknowledged, _promise(fault)),
            Measurement("window of the loss", round(found.lost_window_s, 3), "s", None, f"≤ {FAULTS[fault].window_s:g} s"),
            Measurement("duplicated", len(found.duplicated), "writes", found.acknowledged, "= 0"),
            Measurement("phantom", len(found.phantom), "writes", found.acknowledged, "= 0"),
            Measurement("out of order", len(found.out_of_order), "writes", found.acknowledged, "= 0"),
            Measurement("outcome unknown", found.unknown, "writes", found.attempted),
        )
        problems = list(found.corrupt)
        if found.lost and (not FAULTS[fault].window_s or found.lost_window_s > FAULTS[fault].window_s + CLOCK_S):
            problems.insert(
                0,
                f"{len(found.lost)} of {found.acknowledged} acknowledged writes lost, over {found.lost_window_s:.2f} s, "
                f"first {found.lost[0]}",
            )
        if problems:
            problems += found.counter_examples(limit=1).splitlines()
            return Verdict.FAIL, "; ".join(problems), measured
        if doubts := unproven + _scarce(outages, writes):
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        return Verdict.PASS, "", measured

    def reconnection() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        workers = {record.worker for record in writes}
        took_s = [seconds for recoveries in recovered for seconds in recoveries.values()]
        measured = (
            Measurement("slowest writer's first success after the server served", _ms(max(took_s, default=None)), "ms", len(took_s)),
            Measurement("longest outage", round(max(outage.duration_s for outage in outages), 3), "s", len(outages)),
        )
        if unhealed := [outage.unhealed for outage in outages if outage.unhealed]:
            return Verdict.FAIL, "; ".join(unhealed), measured
        if unproven:
            return Verdict.INCONCLUSIVE, "; ".join(unproven), measured
        for number, recoveries in enumerate(recovered, 1):
            if missing := workers - recoveries.keys():
                reason = f"{len(missing)} of {len(workers)} writers did not succeed again after outage {number}, first {min(missing)}"
                return Verdict.FAIL, reason, measured
        if doubts := _scarce(outages, writes):
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        return Verdict.PASS, "", measured

    def grace() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        during = [look for look in looks if any(look.sent_ns < each.ready_ns and look.done_ns > each.broken_ns for each in outages)]
        failed = [look for look in during if look.outcome is not Outcome.OK]
        timed = worth_timing(during, LOOK_DEADLINE_S + GRACE_S, stalled_s)
        late_s = max((look.service_ns / 1e9 - LOOK_DEADLINE_S for look in timed), default=0.0)
        measured = (
            Measurement("latest error after its deadline", _ms(max(0.0, late_s)), "ms", len(timed), f"≤ {GRACE_S * 1e3:g} ms"),
            Measurement("callers told that Redis is unavailable", len(failed), "calls", len(during)),
            Measurement("not timed, late on a host that stalled", len(during) - len(timed), "calls", len(during)),
        )
        strange = [look for look in failed if not look.error.startswith("Unavailable")]
        if strange:
            return Verdict.FAIL, f"{len(strange)} calls ended otherwise, first {strange[0].error}", measured
        if unproven or not failed:
            return Verdict.INCONCLUSIVE, "; ".join(unproven) or "no call fell into the outage", measured
        if late_s > GRACE_S:
            return Verdict.FAIL, f"a call ended {late_s * 1e3:.0f} ms after its deadline", measured
        if not timed:
            return Verdict.INCONCLUSIVE, "the host stalled all the time, and each call was late", measured
        return Verdict.PASS, "", measured

    checks = (durability, reconnection, grace)
    return tuple(judge(criterion, claim, check) for (criterion, claim), check in zip(claims.items(), checks, strict=True))


def recoveries_s(writes: History, outage: Outage, until_ns: float = math.inf) -> dict[int, float]:
    """Tell for each writer how many seconds after the server served again its first append sent or waiting then succeeded.

    Args:
        writes: of all writers, around the outage.
        outage: the one they recover from.
        until_ns: when the next one began; a success behind it is no recovery from this one.
    """
    first: dict[int, Record] = {}
    for record in writes:
        # A reply that was under way when the process ended is not a recovery.
        answered_anew = record.sent_ns > outage.down_ns or record.done_ns > outage.down_ns + UNDER_WAY_NS
        if answered_anew and record.done_ns < until_ns and record.outcome is Outcome.OK and record.worker not in first:
            first[record.worker] = record
    return {worker: max(0.0, (record.done_ns - outage.ready_ns) / 1e9) for worker, record in first.items()}


def control() -> tuple[Finding, ...]:
    """Hand the checker a history with one seeded defect of each kind; it must find each of them."""
    second = 1_000_000_000

    def seeded() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        records = [Record(0, "RPUSH", f"0:{n}", n * second, n * second, n * second + 1, Outcome.OK) for n in range(6)]
        clean, cut_ns = [f"0:{n}" for n in range(6)], 3 * second
        defects = {
            "a lost write": (clean[:4] + clean[5:], lambda found: found.lost == ("0:4",) and found.holes),
            "a duplicate": ([*clean, "0:5"], lambda found: found.duplicated == ("0:5",)),
            "a phantom": ([*clean, "0:9"], lambda found: found.phantom == ("0:9",)),
            "a swap": ([*clean[:4], "0:5", "0:4"], lambda found: found.out_of_order == ("0:4",)),
        }
        missed = [name for name, (present, caught) in defects.items() if not caught(account(History(records), present, [cut_ns]))]
        if account(History(records), clean, [cut_ns]).corrupt:
            missed.append("a clean ledger, which it accused")
        measured = (Measurement("seeded defects caught", len(defects) - len(missed), "defects", len(defects), f"= {len(defects)}"),)
        # A blind checker makes every other result worthless, but proves no fault of the server.
        return (Verdict.INCONCLUSIVE, f"the checker missed {', '.join(missed)}", measured) if missed else (Verdict.PASS, "", measured)

    return (judge("I-4", "Control: the accounting finds a seeded loss, duplicate, phantom and swap", seeded),)


def _claims(fault: str) -> dict[str, str]:
    promise = FAULTS[fault]
    loss = f"only writes of the last {promise.window_s:g} s may be lost" if promise.window_s else "no acknowledged write is lost"
    return {
        promise.criterion: f"After {promise.after} {loss}; none is doubled, invented or out of order",
        "I-5": f"After {promise.after} every writer goes on by itself",
        "I-6": f"While {promise.cause} keeps Redis down, callers are told so by their deadline (+{GRACE_S * 1e3:g} ms)",
    }


def _promise(fault: str) -> str:
    return f"only within {FAULTS[fault].window_s:g} s" if FAULTS[fault].window_s else "= 0"


def _ends_ns(outages: Sequence[Outage]) -> list[float]:
    """Tell for each outage when the next one began."""
    return [*(float(following.broken_ns) for following in outages[1:]), math.inf]


def _scarce(outages: Sequence[Outage], writes: History) -> list[str]:
    """Name the sides of the outages on which too little was acknowledged to say anything."""
    acknowledged = [record.done_ns for record in writes if record.outcome is Outcome.OK]
    counts = {
        "before": sum(done_ns < outages[0].broken_ns for done_ns in acknowledged),
        "after": sum(done_ns > outages[-1].ready_ns for done_ns in acknowledged),
    }
    return [
        f"only {count} acknowledged writes {side} the outage, {FEWEST_WRITES} are needed"
        for side, count in counts.items()
        if count < FEWEST_WRITES
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 1)

"""What is concluded from writes around outages: pure functions, so that their tests can hand them any history."""

import math
from collections.abc import Callable, Mapping, Sequence

from runbook.drills.checkers import Account, account, membership, readings
from runbook.drills.faults import Outage
from runbook.drills.overshoot import judge_overshoots, overshoots
from runbook.drills.persistence_faults import FAULTS
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Outcome, Record
from runbook.load.wait_control import Lateness

Judgement = tuple[Verdict, str, tuple[Measurement, ...]]

# Fewer writes on either side of the outage say nothing.
FEWEST_WRITES = 100
# By when a reply that the server had sent before it ended has been read.
UNDER_WAY_NS = 50_000_000
PROBE_DEADLINE_S = 0.2


def judge_ledger(fault: str, outages: Sequence[Outage], writes: History, found: Account) -> Finding:
    """Judge what became of every append to the ledger."""
    promise = FAULTS[fault]

    def kept() -> Judgement:
        limit = f"only within {promise.window_s:g} s" if promise.window_s else "= 0"
        measured = (
            Measurement("acknowledged writes lost", len(found.lost), "writes", found.acknowledged, limit),
            Measurement("window of the loss", round(found.lost_window_s, 3), "s", None, f"≤ {promise.window_s:g} s"),
            Measurement("outages", len(outages), "outages"),
            Measurement("duplicated", len(found.duplicated), "writes", found.acknowledged, "= 0"),
            Measurement("phantom", len(found.phantom), "writes", found.acknowledged, "= 0"),
            Measurement("out of order", len(found.out_of_order), "writes", found.acknowledged, "= 0"),
            Measurement("outcome unknown", found.unknown, "writes", found.attempted),
        )
        problems = list(found.corrupt)
        if found.lost and (not promise.window_s or found.lost_window_s > promise.most_lost_s):
            problems.insert(
                0,
                f"{len(found.lost)} of {found.acknowledged} acknowledged writes lost, over {found.lost_window_s:.2f} s, "
                f"first {found.lost[0]}",
            )
        if problems:
            problems += found.counter_examples(limit=1).splitlines()
            return Verdict.FAIL, "; ".join(problems), measured
        return _unless([*_doubts(outages), *_scarce(outages, writes)], measured)

    return judge(*promise.claims["ledger"], kept)


def judge_registers(fault: str, outages: Sequence[Outage], history: History) -> Finding:
    """Judge what the owners of registers read in them."""
    promise = FAULTS[fault]

    def never_back() -> Judgement:
        found = readings(history, [outage.down_ns for outage in outages], promise.most_lost_s)
        older = len(found.stale) + len(found.backwards) + len(found.returned)
        measured = (
            Measurement("reads of something older", older, "reads", found.read, "= 0"),
            Measurement("acknowledged writes lost", len(found.lost), "writes", found.written, f"only within {promise.window_s:g} s"),
        )
        if found.corrupt:
            return Verdict.FAIL, "; ".join((*found.corrupt, found.counter_examples(1))), measured
        return _unless([*_doubts(outages), *_too_few(found.read, "reads")], measured)

    return judge(*promise.claims["registers"], never_back)


def judge_members(fault: str, outages: Sequence[Outage], history: History, present: Sequence[str]) -> Finding:
    """Judge what is in a set to which members were added."""
    promise = FAULTS[fault]

    def all_there() -> Judgement:
        found = membership(history, present, [outage.down_ns for outage in outages])
        measured = (
            Measurement("acknowledged members missing", len(found.lost), "members", found.acknowledged),
            Measurement("window of the loss", round(found.lost_window_s, 3), "s", None, f"≤ {promise.window_s:g} s"),
        )
        problems = list(found.corrupt)
        if found.lost and (not promise.window_s or found.lost_window_s > promise.most_lost_s):
            problems.append(
                f"{len(found.lost)} of {found.acknowledged} members missing over {found.lost_window_s:.2f} s, first {found.lost[0]}"
            )
        if problems:
            return Verdict.FAIL, "; ".join(problems), measured
        return _unless([*_doubts(outages), *_too_few(found.acknowledged, "acknowledged members")], measured)

    return judge(*promise.claims["members"], all_there)


def judge_writers(fault: str, outages: Sequence[Outage], writes: History) -> Finding:
    """Judge whether each writer succeeded again after each outage."""

    def reconnected() -> Judgement:
        recovered = recoveries_by_outage_s(writes, outages)
        workers = {record.worker for record in writes}
        took_s = [seconds for recoveries in recovered for seconds in recoveries.values()]
        slowest_ms = round(max(took_s) * 1e3, 1) if took_s else None
        measured = (
            Measurement("slowest writer's first success after the server served", slowest_ms, "ms", len(took_s)),
            Measurement("longest outage", round(max(outage.duration_s for outage in outages), 3), "s", len(outages)),
        )
        if unhealed := [outage.unhealed for outage in outages if outage.unhealed]:
            return Verdict.FAIL, "; ".join(unhealed), measured
        if doubts := _doubts(outages):
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        for number, recoveries in enumerate(recovered, 1):
            if missing := workers - recoveries.keys():
                reason = f"{len(missing)} of {len(workers)} writers did not succeed again after outage {number}, first {min(missing)}"
                return Verdict.FAIL, reason, measured
        return _unless(_scarce(outages, writes), measured)

    return judge(*FAULTS[fault].claims["writers"], reconnected)


def judge_grace(fault: str, outages: Sequence[Outage], probes: History, control: Lateness) -> Finding:
    """Judge whether callers with a short deadline were told in time; only what is beyond the control's lateness counts."""

    def told() -> Judgement:
        during = [probe for probe in probes if any(probe.sent_ns < each.ready_ns and probe.done_ns > each.broken_ns for each in outages)]
        failed = [probe for probe in during if probe.outcome is not Outcome.OK]
        late, measured = judge_overshoots(overshoots(during, PROBE_DEADLINE_S, control), control)
        measured += (Measurement("callers told that Redis is unavailable", len(failed), "calls", len(during)),)
        strange = [probe for probe in failed if not probe.error.startswith("Unavailable")]
        if strange:
            return Verdict.FAIL, f"{len(strange)} calls ended otherwise, first {strange[0].error}", measured
        if doubts := _doubts(outages) or ([] if failed else ["no call fell into the outage"]):
            return Verdict.INCONCLUSIVE, "; ".join(doubts), measured
        return (Verdict.FAIL, late, measured) if late else (Verdict.PASS, "", measured)

    return judge(*FAULTS[fault].claims["grace"], told)


def judge_control(fault: str, outages: Sequence[Outage], data: Sequence[Finding]) -> Finding:
    """Judge whether the loss of a server that keeps nothing was found.

    Args:
        fault: one of `FAULTS`.
        outages: of the server that keeps nothing.
        data: what the ledger, the registers and the set say of it.
    """

    def loses() -> Judgement:
        blind = [finding.claim for finding in data if finding.verdict is not Verdict.FAIL]
        lost = [measured for finding in data for measured in finding.measured[:1] if measured.name == "acknowledged writes lost"]
        measured = (
            *(Measurement(each.name, each.value, each.unit, each.samples, "> 0") for each in lost),
            Measurement("witnesses that found the loss", len(data) - len(blind), "witnesses", len(data), f"= {len(data)}"),
        )
        doubts = [*_doubts(outages), *(f"the loss was not found: this drill can't decide whether “{claim}”" for claim in blind)]
        return _unless(doubts if data else ["nothing was judged"], measured)

    return judge("I-4", control_claim(fault), loses)


def control_claim(fault: str) -> str:
    """Return the claim of the control of a fault."""
    return f"Control: without an append-only file, {FAULTS[fault].cause} loses acknowledged writes, and each witness finds it"


def seeded_control() -> Finding:
    """Hand the accounting a ledger with one seeded defect of each kind; it must find each of them."""
    second = 1_000_000_000

    def seeded() -> Judgement:
        records = [Record(0, "RPUSH", f"0:{n}", n * second, n * second, n * second + 1, Outcome.OK) for n in range(6)]
        clean, cut_ns = [f"0:{n}" for n in range(6)], 3 * second
        defects: Mapping[str, tuple[list[str], Callable[[Account], bool]]] = {
            "a lost write": (clean[:4] + clean[5:], lambda found: found.lost == ("0:4",) and bool(found.holes)),
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

    return judge("I-4", "Control: the accounting finds a seeded loss, duplicate, phantom and swap", seeded)


def recoveries_s(writes: History, outage: Outage, until_ns: float = math.inf) -> dict[int, float]:
    """Return for each writer how many seconds after the server served again its first append sent or waiting then succeeded.

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


def recoveries_by_outage_s(writes: History, outages: Sequence[Outage]) -> list[dict[int, float]]:
    """Return for each outage what `recoveries_s` tells of it, up to the beginning of the next one."""
    ends_ns = [*(float(following.broken_ns) for following in outages[1:]), math.inf]
    return [recoveries_s(writes, outage, until_ns) for outage, until_ns in zip(outages, ends_ns, strict=False)]


def _doubts(outages: Sequence[Outage]) -> list[str]:
    return [doubt for outage in outages for doubt in outage.doubts]


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


def _too_few(count: int, what: str) -> list[str]:
    return [f"only {count} {what}, {FEWEST_WRITES} are needed"] if count < FEWEST_WRITES else []


def _unless(doubts: Sequence[str], measured: tuple[Measurement, ...]) -> Judgement:
    return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

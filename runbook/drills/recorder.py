"""Does our record of what happened keep up with a load, and is it small enough to be kept whole?

Promise: operations are recorded as they go at 20,000 a second or more, and ten million of them are recorded and accounted for in less than
500 MiB; the account finds the one that is missing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from runbook.drills.checkers import Account, account
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Journal, Outcome
from runbook.load.memory import peak_mib

LEAST_PER_S, MOST_MEMORY_MIB = 20_000, 500.0
WRITERS = 4
CLAIMS = {
    "rate": f"The journal takes {LEAST_PER_S:,} records a second or more, each before and after its operation",
    "memory": f"Recording and accounting take less than {MOST_MEMORY_MIB:g} MiB",
    "account": "Of all appends the one that was left out is missed, and no other",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of the recorder.

    Attributes:
        records: how many were recorded.
        write_s: seconds in which they were.
        check_s: seconds in which they were read back and accounted for.
        size_mib: what they take on disk.
        peak_mib: the most memory that this process has held, all that it has imported included; 0 if the host does not tell.
        account: what was found.
        left_out: the append that was not there.
        findings: the claims judged.
    """

    records: int
    write_s: float
    check_s: float
    size_mib: float
    peak_mib: float
    account: Account | None
    left_out: str
    findings: tuple[Finding, ...]


def measure(records: int, progress: Callable[[str], None]) -> Result:
    """Record appends that never reach a server, and account for them.

    Args:
        records: how many; a million take some 75 MB of the temporary folder.
        progress: is told what begins.
    """
    left_out = _value(records // 2)
    try:
        progress(f"{records:,} records of {WRITERS} writers, one after the other")
        journal, write_s = _record(records)
        size_mib = sum(path.stat().st_size for path in journal.folder.iterdir()) / 2**20
        progress("the account of them, read from disk")
        began_s = time.monotonic()
        present = (value for value in map(_value, range(records)) if value != left_out)
        found = account(journal.history, present, ())
        check_s = time.monotonic() - began_s
    except OSError as error:
        findings = tuple(Finding("I-4", claim, Verdict.INCONCLUSIVE, str(error)) for claim in CLAIMS.values())
        return Result(records, 0.0, 0.0, 0.0, 0.0, None, left_out, findings)
    findings = judge_figures(records, write_s, peak_mib(), found, left_out)
    return Result(records, write_s, check_s, size_mib, peak_mib(), found, left_out, findings)


def judge_figures(records: int, write_s: float, memory_mib: float, found: Account, left_out: str) -> tuple[Finding, ...]:
    """Judge what was measured: pure, so that its tests can hand it any figures.

    Args:
        records: how many were recorded.
        write_s: seconds in which they were.
        memory_mib: the most memory that was held; 0 if the host does not tell.
        found: the account of them.
        left_out: the append that was not there.
    """

    def rate() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        per_s = round(records / write_s)
        measured = (Measurement("recorded", per_s, "records/s", records, f"≥ {LEAST_PER_S:,} records/s"),)
        return (Verdict.PASS, "", measured) if per_s >= LEAST_PER_S else (Verdict.FAIL, f"only {per_s:,} records/s", measured)

    def memory() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("most memory held", round(memory_mib, 1), "MiB", None, f"< {MOST_MEMORY_MIB:g} MiB"),)
        if not memory_mib:
            return Verdict.INCONCLUSIVE, "this host does not tell how much memory a process has held", measured
        return (Verdict.PASS, "", measured) if memory_mib < MOST_MEMORY_MIB else (Verdict.FAIL, f"it is {memory_mib:.0f} MiB", measured)

    def accounting() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        accused = len(found.lost) + len(found.duplicated) + len(found.phantom) + len(found.out_of_order)
        measured = (Measurement("accused", accused, "appends", found.attempted, "= 1"),)
        if found.attempted != records or found.lost != found.holes or found.lost != (left_out,) or accused != 1:
            # A blind checker makes every other result worthless, but proves no fault of a server.
            return Verdict.INCONCLUSIVE, f"{left_out} was left out of {records:,}, and what was found is {found!r}", measured
        return Verdict.PASS, "", measured

    return tuple(judge("I-4", CLAIMS[name], check) for name, check in (("rate", rate), ("memory", memory), ("account", accounting)))


def _record(records: int) -> tuple[Journal, float]:
    journal = Journal()
    lanes = [journal.lane(writer) for writer in range(WRITERS)]
    began_ns = time.monotonic_ns()
    for number in range(records):
        lane, sent_ns = lanes[number % WRITERS], time.monotonic_ns()
        lane.invoke("RPUSH", _value(number), sent_ns, sent_ns)
        lane.done(time.monotonic_ns(), Outcome.OK)
    write_s = (time.monotonic_ns() - began_ns) / 1e9
    for lane in lanes:
        lane.close()
    return journal, write_s


def _value(number: int) -> str:
    return f"{number % WRITERS}:{number // WRITERS}"

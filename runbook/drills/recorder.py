"""Does our record of what happened keep up with a load, and is it small enough to be kept whole?

Promise: recording an operation as it goes takes no longer than writing two lines to a file without a buffer; ten million of them are
recorded and accounted for in less than 500 MiB; the account finds the one that is missing.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from runbook.drills.checkers import Account, account
from runbook.drills.paired_limit import Limit
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Journal, Outcome
from runbook.load.journal import Lane
from runbook.load.memory import peak_mib
from runbook.load.paired_median import LOOKS

CRITERION = "bench"
MOST_MEMORY_MIB = 500.0
# 60 pairs on two shared cores showed 0.7 ×.
LIMIT = Limit("time of a record", 1.0, at_most=True)
WRITERS = 4
_MOST_IN_SLICE = 5000
CLAIMS = {
    "time": "A record, written before and after its operation, takes no longer than two lines that are written to a file without a buffer",
    "memory": f"Recording and accounting take less than {MOST_MEMORY_MIB:g} MiB",
    "account": "Of all appends the one that was left out is missed, and no other",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of the recorder.

    Attributes:
        records: how many were recorded.
        write_s: seconds in which they were, without those of the control.
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
        journal, write_s, ratios = _record(records)
        size_mib = sum(path.stat().st_size for path in journal.folder.iterdir()) / 2**20
        progress("the account of them, read from disk")
        began_s = time.monotonic()
        present = (value for value in map(_value, range(records)) if value != left_out)
        found = account(journal.history, present, ())
        check_s = time.monotonic() - began_s
    except OSError as error:
        findings = tuple(Finding(CRITERION, claim, Verdict.INCONCLUSIVE, str(error)) for claim in CLAIMS.values())
        return Result(records, 0.0, 0.0, 0.0, 0.0, None, left_out, findings)
    findings = judge_figures(records, ratios, peak_mib(), found, left_out)
    return Result(records, write_s, check_s, size_mib, peak_mib(), found, left_out, findings)


def judge_figures(records: int, ratios: Sequence[float], memory_mib: float, found: Account, left_out: str) -> tuple[Finding, ...]:
    """Judge what was measured: pure, so that its tests can hand it any figures.

    Args:
        records: how many were recorded.
        ratios: how many times as long as by the control recording took, in each pair of slices.
        memory_mib: the most memory that was held; 0 if the host does not tell.
        found: the account of them.
        left_out: the append that was not there.
    """

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

    checks = {"time": lambda: LIMIT.judge(ratios), "memory": memory, "account": accounting}
    return tuple(judge(CRITERION, CLAIMS[name], check) for name, check in checks.items())


def _record(records: int) -> tuple[Journal, float, list[float]]:
    """Record in slices, after each of the first ones a slice of the control; return the journal, its seconds and the ratios of both."""
    journal = Journal()
    lanes = [journal.lane(writer) for writer in range(WRITERS)]
    size = max(1, min(_MOST_IN_SLICE, records // LOOKS[-1]))
    write_ns = 0
    ratios: list[float] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runbook-control-")))
        files = [stack.enter_context(FileIO(folder / str(writer), "w")) for writer in range(WRITERS)]
        for first in range(0, records, size):
            numbers = range(first, min(first + size, records))
            began_ns = time.monotonic_ns()
            _write_records(lanes, numbers)
            took_ns = time.monotonic_ns() - began_ns
            write_ns += took_ns
            if len(ratios) < LOOKS[-1]:
                began_ns = time.monotonic_ns()
                _write_lines(files, numbers)
                ratios.append(took_ns / (time.monotonic_ns() - began_ns))
    for lane in lanes:
        lane.close()
    return journal, write_ns / 1e9, ratios


def _write_records(lanes: Sequence[Lane], numbers: range) -> None:
    for number in numbers:
        lane, sent_ns = lanes[number % WRITERS], time.monotonic_ns()
        lane.invoke("RPUSH", _value(number), sent_ns, sent_ns)
        lane.done(time.monotonic_ns(), Outcome.OK)


def _write_lines(files: Sequence[FileIO], numbers: range) -> None:
    """Write the same without a journal: the control."""
    for number in numbers:
        file, sent_ns = files[number % WRITERS], time.monotonic_ns()
        file.write(f"RPUSH\t{_value(number)}\t{sent_ns}\t{sent_ns}\n".encode())
        file.write(f"{time.monotonic_ns()}\tok\n".encode())


def _value(number: int) -> str:
    return f"{number % WRITERS}:{number // WRITERS}"

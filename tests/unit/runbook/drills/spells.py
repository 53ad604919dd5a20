"""Spells of a failing disk, written by hand, for the tests of the drills that judge them."""

from cachelib import HealthReport, Reason
from runbook.drills.checkers import Account, account
from runbook.drills.disks.spell import EXITS, Spell
from runbook.load import History, Outcome, Record

SECOND_NS = 1_000_000_000
CUT_NS = 10 * SECOND_NS
MISCONF = "ResponseError: MISCONF Errors writing to the AOF file"
SICK = HealthReport(True, True, False, False, (Reason.DISK_FAILING,), "MISCONF", 0.01)
WELL = HealthReport(True, True, True, True, (), "", 0.01)


def write(number: int, outcome: Outcome = Outcome.OK, error: str = "") -> Record:
    """An append of one writer, a hundredth of a second behind the one before; the 400th ends just before the server does."""
    sent_ns = CUT_NS - (401 - number) * SECOND_NS // 100
    return Record(0, "RPUSH", f"0:{number}", sent_ns, sent_ns, sent_ns + 1_000_000, outcome, error)


def read(outcome: Outcome = Outcome.OK, error: str = "") -> Record:
    return Record(0, "GET", "", 0, 0, 1, outcome, error)


def lost(*numbers: int, writes: int = 400, more: tuple[str, ...] = ()) -> Account:
    """What became of appends of which some are absent in the end, and more is there."""
    present = [*(f"0:{number}" for number in range(writes) if number not in numbers), *more]
    return account(History(write(number) for number in range(writes)), present, [CUT_NS])


def spell(
    *accounts: Account,
    writes: tuple[Record, ...] = (write(0, Outcome.FAIL, MISCONF),) * 10,
    reads: tuple[Record, ...] = (read(),) * 10,
    health: HealthReport | None = SICK,
    late_writes: tuple[Record, ...] = (write(0, Outcome.FAIL, MISCONF),) * 10,
    left: tuple[str, ...] = (),
    early_left: tuple[str, ...] | None = ("aof_last_bgrewrite_status:err",),
    returned_s: float | None = 0.5,
    survived: bool = True,
    last_words: str | None = None,
    doubts: tuple[str, ...] = (),
) -> Spell:
    """A spell that was as it should be, with some things changed; a server that did not survive has said why."""
    said = ("" if survived else f"Can't persist AOF {EXITS}") if last_words is None else last_words
    return Spell(accounts or (lost(),), writes, reads, health, late_writes, left, early_left, returned_s, survived, said, doubts)

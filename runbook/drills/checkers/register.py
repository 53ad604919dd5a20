"""The register: who alone writes a key reads what he wrote last, never something older, and never what nobody wrote."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from runbook.drills.checkers.examples import MOST_KEPT, Example, counted, listed
from runbook.drills.checkers.marks import Marks, split
from runbook.load.history import History, Outcome, Record


@dataclass(frozen=True, slots=True)
class Readings:
    """What was read of the registers, each of which one worker writes and reads.

    Attributes:
        written: how many writes were acknowledged.
        unknown: how many may have happened.
        read: how many reads were answered.
        phantom: read, though never written there or certainly not written.
        stale: read, though older than the last write that was acknowledged before.
        backwards: read, though older than what had been read before.
        returned: read, though something else had taken their place before.
        lost: acknowledged or read, and gone after an outage that may take them, oldest first for each worker.
        lost_window_s: the most that an outage took, from the first loss's acknowledgement to the last acknowledgement before it.
        examples: the first of each kind.
        start_ns: when the first operation was sent.
    """

    written: int
    unknown: int
    read: int
    phantom: tuple[str, ...]
    stale: tuple[str, ...]
    backwards: tuple[str, ...]
    returned: tuple[str, ...]
    lost: tuple[str, ...] = field(repr=False)
    lost_window_s: float
    examples: tuple[Example, ...] = field(repr=False)
    start_ns: int = field(repr=False)

    @property
    def corrupt(self) -> tuple[str, ...]:
        """Name what no promise of durability allows, each with its count and first example."""
        kinds = {"phantom": self.phantom, "stale": self.stale, "backwards": self.backwards, "returned": self.returned}
        return counted({kind: tuple(value or "nothing" for value in values) for kind, values in kinds.items()})

    def counter_examples(self, limit: int = 5) -> str:
        """Write the first reads of each kind that are not as they should be, a line each."""
        return listed(self.examples, self.start_ns, limit)


def readings(history: History, cuts_ns: Sequence[int] = (), allowed_window_s: float = 0.0) -> Readings:
    """Follow every register of a `Register` workload.

    Args:
        history: all writes, and all reads with what they read; an empty value is a key that is missing, as each is at first.
        cuts_ns: when the server had ended, each time.
        allowed_window_s: the newest writes that each cut may take, in seconds before the last acknowledgement of any worker; a register may
            go back so far once, and not again after that.
    """
    cuts, window_ns = sorted(cuts_ns), round(allowed_window_s * 1e9)
    registers: dict[int, _Register] = {}
    limits_ns: list[int] = []  # for each cut that has passed: what was acknowledged from then on may be lost to it
    found: dict[str, list[str]] = {"phantom": [], "stale": [], "backwards": [], "returned": []}
    examples: list[Example] = []
    lost: list[str] = []
    written = unknown = read = 0
    lost_window_s = 0.0
    last_ns = start_ns = None
    for record in history:
        if record.operation not in ("SET", "GET"):
            continue
        start_ns = record.sent_ns if start_ns is None or record.sent_ns < start_ns else start_ns
        while len(limits_ns) < len(cuts) and record.done_ns >= cuts[len(limits_ns)]:
            limits_ns.append((cuts[len(limits_ns)] if last_ns is None else last_ns) - window_ns)
        register = registers.get(record.worker)
        if register is None:
            register = registers[record.worker] = _Register(window_ns)
        if window_ns:
            register.pass_cuts(limits_ns)
        if record.outcome is not Outcome.OK:
            if record.operation == "SET" and record.outcome is Outcome.UNKNOWN:
                unknown += 1
                register.may_have_written(record.value)
            continue
        if record.operation == "SET":
            written += 1
            register.wrote(record)
        else:
            read += 1
            gone = register.roll_back(record.value)
            if gone:
                lost += gone.values
                lost_window_s = max(lost_window_s, (gone.limit_ns + window_ns - gone.first_ns) / 1e9)
            elif kind := register.read(record):
                found[kind].append(record.value)
                if len(found[kind]) <= MOST_KEPT:
                    examples.append(Example(kind, record.value, record))
        last_ns = record.done_ns
        if limits_ns and record.sent_ns >= cuts[len(limits_ns) - 1]:
            register.settle()
    return Readings(
        written=written,
        unknown=unknown,
        read=read,
        phantom=tuple(found["phantom"]),
        stale=tuple(found["stale"]),
        backwards=tuple(found["backwards"]),
        returned=tuple(found["returned"]),
        lost=tuple(lost),
        lost_window_s=lost_window_s,
        examples=tuple(examples),
        start_ns=start_ns or 0,
    )


@dataclass(frozen=True, slots=True)
class _Gone:
    """What an outage took from a register.

    Attributes:
        values: that it held, oldest first.
        first_ns: when the first of them was acknowledged.
        limit_ns: from when on what was acknowledged may be lost.
    """

    values: tuple[str, ...]
    first_ns: int
    limit_ns: int


class _Register:
    """What one key must hold, as far as its only writer can tell.

    A write of unknown outcome may take effect at any later moment, and once; until it is seen it is pending.
    """

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._holds = self._written = ""
        self._possible = Marks()
        self._pending: set[str] = set()
        # What it held before, with the moment at which something newer was acknowledged; no older than an outage may take.
        self._before: deque[tuple[int, str]] = deque()
        self._cuts_passed = 0
        self._limit_ns: float = math.inf  # what was acknowledged from then on may be gone; until that is settled

    def pass_cuts(self, limits_ns: Sequence[int]) -> None:
        """Let it go back as far as each cut that has passed allows."""
        while self._cuts_passed < len(limits_ns):
            self._limit_ns = min(self._limit_ns, limits_ns[self._cuts_passed])
            self._cuts_passed += 1

    def settle(self) -> None:
        """Note that the newest server has answered: from now on what it holds is certain again."""
        self._limit_ns = math.inf

    def may_have_written(self, value: str) -> None:
        """Note a write of unknown outcome."""
        self._possible.add(value, 1)
        self._pending.add(value)

    def wrote(self, record: Record) -> None:
        """Note a write that was acknowledged."""
        self._possible.add(record.value, 1)
        self._supersede(record)
        self._written = record.value

    def roll_back(self, value: str) -> _Gone | None:
        """Go back to a value that it held before, if an outage allows that, and tell what is gone."""
        if value == self._holds or self._limit_ns == math.inf or value in self._pending:
            return None
        values = [self._holds]
        for superseded_ns, before in reversed(self._before):
            if superseded_ns < self._limit_ns:
                return None
            if before == value:
                for _ in values:
                    self._before.pop()
                gone = _Gone(tuple(reversed(values)), superseded_ns, int(self._limit_ns))
                self._holds = self._written = value
                self.settle()  # it is the newest server's answer
                return gone
            values.append(before)
        return None

    def read(self, record: Record) -> str:
        """Tell what is wrong with a read; empty if nothing is."""
        value = record.value
        if value == self._holds:
            return ""
        if value in self._pending:
            self._pending.remove(value)
            self._supersede(record)
            return ""
        if value and not self._possible[value]:
            return "phantom"
        number = split(value)[1]
        if number < split(self._written)[1]:
            return "stale"
        return "backwards" if number < split(self._holds)[1] else "returned"

    def _supersede(self, record: Record) -> None:
        if self._window_ns:
            self._before.append((record.done_ns, self._holds))
            if self._limit_ns < math.inf:
                # Which of them an outage had left was not seen, so that this record may have taken the place of any.
                self._before = deque((record.done_ns, value) for superseded_ns, value in self._before if superseded_ns >= self._limit_ns)
            while self._limit_ns == math.inf and self._before[0][0] < record.done_ns - self._window_ns:
                self._before.popleft()
        self._holds = record.value

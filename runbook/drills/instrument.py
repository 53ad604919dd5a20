"""Does our own instrument measure rightly? Its engine against redis-benchmark, against bare loops, and against delays that are known.

Promise: in a closed loop it keeps up with redis-benchmark, with replies validated; in an open loop calls leave on time; a stall is reported
as what callers would have felt; known delays come out as they are; connections are made as fast as by a bare loop; and memory does not grow
with the number of calls. What is held against a time alternates with a control, so that a host which stalls, stalls both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runbook.drills.engine_bench.capacity import KEYS, LIMITS, SIZE_BYTES, capacity
from runbook.drills.engine_bench.known_delays import known_delays
from runbook.drills.engine_bench.lateness import CASES, lateness
from runbook.drills.engine_bench.memory import memory
from runbook.drills.engine_bench.part import Budget, Part, Row
from runbook.drills.engine_bench.stall import stall
from runbook.drills.engine_bench.start import MOST, start
from runbook.drills.stage import Stage, staged
from runbook.evidence import Finding
from runbook.load.known_delays import KINDS
from runbook.load.traffic import Traffic
from runbook.targets import Embedded

# For its server: no persistence that could disturb, and room for the most connections.
FLAGS = ("--save", "", "--appendonly", "no", "--maxclients", str(MOST + 1100))
# Claims that are sampled until they are decided; the other parts take so long.
_SAMPLED = len(LIMITS) + len(CASES) + len(KINDS) + 1
_FIXED_S = 27.0


@dataclass(frozen=True, slots=True)
class Result:
    """All that was measured of the engine.

    Attributes:
        rows: in the order in which it was measured.
        findings: the claims judged.
        placement: which cores were used, in words.
    """

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    placement: str


def measure(server: Embedded, *, seconds: float, progress: Callable[[str], None]) -> Result:
    """Measure the engine on a server of our own.

    Args:
        server: with `FLAGS`; it is paused for half a second three times.
        seconds: how long all of it takes at the most, about.
        progress: is told what begins.

    Raises:
        LoadError: no load could be offered.
    """
    # Keys as long as those of redis-benchmark: on a server of our own they need not be told from others.
    traffic = Traffic("bench:", {"GET": 1}, {SIZE_BYTES: 1}, keys=KEYS)
    rows: list[Row] = []
    findings: list[Finding] = []
    with staged(server, traffic) as stage:
        for title, part in _parts(stage, server, Budget(max(1.0, seconds - _FIXED_S), _SAMPLED)):
            progress(title)
            for row, finding in part:
                rows.append(row)
                findings += [finding] if finding else []
        return Result(tuple(rows), tuple(findings), stage.placement.words)


def _parts(stage: Stage, server: Embedded, budget: Budget) -> Iterator[tuple[str, Part]]:
    # What is decided soon comes first, and leaves its time to what is not.
    yield "a server that stalls for half a second", stall(stage, server)
    yield "memory of many calls", memory(stage)
    yield "making many connections, beside a bare loop", start(stage, budget)
    yield "delays that are known, beside what the engine made of them", known_delays(stage, budget)
    yield "rate of a closed loop, beside redis-benchmark's", capacity(stage, budget)
    yield "how late calls of an open loop leave, beside a bare loop", lateness(stage, budget)

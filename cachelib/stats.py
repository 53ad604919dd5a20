"""What the connections of a client, of threads or of asyncio, are doing and what became of them."""

from dataclasses import dataclass

from cachelib.events import Disconnected, Journal, OutcomeLost, Retried, SlowCall


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a client's connections are doing, and what became of them since it was made.

    Attributes:
        size: how many there may be.
        in_use: held by a caller now.
        idle: connected, and free.
        waiting: callers that wait for one, or for the server to come back.
        made: how many were connected.
        lost: how many the server or the network ended, or a caller gave up on.
        retired: how many were replaced for their age.
        unknown: calls that ended with `OutcomeUnknown`.
        retried: attempts that failed and were followed by another one.
        outages: how often the server could not be connected to any more.
        slow: successful calls that took longer than `REDIS_SLOW_CALL_S`.
    """

    size: int
    in_use: int
    idle: int
    waiting: int
    made: int
    lost: int
    retired: int
    unknown: int
    retried: int
    outages: int
    slow: int


def events_counted(journal: Journal) -> dict[str, int]:
    """Return those numbers of `PoolStats` that are counts of events."""
    kinds = {"unknown": OutcomeLost, "retried": Retried, "outages": Disconnected, "slow": SlowCall}
    return {name: journal.count(kind) for name, kind in kinds.items()}

"""What to offer: which commands to which server, at which rate, over how many connections, for how long."""

from dataclasses import dataclass

from cachelib import Config
from runbook.load.pacer import check_duration, check_rate
from runbook.load.traffic import Traffic

ARRIVALS = ("constant", "poisson")
DEEPEST = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to offer.

    Attributes:
        config: which server.
        traffic: which commands.
        duration_s: seconds of load that count, behind the warm-up.
        connections: how many.
        rate_per_s: calls a second in an open loop; None for a closed loop.
        arrivals: `constant`, or `poisson` for calls that come independently of each other.
        depth: calls that a connection has under way at once; in a closed loop they are sent together.
        warm_up_s: seconds of load that do not count.
        spin: whether to burn the CPU for starts that are late by microseconds instead of 0.1 ms.

    Raises:
        ValueError: one of them is impossible; the message says what it takes.
    """

    config: Config
    traffic: Traffic
    duration_s: float
    connections: int = 1
    rate_per_s: float | None = None
    arrivals: str = "constant"
    depth: int = 1
    warm_up_s: float = 0.0
    spin: bool = False

    def __post_init__(self) -> None:
        if self.rate_per_s is not None:
            check_rate(self.rate_per_s)
        check_duration(self.duration_s)
        if not 0 <= self.warm_up_s < float("inf"):
            raise ValueError(f"a warm-up takes seconds from 0, got {self.warm_up_s!r}")
        if self.connections < 1:
            raise ValueError(f"a load takes at least one connection, got {self.connections}")
        if not 1 <= self.depth <= DEEPEST:
            raise ValueError(f"a connection has 1 to {DEEPEST:,} calls under way, got a depth of {self.depth}")
        if self.arrivals not in ARRIVALS:
            raise ValueError(f"there are no {self.arrivals!r} arrivals: choose of {', '.join(ARRIVALS)}")

"""What to offer: which commands to which server, at which rate, over how many connections, for how long."""

import math
from dataclasses import dataclass

from cachelib import Config
from runbook.load.pacer import check_duration, check_rate
from runbook.load.traffic import MOST_REQUESTS, Traffic

ARRIVALS = ("constant", "poisson")
DEEPEST = 1000
# The control shares the server's core, so it may not take much of it. So many calls a second tell how the host is doing.
MOST_CONTROL_PER_S = 2500.0


@dataclass(frozen=True, slots=True)
class Control:
    """A server without a database, to which the same load is sent, interleaved call by call.

    Attributes:
        config: where it is.
        pid: of its process.
        server_pid: process of the server under test, whose CPU time is sampled; None where it can't be seen.
    """

    config: Config
    pid: int
    server_pid: int | None = None


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
        control: where each call of an open loop is sent a second time; at a rate of over `MOST_CONTROL_PER_S` only each n-th.

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
    control: Control | None = None

    @property
    def control_every(self) -> int:
        """Each how many-th call is sent to the control as well."""
        return max(1, math.ceil((self.rate_per_s or 0.0) / MOST_CONTROL_PER_S))

    @property
    def calls(self) -> int:
        """How many calls are made; as many distinct ones as there can be where that is not known in advance."""
        if self.rate_per_s is None:
            return MOST_REQUESTS
        return math.ceil(self.rate_per_s * (self.warm_up_s + self.duration_s)) + 1

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

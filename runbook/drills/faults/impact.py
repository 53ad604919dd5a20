"""What a fault of the network did, counted as it happens: the proof that it took place."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Impact:
    """The counts of one fault; they go on while the proxy is open. Times are of `time.monotonic_ns`.

    Attributes:
        fault: name of the fault.
        needed: counts that must not be 0, each with the doubt if it is.
        broken_ns: just before it began.
        healed_ns: when it was healed; 0 until then.
        connections: how many it silenced, cut, or got a request from whose reply it was to take.
        replies: how many it delayed, lost, withheld or cut short.
        swallowed_bytes: what it kept from either side.
        slowed_bytes: what was delivered no faster than it lets pass.
        refused: attempts of our own that the closed port refused, one each time; those of others leave no trace.
        least_delay_s: the shortest time for which a delayed reply was held; infinite if there was none.
    """

    fault: str
    needed: dict[str, str] = field(default_factory=dict, repr=False)
    broken_ns: int = field(default_factory=time.monotonic_ns)
    healed_ns: int = 0
    connections: int = 0
    replies: int = 0
    swallowed_bytes: int = 0
    slowed_bytes: int = 0
    refused: int = 0
    least_delay_s: float = float("inf")
    _doubts: tuple[str, ...] = ()

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why it can't be said, as of now, that the fault took place; empty if it did."""
        missing = [doubt for count, doubt in self.needed.items() if not getattr(self, count)]
        return self._doubts + tuple(missing[:1])

    def swallow(self, count_bytes: int) -> None:
        """Count bytes that were kept from one side."""
        self.swallowed_bytes += count_bytes

    def doubt(self, why: str) -> None:
        """Add a reason to doubt."""
        self._doubts += (why,)

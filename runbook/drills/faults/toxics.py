"""What the faults of the network do to the traffic: each toxic is added to a proxy for the length of a block."""

from collections.abc import Callable

from runbook.drills.faults.impact import Impact
from runbook.drills.faults.link import Link, Toxic


class Delay(Toxic):
    """Holds every reply for some time."""

    def __init__(self, impact: Impact, delay_ns: int) -> None:
        self._impact, self._delay_ns = impact, delay_ns

    def due_ns(self, link: Link, size_bytes: int, ready_ns: int) -> int:
        return ready_ns + self._delay_ns

    def delivered(self, size_bytes: int, waited_ns: int) -> None:
        # What came before the fault, or was held behind that, was not delayed by it.
        if waited_ns >= self._delay_ns:
            self._impact.replies += 1
            self._impact.least_delay_s = min(self._impact.least_delay_s, waited_ns / 1e9)


class Bottleneck(Toxic):
    """Lets no more than so many bytes a second of each connection's replies pass, in pieces of 50 ms."""

    def __init__(self, impact: Impact, bytes_per_s: int) -> None:
        self.piece_bytes = max(1, bytes_per_s // 20)
        self._impact, self._ns_per_byte = impact, 1e9 / bytes_per_s
        self._free_ns: dict[Link, int] = {}

    def due_ns(self, link: Link, size_bytes: int, ready_ns: int) -> int:
        begin_ns = max(ready_ns, self._free_ns.get(link, 0))
        self._free_ns[link] = begin_ns + round(size_bytes * self._ns_per_byte)
        return self._free_ns[link]

    def delivered(self, size_bytes: int, waited_ns: int) -> None:
        if waited_ns >= round(size_bytes * self._ns_per_byte):
            self._impact.slowed_bytes += size_bytes

    def release(self) -> None:
        """Deliver what is still held: it could take as long as it is long."""
        for link in self._free_ns:
            link.hurry()


class Hole(Toxic):
    """Silences connections from their beginning."""

    def __init__(self, impact: Impact) -> None:
        self.links: list[Link] = []
        self._impact = impact

    def connected(self, link: Link) -> None:
        self.links.append(link)
        self._impact.connections += 1
        link.silence(self._impact.swallow)


class TakeReply(Toxic):
    """Takes the reply to requests that hold a word, once the server has given all of it.

    Args:
        impact: what to count in.
        word: in the request, upper or lower case.
        times: how many requests to meet.
        after_bytes: how much of the reply is delivered.
        then: what becomes of the connection.
    """

    def __init__(self, impact: Impact, word: bytes, times: int, after_bytes: int, then: Callable[[Link], None]) -> None:
        self._impact, self._word, self._times = impact, word.upper(), times
        self._after_bytes, self._then = after_bytes, then
        self._earlier: dict[Link, int] = {}  # replies that come before the one to take
        self._taken: dict[Link, bytearray] = {}

    def requested(self, link: Link, request: bytes) -> None:
        if self._impact.connections < self._times and self._word in request.upper():
            self._impact.connections += 1
            self._earlier[link], self._taken[link] = link.unanswered, bytearray()
            link.toxic = self

    def replied(self, link: Link, data: bytes, ends: list[int]) -> bytes:
        earlier_ends, ends = ends[: self._earlier[link]], ends[self._earlier[link] :]
        self._earlier[link] -= len(earlier_ends)
        if self._earlier[link]:
            return data
        begin = earlier_ends[-1] if earlier_ends else 0
        self._taken[link] += data[begin : ends[0] if ends else None]
        if not ends:
            return data[:begin]
        return data[:begin] + self._cut(link, len(data) - ends[0])

    def release(self) -> None:
        """Deliver what was taken of replies that are not complete yet, and forget their connections."""
        for link, taken in self._taken.items():
            if link.toxic is self:  # and not silenced meanwhile
                link.toxic = None
                link.deliver(bytes(taken))
                link.serve()
        self._taken.clear()

    def _cut(self, link: Link, later_bytes: int) -> bytes:
        reply = bytes(self._taken.pop(link))
        link.toxic = None
        link.deliver(b"", then=lambda: self._then(link))
        if len(reply) > self._after_bytes:
            self._impact.replies += 1
        self._impact.swallow(len(reply[self._after_bytes :]) + later_bytes)
        return reply[: self._after_bytes]

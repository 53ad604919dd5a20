"""One of the two servers that an open loop sends to: its schedule, its connections, and what was counted of it."""

import itertools
import random
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from runbook.load.inbox import Inbox
from runbook.load.recording import Recorder
from runbook.load.response import Responses
from runbook.load.sockets import NO_REPLY
from runbook.load.traffic import Request

UNSENT = "not sent: no connection was free"
NEVER_NS = 1 << 62


class Connection:
    """A connection and what is under way on it: each request with its intended start, when it was sent, and how late that was."""

    __slots__ = ("inbox", "outbox", "pending", "side", "socket")

    def __init__(self, connection: socket.socket, side: "Side") -> None:
        self.socket, self.side = connection, side
        self.pending: deque[tuple[Request, int, int, int]] = deque()
        self.inbox, self.outbox = Inbox(), memoryview(b"")


class Side:
    """One of the two servers that an open loop sends to, and what was counted of it.

    Args:
        connections: logged in and non-blocking.
        depth: calls that a connection may have under way at once.
        requests: sent in turn, again and again.
        moments: intended starts, ascending, on the clock of `time.monotonic_ns`.
        recorder: is given each call.
        responses: is given the response time of each call; None without a control, since nothing needs it then.

    Attributes:
        sent: calls that were sent.
        unsent: calls whose time came while no connection was free, and which were never sent.
        lost: connections that the server closed.
        waited_ns: the number of calls under way, integrated over the time since the warm-up.
        ended_ns: when the last reply came.
    """

    def __init__(
        self,
        connections: Sequence[socket.socket],
        depth: int,
        requests: Sequence[Request],
        moments: Iterator[int],
        recorder: Recorder,
        responses: Responses | None,
    ) -> None:
        self.requests, self.moments, self.recorder = itertools.cycle(requests), moments, recorder
        self.connections = {connection.fileno(): Connection(connection, self) for connection in connections}
        # A connection stands here once for each further call that it may have under way.
        self.free = deque(connection for _ in range(depth) for connection in self.connections.values())
        self.due_ns = NEVER_NS
        self.free_since_ns = self.waited_ns = self._counted_ns = 0
        self.under_way = self.sent = self.lost = self.unsent = self.ended_ns = 0
        self.responses = responses

    def begin(self, end_ns: int) -> None:
        """Start the schedule, which ends before `end_ns`."""
        self.moments = itertools.chain(itertools.takewhile(lambda moment: moment < end_ns, self.moments), itertools.repeat(NEVER_NS))
        self.due_ns = next(self.moments)

    def count(self, more: int, now_ns: int) -> None:
        """Keep the number of calls under way, and its integral over time."""
        self.waited_ns += self.under_way * max(0, now_ns - max(self._counted_ns, self.recorder.begin_ns))
        self._counted_ns = now_ns
        self.under_way += more

    def succeed(self, request: Request, due_ns: int, sent_ns: int, late_ns: int, done_ns: int) -> None:
        """Record a call that was answered as it should be; `late_ns` is how late it was sent by our fault."""
        self.recorder.call(request.operation, due_ns, sent_ns, done_ns)
        if self.responses:
            self.responses.add(request.operation, due_ns, done_ns - due_ns - late_ns, done_ns)

    def release(self, connection: Connection, done_ns: int) -> None:
        """Take a connection back that has been answered."""
        self.count(-1, done_ns)
        self.ended_ns = done_ns
        if not self.free:
            self.free_since_ns = done_ns
        self.free.append(connection)

    def finish(self) -> None:
        """Record as failed what was never sent, and what was never answered, and then the response times."""
        for _ in itertools.takewhile(NEVER_NS.__ne__, itertools.chain([self.due_ns], self.moments)):
            self.unsent += 1
            self.recorder.error(next(self.requests).operation, UNSENT)
        for connection in self.connections.values():
            for request, *_ in connection.pending:
                self.recorder.error(request.operation, NO_REPLY)
        if self.responses:
            self.responses.finish()


def interleaved(moments: Iterable[int], every: int, seed: int) -> tuple[Iterator[int], Iterator[int]]:
    """Return two schedules made of one: the moments of the calls to the server, and of those to the control.

    Each n-th moment makes a pair with the middle between it and the next one. Which of the two goes to the server is drawn by chance: were
    it always the first, a host that stalls in step with the schedule, as a scheduler's tick does, would slow one side more than the other.

    Args:
        moments: ascending.
        every: 1 to pair all of them.
        seed: of the choices.
    """
    choice = random.Random(seed)

    def pairs() -> Iterator[tuple[int, int]]:
        for number, (moment, following) in enumerate(itertools.pairwise(moments)):
            if number % every:
                yield moment, -1
                continue
            middle = (moment + following) // 2
            yield (moment, middle) if choice.random() < 0.5 else (middle, moment)

    first, second = itertools.tee(pairs())
    return (moment for moment, _ in first), (moment for _, moment in second if moment >= 0)

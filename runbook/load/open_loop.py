"""An open loop: each call has its moment in advance, and its latency runs from there, so that a stall counts for all whom it held up.

The idea is Gil Tene's ("How NOT to measure latency") and wrk2's. A call takes the connection that has been free for longest; where none
is, it waits, which counts as well.
"""

import itertools
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence

from runbook.load.inbox import Inbox
from runbook.load.pacer import SPIN_NS
from runbook.load.plan import Plan
from runbook.load.recording import SECOND_NS, Recorder
from runbook.load.replies import problem_of, reply_end
from runbook.load.sockets import DRAIN_S, LOST, NO_REPLY, UNASKED, receive, send
from runbook.load.traffic import Request

UNSENT = "not sent: no connection was free"
_NEVER_NS = 1 << 62
_LONGEST_WAIT_S = 0.05
# A round of the loop that begins so much later than it should is a stall of our own, and no wait for a connection.
_STALL_NS = 200_000


class _Line:
    """A connection and what is under way on it: each request with its intended start and when it was sent."""

    __slots__ = ("inbox", "outbox", "pending", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.pending: deque[tuple[Request, int, int]] = deque()
        self.inbox, self.outbox = Inbox(), memoryview(b"")


class OpenLoop:
    """One run; its counts are complete once `run` has returned.

    Args:
        plan: what to offer.
        epoll: with a number below 1024, which `select` can wait for; the connections stand in it during the run.
        connections: logged in and non-blocking.
        requests: sent in turn, again and again.
        moments: intended starts, ascending, on the clock of `time.monotonic_ns`.
        recorder: is told of each call.
    """

    def __init__(
        self,
        plan: Plan,
        epoll: select.epoll,
        connections: Sequence[socket.socket],
        requests: Sequence[Request],
        moments: Iterator[int],
        recorder: Recorder,
    ) -> None:
        self._plan, self._requests, self._moments, self._recorder = plan, itertools.cycle(requests), moments, recorder
        self._epoll = epoll
        self._lines = {connection.fileno(): _Line(connection) for connection in connections}
        for number in self._lines:
            self._epoll.register(number, select.EPOLLIN)
        # A connection stands here once for each further call that it may have under way.
        self._free = deque(line for _ in range(plan.depth) for line in self._lines.values())
        self._free_since_ns = self._ought_ns = self._stalled_until_ns = 0
        self._counted_ns = self.waited_ns = 0
        self._under_way = self.sent = self.lost = self.unsent = self.ended_ns = 0

    def run(self, end_ns: int) -> None:
        """Send every call whose moment comes before `end_ns`, and wait for the replies."""
        clock, give_up_ns = time.monotonic_ns, end_ns + round(DRAIN_S * SECOND_NS)
        moments = itertools.chain(itertools.takewhile(lambda moment: moment < end_ns, self._moments), itertools.repeat(_NEVER_NS))
        due_ns = next(moments)
        try:
            while self._under_way or due_ns != _NEVER_NS:
                now_ns = clock()
                if self._ought_ns and now_ns - self._ought_ns > _STALL_NS:
                    self._stalled_until_ns = now_ns
                while due_ns <= now_ns and self._free:
                    self._send(self._free.popleft(), due_ns)
                    due_ns = next(moments)
                if now_ns > give_up_ns or not self._lines:
                    break
                for number, event in self._wait(due_ns if self._free else give_up_ns):
                    if number in self._lines:  # not lost by an event before
                        self._attend(self._lines[number], event)
        finally:
            for number in self._lines:
                self._epoll.unregister(number)
        for _ in itertools.takewhile(_NEVER_NS.__ne__, itertools.chain([due_ns], moments)):
            self.unsent += 1
            self._recorder.error(next(self._requests).operation, UNSENT)
        for line in self._lines.values():
            for request, _, _ in line.pending:
                self._recorder.error(request.operation, NO_REPLY)

    def _wait(self, until_ns: int) -> list[tuple[int, int]]:
        """Wait for an event, at the longest until a moment; `epoll` itself counts in milliseconds, `select` on it in microseconds."""
        now_ns = time.monotonic_ns()
        self._ought_ns = now_ns
        ahead_ns = until_ns - now_ns - (SPIN_NS if self._plan.spin else 0)
        if ahead_ns > 0:
            wait_s = min(ahead_ns / SECOND_NS, _LONGEST_WAIT_S)
            select.select([self._epoll], [], [], wait_s)
            self._ought_ns = min(time.monotonic_ns(), now_ns + round(wait_s * SECOND_NS))
        return self._epoll.poll(0)

    def _send(self, line: _Line, due_ns: int) -> None:
        request = next(self._requests)
        sent_ns = time.monotonic_ns()
        line.pending.append((request, due_ns, sent_ns))
        self._count(1, sent_ns)
        self.sent += 1
        # Calls whose moment passed while we were stalled could have been sent, had we been there.
        could_ns = max(due_ns, min(self._free_since_ns, sent_ns - max(0, self._stalled_until_ns - due_ns)))
        self._recorder.sent(request.operation, due_ns, could_ns, sent_ns)
        if line.outbox:
            line.outbox = memoryview(bytes(line.outbox) + request.wire)
            return
        count = send(line.socket, request.wire)
        if count < 0:
            self._lose(line)
        elif count < len(request.wire):
            line.outbox = memoryview(request.wire)[count:]
            self._epoll.modify(line.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _attend(self, line: _Line, event: int) -> None:
        if event & select.EPOLLOUT and line.outbox:
            count = send(line.socket, line.outbox)
            if count < 0:
                self._lose(line)
                return
            line.outbox = line.outbox[count:]
            if not line.outbox:
                self._epoll.modify(line.socket.fileno(), select.EPOLLIN)
        if event & ~select.EPOLLOUT:
            data = receive(line.socket)
            if data:
                self._read(line, data, time.monotonic_ns())
            elif data is not None:
                self._lose(line)

    def _read(self, line: _Line, data: bytes, done_ns: int) -> None:
        held, at, pending = line.inbox.take(data), 0, line.pending
        while at < len(held):
            if not pending:
                self._recorder.error("", UNASKED)
                self._lose(line)
                return
            request, due_ns, sent_ns = pending[0]
            expected = request.expected
            if expected is not None and held.startswith(expected, at):
                at += len(expected)
                self._recorder.call(request.operation, due_ns, sent_ns, done_ns)
            else:
                try:
                    end = reply_end(held, at)
                except ValueError as error:
                    self._recorder.error(request.operation, str(error))
                    pending.popleft()
                    self._under_way -= 1
                    self._lose(line)
                    return
                if end < 0:
                    line.inbox.keep(held[at:], -end - at)
                    break
                problem = problem_of(request, held[at:end])
                at = end
                if problem:
                    self._recorder.error(request.operation, problem)
                else:
                    self._recorder.call(request.operation, due_ns, sent_ns, done_ns)
            pending.popleft()
            self._count(-1, done_ns)
            self.ended_ns = done_ns
            if not self._free:
                self._free_since_ns = done_ns
            self._free.append(line)

    def _count(self, more: int, now_ns: int) -> None:
        """Keep the number of calls under way, and its integral over time since the warm-up."""
        self.waited_ns += self._under_way * max(0, now_ns - max(self._counted_ns, self._recorder.begin_ns))
        self._counted_ns = now_ns
        self._under_way += more

    def _lose(self, line: _Line) -> None:
        number = line.socket.fileno()
        self._epoll.unregister(number)
        del self._lines[number]
        self.lost += 1
        self._count(-len(line.pending), time.monotonic_ns())
        for request, _, _ in line.pending:
            self._recorder.error(request.operation, LOST)
        self._free = deque(other for other in self._free if other is not line)

"""An open loop: each call has its moment in advance, and its latency runs from there, so that a stall counts for all whom it held up.

The idea is Gil Tene's ("How NOT to measure latency") and wrk2's. A call takes the connection that has been free for longest; where none
is, it waits, which counts as well. With a control, the same loop sends each call a second time, half a step later, to a server without a
database: what slows both is the host.
"""

import select
import time
from collections import deque

from runbook.load.cpu_clock import CpuClock
from runbook.load.pacer import SPIN_NS
from runbook.load.plan import Plan
from runbook.load.recording import SECOND_NS
from runbook.load.replies import problem_of, reply_end
from runbook.load.side import NEVER_NS, Connection, Side
from runbook.load.sockets import DRAIN_S, LOST, UNASKED, receive, send

_LONGEST_WAIT_S = 0.05
# A round of the loop that begins so much later than it should is a stall of our own, and no wait for a connection.
_STALL_NS = 200_000


class OpenLoop:
    """One run; the counts of its sides are complete once `run` has returned.

    Args:
        plan: what to offer.
        epoll: with a number below 1024, which `select` can wait for; the connections stand in it during the run.
        server: the side that is measured.
        control: the side without a database; None sends everything once.
        clock: of our own process.
    """

    def __init__(self, plan: Plan, epoll: select.epoll, server: Side, control: Side | None, clock: CpuClock) -> None:
        self._plan, self._epoll, self._clock = plan, epoll, clock
        self._sides = [server, control] if control else [server]
        self._connections = {number: each for side in self._sides for number, each in side.connections.items()}
        for number in self._connections:
            self._epoll.register(number, select.EPOLLIN)
        self._ought_ns = self._stalled_until_ns = 0

    def run(self, end_ns: int) -> None:
        """Send every call whose moment comes before `end_ns`, and wait for the replies."""
        now, give_up_ns = time.monotonic_ns, end_ns + round(DRAIN_S * SECOND_NS)
        sides, clocks = self._sides, self._running_clocks()
        for side in sides:
            side.begin(end_ns)
        try:
            while any(side.under_way or side.due_ns != NEVER_NS for side in sides):
                now_ns = now()
                if self._ought_ns and now_ns - self._ought_ns > _STALL_NS:
                    self._stalled_until_ns = now_ns
                for clock in clocks:
                    if now_ns >= clock.next_ns:
                        clock.sample(now_ns)
                until_ns = give_up_ns
                for side in sides:
                    while side.due_ns <= now_ns and side.free:
                        self._send(side, side.free.popleft())
                    if side.free and side.due_ns < until_ns:
                        until_ns = side.due_ns
                if now_ns > give_up_ns or not sides[0].connections:
                    break
                for number, event in self._wait(until_ns):
                    if number in self._connections:  # not lost by an event before
                        self._attend(self._connections[number], event)
        finally:
            for number in self._connections:
                self._epoll.unregister(number)
        for side in sides:
            side.finish()

    def _running_clocks(self) -> list[CpuClock]:
        clocks = [side.responses.clock for side in self._sides if side.responses]
        return [clock for clock in (self._clock, *clocks) if clock.running]

    def _wait(self, until_ns: int) -> list[tuple[int, int]]:
        """Wait for an event, at most until a moment; `epoll` itself counts in milliseconds, `select` on it in microseconds."""
        now_ns = time.monotonic_ns()
        self._ought_ns = now_ns
        ahead_ns = until_ns - now_ns - (SPIN_NS if self._plan.spin else 0)
        if ahead_ns > 0:
            wait_s = min(ahead_ns / SECOND_NS, _LONGEST_WAIT_S)
            select.select([self._epoll], [], [], wait_s)
            self._ought_ns = min(time.monotonic_ns(), now_ns + round(wait_s * SECOND_NS))
        return self._epoll.poll(0)

    def _send(self, side: Side, connection: Connection) -> None:
        request, due_ns = next(side.requests), side.due_ns
        side.due_ns = next(side.moments)
        sent_ns = time.monotonic_ns()
        # Calls whose moment passed while we were stalled could have been sent, had we been there.
        could_ns = max(due_ns, min(side.free_since_ns, sent_ns - max(0, self._stalled_until_ns - due_ns)))
        connection.pending.append((request, due_ns, sent_ns, sent_ns - could_ns))
        side.count(1, sent_ns)
        side.sent += 1
        side.recorder.sent(request.operation, due_ns, could_ns, sent_ns)
        if connection.outbox:
            connection.outbox = memoryview(bytes(connection.outbox) + request.wire)
            return
        count = send(connection.socket, request.wire)
        if count < 0:
            self._lose(connection)
        elif count < len(request.wire):
            connection.outbox = memoryview(request.wire)[count:]
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _attend(self, connection: Connection, event: int) -> None:
        if event & select.EPOLLOUT and connection.outbox:
            count = send(connection.socket, connection.outbox)
            if count < 0:
                self._lose(connection)
                return
            connection.outbox = connection.outbox[count:]
            if not connection.outbox:
                self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)
        if event & ~select.EPOLLOUT:
            data = receive(connection.socket)
            if data:
                self._read(connection, data, time.monotonic_ns())
            elif data is not None:
                self._lose(connection)

    def _read(self, connection: Connection, data: bytes, done_ns: int) -> None:
        held, at, pending, side = connection.inbox.take(data), 0, connection.pending, connection.side
        recorder = side.recorder
        while at < len(held):
            if not pending:
                recorder.error("", UNASKED)
                self._lose(connection)
                return
            request, due_ns, sent_ns, late_ns = pending[0]
            expected = request.expected
            if expected is not None and held.startswith(expected, at):
                at += len(expected)
                side.succeed(request, due_ns, sent_ns, late_ns, done_ns)
            else:
                try:
                    end = reply_end(held, at)
                except ValueError as error:
                    recorder.error(request.operation, str(error))
                    pending.popleft()
                    side.under_way -= 1
                    self._lose(connection)
                    return
                if end < 0:
                    connection.inbox.keep(held[at:], -end - at)
                    break
                problem = problem_of(request, held[at:end])
                at = end
                if problem:
                    recorder.error(request.operation, problem)
                else:
                    side.succeed(request, due_ns, sent_ns, late_ns, done_ns)
            pending.popleft()
            side.release(connection, done_ns)

    def _lose(self, connection: Connection) -> None:
        number, side = connection.socket.fileno(), connection.side
        self._epoll.unregister(number)
        del self._connections[number]
        del side.connections[number]
        side.lost += 1
        side.count(-len(connection.pending), time.monotonic_ns())
        for request, *_ in connection.pending:
            side.recorder.error(request.operation, LOST)
        side.free = deque(other for other in side.free if other is not connection)

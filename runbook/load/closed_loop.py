"""A closed loop: each connection sends its next batch when the last one is answered. It measures capacity, and hides what a stall costs."""

import itertools
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from runbook.load.inbox import Inbox
from runbook.load.plan import Plan
from runbook.load.recording import SECOND_NS, Recorder
from runbook.load.replies import problem_of, reply_end
from runbook.load.sockets import DRAIN_S, LOST, NO_REPLY, UNASKED, receive, send
from runbook.load.traffic import Request

_LONGEST_WAIT_S = 0.05
# Batches are encoded before the run: so many, or so many bytes of them.
_MOST_BATCHES, _MOST_BYTES = 256, 64 << 20


class ClosedLoop:
    """One run; its counts are complete once `run` has returned.

    Args:
        plan: what to offer.
        connections: logged in and non-blocking.
        requests: sent in turn, again and again, `plan.depth` in each write.
        recorder: is told of each batch.
    """

    def __init__(self, plan: Plan, connections: Sequence[socket.socket], requests: Sequence[Request], recorder: Recorder) -> None:
        self._recorder, self._depth = recorder, plan.depth
        self._wait_s = 0.0 if plan.spin else _LONGEST_WAIT_S
        self._batches = itertools.cycle(_encode(requests, plan.depth))
        self._epoll = select.epoll()
        self._channels = {connection.fileno(): _Channel(connection) for connection in connections}
        self.sent = self.lost = self.unsent = self.ended_ns = 0

    def run(self, end_ns: int) -> None:
        """Keep every connection busy until `end_ns`, and wait for the last replies."""
        give_up_ns = end_ns + round(DRAIN_S * SECOND_NS)
        try:
            for number, channel in self._channels.items():
                self._epoll.register(number, select.EPOLLIN)
                self._send(number, channel, time.monotonic_ns())
            while self._channels and time.monotonic_ns() < give_up_ns:
                for number, event in self._epoll.poll(self._wait_s):
                    self._attend(number, self._channels[number], event, end_ns)
        finally:
            self._epoll.close()
        for channel in self._channels.values():
            self._fail(channel, NO_REPLY)

    def _send(self, number: int, channel: "_Channel", now_ns: int) -> None:
        batch = channel.batch = next(self._batches)
        channel.sent_ns = now_ns
        self.sent += self._depth
        count = send(channel.socket, batch.wire)
        if count < len(batch.wire):  # what has ended shows when it is read
            channel.outbox = memoryview(batch.wire)[max(0, count) :]
            self._epoll.modify(number, select.EPOLLIN | select.EPOLLOUT)

    def _attend(self, number: int, channel: "_Channel", event: int, end_ns: int) -> None:
        if event & select.EPOLLOUT:
            channel.outbox = channel.outbox[max(0, send(channel.socket, channel.outbox)) :]
            if not channel.outbox:
                self._epoll.modify(number, select.EPOLLIN)
        data = receive(channel.socket)
        if data is None:
            return
        now_ns = time.monotonic_ns()
        if not data:
            self._lose(number, channel, LOST)
            return
        batch = channel.batch
        held = channel.inbox.take(data)
        if not held:
            return
        if held == batch.expected:
            self._recorder.batch(batch.tally, channel.sent_ns, now_ns)
        else:
            try:
                end = self._judge(batch, held, channel.sent_ns, now_ns)
            except ValueError as error:
                self._lose(number, channel, str(error))
                return
            if end < 0:
                channel.inbox.keep(held, -end)
                return
            if end < len(held):
                self._recorder.error("", UNASKED)
                self.lost += 1
                self._end(number)
                return
        self.ended_ns = now_ns
        if now_ns < end_ns:
            self._send(number, channel, now_ns)
        else:
            self._end(number)

    def _judge(self, batch: "_Batch", held: bytes, sent_ns: int, now_ns: int) -> int:
        """Look at each reply of a batch, and return where they end; where one is not complete, what `reply_end` says of it."""
        replies, at = [], 0
        for _ in batch.requests:
            end = reply_end(held, at)
            if end < 0:
                return end
            replies.append(held[at:end])
            at = end
        good: Counter[str] = Counter()
        for request, reply in zip(batch.requests, replies, strict=True):
            if problem := problem_of(request, reply):
                self._recorder.error(request.operation, problem)
            else:
                good[request.operation] += 1
        self._recorder.batch(good.items(), sent_ns, now_ns)
        return at

    def _fail(self, channel: "_Channel", why: str) -> None:
        for operation, count in channel.batch.tally:
            self._recorder.error(operation, why, count)

    def _lose(self, number: int, channel: "_Channel", why: str) -> None:
        self.lost += 1
        self._fail(channel, why)
        self._end(number)

    def _end(self, number: int) -> None:
        self._epoll.unregister(number)
        del self._channels[number]


class _Batch:
    """Requests that are sent in one write; all their replies are compared at once, where each has only one that is right."""

    __slots__ = ("expected", "held_bytes", "requests", "tally", "wire")

    def __init__(self, requests: Sequence[Request], replies: dict[bytes, bytes]) -> None:
        self.requests = requests
        self.wire = b"".join(request.wire for request in requests)
        known = [request.expected for request in requests if request.expected is not None]
        joined = b"".join(known)
        self.expected = replies.setdefault(joined, joined) if len(known) == len(requests) else None
        # What was joined takes memory of its own, once; a single reply is shared with its request.
        self.held_bytes = len(self.wire) + (len(joined) if len(requests) > 1 and self.expected is joined else 0)
        self.tally = tuple(Counter(request.operation for request in requests).items())


class _Channel:
    """A connection, and the batch under way on it."""

    __slots__ = ("batch", "inbox", "outbox", "sent_ns", "socket")

    batch: _Batch

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.inbox, self.outbox, self.sent_ns = Inbox(), memoryview(b""), 0


def _encode(requests: Sequence[Request], depth: int) -> list[_Batch]:
    batches: list[_Batch] = []
    turns: Iterator[Request] = itertools.cycle(requests)
    replies: dict[bytes, bytes] = {}  # equal ones are one object, which stays in the cache of the CPU
    held_bytes = 0
    while len(batches) < _MOST_BATCHES and (held_bytes < _MOST_BYTES or not batches):
        batches.append(_Batch(list(itertools.islice(turns, depth)), replies))
        held_bytes += batches[-1].held_bytes
    return batches

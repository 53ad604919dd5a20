"""Forwards one connection, and lets toxics meddle with it; only the proxy's thread touches it."""

import collections
import contextlib
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable

from runbook.drills.faults.resp import Messages
from runbook.drills.faults.schedule import Schedule

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_CHUNK_BYTES = 65_536
# With more than this held for one side we read no more from the other, so that the sender notices, as without us.
_HELD_BYTES = 8 * 2**20
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST instead of FIN


class Toxic:
    """What a fault does to the traffic; all of it is called in the proxy's thread. This one does nothing.

    Attributes:
        piece_bytes: the most that is delivered at once.
    """

    piece_bytes = sys.maxsize

    def connected(self, link: "Link") -> None:
        """See a connection that was just accepted."""

    def requested(self, link: "Link", request: bytes) -> None:
        """See a complete request, which has been passed on; set `link.toxic` to be asked about the replies to come."""

    def replied(self, link: "Link", data: bytes, ends: list[int]) -> bytes:
        """Return what is to be delivered of the next bytes from the server; replies end at the offsets `ends`."""
        return data

    def due_ns(self, link: "Link", size_bytes: int, ready_ns: int) -> int:
        """Tell when so many bytes for the client may be delivered that are ready at a time; both are of `time.monotonic_ns`."""
        return ready_ns

    def delivered(self, size_bytes: int, waited_ns: int) -> None:
        """See that a piece of a reply was handed to the client's socket, so long after it came from the server's."""


class Link:
    """A client's connection and the one to the server that is opened for it.

    Attributes:
        unanswered: requests that the server has got and not answered yet.
        toxic: decides what becomes of the server's replies, if there is one.
        silent: whether nothing is passed on any more.
        closed: whether it has ended.
    """

    def __init__(self, client: socket.socket, selector: selectors.BaseSelector, toxics: list[Toxic], schedule: Schedule) -> None:
        self.unanswered = 0
        self.toxic: Toxic | None = None
        self.closed = False
        self._selector, self._toxics, self._schedule = selector, toxics, schedule
        self._watched: dict[socket.socket, int] = {}
        self._client = _prompt(client)
        self._server: socket.socket | None = None
        self._connecting = False
        self._requests, self._replies = Messages(), Messages()
        self._request = bytearray()  # the beginning of one that is not complete yet
        self._to_server = bytearray()
        self._client_ended = False
        self._server_told = False  # that the client ended
        self._to_client: collections.deque[tuple[int, int, bytes]] = collections.deque()  # due_ns, received_ns, data
        self._held_bytes = 0  # of all that is in _to_client
        self._swallow: Callable[[int], None] | None = None
        self._at_last: Callable[[], None] | None = None
        self._watch()

    @property
    def silent(self) -> bool:
        return self._swallow is not None

    def connect(self, server: tuple[str, int]) -> None:
        """Open the connection to the server."""
        self._server = _prompt(socket.socket())
        self._connecting = True
        self._server.connect_ex(server)  # its outcome is known when the socket is writable
        self._watch()

    def serve(self, side: socket.socket | None = None, events: int = 0) -> None:
        """Read from a side that is readable, and write all that can be written.

        An RST of the server reaches the client as one; a server that doesn't take the connection ends it in good order.
        """
        if self.closed:
            return
        try:
            if side is self._client and events & _READ:
                self._read_client()
            elif side is not None and side is self._server:
                if self._connecting:
                    self._finish_connecting(side)
                elif events & _READ:
                    self._read_server()
            self._write()
        except BlockingIOError:
            pass
        except OSError:
            if self.silent and side is not self._client:
                self._drop_server()
            else:
                self.end(reset=True)
        self._watch()

    def deliver(self, data: bytes, then: Callable[[], None] | None = None) -> None:
        """Hold bytes for the client for as long as the toxics say, behind all that is held already.

        Args:
            data: what the client gets.
            then: called once all has been delivered; meanwhile nothing more is read.
        """
        now_ns = time.monotonic_ns()
        piece_bytes = min((toxic.piece_bytes for toxic in self._toxics), default=sys.maxsize)
        while data:
            piece, data = data[:piece_bytes], data[piece_bytes:]
            due_ns = now_ns
            for toxic in self._toxics:
                due_ns = toxic.due_ns(self, len(piece), due_ns)
            if self._to_client:
                due_ns = max(due_ns, self._to_client[-1][0])
            self._to_client.append((due_ns, now_ns, piece))
            self._held_bytes += len(piece)
            if due_ns > now_ns:
                self._schedule.add(due_ns, self.serve)
        self._at_last = then or self._at_last

    def hurry(self) -> None:
        """Deliver at once all that is held."""
        now_ns = time.monotonic_ns()
        self._to_client = collections.deque((min(due_ns, now_ns), received_ns, data) for due_ns, received_ns, data in self._to_client)
        self.serve()

    def silence(self, swallow: Callable[[int], None]) -> None:
        """Pass nothing on any more, not even that the server ends; only the client can still end the connection.

        Args:
            swallow: told how many bytes were not passed on, each time.
        """
        held_bytes = len(self._to_server) + self._held_bytes
        self._to_server.clear()
        self._to_client.clear()
        self._held_bytes = 0
        self._swallow, self._at_last, self.toxic = swallow, None, None
        swallow(held_bytes)
        if self._client_ended:
            self.end()
        self._watch()

    def end(self, *, reset: bool = False) -> None:
        """Close both sides; the client gets an RST if `reset`, else an orderly end."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError):
            if reset:
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            while not reset and self._client.recv(_CHUNK_BYTES):
                pass  # with bytes unread, the end would not be orderly
        self._forget(self._client)
        self._drop_server()

    def _finish_connecting(self, server: socket.socket) -> None:
        self._connecting = False
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            if self.silent:
                self._drop_server()
            else:
                self.end()

    def _read_client(self) -> None:
        data = self._client.recv(_CHUNK_BYTES)
        if self._swallow is not None:
            self._swallow(len(data))
            if not data:
                self.end()
        elif not data:
            self._client_ended = True
        else:
            self._to_server += data
            begin = 0
            for end in self._requests.ends(data):
                self._note(bytes(self._request + data[begin:end]))
                self._request.clear()
                begin = end
            self._request += data[begin:]

    def _note(self, request: bytes) -> None:
        for toxic in self._toxics:
            if self.toxic is None:
                toxic.requested(self, request)
        self.unanswered += 1

    def _read_server(self) -> None:
        assert self._server is not None
        data = self._server.recv(_CHUNK_BYTES)
        if self._swallow is not None:
            self._swallow(len(data))
            if not data:
                self._drop_server()
        elif not data:
            self._drop_server()
            self.deliver(b"", then=self.end)
        else:
            ends = self._replies.ends(data)
            self.unanswered -= len(ends)
            if self.toxic is not None:
                data = self.toxic.replied(self, data, ends)
            self.deliver(data)

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._server is not None and not self._connecting and not self.silent:
                if self._to_server:
                    del self._to_server[: self._server.send(self._to_server)]
                if self._client_ended and not self._to_server and not self._server_told:
                    self._server_told = True
                    self._server.shutdown(socket.SHUT_WR)
        with contextlib.suppress(BlockingIOError):
            self._write_client()
        if self._at_last and not self._to_client:
            self._at_last()

    def _write_client(self) -> None:
        while self._to_client and self._to_client[0][0] <= (now_ns := time.monotonic_ns()):
            due_ns, received_ns, data = self._to_client[0]
            sent = self._client.send(data)
            self._held_bytes -= sent
            if sent < len(data):
                self._to_client[0] = (due_ns, received_ns, data[sent:])
                return
            self._to_client.popleft()
            for toxic in self._toxics:
                toxic.delivered(len(data), now_ns - received_ns)

    def _watch(self) -> None:
        if self.closed:
            return
        reading = self._at_last is None
        writing = bool(self._to_client) and self._to_client[0][0] <= time.monotonic_ns()
        reads_client = reading and not self._client_ended and len(self._to_server) < _HELD_BYTES
        self._select(self._client, _READ * reads_client | _WRITE * writing)
        if self._server is not None:
            reads_server = reading and not self._connecting and self._held_bytes < _HELD_BYTES
            self._select(self._server, _READ * reads_server | _WRITE * (self._connecting or bool(self._to_server)))

    def _select(self, side: socket.socket, events: int) -> None:
        watched = self._watched.get(side, 0)
        if events == watched:
            return
        if not watched:
            self._selector.register(side, events, self)
        elif not events:
            self._selector.unregister(side)
        else:
            self._selector.modify(side, events, self)
        self._watched[side] = events

    def _drop_server(self) -> None:
        if self._server is not None:
            self._forget(self._server)
            self._server = None

    def _forget(self, side: socket.socket) -> None:
        self._select(side, 0)
        side.close()


def _prompt(side: socket.socket) -> socket.socket:
    side.setblocking(False)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return side

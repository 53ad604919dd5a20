"""A TCP proxy in front of a Redis on this machine; what it can do to the traffic is in `network`.

One thread serves all connections and is the only one that touches them: what changes them is a job that it runs between
two events. So a fault takes hold of all connections at one instant.
"""

import collections
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self, TypeVar

from runbook.drills.faults.link import Link, Toxic
from runbook.drills.faults.schedule import Schedule

T = TypeVar("T")


class ProxyClosed(RuntimeError):
    """The proxy was asked for something after its end."""


class Proxy:
    """Forward connections from a free port of 127.0.0.1 to a server, until `close`.

    A connection that the server does not take is closed at once.

    Args:
        server_port: where the Redis listens, without TLS; it need not listen yet.
        server_host: its IPv4 address, of this machine.

    Attributes:
        port: where the proxy listens; it stays the proxy's while it refuses connections.
        accepted_ns: the `time.monotonic_ns` of each connection accepted so far.
        toxics: what is done to the traffic now; changed only by a job given to `call`.

    Raises:
        OSError: no port is free.
    """

    def __init__(self, server_port: int, server_host: str = "127.0.0.1") -> None:
        self.accepted_ns: list[int] = []
        self.toxics: list[Toxic] = []
        self._server = (server_host, server_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._listening = True
        self.port: int = self._listener.getsockname()[1]
        self._open: set[Link] = set()
        self._schedule = Schedule()
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._jobs_lock = threading.Lock()
        self._closed = False
        self._wakes, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "listening" if self._listening else "refusing"
        links = self._open.copy()
        silent = sum(link.silent for link in links)
        return f"<Proxy {self.port} to {self._server[1]} {state}, {len(links)} open, {silent} silent, {len(self.accepted_ns)} accepted>"

    def close(self) -> None:
        """End every connection, the port and the thread; may be called again."""
        with self._jobs_lock:
            if not self._closed:
                self._closed = True
                self._wakes.send(b"\0")
        self._thread.join()

    def call(self, job: Callable[[], T]) -> T:
        """Run a job in the proxy's thread, between two events, and return its result or raise its error.

        Raises:
            ProxyClosed: the proxy was closed.
        """
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(job())
            except Exception as error:
                outcome.set_exception(error)

        with self._jobs_lock:
            if self._closed:
                raise ProxyClosed(f"the proxy on port {self.port} is closed: end the fault's block before you close the proxy")
            self._jobs.append(run)
            self._wakes.send(b"\0")
        return outcome.result()

    # --- jobs: to be called in the proxy's thread ---

    def links(self) -> list[Link]:
        """List the open connections, the silent ones too."""
        self._open = {link for link in self._open if not link.closed}
        return list(self._open)

    def refuse(self) -> None:
        """Close the port, so that the kernel refuses connections to it."""
        if self._listening:
            self._selector.unregister(self._listener)
            self._listener.close()
            # Bound without listening, it stays ours: nobody else gets it, and no client connects from it to itself.
            self._listener = socket.socket()
            self._listener.setblocking(False)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listening = False

    def listen(self) -> None:
        """Open the port again."""
        if not self._listening:
            self._listener.listen()
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._listening = True

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._closed:
                for key, events in self._selector.select(self._schedule.wait_s()):
                    if isinstance(key.data, Link):
                        assert isinstance(key.fileobj, socket.socket)
                        key.data.serve(key.fileobj, events)
                        if key.data.closed:
                            self._open.discard(key.data)
                    elif key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj is self._woken:
                        self._run_jobs()
                self._schedule.run()
        finally:
            with self._jobs_lock:
                self._closed = True
            self._run_jobs()  # nobody waits for ever
            for link in self.links():
                link.end()
            self._open.clear()
            self._selector.close()
            for end in (self._listener, self._wakes, self._woken):
                end.close()

    def _run_jobs(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._jobs:
            self._jobs.popleft()()

    def _accept(self) -> None:
        # The client may have gone, or a job just before may have closed the port.
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = self._listener.accept()
            self.accepted_ns.append(time.monotonic_ns())
            link = Link(client, self._selector, self.toxics, self._schedule)
            self._open.add(link)
            for toxic in self.toxics:
                toxic.connected(link)
            if not link.silent:
                link.connect(self._server)

"""A command whose caller was told that its outcome is unknown must not arrive later, over what newer ones have written."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cachelib import CacheError
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(30)

VALUE = b"v" * 200_000


class Deaf:
    """A server that greets and then reads nothing, until it is told to.

    Attributes:
        port: where it listens.
    """

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._told = threading.Event()
        self._heard: list[tuple[int, bool]] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> "Deaf":
        return self

    def __exit__(self, *error: object) -> None:
        self.hear()

    def hear(self) -> tuple[int, bool]:
        """Read what there is; return how many bytes came after the greetings, and whether a reset ended a connection."""
        self._told.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        return sum(heard for heard, _ in self._heard), any(reset for _, reset in self._heard)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
                self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        heard = 0
        with peer:
            peer.settimeout(10.0)
            peer.recv(4096)
            peer.sendall(b"+OK\r\n+PONG\r\n")
            self._told.wait()
            try:
                while data := peer.recv(65_536):
                    heard += len(data)
                self._heard.append((heard, False))
            except ConnectionResetError:
                self._heard.append((heard, True))


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    """A server that does not listen to commands."""
    with Deaf() as deaf:
        yield deaf


@pytest.mark.parametrize(
    "use",
    [lambda client: client.set("k", VALUE), lambda client: client.pipeline().set("k", VALUE).execute()],
    ids=["command", "transaction"],
)
def test_command_that_was_given_up_is_not_delivered_later(use: Any, server: Embedded, open_client: Any, deaf: Deaf) -> None:
    client = open_client(server, port=deaf.port, deadline_s=0.3)
    with pytest.raises(CacheError):
        use(client)
    client.close()
    heard, reset = deaf.hear()
    assert reset
    assert heard < len(VALUE)

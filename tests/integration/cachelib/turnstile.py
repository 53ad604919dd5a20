"""A server that is not there: it counts who comes, and closes each connection at once."""

import contextlib
import socket
import threading
import time


class Turnstile:
    """Listens until the end of its block.

    Attributes:
        port: where it listens.
        times_s: when each connection came.
    """

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.times_s: list[float] = []
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def __enter__(self) -> "Turnstile":
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept()
        self._thread.join()
        self._listener.close()

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.times_s.append(time.monotonic())
                peer.close()

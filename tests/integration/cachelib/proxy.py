"""A TCP proxy that lets a command execute and then loses its reply."""

import contextlib
import select
import socket
import struct
import threading
from typing import Self


class Proxy:
    """Forward connections to a local port until told to lose a reply; `close` ends all of them.

    Attributes:
        port: where it listens on 127.0.0.1.
        lost: how many replies it has lost so far.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        self._word = b""
        self._times = 0
        self._reset = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def lose_replies(self, word: bytes, *, times: int = 1, reset: bool = False) -> None:
        """Close the client's side once the server has answered a request that holds a word.

        Args:
            word: in the request, upper or lower case.
            times: how many replies are lost before all is well again.
            reset: whether the client gets a TCP reset instead of an orderly end.
        """
        with self._lock:
            self._word, self._times, self._reset = word.upper(), times, reset

    def close(self) -> None:
        """Stop listening and end every connection."""
        # A blocked accept() is woken by a shutdown, and not by a close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._server_port)) as server:
            with self._lock:
                self._open |= {client, server}
            try:
                self._forward(client, server)
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            readable, _, _ = select.select([client, server], [], [])
            if client in readable:
                request = client.recv(65_536)
                if not request:
                    return
                server.sendall(request)
                if self._is_to_be_lost(request):
                    server.recv(65_536)  # the server has executed it
                    if self._reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.lost += 1
                    return
            if server in readable:
                reply = server.recv(65_536)
                if not reply:
                    return
                client.sendall(reply)

    def _is_to_be_lost(self, request: bytes) -> bool:
        with self._lock:
            if not self._times or self._word not in request.upper():
                return False
            self._times -= 1
            return True

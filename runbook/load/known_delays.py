"""A server of our own that answers PING after a delay that it chose, and sends ECHO back at once; it remembers how long each really waited.

As a module (`python -m runbook.load.known_delays KIND`) it prints its port, answers until its input ends, and then prints the delays in ns
as JSON. One thread spins over all connections, since a sleep would end up to 0.1 ms late. What counts runs from having read a request to
having written its reply.
"""

import contextlib
import heapq
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO

from runbook.tether import tethered

PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
ECHO = b"*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n"
# Delays in ms, by the name of their distribution.
KINDS: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda choice: choice.uniform(1.0, 2.0),
    "bimodal": lambda choice: 20.0 if choice.random() < 0.05 else 0.2,
}


class SlowServer:
    """A running one.

    Attributes:
        pid: of its process.
        port: on which it listens, at 127.0.0.1.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin
        assert process.stdout
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        self.pid = process.pid
        self.port = int(self._stdout.readline())

    def delays_ms(self) -> tuple[list[float], list[float]]:
        """End it, and return how long each PING and each ECHO waited, in ms, ascending; the PING that greets is left out."""
        self._stdin.close()
        pings, echoes = json.loads(self._stdout.readline())
        return sorted(delay_ns / 1e6 for delay_ns in pings), sorted(delay_ns / 1e6 for delay_ns in echoes)


@contextlib.contextmanager
def slow_server(kind: str) -> Iterator[SlowServer]:
    """Run one for the length of the block.

    Args:
        kind: of its delays, one of `KINDS`.
    """
    command = tethered([sys.executable, "-m", "runbook.load.known_delays", kind])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield SlowServer(process)
        finally:
            process.kill()


def serve(kind: str) -> tuple[list[int], list[int]]:
    """Answer until the input ends; the first request of each connection is answered at once and not counted."""
    draw, choice = KINDS[kind], random.Random(1)
    clock = time.monotonic_ns
    pings: list[int] = []
    echoes: list[int] = []
    waiting: list[tuple[int, int, int]] = []  # when to answer, when it was read, on which connection
    lines: dict[int, socket.socket] = {}
    greeted: set[int] = set()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, select.epoll() as epoll:
        print(listener.getsockname()[1], flush=True)
        epoll.register(listener, select.EPOLLIN)
        epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            for number, _ in epoll.poll(0 if waiting or greeted else 0.01):
                if number == sys.stdin.fileno():
                    return pings, echoes
                if number == listener.fileno():
                    line, _ = listener.accept()
                    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    lines[line.fileno()] = line
                    epoll.register(line, select.EPOLLIN)
                    continue
                data = lines[number].recv(65536)
                read_ns = clock()
                if not data:
                    epoll.unregister(number)
                    lines.pop(number).close()
                    greeted.discard(number)
                elif data == ECHO:
                    lines[number].send(data)
                    echoes.append(clock() - read_ns)
                elif number not in greeted:
                    lines[number].send(PONG)
                    greeted.add(number)
                else:
                    heapq.heappush(waiting, (read_ns + round(draw(choice) * 1e6), read_ns, number))
            while waiting and waiting[0][0] <= clock():
                _, read_ns, number = heapq.heappop(waiting)
                if number in lines:
                    lines[number].send(PONG)
                    pings.append(clock() - read_ns)


if __name__ == "__main__":
    print(json.dumps(serve(sys.argv[1])), flush=True)

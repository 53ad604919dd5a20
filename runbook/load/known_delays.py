"""A server of our own that answers PING after a delay that it chose, and ECHO at once; it remembers how long each really waited.

As a module (`python -m runbook.load.known_delays KIND`) it prints its port, answers until its input ends, and then prints what it
remembers as JSON. It sleeps until the next reply is due: late by 0.1 ms, which it measures. A server that spins would lose its core to
other processes in the middle of a delay. What it remembers runs from having read a request to having written its reply.
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
from dataclasses import dataclass
from typing import IO

from runbook.load.pacer import sharpen_timers
from runbook.tether import tethered

PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
ECHO = b"*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n"
# Delays in ms, by the name of their distribution.
KINDS: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda choice: choice.uniform(1.0, 2.0),
    "bimodal": lambda choice: 20.0 if choice.random() < 0.05 else 0.2,
}

# When a request was read, on the clock of `time.monotonic_ns`, and how many ns it waited.
Delays = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Truth:
    """What the server remembers.

    Attributes:
        pings: each PING, without those that greet.
        echoes: each ECHO.
    """

    pings: Delays
    echoes: Delays


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

    def end(self) -> Truth:
        """End it, and return what it remembers."""
        self._stdin.close()
        pings, echoes = ([(read_ns, waited_ns) for read_ns, waited_ns in found] for found in json.loads(self._stdout.readline()))
        return Truth(pings, echoes)


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


def serve(kind: str) -> tuple[Delays, Delays]:
    """Answer until the input ends; the first request of each connection is answered at once and not counted."""
    draw, choice = KINDS[kind], random.Random(1)
    clock = time.monotonic_ns
    pings: Delays = []
    echoes: Delays = []
    waiting: list[tuple[int, int, int]] = []  # when to answer, when it was read, on which connection
    lines: dict[int, socket.socket] = {}
    greeted: set[int] = set()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, select.epoll() as epoll:
        print(listener.getsockname()[1], flush=True)
        epoll.register(listener, select.EPOLLIN)
        epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            # `epoll` itself counts in milliseconds, `select` on it in microseconds.
            select.select([epoll], [], [], max(0.0, (waiting[0][0] - clock()) / 1e9) if waiting else None)
            for number, _ in epoll.poll(0):
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
                    echoes.append((read_ns, clock() - read_ns))
                elif number not in greeted:
                    lines[number].send(PONG)
                    greeted.add(number)
                else:
                    heapq.heappush(waiting, (read_ns + round(draw(choice) * 1e6), read_ns, number))
            while waiting and waiting[0][0] <= clock():
                _, read_ns, number = heapq.heappop(waiting)
                if number in lines:
                    lines[number].send(PONG)
                    pings.append((read_ns, clock() - read_ns))


if __name__ == "__main__":
    sharpen_timers()
    print(json.dumps(serve(sys.argv[1])), flush=True)

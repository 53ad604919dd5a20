"""The least that a load does, as a control: waits for moments without sending anything, or calls without keeping any books.

As a module (`python -m runbook.load.bare_loop`) it answers each line on its standard input with a line of JSON, a list of numbers in µs:

    wait spinning|sleeping RATE_PER_S SECONDS   how late it was at each moment of a constant rate
    echo PORT RATE_PER_S SECONDS                how long each ECHO on one connection to 127.0.0.1 took, from its moment of a constant rate
"""

import contextlib
import gc
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from runbook.load.known_delays import ECHO, PING
from runbook.load.pacer import constant, sharpen_timers
from runbook.tether import tethered


class BareLoop:
    """A running one."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, *words: object) -> list[float]:
        """Send a line and return its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def bare_loop(core: int | None) -> Iterator[BareLoop]:
    """Run one for the length of the block.

    Args:
        core: to pin it to; None lets it run anywhere.
    """
    command = tethered([sys.executable, "-m", "runbook.load.bare_loop"])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            yield BareLoop(process)
        finally:
            process.kill()


def wait(how: str, rate_per_s: float, seconds: float) -> list[float]:
    """Wait for each moment of a constant rate, and return how late it was noticed, in µs."""
    return [_wait_until(due_ns, how) / 1e3 for due_ns in _moments(rate_per_s, seconds)]


def echo(port: int, rate_per_s: float, seconds: float) -> list[float]:
    """Call ECHO at each moment of a constant rate, or as soon as the last call has ended, and return how long it took from there, in µs."""
    took_us = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(PING)
        connection.recv(100)
        for due_ns in _moments(rate_per_s, seconds):
            _wait_until(due_ns, "sleeping")
            connection.sendall(ECHO)
            connection.recv(100)
            took_us.append((time.monotonic_ns() - due_ns) / 1e3)
    return took_us


def _moments(rate_per_s: float, seconds: float) -> Iterator[int]:
    start_ns = time.monotonic_ns() + 1_000_000
    end_ns = start_ns + round(seconds * 1e9)
    return itertools.takewhile(lambda moment_ns: moment_ns < end_ns, constant(rate_per_s, start_ns))


def _wait_until(due_ns: int, how: str) -> int:
    """Wait for a moment, and return how late it was noticed, in ns."""
    while (ahead_ns := due_ns - time.monotonic_ns()) > 0:
        if how == "sleeping":
            time.sleep(ahead_ns / 1e9)
    return -ahead_ns


def main() -> None:
    """Answer each line."""
    sharpen_timers()
    gc.disable()
    for line in sys.stdin:
        match line.split():
            case ["wait", how, rate_per_s, seconds]:
                answer = wait(how, float(rate_per_s), float(seconds))
            case ["echo", port, rate_per_s, seconds]:
                answer = echo(int(port), float(rate_per_s), float(seconds))
            case _:
                raise ValueError(f"no such control: {line.strip()}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

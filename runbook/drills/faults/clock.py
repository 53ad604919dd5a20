"""Steps the wall clock of one server of our own, by a library that is compiled here and loaded into it; the host's clock stays as it is.

libfaketime 0.9.10 can't do it: in a Redis with jemalloc it looks for functions, which allocates, which asks it for the time, and it waits
for itself. It does not count fsyncs either.
"""

import mmap
import shlex
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import redis

from runbook.targets.binary import find_server
from runbook.tether import tethered

COMPILE_TIMEOUT_S = 30.0
# By how much the step that was seen may differ from the one that was made: a host may stall between two looks.
TOLERANCE_S = 2.0
# A server looks at the clock a few times a second, and tells the time of its last look.
NOTICE_S = 2.0
_SOURCE = Path(__file__).with_name("clock.c")
_SHARED = struct.Struct("=qq")  # as in the source: the offset in nanoseconds, and the number of fsyncs


class NoClock(Exception):
    """A server can't be given a clock of its own; the message says what to install."""


class OwnClock:
    """The wall clock of a server that is started with `environ`; use it in a `with` statement, at whose end it is right again.

    Args:
        environ: which server, see `find_server`.
        folder: for the library.

    Raises:
        NoClock: there is no C compiler, or it can't compile the library.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        library, shared, script = folder / "clock.so", folder / "clock", folder / "server-with-clock"
        _compile(environ, library)
        shared.write_bytes(bytes(_SHARED.size))
        with shared.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _SHARED.size)
        self._offset_s = 0.0
        setting = shlex.join([f"RUNBOOK_CLOCK={shared}", f"LD_PRELOAD={library}", find_server(environ).path])
        script.write_text(f'#!/bin/sh\nexec env {setting} "$@"\n')
        script.chmod(0o700)
        self.environ = {**environ, "REDIS_SERVER": str(script)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._set(0.0)
        self._shared.close()

    def __repr__(self) -> str:
        return f"<OwnClock {self._offset_s:+g} s>"

    @property
    def fsyncs(self) -> int:
        """How many times the server has synced a file to the disk."""
        return int(_SHARED.unpack(self._shared[:])[1])

    def step(self, client: redis.Redis, by_s: float) -> tuple[str, ...]:
        """Step the clock, in seconds; return why it can't be said that the server saw it, nothing if it did."""
        before_s = ahead_s(client)
        self._set(self._offset_s + by_s)
        until_s = time.monotonic() + NOTICE_S
        while abs((seen_s := ahead_s(client) - before_s) - by_s) > TOLERANCE_S and time.monotonic() < until_s:
            time.sleep(0.01)
        if abs(seen_s - by_s) <= TOLERANCE_S:
            return ()
        return (f"the server's clock was stepped by {by_s:+g} s, and its TIME by {seen_s:+.1f} s: it may be linked statically",)

    def _set(self, offset_s: float) -> None:
        self._offset_s = offset_s
        self._shared[:8] = struct.pack("=q", round(offset_s * 1e9))


def ahead_s(client: redis.Redis) -> float:
    """Return by how many seconds a server's clock is ahead of ours."""
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6 - time.time())


def _compile(environ: Mapping[str, str], library: Path) -> None:
    compiler = shutil.which("cc", path=environ.get("PATH"))
    if not compiler:
        raise NoClock("there is no C compiler, which makes a clock for the server alone: install the package gcc with libc6-dev")
    command = tethered([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)])
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMPILE_TIMEOUT_S, check=False)
    if done.returncode:
        complaint = (done.stderr.strip() or f"status {done.returncode}").splitlines()[0]
        raise NoClock(f"{compiler} can't compile {_SOURCE.name} ({complaint}): install the package libc6-dev")

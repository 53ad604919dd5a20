"""Asks client workers, each a process of its own that stays alive, for slices of load."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cachelib import Config
from runbook.tether import tethered

WORKER = (sys.executable, "-m", "runbook.client_worker")
_EXIT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of a worker.

    Attributes:
        calls: that succeeded.
        errors: calls that failed.
        seconds: how long it took.
        own_s: of these, without the time in which client or server were ready to run and another process had the core.
        p50_us: median latency, in µs; None without a call.
        p99_us: 99th percentile, in µs.
        longest_us: the longest latency, in µs; shows those who starve where they are fewer than one in a hundred calls.
    """

    calls: int
    errors: int
    seconds: float
    own_s: float
    p50_us: float | None
    p99_us: float | None
    longest_us: float | None

    @property
    def rate_per_s(self) -> float:
        """Calls a second by the clock."""
        return self.calls / self.seconds

    @property
    def own_rate_per_s(self) -> float:
        """Calls a second of `own_s`."""
        return self.calls / self.own_s


class Workers:
    """Running workers, by name; each keeps its connections between slices."""

    def __init__(self, processes: Mapping[str, "subprocess.Popen[str]"]) -> None:
        self._processes = processes

    def ask(self, name: str, seconds: float) -> Slice:
        """Let a worker call for so many seconds.

        Raises:
            RuntimeError: it has ended.
        """
        process = self._processes[name]
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            status = process.wait(_EXIT_TIMEOUT_S)
            raise RuntimeError(f"the client worker {name} ended with status {status}; its error stands above")
        return Slice(**json.loads(answer))


@contextlib.contextmanager
def started_workers(
    cores: Mapping[str, int | None], config: Config, server: tuple[int | None, int | None], command: Sequence[str] = WORKER
) -> Iterator[Workers]:
    """Run workers for the length of the block, all connected.

    Args:
        cores: to pin each to, by its name, which is `<work>/<client>`; None lets it run anywhere.
        config: of the server.
        server: its process and its core; None for what is not known.
        command: that starts a worker.
    """
    pid, server_core = server
    with contextlib.ExitStack() as stack:
        processes = {}
        for name, core in cores.items():
            where = "together" if core is not None and core == server_core else "apart"
            arguments = [*command, name, str(0 if core is None else pid or 0), where]
            processes[name] = stack.enter_context(_running(arguments, config))
            if core is not None:
                os.sched_setaffinity(processes[name].pid, {core})
        yield Workers(processes)


@contextlib.contextmanager
def _running(command: Sequence[str], config: Config) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        tethered(command),
        env=_environ(config),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches us alone; it ends with us, since its input does
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _environ(config: Config) -> dict[str, str]:
    """Say a configuration in variables, where another process reads it and no process list shows it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    environ |= {"REDIS_HOST": config.host, "REDIS_PORT": str(config.port), "REDIS_DB": str(config.db)}
    if config.password:
        environ["REDIS_PASSWORD"] = config.password.reveal()
    if config.username:
        environ["REDIS_USERNAME"] = config.username
    return environ

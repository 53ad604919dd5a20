"""One container: what the engine knows of it, what it logged, and signals that go past the engine to its process."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from runbook.targets.base import NotServing, TargetError
from runbook.targets.docker import Docker

# Health checks begin after one interval; a sick server is told within three.
HEALTH_TIMEOUT_S = 45.0
LOG_LINES = 8


class Container:
    """A container of a project of ours, which need not exist yet.

    Args:
        docker: the engine.
        name: of the container.
        label: that all of the project bears, as `name=value`.
    """

    def __init__(self, docker: Docker, name: str, label: str) -> None:
        self.docker, self.name, self._label = docker, name, label

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows; raises `TargetError` if there is none of this name."""
        return self.docker.inspect(self.name)

    @property
    def runs(self) -> bool:
        """Whether it runs, and does not wait to be started again."""
        state = self.inspect()["State"]
        return bool(state["Running"]) and not state["Restarting"]

    @property
    def exit_status(self) -> int:
        """As a process has it: negative for a signal, of which a container tells 128 more."""
        code = int(self.inspect()["State"]["ExitCode"])
        return 128 - code if code > 128 else code

    @property
    def pid(self) -> int | None:
        """The process id on this host; None if it does not run, or runs in another kernel, as with Docker Desktop."""
        found = self.inspect()
        pid = int(found["State"]["Pid"])
        try:
            return pid if pid and found["Id"] in Path(f"/proc/{pid}/cgroup").read_text() else None
        except OSError:
            return None

    def signal(self, number: signal.Signals, child: int = 0) -> None:
        """Send a signal to the process from outside, lest the engine take it for a stop by hand (`docker kill` is one).

        Args:
            number: of the signal.
            child: id of another of the container's processes, as `docker top` tells it; 0 for the first one.

        Raises:
            TargetError: it does not run.
        """
        pid = int(self.inspect()["State"]["Pid"])
        if not pid:
            raise TargetError(f"{self.name} does not run: start it first")
        here, pid = self.pid == pid, child or pid
        if here:
            with contextlib.suppress(PermissionError):
                os.kill(pid, number)
                return
        # Another user's process, or another kernel's: a container that shares the processes of the engine's host may.
        image = self.inspect()["Config"]["Image"]
        options = ("--rm", "--pid", "host", "--network", "none", "--user", "0", "--label", self._label, "--entrypoint", "kill")
        self.docker.run("run", *options, image, f"-{number.name.removeprefix('SIG')}", str(pid))

    def health(self) -> str:
        """Return what the engine says of its health: `starting`, `healthy` or `unhealthy`."""
        return str(self.inspect()["State"]["Health"]["Status"])

    def await_health(self, wanted: str, timeout_s: float = HEALTH_TIMEOUT_S) -> None:
        """Wait until the engine says so.

        Args:
            wanted: `healthy` or `unhealthy`.
            timeout_s: for how long to wait, in seconds.

        Raises:
            NotServing: it did not within this time; with the last probes and the last lines of the log.
        """
        # Told by the engine, since asking it again and again takes CPU time from what is measured beside us.
        with self.docker.events(self.name, "health_status", timeout_s) as events:
            if self.health() == wanted or any(event == f"health_status: {wanted}" for event in events) or self.health() == wanted:
                return
        probes = self.inspect()["State"]["Health"]["Log"]
        said = "; ".join(f"exit status {probe['ExitCode']}: {probe['Output'].strip()}" for probe in probes)
        raise NotServing(f"{self.name} was not {wanted} within {timeout_s:g} s; its probes: {said or 'none yet'}; {self.tail()}")

    def log(self) -> str:
        """Return what it wrote to both outputs; empty if there is none of this name."""
        try:
            return self.docker.logs(self.name)
        except TargetError:
            return ""

    def tail(self) -> str:
        """Return the last lines of the log, for an error message."""
        return "its log ends:\n" + ("\n".join(self.log().splitlines()[-LOG_LINES:]) or "(it wrote none)")

"""The container engine, by way of its command line, and what its refusals mean."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from runbook.targets.base import TargetError
from runbook.targets.port import is_local

# Of one command: an image may have to be pulled or built.
TIMEOUT_S = 300.0
# How long what was begun may take to end after we were interrupted.
GRACE_S = 20.0

_REFUSALS = (
    (
        r"permission denied while trying to connect|PermissionError\(13",
        "this user may not talk to the Docker engine: `sudo usermod -aG docker $USER` and log in again, or run as root",
    ),
    (
        r"(cannot|couldn.t) connect to (the )?docker daemon|error during connect|Error while fetching server API version",
        "no Docker engine answers: start it (`sudo systemctl start docker`, or Docker Desktop), or choose another target, such as embedded",
    ),
    (
        r"port is already allocated|address already in use|ports are not available",
        "a port is taken: end what listens there; a run chooses its ports anew each time, a deployment has REDIS_PORT and HEALTH_PORT",
    ),
    (
        r"pull access denied|manifest (for .* not found|unknown)|/v2/.*(no such host|timeout|refused|unauthorized|deadline)|No such image"
        r"|failed to (resolve|solve).*(image|source metadata)|TLS handshake timeout",
        "an image is missing and can't be pulled: pull it, or name another in REDIS_IMAGE, PYTHON_IMAGE or HEALTH_IMAGE",
    ),
    (
        r"No matching distribution found|Could not find a version that satisfies",
        "the packages of the health endpoint can't be had: where an index is reached, lay their wheels into compose/health/wheels by "
        "`pip download --require-hashes --only-binary :all: --requirement compose/health/requirements.txt --dest compose/health/wheels`",
    ),
    (
        r"is already in use by container",
        "a container's name is taken: remove the other one, or choose another project in RUNBOOK_PROJECT",
    ),
)


@dataclass(frozen=True, slots=True)
class Docker:
    """An engine that answers, and the Compose beside it; made by `find`.

    Attributes:
        environ: of every command.
        engine: version of the engine.
        compose: the command line that begins each command of Compose: v2's `docker compose`, else `docker-compose`.
    """

    environ: Mapping[str, str]
    engine: str
    compose: tuple[str, ...]

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> Self:
        """Look for an engine and for Compose.

        Raises:
            TargetError: a program is missing, no engine answers, or it refuses this user.
        """
        environ = {name: value for name, value in environ.items() if not name.startswith("COMPOSE_")}
        path = environ.get("PATH", os.defpath)
        if not shutil.which("docker", path=path):
            raise TargetError("there is no program `docker`: install Docker Engine and Compose, or choose another target, such as embedded")
        engine = _run(("docker", "version", "--format", "{{.Server.Version}}"), environ, 30.0).strip()
        # The old program is taken at its word: asking it for its version takes half a second.
        if _runs(("docker", "compose", "version"), environ):
            return cls(environ, engine, ("docker", "compose"))
        if shutil.which("docker-compose", path=path):
            return cls(environ, engine, ("docker-compose",))
        raise TargetError("there is a Docker engine and no Compose: install the package docker-compose-plugin or docker-compose")

    def run(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> str:
        """Run `docker` and return what it prints.

        Raises:
            TargetError: it failed, with its reason in the user's terms where we know it, or it took too long.
        """
        return _run(("docker", *arguments), self.environ, timeout_s)

    def run_compose(self, *options: str, command: Sequence[str], environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> str:
        """Run a command of Compose with variables for its files, and return what it prints; raises as `run` does."""
        said = " ".join((*self.compose, command[0]))
        return _run((*self.compose, *options, *command), {**self.environ, **environ}, timeout_s, said=said)

    def logs(self, container: str) -> str:
        """Return what a container wrote to both of its outputs; raises `TargetError` if there is none."""
        return _run(("docker", "logs", container), self.environ, TIMEOUT_S, complaints=subprocess.STDOUT)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of a container, an image, a network or a volume; raises `TargetError` if there is none."""
        return dict(json.loads(self.run("inspect", name))[0])

    @contextlib.contextmanager
    def events(self, container: str, event: str, duration_s: float) -> Iterator[Iterator[str]]:
        """Yield what happens to a container from now on, as it happens, until so many seconds are over."""
        now_s = time.time()
        during = ("--since", f"{now_s:.3f}", "--until", f"{now_s + duration_s:.3f}")
        filters = ("--filter", f"container={container}", "--filter", f"event={event}")
        process = subprocess.Popen(
            ["docker", "events", *during, *filters, "--format", "{{.Action}}"],
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout
        try:
            yield (line.strip() for line in process.stdout)
        finally:
            process.kill()
            process.communicate()

    def address(self) -> str:
        """Return an address of this host to publish ports at: where there is one, that of the engine's default bridge.

        What comes to it from this host is forwarded by the kernel, which is how an application in the same network reaches a container. On
        the loopback a program of the engine, `docker-proxy`, copies every byte: measured, 8,200 calls a second instead of 13,200, and it
        accepts connections before the server does.
        """
        try:
            bridge = json.loads(self.run("network", "inspect", "bridge"))[0]
        except TargetError:  # an engine may be set up without it
            return "127.0.0.1"
        gateways = [config.get("Gateway", "") for config in bridge["IPAM"]["Config"] or ()]
        return next((gateway for gateway in gateways if gateway and is_local(gateway)), "127.0.0.1")

    def found(self, kind: str, *filters: str) -> list[str]:
        """List the ids of all containers, networks or volumes that pass the filters.

        Args:
            kind: `container`, `network` or `volume`.
            filters: as the engine writes them, such as `label=a=b`.
        """
        everything = ("--all",) if kind == "container" else ()
        return self.run(kind, "ls", *everything, "--quiet", *(word for text in filters for word in ("--filter", text))).split()


def _runs(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    try:
        _run(command, environ, 30.0)
    except TargetError:
        return False
    return True


def explain(complaint: str) -> str:
    """Say what a refusal of the engine or of Compose means for the user, and repeat its last lines."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    last = "\n".join(lines[-3:])[-600:]
    for pattern, meaning in _REFUSALS:
        if re.search(pattern, complaint, re.IGNORECASE):
            return f"{meaning}\n{last}"
    return last or "it failed and did not say why"


def _run(
    command: Sequence[str], environ: Mapping[str, str], timeout_s: float, complaints: int = subprocess.PIPE, said: str | None = None
) -> str:
    process = subprocess.Popen(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        errors="replace",
        # Out of our process group: an interrupted cell or Ctrl-C must not end it halfway.
        start_new_session=True,
    )
    said = said or " ".join(command[:3])
    try:
        output, complaint = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise TargetError(f"`{said}` did not end within {timeout_s:g} s: is the Docker engine healthy?") from None
    except BaseException:
        # The engine finishes what it was told, so only once the command has ended is it known what there is to remove.
        try:
            process.communicate(timeout=GRACE_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        raise
    if process.returncode:
        raise TargetError(f"`{said}` failed: {explain(complaint or output)}")
    return output

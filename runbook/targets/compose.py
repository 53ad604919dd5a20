"""A project of our own from the compose files: started, drilled, and removed with all that it made.

What is done to a single container is told to the engine; Compose only creates and removes.
"""

import atexit
import contextlib
import dataclasses
import http.client
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis

from cachelib import Config, connect
from cachelib.config import Secret
from runbook.targets.base import Engine, TargetError, ask_engine
from runbook.targets.docker import Docker
from runbook.targets.port import free_port
from runbook.targets.project import Project
from runbook.targets.serving import await_serving

DEV, PROD = "docker-compose.yml", "docker-compose.prod.yml"
# The application's user in `compose/redis/users.acl`.
APP_USER = "app"
STAND_IN_LABEL = "redis-runbook.stand-in"

SERVE_TIMEOUT_S = 60.0
RESTART_TIMEOUT_S = 30.0
# Health checks begin after one interval; a sick server is told within three.
HEALTH_TIMEOUT_S = 45.0
# The health endpoint's first answer, and each of its answers.
ANSWER_TIMEOUT_S, ASK_TIMEOUT_S = 15.0, 3.0
LOOK_S = 0.1
LOG_LINES = 8


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done to the project, and how many seconds it took."""

    name: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the health endpoint answered: status of HTTP, or 0 and the error."""

    status: int
    text: str


class Compose:
    """A Redis in a container, made from a compose file; `close` removes all that was made.

    Args:
        environ: how our clients behave (`Config.from_env`), which images to use (`REDIS_IMAGE`, `PYTHON_IMAGE`), how to reach the engine
            (`DOCKER_HOST`), and `RUNBOOK_PROJECT`, a project whose volume is kept; its endpoint and its credentials are not used.
        file: `DEV` or `PROD`.

    Attributes:
        docker: the engine.
        folder: of the secret; private, removed by `close`.
        steps: what was done, and how long it took.

    Raises:
        TargetError: no engine, no permission, no image, a port or a name is taken, or it did not serve; the message says what to do.
        ConfigError: the environment's configuration is invalid.
    """

    def __init__(self, environ: Mapping[str, str], file: str = DEV) -> None:
        self.name = "compose" if file == DEV else "compose-prod"
        self.steps: list[Step] = []
        self._log = ""
        self._closed = False
        behaviour = Config.from_env(environ)
        self.docker = Docker.find(environ)
        self._project = Project(environ, self.docker, file)
        self.folder = Path(tempfile.mkdtemp(prefix="runbook-compose-"))
        password = Secret(secrets.token_hex(16)) if file == PROD else None
        self.config = dataclasses.replace(
            behaviour,
            host="127.0.0.1",
            port=free_port(),
            username=APP_USER if password else None,
            password=password,
            db=0,
            tls=False,
            tls_ca_file=None,
            tls_cert_file=None,
            tls_key_file=None,
        )
        self._health_port = free_port()
        self._project.variables = self._variables()
        atexit.register(self.close)
        try:
            self._write_secret(password)
            self.up()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Compose {self.project} at {self.config.endpoint}{', closed' if self._closed else ''}>"

    @property
    def project(self) -> str:
        """Name of the project."""
        return self._project.name

    @property
    def container(self) -> str:
        """Name of the server's container."""
        return f"{self.project}-redis"

    @property
    def health_container(self) -> str:
        """Name of the health endpoint's container."""
        return f"{self.project}-health"

    @property
    def volume(self) -> str:
        """Name of the volume that holds the data."""
        return self._project.volume

    @property
    def engine(self) -> Engine:
        """Ask the server what it is."""
        with connect(self.config) as client:
            return ask_engine(client, self.image)

    @property
    def image(self) -> str:
        """Which image the server's container runs, and whether it is a stand-in for the official one."""
        config = self.inspect()["Config"]
        stand_in = (config["Labels"] or {}).get(STAND_IN_LABEL)
        return f"image {config['Image']}{', a stand-in ' + stand_in if stand_in else ''}"

    @property
    def pid(self) -> int | None:
        """The server's process id on this host; None if it does not run, or runs in another kernel, as with Docker Desktop."""
        found = self.inspect()
        pid = int(found["State"]["Pid"])
        try:
            return pid if pid and found["Id"] in Path(f"/proc/{pid}/cgroup").read_text() else None
        except OSError:
            return None

    def up(self) -> None:
        """Create and start what is not there, and wait until the server serves.

        Raises:
            TargetError: it did not; with the last lines of its log.
        """
        with self._timed("up"):
            self._project.compose("up", "--detach", "--no-deps", "redis")
            self._await_serving()

    def up_health(self) -> None:
        """Build the health endpoint's image and start it, and wait until it answers.

        Raises:
            TargetError: it could not be built, or did not start.
        """
        with self._timed("build, health endpoint"):
            self._project.compose("build", "health")
        with self._timed("up, health endpoint"):
            self._project.compose("up", "--detach", "--no-deps", "health")
            until_s = time.monotonic() + ANSWER_TIMEOUT_S
            while self.ask_health("/livez").status != http.HTTPStatus.OK:
                state = self.docker.inspect(self.health_container)["State"]
                if not state["Running"] or state["Restarting"] or time.monotonic() > until_s:
                    raise TargetError(f"{self.health_container} is {state['Status']} and does not answer{self._tail(self.health_container)}")
                time.sleep(LOOK_S)

    def ask_health(self, path: str) -> "Answer":
        """Ask the health endpoint, and return what it answers; the status is 0 if it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self._health_port, timeout=ASK_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, repr(error))
        finally:
            connection.close()

    def start(self) -> None:
        """Start the server's container on its volume, and wait until the server serves."""
        with self._timed("start"):
            self.docker.run("start", self.container)
            self._await_serving()

    def stop(self) -> int:
        """End the server with SIGTERM, so that it closes its append-only file, and return its exit status."""
        with self._timed("stop"):
            self.docker.run("stop", self.container)
        return self._exit_status()

    def kill(self) -> int:
        """End the server with SIGKILL, and return its exit status; to the engine that is a stop by hand, so it stays down until `start`."""
        with self._timed("kill"):
            self.docker.run("kill", self.container)
            self.docker.run("wait", self.container)
        return self._exit_status()

    def crash(self) -> None:
        """Kill the server's process behind the engine's back, so that the restart policy acts, and wait until it serves again.

        Raises:
            TargetError: the engine did not start it again within 30 s.
        """
        before = self.inspect()
        with self._timed("crash and restart by the policy"):
            self._signal(signal.SIGKILL)
            until_s = time.monotonic() + RESTART_TIMEOUT_S
            while (now := self.inspect())["RestartCount"] == before["RestartCount"] or not now["State"]["Running"]:
                if time.monotonic() > until_s:
                    raise TargetError(f"{self.container} was not started again within {RESTART_TIMEOUT_S:g} s{self._tail()}")
                time.sleep(LOOK_S)
            self._await_serving()

    def restart(self) -> None:
        """Restart the container, as `docker restart` does, and wait until the server serves."""
        with self._timed("restart"):
            self.docker.run("restart", self.container)
            self._await_serving()

    def pause(self) -> None:
        """Stop the server's process with SIGSTOP; nothing is answered until `resume`, and the health check goes on.

        `docker pause` would suspend the health check too.
        """
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    def recreate(self) -> None:
        """Replace the container by a new one on the same volume, and wait until the server serves."""
        self._gather_log()
        with self._timed("recreate"):
            self._project.compose("up", "--detach", "--no-deps", "--force-recreate", "redis")
            self._await_serving()

    def down(self, *, volume: bool = False) -> None:
        """Remove containers and network, as `down` does; the volume stays unless it is named.

        Raises:
            TargetError: the volume was not made by this run.
        """
        self._gather_log()
        with self._timed("down"):
            self._project.down(volume=volume)

    def health(self) -> str:
        """Return what the engine says of the server's health: `starting`, `healthy` or `unhealthy`."""
        return str(self.inspect()["State"]["Health"]["Status"])

    def await_health(self, wanted: str, timeout_s: float = HEALTH_TIMEOUT_S) -> float:
        """Wait until the engine says so, and return how many seconds it took.

        Raises:
            TargetError: it did not within this time; with the last probes and the last lines of the log.
        """
        with self._timed(f"until {wanted}"):
            until_s = time.monotonic() + timeout_s
            while self.health() != wanted:
                if time.monotonic() > until_s:
                    probes = self.inspect()["State"]["Health"]["Log"]
                    said = "; ".join(f"exit status {probe['ExitCode']}: {probe['Output'].strip()}" for probe in probes)
                    raise TargetError(f"{self.container} was not {wanted} within {timeout_s:g} s; its probes: {said}{self._tail()}")
                time.sleep(5 * LOOK_S)
        return self.steps[-1].took_s

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows of the server's container."""
        return self.docker.inspect(self.container)

    def log(self) -> str:
        """Return what the server has logged, in all its containers; empty after `close`."""
        return "" if self._closed else self._log + self._container_log()

    def close(self) -> None:
        """Remove all that was made, the volume only if this run made it; calling it again does nothing.

        Raises:
            TargetError: something could not be removed; the message names it.
        """
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            shutil.rmtree(self.folder, ignore_errors=True)
            self._project.close()

    def _variables(self) -> dict[str, str]:
        return {
            "REDIS_CONTAINER": self.container,
            "REDIS_BIND": "127.0.0.1",
            "REDIS_PORT": str(self.config.port),
            "REDIS_PASSWORD_FILE": str(self._secret),
            "HEALTH_CONTAINER": self.health_container,
            "HEALTH_BIND": "127.0.0.1",
            "HEALTH_PORT": str(self._health_port),
        }

    @property
    def _secret(self) -> Path:
        return self.folder / "redis_password"

    def _write_secret(self, password: Secret | None) -> None:
        """Write the password where the container's users can read it and, since the folder is private, no other user of the host."""
        self._secret.write_text(password.reveal() if password else "")
        self._secret.chmod(0o444)

    def _await_serving(self) -> None:
        try:
            if await_serving(self.config, timeout_s=SERVE_TIMEOUT_S, goes_on=self._runs) is not None:
                return
        except redis.ResponseError as error:
            raise TargetError(f"{self.container} answers PING with an error ({error}): is {self.image} a Redis?") from error
        state = self.inspect()["State"]
        raise TargetError(f"{self.container} is {state['Status']} (exit status {state['ExitCode']}) and does not serve{self._tail()}")

    def _runs(self) -> bool:
        state = self.inspect()["State"]
        return bool(state["Running"]) and not state["Restarting"]

    def _exit_status(self) -> int:
        """Return the exit status as a process has it: negative for a signal, of which a container tells 128 more."""
        code = int(self.inspect()["State"]["ExitCode"])
        return 128 - code if code > 128 else code

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process from outside, lest the engine take it for a stop by hand (`docker kill` is one)."""
        pid = int(self.inspect()["State"]["Pid"])
        if not pid:
            raise TargetError(f"{self.container} does not run: start it first")
        if self.pid == pid:
            with contextlib.suppress(PermissionError):
                os.kill(pid, number)
                return
        # Another user's process, or another kernel's: a container that shares the processes of the engine's host may.
        image = self.inspect()["Config"]["Image"]
        options = ("--rm", "--pid", "host", "--network", "none", "--user", "0", "--label", self._project.label, "--entrypoint", "kill")
        self.docker.run("run", *options, image, f"-{number.name.removeprefix('SIG')}", str(pid))

    def _container_log(self, container: str = "") -> str:
        try:
            return self.docker.logs(container or self.container)
        except TargetError:  # it was removed
            return ""

    def _gather_log(self) -> None:
        """Keep what is lost with the container."""
        self._log += self._container_log()

    def _tail(self, container: str = "") -> str:
        lines = self._container_log(container).splitlines()[-LOG_LINES:]
        return "; its log ends:\n" + ("\n".join(lines) or "(it wrote none)")

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.steps.append(Step(name, time.monotonic() - began_s))

"""A project of our own from the compose files: started, drilled, and removed with all that it made.

What is done to a single container is told to the engine; Compose only creates and removes.
"""

import atexit
import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis
import yaml

from cachelib import Config, connect
from cachelib.config import Secret
from runbook.targets.base import Engine, NotServing, TargetError, ask_engine
from runbook.targets.container import HEALTH_TIMEOUT_S, Container
from runbook.targets.docker import Docker
from runbook.targets.endpoint import HealthEndpoint
from runbook.targets.port import free_port
from runbook.targets.project import PASSWORD_VARIABLE, PROJECT_VARIABLE, Project, with_password
from runbook.targets.serving import await_serving

DEV, PROD = "docker-compose.yml", "docker-compose.prod.yml"
# The application's user in `compose/redis/users.acl`.
APP_USER = "app"
# Of the health endpoint; a deployment's has another name, and must not become what is being worked on. It stays, so that the next is quick.
BUILT_IMAGE = "redis-runbook-health:run"
STAND_IN_LABEL = "redis-runbook.stand-in"

PORT = 6379  # within the container
SERVE_TIMEOUT_S = 60.0
RESTART_TIMEOUT_S = 30.0
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done to the project, and how many seconds it took."""

    name: str
    took_s: float


class Compose:
    """A Redis in a container, made from a compose file; `close` removes all that was made.

    Args:
        environ: how our clients behave (`Config.from_env`), which images to use (`REDIS_IMAGE`, `HEALTH_IMAGE`, `PYTHON_IMAGE`), how to
            reach the engine (`DOCKER_HOST`), and the project's name (`RUNBOOK_PROJECT`); its endpoint and its credentials are not used.
        file: `DEV` or `PROD`.

    Attributes:
        file: the one that it was made from.
        docker: the engine.
        container: of the server.
        health_endpoint: beside it, once `up_health` has started it.
        steps: what was done, and how long it took.

    Raises:
        TargetError: no engine, no permission, no image, a port or a name is taken, or it did not serve; the message says what to do.
        ConfigError: the environment's configuration is invalid.
    """

    def __init__(self, environ: Mapping[str, str], file: str = DEV) -> None:
        self.name = "compose" if file == DEV else "compose-prod"
        self.steps: list[Step] = []
        self._log = ""
        self._crashed = 0
        self._closed = False
        behaviour = Config.from_env(environ)
        self._environ, self.file = environ, file
        self.docker = Docker.find(environ)
        self._project = Project(environ, self.docker, file)
        password = Secret(with_password(environ)[PASSWORD_VARIABLE]) if file == PROD else None
        address = self.docker.address()
        self.config = dataclasses.replace(
            behaviour,
            host=address,
            port=free_port(address),
            username=APP_USER if password else None,
            password=password,
            db=0,
            tls=False,
            tls_ca_file=None,
            tls_cert_file=None,
            tls_key_file=None,
        )
        self.container = Container(self.docker, f"{self.project}-redis", self._project.label)
        health_port = free_port()
        self.health_endpoint = HealthEndpoint(Container(self.docker, f"{self.project}-health", self._project.label), health_port)
        self._project.variables = self._variables(health_port)
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
    def folder(self) -> Path:
        """That of the secret; private, and gone with the project."""
        return self._project.folder

    @property
    def project(self) -> str:
        """Name of the project."""
        return self._project.name

    @property
    def volume(self) -> str:
        """Name of the volume that holds the data."""
        return self._project.volume

    @property
    def instance(self) -> str:
        """Id of the server's container; a recreation changes it."""
        return str(self.container.inspect()["Id"])

    @property
    def direct(self) -> Config | None:
        """The container's own address, as other containers of its network use it; None where this host has no way to it."""
        if self.container.pid is None:
            return None
        networks = self.container.inspect()["NetworkSettings"]["Networks"].values()
        address = next((network["IPAddress"] for network in networks if network["IPAddress"]), None)
        return dataclasses.replace(self.config, host=address, port=PORT) if address else None

    @property
    def engine(self) -> Engine:
        """Ask the server what it is."""
        with connect(self.config) as client:
            return dataclasses.replace(ask_engine(client, self.image), image=self._pinned())

    @property
    def image(self) -> str:
        """Which image the server's container runs, and whether it is a stand-in for the official one."""
        config = self.container.inspect()["Config"]
        stand_in = (config["Labels"] or {}).get(STAND_IN_LABEL)
        return f"image {config['Image']}{', a stand-in ' + stand_in if stand_in else ''}"

    @property
    def pid(self) -> int | None:
        """The server's process id on this host; None if it does not run, or runs in another kernel, as with Docker Desktop."""
        return self.container.pid

    def up(self) -> None:
        """Create and start what is not there, and wait until the server serves.

        Raises:
            TargetError: it could not be made.
            NotServing: it does not serve; with the last lines of its log.
        """
        with self._timed("up"):
            self._project.compose("up", "--detach", "--no-deps", "redis")
            self._await_serving()

    def up_health(self) -> None:
        """Build the health endpoint's image unless one is named in `HEALTH_IMAGE`, start it, and wait until it answers.

        Raises:
            TargetError: it could not be built.
            NotServing: it was started and does not answer; with the last lines of its log.
        """
        if not self._environ.get("HEALTH_IMAGE"):
            with self._timed("build, health endpoint"):
                self._project.compose("build", "health")
        with self._timed("up, health endpoint"):
            self._project.compose("up", "--detach", "--no-deps", "--no-build", "health")
            self.health_endpoint.await_answer()

    def start(self) -> None:
        """Start the server's container on its volume, and wait until the server serves."""
        with self._timed("start"):
            self.docker.run("start", self.container.name)
            self._await_serving()

    def stop(self) -> int:
        """End the server with SIGTERM, so that it closes its append-only file, and return its exit status."""
        with self._timed("stop"):
            self.docker.run("stop", self.container.name)
        return self.container.exit_status

    def kill(self) -> int:
        """End the server with SIGKILL, and return its exit status; to the engine that is a stop by hand, so it stays down until `start`."""
        with self._timed("kill"):
            self.docker.run("kill", self.container.name)
            self.docker.run("wait", self.container.name)
        return self.container.exit_status

    def crash(self) -> None:
        """Kill the server's process behind the engine's back, so that the restart policy acts; return when it has ended.

        Raises:
            TargetError: it did not run, or did not end within 30 s.
        """
        before, here = self.container.inspect(), self.container.pid
        self._crashed = int(before["RestartCount"])
        with self._timed("crash"):
            self.container.signal(signal.SIGKILL)
            until_s = time.monotonic() + RESTART_TIMEOUT_S
            # The policy starts the next one 100 ms later. We have to be back before it serves, and the engine takes tens of ms to tell.
            while Path(f"/proc/{here}").exists() if here else self.container.inspect()["State"]["Pid"] == before["State"]["Pid"]:
                if time.monotonic() > until_s:
                    raise TargetError(f"{self.container.name} did not end within {RESTART_TIMEOUT_S:g} s after SIGKILL: is its disk stuck?")
                time.sleep(LOOK_S)

    def await_restart(self) -> None:
        """Wait until the restart policy has started a crashed server again, and it serves.

        Raises:
            NotServing: the engine did not start it within 30 s.
        """
        with self._timed("restart by the policy"):
            until_s = time.monotonic() + RESTART_TIMEOUT_S
            while (now := self.container.inspect())["RestartCount"] == self._crashed or not now["State"]["Running"]:
                if time.monotonic() > until_s:
                    raise NotServing(f"{self.container.name} was not started again within {RESTART_TIMEOUT_S:g} s; {self.container.tail()}")
                time.sleep(LOOK_S)
            self._await_serving()

    def restart(self) -> None:
        """Restart the container, as `docker restart` does, and wait until the server serves."""
        with self._timed("restart"):
            self.docker.run("restart", self.container.name)
            self._await_serving()

    def pause(self) -> None:
        """Stop the server's process with SIGSTOP; nothing is answered until `resume`, and the health check goes on.

        `docker pause` would suspend the health check too.
        """
        self.container.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self.container.signal(signal.SIGCONT)

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

    def await_health(self, wanted: str, timeout_s: float = HEALTH_TIMEOUT_S) -> float:
        """Wait as `Container.await_health` does, and return how many seconds it took."""
        with self._timed(f"until {wanted}"):
            self.container.await_health(wanted, timeout_s)
        return self.steps[-1].took_s

    def resolved(self) -> dict[str, Any]:
        """Return what the compose file says for this project, as Compose understands it."""
        return dict(yaml.safe_load(self._project.compose("config")))

    def beside(self, file: str) -> "Compose":
        """Start another project, with names, ports and a volume of its own, beside this one.

        Args:
            file: `DEV` or `PROD`.

        Raises:
            TargetError: as the constructor.
        """
        return Compose({name: value for name, value in self._environ.items() if name != PROJECT_VARIABLE}, file)

    def log(self) -> str:
        """Return what the server has logged, in all its containers; empty after `close`."""
        return "" if self._closed else self._log + self.container.log()

    def close(self) -> None:
        """Remove all that was made, the volume only if this run made it; calling it again does nothing.

        Raises:
            TargetError: something could not be removed; the message names it.
        """
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            self._project.close()

    def _pinned(self) -> dict[str, str]:
        """Return what the image was called, and the digest by which it can be had again: a registry's, else the engine's."""
        found = self.container.inspect()
        digests = self.docker.inspect(found["Image"]).get("RepoDigests") or [found["Image"]]
        return {"reference": str(found["Config"]["Image"]), "digest": str(digests[0])}

    def _variables(self, health_port: int) -> dict[str, str]:
        return {
            "REDIS_CONTAINER": self.container.name,
            "REDIS_BIND": self.config.host,
            "REDIS_PORT": str(self.config.port),
            "REDIS_PASSWORD_FILE": str(self._secret),
            "HEALTH_CONTAINER": self.health_endpoint.container.name,
            "HEALTH_IMAGE": self._environ.get("HEALTH_IMAGE") or BUILT_IMAGE,
            "HEALTH_BIND": "127.0.0.1",
            "HEALTH_PORT": str(health_port),
        }

    @property
    def _secret(self) -> Path:
        return self._project.folder / "redis_password"

    def _write_secret(self, password: Secret | None) -> None:
        """Write the password where the container's users can read it and, since the folder is private, no other user of the host."""
        self._secret.write_text(password.reveal() if password else "")
        self._secret.chmod(0o444)

    def _await_serving(self) -> None:
        states: list[dict[str, Any]] = []

        def goes_on() -> bool:
            states.append(self.container.inspect()["State"])
            return bool(states[-1]["Running"]) and not states[-1]["Restarting"]

        try:
            answering = await_serving(self.config, timeout_s=SERVE_TIMEOUT_S, goes_on=goes_on)
        except redis.ResponseError as error:
            raise TargetError(f"{self.container.name} answers PING with an error ({error}): is {self.image} a Redis?") from error
        if answering == 0:
            raise TargetError(f"{self.container.name} answers and refuses us: is {self.image} a Redis, and users.acl as it was?")
        if answering is None:
            how = f"{states[-1]['Status']} (exit status {states[-1]['ExitCode']})" if states else "out of reach"
            raise NotServing(f"{self.container.name} is {how} and does not serve; {self.container.tail()}")

    def _gather_log(self) -> None:
        """Keep what is lost with the container."""
        self._log += self.container.log()

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.steps.append(Step(name, time.monotonic() - began_s))

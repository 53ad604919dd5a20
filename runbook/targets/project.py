"""What we make with Compose: all of it bears our label, and goes when we go, however we go.

A project of the same name that does not bear the label (`compose/owned.yml`) is somebody else's, and is left alone.
"""

import contextlib
import dataclasses
import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from runbook.cleanup import CLEANUP_VARIABLE, occupy
from runbook.targets import reaper
from runbook.targets.base import TargetError
from runbook.targets.docker import Docker

FOLDER = Path(__file__).resolve().parent.parent.parent / "compose"
# Names the project. A volume of it that was made before, with our label, outlives us, so that one drill goes on with the data of another.
PROJECT_VARIABLE = "RUNBOOK_PROJECT"
# The password of a server that is made for a run, where somebody else has thrown the dice.
PASSWORD_VARIABLE = "RUNBOOK_MADE_PASSWORD"  # noqa: S105


class Project:
    """A project of Compose that is ours; `close` removes all that was made.

    Args:
        environ: may name the project in `RUNBOOK_PROJECT`; a name is made up otherwise.
        docker: the engine.
        file: name of the compose file.

    Attributes:
        name: of the project: that of its volume begins with it.
        folder: private; it goes with the project.
        made_volume: whether the volume is made by this run; only then it is removed.
        variables: of the compose file.

    Raises:
        TargetError: the name is impossible, or the project is somebody else's or at work.
    """

    def __init__(self, environ: Mapping[str, str], docker: Docker, file: str) -> None:
        self._docker, self._file = docker, FOLDER / file
        self.name = _name(environ)
        self.variables: dict[str, str] = {}
        self.made_volume = self._refuse_foreign()
        self.folder = Path(tempfile.mkdtemp(prefix="runbook-compose-"))
        self._reaper = self._start_reaper(environ)

    @property
    def label(self) -> str:
        """The label that all of it bears."""
        return f"{reaper.LABEL}={self.name}"

    @property
    def volume(self) -> str:
        """Name of the volume that holds the data."""
        return f"{self.name}_redis_data"

    def compose(self, *arguments: str) -> str:
        """Run a command of Compose on it, and return what it prints; raises `TargetError` as `Docker.run` does."""
        files = ("--file", str(self._file), "--file", str(FOLDER / "owned.yml"))
        environ = {**self.variables, "COMPOSE_PROJECT_NAME": self.name}
        return self._docker.run_compose("--project-name", self.name, *files, command=arguments, environ=environ)

    def down(self, *, volume: bool) -> None:
        """Remove containers and network, as `down` does; the volume too, if it is named.

        Raises:
            TargetError: the volume was not made by this run.
        """
        if volume and not self.made_volume:
            raise TargetError(
                f"the volume {self.volume} was there before this run: remove it by hand with `docker volume rm {self.volume}`"
            )
        self.compose("down", *(["--volumes"] if volume else []))

    def close(self) -> None:
        """Remove all that was made, the volume only if this run made it.

        Raises:
            TargetError: something could not be removed; the message names it.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            left = reaper.remove(self.name, self._kept, self._docker.environ)
        except subprocess.CalledProcessError as error:
            left = [str(error.stderr).strip()]
        assert self._reaper.stdin
        with contextlib.suppress(BrokenPipeError), self._reaper.stdin:
            # A reaper that is told nothing goes on trying.
            self._reaper.stdin.write(b"" if left else reaper.DONE)
        if left:
            raise TargetError(
                f"of the project {self.name} this is left: {', '.join(left)}; it is tried again in the background, for ten minutes; then "
                f"list it with `docker ps --all --filter label={self.label}`, and so for `docker network ls` and `docker volume ls`"
            )
        self._reaper.wait()

    @property
    def _kept(self) -> tuple[str, ...]:
        return () if self.made_volume else (self.volume,)

    def _refuse_foreign(self) -> bool:
        """Tell whether the volume is ours to make, and refuse a project that is somebody else's or at work."""
        of_project = f"label=com.docker.compose.project={self.name}"
        if at_work := self._docker.found("container", of_project):
            raise TargetError(
                f"the project {self.name} has {len(at_work)} containers: another run or somebody else is at work in it; "
                f"choose another name in {PROJECT_VARIABLE}, or unset it"
            )
        there = self._docker.found("volume", of_project) + self._docker.found("network", of_project)
        ours = f"label={self.label}"
        foreign = set(there) - set(self._docker.found("volume", ours) + self._docker.found("network", ours))
        if foreign or self._unlabelled_volume():
            raise TargetError(
                f"the project {self.name} is not the runbook's: {', '.join(sorted(foreign)) or self.volume} does not bear its label; "
                f"choose another name in {PROJECT_VARIABLE}, or unset it"
            )
        return not self._docker.found("volume", f"name=^{self.volume}$")

    def _unlabelled_volume(self) -> bool:
        """A volume of this name may have been made by hand, without any label."""
        named = f"name=^{self.volume}$"
        return bool(self._docker.found("volume", named)) and not self._docker.found("volume", named, f"label={self.label}")

    def _start_reaper(self, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as opened:
            # Who waits for this lock knows that nothing of us is left.
            locks = [opened.enter_context(occupy(Path(environ[CLEANUP_VARIABLE])))] if environ.get(CLEANUP_VARIABLE) else []
            return subprocess.Popen(
                [sys.executable, "-I", "-S", reaper.__file__, self.name, json.dumps(self._kept), str(self.folder)],
                env=dict(self._docker.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock.fileno() for lock in locks],
                start_new_session=True,
            )


def with_password(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with a password for the servers that will be made, so that whoever writes evidence can keep it out."""
    return {PASSWORD_VARIABLE: secrets.token_hex(16), **environ}


def read_file(docker: Docker, file: str) -> dict[str, Any]:
    """Return what a compose file says by itself: its variables have their defaults, whatever the environment or a file `.env` says.

    Raises:
        TargetError: Compose does not understand it.
    """
    plain = {name: value for name, value in docker.environ.items() if not name.startswith(("REDIS_", "HEALTH_", "PYTHON_"))}
    with tempfile.NamedTemporaryFile() as nothing:
        options = ("--env-file", nothing.name, "--file", str(FOLDER / file))
        return dict(yaml.safe_load(dataclasses.replace(docker, environ=plain).run_compose(*options, command=("config",), environ={})))


def _name(environ: Mapping[str, str]) -> str:
    named = environ.get(PROJECT_VARIABLE)
    if named and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,40}", named):
        raise TargetError(f"{PROJECT_VARIABLE} is {named!r}: takes up to 41 small letters, digits, - and _, such as drill-1")
    return named or f"runbook-{uuid.uuid4().hex[:10]}"

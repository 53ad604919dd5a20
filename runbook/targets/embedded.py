"""A server process that we spawn: the story's flags, a private folder, a free loopback port; it never outlives us."""

import atexit
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import redis

from cachelib import Config, connect
from runbook.targets.base import Engine, TargetError, ask_engine
from runbook.targets.binary import find_server
from runbook.targets.port import free_port
from runbook.targets.serving import await_serving
from runbook.tether import tethered

# The command line that the story asks for, word for word.
STORY_FLAGS = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory", "512mb", "--maxmemory-policy", "noeviction")

LOG_NAME = "server.log"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0


class Embedded:
    """A Redis or Valkey of our own; `close` ends it and removes its folder.

    Args:
        environ: which binary (see `find_server`), and how our clients behave (`Config.from_env`); its endpoint and its credentials are
            not used, since the server is ours.
        flags: command line options of the server.
        parent: the folder in which it makes its private one; the system's folder for temporary files by default.
        data: a folder whose content it copies into its own before it starts; that of another server, which does not run.
        started: whether it starts at once, and it is an error if it does not; otherwise `start` does it, and its folder stays in any case.

    Raises:
        TargetError: no server program, or it did not start.
        ConfigError: the environment's configuration is invalid.
    """

    name = "embedded"

    def __init__(
        self,
        environ: Mapping[str, str],
        flags: tuple[str, ...] = STORY_FLAGS,
        *,
        parent: Path | None = None,
        data: Path | None = None,
        started: bool = True,
    ) -> None:
        self._binary = find_server(environ)
        self._flags = flags
        behaviour = Config.from_env(environ)
        self.config = dataclasses.replace(
            behaviour,
            host="127.0.0.1",
            port=free_port(),
            username=None,
            password=None,
            db=0,
            tls=False,
            tls_ca_file=None,
            tls_cert_file=None,
            tls_key_file=None,
        )
        self.folder = Path(tempfile.mkdtemp(prefix="runbook-embedded-", dir=parent))
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        try:
            if data:
                shutil.copytree(data, self.folder, dirs_exist_ok=True)
            if started:
                self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Embedded {self.config.endpoint} {'running' if self.pid else 'stopped'}, found by {self._binary.found_by}>"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def program(self) -> str:
        """The path of the server program."""
        return self._binary.path

    @property
    def status(self) -> int | None:
        """The exit status of the server's last process, negative for a signal; None while it runs, and before its first start."""
        return self._process.poll() if self._process else None

    @property
    def engine(self) -> Engine:
        """Ask the server what it is."""
        with connect(self.config) as client:
            return ask_engine(client, self._binary.found_by)

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the server on what its folder holds, and wait until it serves.

        Args:
            timeout_s: how long it may take, in seconds.

        Raises:
            TargetError: it runs already, ended at once, or did not serve in time; with the last lines of its log.
        """
        if self.pid:
            raise TargetError(f"the server at {self.config.endpoint} runs already (pid {self.pid}): stop it first")
        command = [self._binary.path, "--port", str(self.config.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--logfile", LOG_NAME, *self._flags]
        with (self.folder / LOG_NAME).open("ab") as log:
            self._process = subprocess.Popen(
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,  # what it says before it opens its log
                stderr=log,
                # Out of our process group: an interrupted cell or Ctrl-C must not end the server behind a drill's back.
                start_new_session=True,
            )
        try:
            self._await_ready(self._process, timeout_s)
        except BaseException:
            # Its session is its own, so the group is what it started: a script may have left a server behind and ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise

    def stop(self) -> int:
        """End the server with SIGTERM, so that it closes its append-only file, and return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End the server with SIGKILL and return its exit status."""
        return self._end(signal.SIGKILL)

    def await_end(self, timeout_s: float) -> int:
        """Wait until the server has ended of whatever somebody else did, and return its exit status, negative for a signal.

        Raises:
            TargetError: it goes on.
        """
        return self._await_end(timeout_s, "of what was to end it")

    def pause(self) -> None:
        """Stop the server's process; nothing is answered until `resume`."""
        os.kill(self._running().pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self._running().pid, signal.SIGCONT)

    def log(self) -> str:
        """Return what the server has logged over all its starts; empty after `close`."""
        try:
            return (self.folder / LOG_NAME).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        """End the server, paused or not, and remove its folder."""
        atexit.unregister(self.close)
        if self._process and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise TargetError(f"the server at {self.config.endpoint} does not run: start it first")
        return self._process

    def _end(self, signal_number: signal.Signals) -> int:
        self._running().send_signal(signal_number)
        return self._await_end(STOP_TIMEOUT_S, f"of {signal_number.name}")

    def _await_end(self, timeout_s: float, cause: str) -> int:
        assert self._process
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TargetError(
                f"the server (pid {self._process.pid}) did not end within {timeout_s:g} s {cause}; its log ends:\n{self._log_tail()}"
            ) from None

    def _await_ready(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        try:
            answering = await_serving(self.config, timeout_s=timeout_s, goes_on=lambda: process.poll() is None)
        except redis.ResponseError as error:
            raise TargetError(f"{self._binary.path} answers PING with an error ({error}): is it a Redis server?") from error
        if answering not in (process.pid, None, 0):
            raise TargetError(f"{self._binary.path} started the server as a child, which can't be drilled: let it end with `exec`")
        if answering is not None:
            return
        status = process.poll()
        ended = f"ended at once with status {status}" if status is not None else f"did not serve within {timeout_s:g} s"
        if status is None:
            self.kill()
        raise TargetError(f"{self._binary.path} ({self._binary.found_by}) {ended}; its log ends:\n{self._log_tail()}")

    def _log_tail(self, lines: int = 8) -> str:
        return "\n".join(self.log().splitlines()[-lines:]) or "(it wrote none)"

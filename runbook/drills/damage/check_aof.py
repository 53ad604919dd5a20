"""Finds the server's own tool for append-only files, `redis-check-aof`, and runs it."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook.targets.binary import find_server
from runbook.tether import tethered

NAMES = ("redis-check-aof", "valkey-check-aof")
MISSING = "there is no redis-check-aof: install the package redis-tools, which brings it"
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Report:
    """What the tool said.

    Attributes:
        status: its exit status, 0 for a whole set.
        output: all that it said.
    """

    status: int
    output: str

    @property
    def said(self) -> str:
        """Its last line."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "")


@dataclass(frozen=True, slots=True)
class CheckAof:
    """The tool; `path` is its program."""

    path: str

    def check(self, manifest: Path) -> Report:
        """Look at a set of files, and change nothing."""
        return self._run(str(manifest))

    def fix(self, manifest: Path) -> Report:
        """Cut a set of files off where it is damaged: give it a copy."""
        return self._run("--fix", str(manifest))

    def _run(self, *arguments: str) -> Report:
        done = _output([self.path, *arguments])
        return Report(done.returncode, done.stdout)


def find_check_aof(environ: Mapping[str, str], folder: Path) -> CheckAof | None:
    """Find the tool that belongs to the server, else one on PATH; None if there is none.

    It is the server's own program under another name, and what a package leaves out is had by a link of that name.

    Args:
        environ: which server, see `find_server`.
        folder: for the link.
    """
    return next((CheckAof(path) for path in _candidates(environ, folder) if _is_check_aof(path)), None)


def _candidates(environ: Mapping[str, str], folder: Path) -> Iterator[str]:
    server = Path(find_server(environ).path).resolve()
    for name in NAMES:
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(server)
        yield str(link)
    for name in NAMES:
        if found := shutil.which(name, path=environ.get("PATH")):
            yield found


def _is_check_aof(path: str) -> bool:
    # A server, or a script that starts one, tells its version and ends; the older tool takes the option for the name of a file.
    said = _output([path, "--version"]).stdout
    return "check-aof" in said or "Cannot open file --version" in said


def _output(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tethered(command),
        input="y\n",  # it asks before it cuts
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )

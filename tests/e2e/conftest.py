"""The command line in this process, for tests to which a process of its own does not matter."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from runbook.cli import main


class Ended(NamedTuple):
    """What a command returned and printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ended]]:
    """Run a command line in this process, which saves the start of another. Keywords change the environment, without REDIS_* otherwise."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object, **environ: str) -> Ended:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("REDIS_")]:
                patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            try:
                status = main([*map(str, arguments)])
            except SystemExit as ended:  # of the parser
                status = int(ended.code or 0)
        return Ended(status, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)

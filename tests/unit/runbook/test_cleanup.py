"""The end of a verification waits for what others still remove, also for those that die."""

import subprocess
import sys
from pathlib import Path

from runbook.cleanup import await_all, occupy


def _remover(lock: Path) -> subprocess.Popen[str]:
    """A process that inherited the lock, and reads from us until it is ended."""
    with occupy(lock) as held:
        reading = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        return subprocess.Popen(reading, stdin=subprocess.PIPE, text=True, pass_fds=[held.fileno()])


def test_where_nobody_removes_anything_it_waits_for_nothing(tmp_path: Path) -> None:
    assert await_all(tmp_path / "lock", timeout_s=0.0)


def test_the_end_waits_for_all_of_those_who_still_remove(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    first, second = _remover(lock), _remover(lock)
    try:
        first.communicate("")
        assert not await_all(lock, timeout_s=0.1)
        second.communicate("")
        assert await_all(lock, timeout_s=30.0)
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_who_is_killed_while_it_removes_is_waited_for_no_longer(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    remover = _remover(lock)
    assert not await_all(lock, timeout_s=0.1)
    remover.kill()
    assert await_all(lock, timeout_s=30.0)
    remover.communicate()

"""A measurement waits for the notebooks beside it, also for one that dies."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook.quiet import LOCK_VARIABLE, await_all, occupy, quiet_host

HOLD = """
import sys
from pathlib import Path
from runbook.quiet import occupy
lock = occupy(Path(sys.argv[1]))
print("busy", flush=True)
sys.stdin.read()
"""


class Measurement:
    """A thread that measures once the host is quiet."""

    def __init__(self, lock: Path) -> None:
        self._environ = {LOCK_VARIABLE: str(lock)}
        self.measuring, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with quiet_host(self._environ):
            self.measuring.set()
            self._done.wait(30)

    def finish(self) -> None:
        self._done.set()
        self._thread.join(30)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "quiet.lock"


@pytest.fixture
def busy(lock: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that keeps the host busy until it ends."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def measure(lock: Path) -> Iterator[Callable[[], Measurement]]:
    started: list[Measurement] = []

    def start() -> Measurement:
        started.append(Measurement(lock))
        return started[-1]

    yield start
    for measurement in started:
        measurement.finish()


def test_a_measurement_waits_for_a_notebook_in_another_process(
    busy: Callable[[], subprocess.Popen[str]], measure: Callable[[], Measurement]
) -> None:
    notebook = busy()
    measurement = measure()
    assert not measurement.measuring.wait(0.2)
    notebook.communicate("")
    assert measurement.measuring.wait(30)


def test_a_notebook_that_is_killed_no_longer_holds_a_measurement_up(
    busy: Callable[[], subprocess.Popen[str]], measure: Callable[[], Measurement]
) -> None:
    notebook = busy()
    measurement = measure()
    assert not measurement.measuring.wait(0.1)
    notebook.kill()
    assert measurement.measuring.wait(30)


def test_a_measurement_waits_for_the_last_of_several_notebooks(
    busy: Callable[[], subprocess.Popen[str]], measure: Callable[[], Measurement]
) -> None:
    first, second = busy(), busy()
    measurement = measure()
    first.communicate("")
    assert not measurement.measuring.wait(0.1)
    second.communicate("")
    assert measurement.measuring.wait(30)


def test_notebooks_do_not_wait_for_each_other(lock: Path, busy: Callable[[], subprocess.Popen[str]]) -> None:
    busy()
    with occupy(lock):
        pass


def test_two_measurements_take_turns(measure: Callable[[], Measurement]) -> None:
    first = measure()
    assert first.measuring.wait(30)
    second = measure()
    assert not second.measuring.wait(0.1)
    first.finish()
    assert second.measuring.wait(30)


def test_a_process_that_inherited_the_lock_keeps_the_host_busy(lock: Path, measure: Callable[[], Measurement]) -> None:
    """This is how the runner marks a worker: the worker may die, and the runner need not know."""
    with occupy(lock) as held:
        worker = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[held.fileno()])
    try:
        measurement = measure()
        assert not measurement.measuring.wait(0.1)
        worker.kill()
        assert measurement.measuring.wait(30)
    finally:
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize("environ", [{}, {LOCK_VARIABLE: ""}])
def test_without_a_lock_nothing_is_waited_for(environ: dict[str, str]) -> None:
    with quiet_host(environ):
        pass


def test_a_measurement_that_fails_gives_the_host_back(lock: Path, measure: Callable[[], Measurement]) -> None:
    with pytest.raises(ZeroDivisionError), quiet_host({LOCK_VARIABLE: str(lock)}):
        raise ZeroDivisionError
    assert measure().measuring.wait(30)


def test_the_end_waits_for_what_others_still_remove(lock: Path, busy: Callable[[], subprocess.Popen[str]]) -> None:
    assert await_all(lock, timeout_s=0.0)
    remover = busy()
    assert not await_all(lock, timeout_s=0.1)
    remover.kill()
    assert await_all(lock, timeout_s=30.0)

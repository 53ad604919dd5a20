"""The control for deadlines with real threads: it excuses what the host does to a caller, and nothing that a client does."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from cachelib import Config, connect
from runbook.drills.callers import OF_READS, Callers, judge_endings
from runbook.load import History, Load, Operation, Outcome, Record, Repeated
from runbook.load.wait_control import WaitControl
from runbook.targets.port import free_port
from runbook.tether import tethered

pytestmark = [pytest.mark.measures, pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux pins threads")]

DEADLINE_S, LATE_S = 0.1, 0.3


@contextlib.contextmanager
def _busy_loops(on_all_cores: bool) -> Iterator[None]:
    """Keep each core busy with a loop that is pinned to it, or none."""
    code = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"
    with contextlib.ExitStack() as ended:
        for core in sorted(os.sched_getaffinity(0)) if on_all_cores else ():
            loop = subprocess.Popen(tethered([sys.executable, "-c", code, str(core)]), stdout=subprocess.PIPE)
            ended.enter_context(loop)
            ended.callback(loop.kill)
            assert loop.stdout
            loop.stdout.readline()
        yield


def _spin(duration_s: float) -> None:
    until_s = time.monotonic() + duration_s
    while time.monotonic() < until_s:
        pass


def _hold_the_interpreter(duration_s: float) -> None:
    """Compute for as long with the interpreter lock held: not one bytecode ends in between."""
    until_s, count = time.thread_time() + duration_s, 100_000
    while (left_s := until_s - time.thread_time()) > 0:
        began_s = time.thread_time()
        sum(range(count))
        count = max(count, int(count * left_s / max(1e-4, time.thread_time() - began_s)))


def _problem(end_late: Callable[[float], Any]) -> str:
    """Return what is said of six calls that wait for their deadline, and end late in this way."""
    calls = []
    with WaitControl() as control:
        for _ in range(6):
            sent_ns = time.monotonic_ns()
            time.sleep(DEADLINE_S)
            end_late(LATE_S)
            calls.append(Record(0, "PING", "", sent_ns, sent_ns, time.monotonic_ns(), Outcome.FAIL, "Unavailable: gone"))
    return judge_endings([Callers("caller", 1, History(calls), DEADLINE_S, OF_READS)], control.lateness)[0]


@pytest.mark.parametrize(
    "beside_busy_loops", [pytest.param(False, id="quiet"), pytest.param(True, id="beside busy loops", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("end_late", [time.sleep, _spin, _hold_the_interpreter], ids=["sleeps", "computes", "holds the interpreter"])
def test_a_client_that_ends_late_by_its_own_fault_fails(end_late: Callable[[float], Any], beside_busy_loops: bool) -> None:
    with _busy_loops(beside_busy_loops):
        assert " calls ended late, first PING " in _problem(end_late)


@pytest.mark.parametrize("beside_busy_loops", [False, True], ids=["quiet", "beside busy loops"])
def test_our_client_does_not_fail(beside_busy_loops: bool) -> None:
    """Callers whose server is away all along, and who each wait for their deadline."""
    config = Config(host="127.0.0.1", port=free_port(), deadline_s=DEADLINE_S)
    with (
        _busy_loops(beside_busy_loops),
        connect(config, observers=[]) as client,
        WaitControl() as control,
        Load(client, Repeated(Operation("PING", "", redis.Redis.ping)), rate_per_s=200, workers=20) as load,
    ):
        time.sleep(3)
    kinds = [Callers("caller", 20, load.history, DEADLINE_S, OF_READS)]
    problem, scarce, _ = judge_endings(kinds, control.lateness)
    assert load.history.count(Outcome.FAIL) > 100
    assert (problem, scarce) == ("", ())


def test_what_a_stopped_process_is_late_is_not_held_against_its_callers() -> None:
    """Stopping the process is what a hypervisor does when it takes the CPU."""
    stop = f"import os, signal, time; time.sleep({DEADLINE_S} + 0.05); os.kill({os.getpid()}, signal.SIGSTOP); "
    stop += f"time.sleep({LATE_S}); os.kill({os.getpid()}, signal.SIGCONT)"
    released = threading.Lock()
    released.acquire()
    with WaitControl() as control, subprocess.Popen([sys.executable, "-c", stop]) as stopper:
        due_ns = time.monotonic_ns() + round(1.5 * DEADLINE_S * 1e9)
        while stopper.poll() is None:
            released.acquire(timeout=0.01)
        done_ns = time.monotonic_ns()
    lateness = control.lateness
    assert stopper.returncode == 0
    assert lateness.worst_ms is not None
    assert lateness.worst_ms > 0.9 * LATE_S * 1e3
    assert lateness.within_ns(due_ns, done_ns) > 0.9 * LATE_S * 1e9
    assert signal.getsignal(signal.SIGCONT) is signal.SIG_DFL

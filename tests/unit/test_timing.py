"""The control by which a late call is told from a host that stalls."""

import os
import signal
import subprocess
import sys
import time

from tests.timing import OVERSHOOT_S, end_of


def test_call_that_is_late_by_itself_is_found_late() -> None:
    """The known-bad: it sleeps past its deadline, for longer than a host at its limits would excuse."""
    assert not end_of(lambda: time.sleep(1.1)).is_by(0.1)


def test_call_that_ends_early_is_not_at_its_deadline() -> None:
    end = end_of(lambda: time.sleep(0.05))
    assert end.is_by(0.1)
    assert not end.is_at(0.1)


def test_call_that_ends_in_time_is_found_so() -> None:
    assert end_of(lambda: time.sleep(0.1)).is_at(0.1)


def test_host_that_stalls_excuses_a_call() -> None:
    """The whole process is stopped for longer than a call may be late."""
    # Again and again, since it may be stopped after the first time.
    resume = "import os, sys, time; input(); [(time.sleep(0.3), os.kill(int(sys.argv[1]), 18)) for _ in range(10)]"
    with subprocess.Popen([sys.executable, "-c", resume, str(os.getpid())], stdin=subprocess.PIPE) as resumer:

        def stop() -> None:
            assert resumer.stdin is not None
            resumer.stdin.write(b"\n")
            resumer.stdin.flush()
            os.kill(os.getpid(), signal.SIGSTOP)

        end = end_of(stop)
        resumer.kill()
    assert end.took_s > 0.1 + OVERSHOOT_S
    assert end.is_by(0.1)

"""Signals that come in any number and at any moment end in one event, and never in a deadlock."""

import signal
import subprocess
import sys

import pytest

from runbook.stopping import stoppable

PATIENCE = "it ends soon"


def test_the_first_signal_sets_the_event_and_those_that_follow_are_answered(capfd: pytest.CaptureFixture[str]) -> None:
    with stoppable(PATIENCE) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)
        assert capfd.readouterr().err == ""
        signal.raise_signal(signal.SIGINT)
        assert capfd.readouterr().err == f"runbook: {PATIENCE}\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


SIGNALS_AGAIN_AND_AGAIN = """
import os, signal, time
for _ in range(2000):
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(0.0001)
"""


@pytest.mark.timeout(30)
def test_signals_within_a_wait_and_within_their_own_handler_do_not_block(capfd: pytest.CaptureFixture[str]) -> None:
    with stoppable(PATIENCE) as stop:
        signalling = subprocess.Popen([sys.executable, "-c", SIGNALS_AGAIN_AND_AGAIN])
        while signalling.poll() is None:
            stop.wait(0.0)
            stop.clear()
        signal.raise_signal(signal.SIGINT)
        assert stop.wait(10)
    assert set(capfd.readouterr().err.splitlines()) <= {f"runbook: {PATIENCE}"}

"""How long a process ran and waited for a CPU, as the kernel tells it, and how much the hypervisor took."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runbook.load.cpu_clock import CpuClock
from runbook.load.steal import StealMeter, cpu_seconds

linux = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel keeps no such clock")


@linux
def test_a_process_that_computes_ran_as_long_as_it_used_the_cpu() -> None:
    with CpuClock(os.getpid()) as clock:
        assert clock.running
        began_ns, used_s = time.monotonic_ns(), time.process_time()
        clock.sample(began_ns)
        while time.process_time() - used_s < 0.03:
            pass
        ended_ns = time.monotonic_ns()
        clock.sample(ended_ns)
    ran_s = clock.ran_share(began_ns, ended_ns) * (ended_ns - began_ns) / 1e9
    assert ran_s == pytest.approx(0.03, abs=0.012)  # the kernel counts at its ticks
    assert clock.waited_ns(began_ns, ended_ns) <= ended_ns - began_ns


@linux
def test_a_process_that_sleeps_neither_ran_nor_waited() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.05)  # until it sleeps
        with CpuClock(process.pid) as clock:
            for at_ns in (0, 1_000_000_000):
                clock.sample(at_ns)
                time.sleep(0.02)
        process.kill()
    assert clock.ran_share(0, 1_000_000_000) == 0.0
    assert clock.waited_ns(0, 1_000_000_000) == 0


@linux
def test_the_clock_of_a_process_that_has_ended_stands_still() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process, CpuClock(process.pid) as clock:
        clock.sample(1)
        process.kill()
        process.wait()
        clock.sample(2)
        assert not clock.running


@pytest.mark.parametrize("pid", [None, 2**22 + 1], ids=["unseen", "no such process"])
def test_a_process_that_can_not_be_seen_never_ran_and_never_waited(pid: int | None) -> None:
    with CpuClock(pid) as clock:
        assert not clock.running
        clock.sample(1)
        assert (clock.ran_share(0, 10), clock.waited_ns(0, 10)) == (0.0, 0)


def test_a_span_without_samples_around_it_tells_nothing() -> None:
    with CpuClock(os.getpid()) as clock:
        clock.sample(5)
        assert (clock.ran_share(6, 10), clock.waited_ns(6, 10)) == (0.0, 0)


@linux
def test_the_share_that_the_hypervisor_took_is_a_share() -> None:
    share = StealMeter().share()
    assert share is not None
    assert 0.0 <= share <= 1.0


def test_the_cpu_time_of_a_process_that_is_gone_is_unknown() -> None:
    assert cpu_seconds(2**22 + 1) is None
    assert not Path("/proc/self/stat").exists() or (cpu_seconds(os.getpid()) or 0.0) > 0.0

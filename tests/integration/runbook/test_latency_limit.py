"""P-2 on real servers: a healthy one passes whatever the host does, and one that is slow by itself fails."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from runbook.drills import latency
from runbook.drills.latency import BARE
from runbook.drills.sampling import LOOKS
from runbook.evidence import Verdict
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS
from runbook.targets.remote import Remote
from tests.integration.runbook.slow_servers import delayed, disturbed, ok_to_everything, slow_fsync

pytestmark = pytest.mark.measures

PASS, FAIL = Verdict.PASS, Verdict.FAIL
DEBUG = (*STORY_FLAGS, "--enable-debug-command", "local")
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
# One look of 2.4 s is enough for servers that are this slow; what stays open takes up to 10 s.
LOAD_S = 10.0


@contextlib.contextmanager
def _healthy() -> Iterator[Any]:
    with Embedded(os.environ, STORY_FLAGS) as server:
        yield server


@contextlib.contextmanager
def _sleeping() -> Iterator[Any]:
    with Embedded(os.environ, DEBUG) as server, disturbed(server, "sleep", 0.05):
        yield server


@contextlib.contextmanager
def _rarely_sleeping() -> Iterator[Any]:
    with Embedded(os.environ, DEBUG) as server, disturbed(server, "sleep", 2.0):
        yield server


@contextlib.contextmanager
def _computing() -> Iterator[Any]:
    with Embedded(os.environ, STORY_FLAGS) as server, disturbed(server, "compute", 0.05):
        yield server


@contextlib.contextmanager
def _often_delayed() -> Iterator[Any]:
    with Embedded(os.environ, STORY_FLAGS) as server, delayed(server, 2.0) as behind:
        yield behind


@contextlib.contextmanager
def _syncing_always() -> Iterator[Any]:
    if not shutil.which("strace") or os.geteuid():
        pytest.skip("it takes strace, and the right to trace")
    with Embedded(os.environ, ALWAYS) as server, slow_fsync(server, 5.0):
        yield server


SERVERS = {
    "healthy": (_healthy, PASS),
    "sleeps 3 ms of 2000": (_rarely_sleeping, PASS),
    "sleeps 3 ms of 50": (_sleeping, FAIL),
    "computes 3 ms of 50": (_computing, FAIL),
    "2 % of replies 1.5 ms late": (_often_delayed, FAIL),
    "fsync of 5 ms at each write": (_syncing_always, FAIL),
}
# So that a server which takes 5 ms for each write gets through.
RATE_PER_S = {"fsync of 5 ms at each write": 300}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_is_told_from_the_host(kind: str) -> None:
    running, verdict = SERVERS[kind]
    with running() as server:
        measured = latency.measure(server, rate_per_s=RATE_PER_S.get(kind, 2000), duration_s=LOAD_S)
    found = {finding.claim: (finding.verdict, finding.reason) for finding in measured.findings}
    worst = FAIL if any(each is FAIL for each, _ in found.values()) else max(each for each, _ in found.values())
    assert worst is verdict, found
    if verdict is PASS:
        assert all(each is PASS for each, _ in found.values()), found


def test_a_load_is_sent_to_the_control_as_often_as_to_the_server() -> None:
    with Embedded(os.environ, STORY_FLAGS) as server:
        made = latency.measure(server, rate_per_s=1000, duration_s=LOAD_S).offered[BARE].recording
    assert made.control is not None
    assert made.control.count() == pytest.approx(made.count(), rel=0.01)
    assert made.count() >= 1000 * LOAD_S * LOOKS[0] * 0.99
    assert not made.control.failed()


def test_a_server_that_answers_ok_to_everything_fails() -> None:
    with ok_to_everything() as port:
        measured = latency.measure(Remote({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port)}), rate_per_s=500, duration_s=LOAD_S)
    assert FAIL in {finding.verdict for finding in measured.findings}

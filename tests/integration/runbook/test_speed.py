"""The comparison of clients on a real server: what it runs, and that it tells slow clients from equal ones."""

import dataclasses
import sys
from pathlib import Path

import pytest

from cachelib import connect
from runbook.drills import speed
from runbook.drills.paired_limit import Limit
from runbook.drills.speed import COMPARISONS, RATE, Comparison
from runbook.evidence import Verdict
from runbook.targets import Embedded

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL
SLOWED = Path(__file__).with_name("slowed_worker.py")


def test_every_client_runs_and_none_fails_a_call(own_server: Embedded) -> None:
    result = speed.compare(own_server, seconds=6.0)
    for comparison in COMPARISONS:
        assert result.pairs[comparison]
        for each in (each for pair in result.pairs[comparison] for each in pair):
            assert (each.calls > 0, each.errors, each.own_s <= each.seconds) == (True, 0, True), comparison.name
    assert result.imports
    assert len(result.findings) == 7
    with connect(own_server.config) as client:
        assert client.dbsize() == 0  # its key is gone


@pytest.mark.parametrize("how", ["computing", "sleeping"])
def test_a_slowed_client_fails(own_server: Embedded, how: str) -> None:
    """It computes for half as long again, or it sleeps, which no busy host excuses."""
    command = (sys.executable, str(SLOWED), how)
    (finding,) = speed.compare(own_server, seconds=20.0, comparisons=COMPARISONS[:1], imports=False, command=command).findings
    assert finding.verdict is FAIL, finding


@pytest.mark.parametrize(("limit", "verdict"), [(0.8, PASS), (1.5, FAIL)])
def test_a_client_is_as_fast_as_itself(own_server: Embedded, limit: float, verdict: Verdict) -> None:
    itself = Comparison("one caller/redis-py", "one caller/redis-py", (Limit(RATE, limit),), together=True)
    (finding,) = speed.compare(own_server, seconds=20.0, comparisons=[itself], imports=False).findings
    assert finding.verdict is verdict, finding


def test_server_that_is_missing_gives_no_verdict(own_server: Embedded) -> None:
    own_server.config = dataclasses.replace(own_server.config, deadline_s=0.2)
    own_server.kill()
    result = speed.compare(own_server, seconds=1.0)
    assert {finding.verdict for finding in result.findings} == {INCONCLUSIVE}

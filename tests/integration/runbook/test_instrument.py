"""The judgement of the engine's own figures, and that a wrong engine is found out."""

import math
import os
from collections.abc import Callable
from typing import Any

import pytest

from runbook.drills import instrument
from runbook.drills.instrument import judged
from runbook.drills.stage import Stage
from runbook.evidence import Verdict
from runbook.load.placement import Placement
from runbook.load.traffic import Traffic
from runbook.targets import Embedded

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL


@pytest.mark.parametrize(
    ("value", "wrong", "verdict"),
    [(400.0, 0, PASS), (380.0, 0, PASS), (379.0, 0, FAIL), (481.0, 0, FAIL), (400.0, 1, FAIL), (math.nan, 0, INCONCLUSIVE)],
    ids=["within", "at the edge", "too low", "too high", "a wrong reply", "too few calls"],
)
def test_a_figure_holds_within_its_bounds_and_with_right_replies_only(value: float, wrong: int, verdict: Verdict) -> None:
    finding = judged("a claim", value, "ms", 380.0, 480.0, "380 to 480 ms", wrong)
    assert (finding.verdict, finding.claim) == (verdict, "a claim")
    assert bool(finding.reason) is (verdict is not PASS)


@pytest.fixture
def stage(server: Embedded) -> Stage:
    return Stage(server.config, Traffic("bench:", {"PING": 1}), Placement(), server.pid)


@pytest.fixture
def offset_ms(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the engine add so much to every latency that it tells."""

    def seed(ms: float) -> None:
        honest = instrument._at
        monkeypatch.setattr(instrument, "_at", lambda ordered, p: honest(ordered, p) + (0.0 if isinstance(ordered, list) else ms))

    return seed


def _known(stage: Stage, server: Embedded) -> dict[str, Any]:
    return {finding.claim.split()[0]: finding for _, finding in instrument._known(stage, server, 1, 0.3) if finding}


def test_an_engine_that_adds_two_milliseconds_to_every_latency_is_found_out(
    stage: Stage, server: Embedded, offset_ms: Callable[[float], None]
) -> None:
    """It adds them to calls that are answered at once as well, so what is put down to the wire is bounded."""
    offset_ms(2.0)
    assert {kind: finding.verdict for kind, finding in _known(stage, server).items()} == {"Uniform": FAIL, "Bimodal": FAIL}


def test_starting_a_thousand_connections_is_measured(stage: Stage, server: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "MOST_CONNECTIONS", 20_000_000)
    thousand, too_many = instrument._start(stage, server, 1, 0.1)
    assert thousand[0].value.endswith(" s")
    assert thousand[1] is not None
    assert thousand[1].verdict in (PASS, FAIL)  # the host decides
    assert too_many[1] is not None
    assert (too_many[1].verdict, "ulimit -n" in too_many[1].reason) == (INCONCLUSIVE, True)


def test_without_redis_benchmark_there_is_nothing_to_hold_the_rate_against(
    stage: Stage, server: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nowhere")
    findings = [finding for _, finding in instrument._capacity(stage, server, 1, 0.1)]
    assert [finding.verdict for finding in findings if finding] == [INCONCLUSIVE] * 3


def test_without_a_core_of_its_own_the_load_cannot_spin_and_says_so(
    stage: Stage, server: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrument, "RATES_PER_S", (1000,))
    sleeping, spinning = (finding for _, finding in instrument._punctuality(stage, server, 1, 0.2) if finding)
    assert sleeping.verdict is not PASS or sleeping.measured[0].value is not None
    assert (spinning.verdict, spinning.reason) == (INCONCLUSIVE, "to spin, the load needs a core of its own")

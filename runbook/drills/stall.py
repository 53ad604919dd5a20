"""Do engine and health endpoint tell of a server that stalls, and of its return?

Promise: within three intervals of the health check the engine says unhealthy; the endpoint goes on to answer, in time, that it is alive and
Redis not ready; once the server goes on, all of them say healthy again.
"""

import dataclasses
import itertools
import threading
import time
from dataclasses import dataclass

from cachelib import Unavailable, connect, deadline
from runbook.drills.deployment import Judgement, project_of
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.targets import Compose, NotServing, Target

INTERVAL_S = 10.0
UNHEALTHY_WITHIN_S = 3 * INTERVAL_S
# Bound of the endpoint's check (0.5 s), and what HTTP through a container's port may add.
ANSWER_WITHIN_S = 1.0
ASK_EVERY_S = 0.5
# For how long a server that stands still is asked in vain.
SILENCE_S = 0.3
# The endpoint asks anew at each request, the engine once an interval.
HEALED_WITHIN_S = 2 * INTERVAL_S


@dataclass(frozen=True, slots=True)
class Probe:
    """One request to the endpoint during a stall: its path, the status (0 for no answer), and how many seconds it took."""

    path: str
    status: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """A server that was stopped with SIGSTOP for a while, and what was told of it.

    Attributes:
        unhealthy_s: seconds until the engine said unhealthy; None if it did not.
        probes: of the health endpoint, after the server's last reply.
        ready_s: seconds from its going on until the endpoint was ready again; None if it was not.
        healthy_s: seconds from its going on until the engine said healthy again; None if it did not.
        observed: whether the server really answered nothing.
        findings: the claims judged.
    """

    unhealthy_s: float | None
    probes: tuple[Probe, ...]
    ready_s: float | None
    healthy_s: float | None
    observed: bool
    findings: tuple[Finding, ...] = ()

    @property
    def histories(self) -> dict[str, History]:
        """None: what counts are a few probes."""
        return {}


def drill(target: Target) -> Result:
    """Stop the server's process without ending it, and note what engine and endpoint say; then let it go on.

    Args:
        target: a project whose health endpoint runs.
    """
    project = project_of(target)
    began_s = time.monotonic()
    project.pause()
    try:
        observed = _silent(project)
        unhealthy_s, probes = _until_unhealthy(project, began_s)
    finally:
        project.resume()
    began_s = time.monotonic()
    ready_s = None
    while ready_s is None and time.monotonic() - began_s < HEALED_WITHIN_S:
        if project.health_endpoint.ask("/readyz").status == 200:
            ready_s = time.monotonic() - began_s
    try:
        healthy_s = None
        project.await_health("healthy", HEALED_WITHIN_S)
        healthy_s = time.monotonic() - began_s
    except NotServing:
        pass  # which is a finding
    result = Result(unhealthy_s, probes, ready_s, healthy_s, observed)
    return dataclasses.replace(result, findings=judge_result(result))


def judge_result(result: Result) -> tuple[Finding, ...]:
    """Judge what was told of a stall: pure, so that its tests can hand it any."""
    unobserved = "the server answered while it should have stood still"

    def told() -> Judgement:
        value = None if result.unhealthy_s is None else round(result.unhealthy_s, 1)
        measured = (Measurement("until the engine said unhealthy", value, "s", None, f"≤ {UNHEALTHY_WITHIN_S:g} s"),)
        if not result.observed:
            return Verdict.INCONCLUSIVE, unobserved, measured
        if result.unhealthy_s is None or result.unhealthy_s > UNHEALTHY_WITHIN_S:
            return Verdict.FAIL, f"not within {UNHEALTHY_WITHIN_S:g} s", measured
        return Verdict.PASS, "", measured

    def graceful() -> Judgement:
        slowest_s = max((probe.took_s for probe in result.probes), default=0.0)
        measured = (
            Measurement(
                "slowest answer of the endpoint", round(slowest_s * 1e3), "ms", len(result.probes), f"≤ {ANSWER_WITHIN_S * 1e3:g} ms"
            ),
        )
        if not result.observed or not result.probes:
            return Verdict.INCONCLUSIVE, unobserved if result.probes else "the endpoint was not asked", measured
        wanted = {"/livez": 200, "/readyz": 503}
        if wrong := [probe for probe in result.probes if probe.status != wanted[probe.path]]:
            return Verdict.FAIL, f"{len(wrong)} answers were wrong, first {wrong[0].path} with the status {wrong[0].status}", measured
        if slowest_s > ANSWER_WITHIN_S:
            return Verdict.FAIL, f"an answer took {slowest_s:.2f} s", measured
        return Verdict.PASS, "", measured

    def healed() -> Judgement:
        measured = (
            Measurement("until the endpoint was ready again", _rounded(result.ready_s), "s"),
            Measurement("until the engine said healthy again", _rounded(result.healthy_s), "s"),
        )
        missing = [name for name, value in (("endpoint", result.ready_s), ("engine", result.healthy_s)) if value is None]
        if missing:
            return Verdict.FAIL, f"the {' and the '.join(missing)} did not say so within {HEALED_WITHIN_S:g} s", measured
        return Verdict.PASS, "", measured

    return (
        judge("AC-4", "A server that stalls is told as unhealthy within three intervals of the check", told),
        judge("I-6", "Meanwhile the endpoint answers in time: alive, and not ready", graceful),
        judge("I-2", "Once the server goes on, endpoint and engine say healthy again", healed),
    )


def _silent(project: Compose) -> bool:
    """Tell whether the server answers nothing for a while."""
    with connect(project.config) as client, deadline(SILENCE_S):
        try:
            client.ping()
        except Unavailable:
            return True
    return False


def _until_unhealthy(project: Compose, began_s: float) -> tuple[float | None, tuple[Probe, ...]]:
    """Wait for the word of the engine, and meanwhile ask the endpoint, from another thread."""
    probes: list[Probe] = []
    done = threading.Event()

    def ask() -> None:
        for path in itertools.cycle(("/livez", "/readyz")):
            asked_s = time.monotonic()
            answer = project.health_endpoint.ask(path)
            probes.append(Probe(path, answer.status, time.monotonic() - asked_s))
            if done.wait(ASK_EVERY_S):
                return

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        project.await_health("unhealthy", UNHEALTHY_WITHIN_S + INTERVAL_S)
        unhealthy_s = time.monotonic() - began_s
    except NotServing:
        unhealthy_s = None  # which is a finding
    finally:
        done.set()
        asking.join()
    return unhealthy_s, tuple(probes)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)

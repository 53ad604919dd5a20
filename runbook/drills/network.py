"""What becomes of increments and of callers when the network between them and the Redis breaks, and heals?

Promise: no INCR is applied twice, and none that was acknowledged is lost; every caller gets an answer or a typed error by its deadline; all
go on by themselves afterwards. A proxy stands before the server's port and breaks what passes; a fault that it can't prove, or that nobody
met, is INCONCLUSIVE. The control is redis-py with its defaults, which sends an INCR again whose reply was lost.
"""

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from cachelib import connect
from runbook.drills import lost_replies
from runbook.drills.callers import OF_READS, OF_WRITES, Callers, await_recovery, judge_endings, judge_recovery
from runbook.drills.checkers import tally
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults import (
    Impact,
    Proxy,
    bandwidth,
    black_hole,
    cutting_replies,
    delayed,
    flapping,
    half_open,
    losing_replies,
    reset,
    withholding_replies,
)
from runbook.drills.overshoot import GRACE_S
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import Counter, History, Load, Outcome, Ping, collector_off
from runbook.load.wait_control import Lateness, WaitControl
from runbook.targets import Target

# The callers: some count, and some only look and are impatient.
COUNTERS, INCREMENTS_PER_S, DEADLINE_S = 4, 100, 0.5
LOOKERS, LOOKS_PER_S, LOOK_DEADLINE_S = 2, 40, 0.2
# A fault lasts longer than either has patience.
HELD_S = 0.8
BEFORE_S, AFTER_S = (0.3, 0.5), 0.3
# Replies that are taken each time.
TAKEN = 10
# Fewer acknowledged increments say nothing.
FEWEST = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and who must have met it.

    Attributes:
        fault: breaks a proxy for the length of a block.
        unknown: whether it must have left a caller in the dark whether its INCR was applied.
        told: whether it must have kept an impatient caller waiting beyond its deadline.
    """

    fault: Callable[[Proxy], AbstractContextManager[Impact]]
    unknown: bool = False
    told: bool = False


CASES: dict[str, Case] = {
    "latency": Case(lambda proxy: delayed(proxy, 0.3), told=True),
    "a narrow bandwidth": Case(lambda proxy: bandwidth(proxy, 20), told=True),
    "a black hole": Case(black_hole, unknown=True, told=True),
    "half-open connections": Case(half_open, unknown=True, told=True),
    "resets": Case(reset),
    "replies lost": Case(lambda proxy: losing_replies(proxy, b"INCR", times=TAKEN), unknown=True),
    "replies cut": Case(lambda proxy: cutting_replies(proxy, b"INCR", 2, times=TAKEN, reset=True), unknown=True),
    "replies withheld": Case(lambda proxy: withholding_replies(proxy, b"INCR", times=TAKEN), unknown=True),
    "a flapping port": Case(lambda proxy: flapping(proxy, up_s=0.1, down_s=0.3), told=True),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault under load, or several of the same kind.

    Attributes:
        impacts: what it did, each time.
        increments: every INCR.
        looks: every PING of the impatient callers.
        counted: what the counter held at last.
        control: how late waits without a Redis ended meanwhile.
    """

    impacts: Sequence[Impact]
    increments: History
    looks: History
    counted: int
    control: Lateness = Lateness()

    @property
    def histories(self) -> Mapping[str, History]:
        """What was recorded, by name."""
        return {"increments": self.increments, "looks": self.looks, "control": self.control.history}


def judge_trial(name: str, trial: Trial) -> tuple[Finding, ...]:
    """Judge what was recorded under one of `CASES`: pure, so that its tests can hand it any trial."""
    case, increments, looks = CASES[name], trial.increments, trial.looks
    unproven = list(dict.fromkeys(doubt for impact in trial.impacts for doubt in impact.doubts))
    counted = tally(increments, trial.counted)
    told = looks.count(Outcome.FAIL)
    kinds = (
        Callers("counter", COUNTERS, increments, DEADLINE_S, OF_WRITES),
        Callers("looker", LOOKERS, looks, LOOK_DEADLINE_S, OF_READS),
    )

    def once() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (
            Measurement("counted too often", counted.excess, "increments", counted.attempted, "= 0"),
            Measurement("acknowledged and not counted", counted.lost, "increments", counted.acknowledged, "= 0"),
            Measurement("outcome unknown", counted.unknown, "increments", counted.attempted),
        )
        if counted.corrupt:
            return Verdict.FAIL, "; ".join((*counted.corrupt, *counted.counter_examples(1).splitlines())), measured
        doubts = [*unproven]
        if case.unknown and not counted.unknown:
            doubts.append("no INCR was under way when it struck")
        if counted.acknowledged < FEWEST:
            doubts.append(f"only {counted.acknowledged} increments were acknowledged, {FEWEST} are needed")
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    def in_time() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        problem, scarce, measured = judge_endings(kinds, trial.control)
        measured += (Measurement("impatient callers told that Redis is unavailable", told, "calls", len(looks)),)
        if problem:
            return Verdict.FAIL, problem, measured
        doubts = [*unproven, *scarce, *(["no impatient caller met it"] if case.told and not told else [])]
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    def going_on() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        ends_ns = [impact.healed_ns for impact in trial.impacts]
        begins_ns = [float(impact.broken_ns) for impact in trial.impacts]
        problem, measured = judge_recovery(kinds, list(zip(ends_ns, [*begins_ns[1:], math.inf], strict=True)))
        if problem:
            return Verdict.FAIL, problem, measured
        return (Verdict.INCONCLUSIVE if unproven else Verdict.PASS), "; ".join(unproven), measured

    return (
        judge("AC-7", f"With {name} no INCR is applied twice, and none that was acknowledged is lost", once),
        judge("I-6", f"With {name} every caller gets an answer or a typed error by its deadline (+{GRACE_S * 1e3:g} ms)", in_time),
        judge("I-5", f"After {name} every caller goes on by itself", going_on),
    )


def judge_control(tallies: Mapping[str, lost_replies.Tally]) -> Finding:
    """Judge what redis-py made of lost replies."""

    def twice() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        tally = tallies[lost_replies.CONTROL]
        measured = (Measurement("applied too often", tally.counted - tally.asked, "increments", tally.asked, "> 0"),)
        seen = tally.counted > tally.asked
        return (Verdict.PASS, "", measured) if seen else (Verdict.INCONCLUSIVE, "each INCR was applied once at the most", measured)

    return judge("AC-7", "Control: redis-py with its defaults applies an INCR again whose reply is lost", twice)


def _perform(ground: Ground) -> Sequence[Finding]:
    findings: list[Finding] = []
    with ground.server("I-5") as target:
        for number, name in enumerate(CASES, 1):
            ground.say(f"{name}, case {number} of {len(CASES)}")
            before_s = ground.chance(name).uniform(*BEFORE_S)
            trial = _trial(target, CASES[name], before_s, ground.times)
            findings += judge_trial(name, trial)
            for what, history in trial.histories.items():
                ground.keep(f"{name.replace(' ', '-')}-{what}", history)
        ground.say("the control: redis-py with its defaults")
        lost = lost_replies.drill(target, increments=TAKEN)
    return [*findings, *lost.findings, judge_control(lost.tallies)]


def _trial(target: Target, case: Case, before_s: float, times: int) -> Trial:
    key = f"runbook:network:{uuid.uuid4().hex}"
    impacts = []
    with connect(target.config) as direct, Proxy(target.config.port, target.config.host) as proxy:
        config = replace(target.config, host="127.0.0.1", port=proxy.port)
        counting_config = replace(config, deadline_s=DEADLINE_S, pool_size=COUNTERS)
        looking_config = replace(config, deadline_s=LOOK_DEADLINE_S, pool_size=LOOKERS)
        with (
            connect(counting_config, observers=[]) as counter,
            connect(looking_config, observers=[]) as looker,
            collector_off(),
            WaitControl() as control,
            Load(counter, Counter(key), rate_per_s=INCREMENTS_PER_S, workers=COUNTERS) as counting,
            Load(looker, Ping(), rate_per_s=LOOKS_PER_S, workers=LOOKERS) as looking,
        ):
            time.sleep(before_s)
            for _ in range(times):
                with case.fault(proxy) as impact:
                    time.sleep(HELD_S)
                impacts.append(impact)
                await_recovery((counting, looking), impact.healed_ns, COUNTERS + LOOKERS)
                time.sleep(AFTER_S)
        counted = int(direct.get(key) or 0)
        direct.unlink(key)
    return Trial(impacts, counting.history, looking.history, counted, control.lateness)


DRILL = Drill(
    name="network",
    question="What becomes of increments and of callers when the network breaks between them and the Redis?",
    promise="No INCR is applied twice or lost, every caller is answered or told by its deadline, and all go on by themselves",
    faults=tuple(CASES),
    blast_radius="connections through a proxy of our own, to one server of our own",
    roll_back="each fault ends with its block, and the proxy with its case",
    targets=("embedded", "compose", "compose-prod"),
    times={"quick": 1, "full": 3},
    limit_s={"quick": 120, "full": 300},
    perform=_perform,
)

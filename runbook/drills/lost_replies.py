"""What becomes of an INCR that the server applies and whose reply is lost: is it sent again?

Promise: our clients send it no second time, and say that its outcome is unknown. The control is redis-py with its defaults, which sends it
again; where it does not, the drill could not have told the two apart, and is INCONCLUSIVE.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from cachelib import Config, OutcomeUnknown, connect, connect_async
from runbook.client_worker import redis_py
from runbook.drills.faults import Impact, Proxy, losing_replies
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History
from runbook.targets import Restartable, Target

CRITERION = "AC-7"
CLAIM = "No INCR whose reply was lost is sent again; its caller is told that its outcome is unknown"
OURS, CONTROL = ("cachelib.connect", "cachelib.connect_async"), "redis.Redis"


@dataclass(frozen=True, slots=True)
class Tally:
    """What one client made of its increments.

    Attributes:
        asked: calls of INCR.
        lost: replies that were lost after the server had applied the command, one for each call at least.
        acknowledged: calls that returned.
        unknown: calls that ended with `OutcomeUnknown`.
        counted: what the counter holds.
        doubts: why it can't be said that each call lost a reply.
    """

    asked: int
    lost: int
    acknowledged: int
    unknown: int
    counted: int
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The tallies by client, and the claim judged."""

    tallies: Mapping[str, Tally]
    findings: tuple[Finding, ...] = ()

    @property
    def histories(self) -> dict[str, History]:
        """None: what counts is the counter."""
        return {}


def drill(target: Target, *, increments: int) -> Result:
    """Increment a counter of each client's own through a proxy that loses the first reply to each call.

    Args:
        target: which server; one that is not ours gives an INCONCLUSIVE finding, since the proxy stands on this machine.
        increments: calls of each client.

    Raises:
        ValueError: there are none.
    """
    if increments < 1:
        raise ValueError(f"a drill takes at least one increment, got {increments}")
    if not isinstance(target, Restartable):
        reason = f"the proxy that loses replies stands before a server of our own, not before a {target.name} one"
        return Result({}, (Finding(CRITERION, CLAIM, Verdict.INCONCLUSIVE, reason),))
    tallies = {}
    with connect(target.config) as looking, Proxy(target.config.port, target.config.host) as proxy:
        config = replace(target.config, host="127.0.0.1", port=proxy.port)
        for name, counting in {OURS[0]: _threads, OURS[1]: _tasks, CONTROL: _control}.items():
            key = f"runbook:lost:{uuid.uuid4().hex}"
            tally = counting(config, key, proxy, increments)
            tallies[name] = replace(tally, counted=int(looking.get(key) or 0))
            looking.unlink(key)
    return Result(tallies, (judge_tallies(tallies),))


def judge_tallies(tallies: Mapping[str, Tally]) -> Finding:
    """Judge what was counted: pure, so that its tests can hand it any tallies."""

    def once() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        ours, control = {name: tallies[name] for name in OURS}, tallies[CONTROL]
        asked = sum(tally.asked for tally in ours.values())
        excess = {name: tally.counted - tally.asked for name, tally in ours.items()}
        measured = (
            Measurement("applied too often", sum(excess.values()), "increments", asked, "= 0"),
            Measurement("outcome unknown", sum(tally.unknown for tally in ours.values()), "increments", asked),
            Measurement("applied too often by redis-py, the control", control.counted - control.asked, "increments", control.asked, "> 0"),
        )
        for name, tally in ours.items():
            if excess[name] > 0:
                return Verdict.FAIL, f"{name} asked for {tally.asked}, and the counter holds {tally.counted}", measured
            if tally.counted < tally.acknowledged or tally.acknowledged + tally.unknown < tally.asked:
                return Verdict.FAIL, f"{name} got {tally.acknowledged} acknowledged and {tally.unknown} unknown of {tally.asked}", measured
        doubts = [f"{name}: {doubt}" for name, tally in tallies.items() for doubt in tally.doubts]
        doubts += [f"{name} lost {tally.lost} replies to {tally.asked} calls" for name, tally in ours.items() if tally.lost < tally.asked]
        if control.counted <= control.asked:
            doubts.append("the control was not applied twice either")
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    return judge(CRITERION, CLAIM, once)


def _threads(config: Config, key: str, proxy: Proxy, increments: int) -> Tally:
    with connect(config, observers=[]) as client:
        return _tally(lambda: client.execute_command("INCR", key), proxy, increments)


def _tasks(config: Config, key: str, proxy: Proxy, increments: int) -> Tally:
    def count() -> Tally:
        with asyncio.Runner() as runner:
            client = connect_async(config, observers=[])
            try:
                return _tally(lambda: runner.run(client.execute_command("INCR", key)), proxy, increments)
            finally:
                runner.run(client.aclose())

    with ThreadPoolExecutor(max_workers=1) as thread:  # ours has the loop of a notebook's kernel
        return thread.submit(count).result()


def _control(config: Config, key: str, proxy: Proxy, increments: int) -> Tally:
    with redis_py(config, pool_size=0) as client:
        return _tally(lambda: client.execute_command("INCR", key), proxy, increments)


def _tally(increment: Callable[[], object], proxy: Proxy, increments: int) -> Tally:
    acknowledged = unknown = 0
    impacts: list[Impact] = []
    for _ in range(increments):
        with losing_replies(proxy, b"INCR") as impact:
            impacts.append(impact)
            try:
                increment()
                acknowledged += 1
            except OutcomeUnknown:
                unknown += 1
    doubts = dict.fromkeys(doubt for impact in impacts for doubt in impact.doubts)
    return Tally(increments, sum(impact.replies for impact in impacts), acknowledged, unknown, 0, tuple(doubts))

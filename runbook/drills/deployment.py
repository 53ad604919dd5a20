"""Is what Compose starts what the story asks for, and is it healthy?

Promise: both files ask for the story's service; the container has what its file says, and the server what its command line says; engine and
health endpoint say healthy; the deployments for development and production run side by side, and production refuses who may not.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Mapping

import redis

from cachelib import Config, Refused, connect
from runbook.drills import setup
from runbook.drills.service import STORY, Difference, differences, flags, in_container, in_file
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.targets import Compose, NotServing, Target, TargetError
from runbook.targets.compose import DEV, PROD
from runbook.targets.project import read_file

FILES = (DEV, PROD)
Judgement = tuple[Verdict, str, tuple[Measurement, ...]]


def check_files(target: Target) -> tuple[Finding, ...]:
    """Hold both compose files, with the defaults of their variables, against the story's table."""
    project = project_of(target)
    found = {file: in_file(read_file(project.docker, file)["services"]["redis"]) for file in FILES}
    return judge_files(found)


def judge_files(found: Mapping[str, Mapping[str, str]]) -> tuple[Finding, ...]:
    """Judge the settings of files: pure, so that its tests can hand it any.

    Args:
        found: the settings of the service by the file's name.
    """
    claims = {
        "AC-1": "Both files ask for the story's image, name, port, command, network and restart policy",
        "AC-3": "Both files mount the named volume redis_data at /data",
        "AC-4": "Both files have the health check redis-cli ping every 10 s",
    }
    return tuple(judge(criterion, claim, functools.partial(_as_the_story, criterion, found)) for criterion, claim in claims.items())


def _as_the_story(criterion: str, found: Mapping[str, Mapping[str, str]]) -> Judgement:
    wanted = {name: value for name, (decides, value) in STORY.items() if decides == criterion}
    wrong = [difference for file, settings in found.items() for difference in differences(file, wanted, settings)]
    count = len(wanted) * len(found)
    measured = (Measurement("settings as the story has them", count - len(wrong), "settings", count, f"= {count}"),)
    if len(found) < len(FILES):
        return Verdict.INCONCLUSIVE, f"only {', '.join(found) or 'no file'} was read", measured
    return (Verdict.FAIL if wrong else Verdict.PASS), "; ".join(map(str, wrong)), measured


def check_container(target: Target) -> tuple[Finding, ...]:
    """Hold the live container against its file, and the live server against the container's command line."""
    project = project_of(target)
    inspected = project.container.inspect()
    wanted = in_file(project.resolved()["services"]["redis"])
    found = in_container(inspected, project.project)

    def starts() -> Judgement:
        up = next((step for step in project.steps if step.name == "up"), None)
        return judge_start(inspected, (Measurement("from up until the server serves", round(up.took_s, 2) if up else None, "s"),))

    def as_its_file() -> Judgement:
        return judge_container(differences("the container", wanted, found), len(wanted), project.image)

    def as_its_command() -> Judgement:
        asked = {name: _bytes(value) if name == "maxmemory" else value for name, value in flags(found["command"]).items()}
        if not asked:
            return Verdict.FAIL, "its command line sets nothing", ()
        live = {setting.name: setting.found for setting in setup.read_settings(project)}
        return setup.judge_settings(tuple(setup.Setting(name, value, live.get(name)) for name, value in asked.items()))

    return (
        judge("I-1", "The container starts and serves", starts),
        judge("AC-1", "The live container has what its file says", as_its_file),
        judge("AC-2", "The live server's settings equal those of the container's command line", as_its_command),
    )


def judge_start(inspected: Mapping[str, object], measured: tuple[Measurement, ...]) -> Judgement:
    """Judge a container's state as the engine knows it."""
    state, restarts = inspected["State"], inspected["RestartCount"]
    assert isinstance(state, Mapping)
    if not state["Running"]:
        return Verdict.FAIL, f"it is {state['Status']}, with exit status {state['ExitCode']}", measured
    if restarts:
        return Verdict.FAIL, f"the engine had to start it {restarts} times again", measured
    return Verdict.PASS, "", measured


def judge_container(wrong: tuple[Difference, ...], count: int, image: str) -> Judgement:
    """Judge where a container differs from its file; the image comes first, so that a stand-in shows beside the criterion."""
    measured = (
        Measurement("it runs", image),
        Measurement("settings as the file has them", count - len(wrong), "settings", count, f"= {count}"),
    )
    return (Verdict.FAIL if wrong else Verdict.PASS), "; ".join(map(str, wrong)), measured


def check_health(target: Target) -> tuple[Finding, ...]:
    """Start the health endpoint beside the server, ask it, and wait for the word of the engine."""
    project = project_of(target)

    def endpoint() -> Judgement:
        try:
            project.up_health()
        except NotServing as error:
            return Verdict.FAIL, str(error), ()
        return _ask_endpoint(project)

    def engine() -> Judgement:
        try:
            took_s = project.await_health("healthy")
        except NotServing as error:
            return Verdict.FAIL, str(error), ()
        return Verdict.PASS, "", (Measurement("until the engine said healthy", round(took_s, 1), "s"),)

    return (
        judge("I-2", "The health endpoint says healthy, over the project's network", endpoint),
        judge("AC-4", "The engine's health check says healthy", engine),
    )


def _ask_endpoint(project: Compose) -> Judgement:
    return judge_answer(project.health_endpoint.ask("/health").text, project.health_endpoint.ask("/readyz").status)


def judge_answer(health: str, ready: int) -> Judgement:
    """Judge what the endpoint answers to /health, and with which status to /readyz."""
    try:
        status = json.loads(health)["status"]
    except (ValueError, KeyError, TypeError):
        return Verdict.FAIL, f"/health was answered with {health[:120]!r}", ()
    if (status, ready) != ("healthy", 200):
        return Verdict.FAIL, f"/health said {health[:200]}, and /readyz had the status {ready}", ()
    return Verdict.PASS, "", (Measurement("/health", status, "", None, "= healthy"),)


def check_other(target: Target) -> tuple[Finding, ...]:
    """Start a project from the other file beside this one, and see that each is whole, and apart from the other."""
    project = project_of(target)
    other_file = PROD if project.file == DEV else DEV
    runs, closed = (
        "Dev and prod run side by side, and apart from each other",
        "Production refuses who has no password, and the application what it must not do",
    )
    try:
        with project.beside(other_file) as other:
            other.up_health()
            if project.file == PROD:
                project.up_health()  # whose container is looked at as well
            production = other if other_file == PROD else project
            return (
                judge("D-2", runs, lambda: _apart(project, other)),
                judge("D-2", closed, lambda: judge_closed(*_refusals(production))),
            )
    except TargetError as error:
        verdict = Verdict.FAIL if isinstance(error, NotServing) else Verdict.INCONCLUSIVE
        return (Finding("D-2", runs, verdict, str(error)), Finding("D-2", closed, Verdict.INCONCLUSIVE, "it did not run"))


def judge_closed(refused: Mapping[str, bool], told: bool) -> Judgement:
    """Judge which commands production refused, and whether `inspect` told the password."""
    accepted = [words for words, was_refused in refused.items() if not was_refused]
    measured = (Measurement("commands refused", len(refused) - len(accepted), "commands", len(refused), f"= {len(refused)}"),)
    problems = [f"it accepts {', '.join(accepted)}"] if accepted else []
    problems += ["docker inspect shows the password"] if told else []
    return (Verdict.FAIL if problems else Verdict.PASS), "; ".join(problems), measured


def control() -> tuple[Finding, ...]:
    """Hand the comparison with the story one service for each setting that is wrong in it; it must find each of them."""

    def seeded() -> Judgement:
        story = {name: value for name, (_, value) in STORY.items()}
        missed = [name for name in STORY if [d.name for d in differences("", story, story | {name: "seeded"})] != [name]]
        if differences("", story, story):
            missed.append("the story itself, which it accused")
        measured = (Measurement("seeded defects caught", len(STORY) - len(missed), "defects", len(STORY), f"= {len(STORY)}"),)
        return (Verdict.INCONCLUSIVE, f"the comparison missed {', '.join(missed)}", measured) if missed else (Verdict.PASS, "", measured)

    return (judge("AC-1", "Control: the comparison finds a seeded defect in each setting", seeded),)


def _apart(project: Compose, other: Compose) -> Judgement:
    with connect(project.config) as here, connect(other.config) as there:
        key = f"runbook:deployment:{other.project}"
        here.set(key, 1, px=60_000)
        shared = there.get(key)
        here.delete(key)
    if shared:
        return Verdict.FAIL, "a key written to one is in the other", ()
    wanted = in_file(other.resolved()["services"]["redis"])
    wrong = differences(f"the container of {other.file}", wanted, in_container(other.container.inspect(), other.project))
    measured = (Measurement(f"{other.file}, from up until the server serves", round(other.steps[0].took_s, 2), "s"),)
    if wrong:
        return Verdict.FAIL, "; ".join(map(str, wrong)), measured
    verdict, reason, _ = _ask_endpoint(other)
    return verdict, reason, measured


def _refusals(production: Compose) -> tuple[dict[str, bool], bool]:
    """Try commands that must be refused; tell which were, and whether the engine shows the password."""
    stranger = dataclasses.replace(production.config, username=None, password=None)
    attempts = {f"{words} by a stranger": (stranger, words) for words in ("GET x", "FLUSHALL", "CONFIG GET *")}
    attempts |= {f"{words} by the application": (production.config, words) for words in ("FLUSHALL", "CONFIG GET *", "ACL LIST")}
    password = production.config.password
    shown = json.dumps([production.container.inspect(), production.health_endpoint.container.inspect()])
    return {words: _refused(*attempt) for words, attempt in attempts.items()}, password is not None and password.reveal() in shown


def _refused(config: Config, words: str) -> bool:
    with connect(config) as client:
        try:
            client.execute_command(*words.split())
        except (redis.ResponseError, Refused):  # NOAUTH, NOPERM, or a login that failed
            return True
    return False


def project_of(target: Target) -> Compose:
    """Return the target as the project that it is; raises `TargetError` if it is none."""
    if not isinstance(target, Compose):
        raise TargetError(f"the target {target.name} has no container: choose compose or compose-prod")
    return target


def _bytes(size: str) -> str:
    """Return a size of Redis' command line, such as 512mb, in bytes."""
    number, unit = re.fullmatch(r"(\d+)([a-z]*)", size.lower()).groups()  # type: ignore[union-attr]
    return str(int(number) * {"": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}[unit])

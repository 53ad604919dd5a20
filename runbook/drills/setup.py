"""Is the Redis that the application will talk to the one that the story asks for, and does the client read its configuration?"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from redis.exceptions import NoPermissionError

from cachelib import Config, ConfigError, HealthReport, check, connect
from runbook.drills.pool import fill_pool
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.targets import Target

# The settings of the story's command line, as `CONFIG GET` shows them.
STORY_SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory": str(512 * 1024 * 1024),
    "maxmemory-policy": "noeviction",
}

# An environment that sets every variable of the story to something else than its default.
EXAMPLE_ENVIRONMENT = {
    "REDIS_HOST": "cache.example",
    "REDIS_PORT": "6390",
    "REDIS_PASSWORD": "an example, not a secret",
    "REDIS_DB": "3",
    "REDIS_POOL_SIZE": "25",
}
WRONG_ENVIRONMENT = {"REDIS_PORT": "65536", "REDIS_DB": "-1", "REDIS_POOL_SIZE": "0", "REDIS_PASWORD": "misspelt"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the live server beside what the story asks for; None where the server did not say."""

    name: str
    wanted: str
    found: str | None


def read_settings(target: Target) -> tuple[Setting, ...]:
    """Ask the live server for the story's settings; a user without the right to CONFIG gets those that INFO tells."""
    with connect(target.config, decode_responses=True) as client:
        try:
            found: Mapping[str, str] = {name: value for name in STORY_SETTINGS for value in client.config_get(name).values()}
        except NoPermissionError:
            memory = client.info("memory")
            found = {
                "appendonly": "yes" if client.info("persistence")["aof_enabled"] else "no",
                "maxmemory": str(memory["maxmemory"]),
                "maxmemory-policy": str(memory["maxmemory_policy"]),
            }
    return tuple(Setting(name, wanted, found.get(name)) for name, wanted in STORY_SETTINGS.items())


def check_settings(target: Target) -> tuple[Finding, ...]:
    """Hold the settings of the live server against the story's."""

    def compare() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        return judge_settings(read_settings(target))

    return (judge("AC-2", "The live server runs with the story's settings", compare),)


def judge_settings(settings: tuple[Setting, ...]) -> tuple[Verdict, str, tuple[Measurement, ...]]:
    """Judge settings as read: pure, so that its tests can hand it any."""
    measured = tuple(Measurement(setting.name, setting.found, "", None, f"= {setting.wanted}") for setting in settings)
    if wrong := [setting for setting in settings if setting.found not in (setting.wanted, None)]:
        return Verdict.FAIL, ", ".join(f"{s.name} is {s.found}, not {s.wanted}" for s in wrong), measured
    if hidden := [setting.name for setting in settings if setting.found is None]:
        return Verdict.INCONCLUSIVE, f"the server does not tell {', '.join(hidden)}: grant +config|get", measured
    return Verdict.PASS, "", measured


def check_configuration() -> tuple[Finding, ...]:
    """Build a configuration from a valid environment and from one with four faults."""

    def valid() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        config = Config.from_env(EXAMPLE_ENVIRONMENT)
        got = {
            "REDIS_HOST": config.host,
            "REDIS_PORT": str(config.port),
            "REDIS_PASSWORD": config.password.reveal() if config.password else "",
            "REDIS_DB": str(config.db),
            "REDIS_POOL_SIZE": str(config.pool_size),
        }
        wrong = [name for name, value in EXAMPLE_ENVIRONMENT.items() if got[name] != value]
        measured = (Measurement("variables honoured", len(got) - len(wrong), "", len(got), f"= {len(got)}"),)
        return (Verdict.FAIL, f"{', '.join(wrong)} had no effect", measured) if wrong else (Verdict.PASS, "", measured)

    def built() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        with connect(Config.from_env(EXAMPLE_ENVIRONMENT)) as client:
            made = client.connection_pool.config.endpoint
        return (Verdict.PASS, "", ()) if made == "cache.example:6390/3" else (Verdict.FAIL, f"it points to {made}", ())

    def invalid() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        try:
            Config.from_env(WRONG_ENVIRONMENT)
        except ConfigError as error:
            unnamed = [name for name in WRONG_ENVIRONMENT if not any(name in problem for problem in error.problems)]
            measured = (Measurement("faults named", len(error.problems), "", len(WRONG_ENVIRONMENT), f"= {len(WRONG_ENVIRONMENT)}"),)
            return (Verdict.FAIL, f"{', '.join(unnamed)} went unnamed", measured) if unnamed else (Verdict.PASS, "", measured)
        return Verdict.FAIL, "an invalid environment was accepted", ()

    return (
        judge("AC-8", "Each variable of the story changes the configuration", valid),
        judge("U-1", "A client is built from a valid environment", built),
        judge("U-2", "One error names every fault of an invalid environment", invalid),
    )


def wrong_environment() -> str:
    """Return the error that an application prints when it is started in a faulty environment."""
    try:
        return repr(Config.from_env(WRONG_ENVIRONMENT))
    except ConfigError as error:
        return str(error)


def check_client(target: Target, pool_size: int) -> tuple[Finding, ...]:
    """Send PING, and fill a pool of the given size, and another of twice that size, to its last connection."""

    def ping() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        with connect(target.config, decode_responses=True) as client:
            client.set_response_callback("PING", str)  # instead of redis-py's translation into True
            reply = client.execute_command("PING")
        return (Verdict.PASS, "", ()) if reply == "PONG" else (Verdict.FAIL, f"PING was answered by {reply!r}", ())

    def sizes() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        reached = {size: fill_pool(target.config, size) for size in (pool_size, 2 * pool_size)}
        measured = tuple(
            Measurement(f"connections busy at once in a pool of {size}", busy, "connections", None, f"= {size}")
            for size, (busy, _) in reached.items()
        )
        for size, (busy, refused) in reached.items():
            if busy != size:
                return Verdict.FAIL, f"a pool of {size} held {busy} connections busy", measured
            if not refused:
                return Verdict.FAIL, f"a pool of {size} gave out one connection more", measured
        return Verdict.PASS, "", measured

    def created() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        with connect(dataclasses.replace(target.config, pool_size=pool_size)) as client:
            client.ping()
            pool = client.connection_pool
            measured = (Measurement("limit of the pool", pool.max_connections, "connections", None, f"= {pool_size}"),)
            return (Verdict.PASS if pool.max_connections == pool_size else Verdict.FAIL), "", measured

    return (
        judge("AC-5", "PING through the client library is answered by PONG", ping),
        judge("AC-6", "A pool of each size fills to its last connection, and no further", sizes),
        judge("U-3", "The pool is created with the configured size", created),
    )


def check_health(target: Target) -> tuple[Finding, ...]:
    """Run the application's own health check against the target, and judge its report."""
    with connect(target.config) as client:
        return judge_health(check(client))


def judge_health(report: HealthReport) -> tuple[Finding, ...]:
    """Judge a report of `cachelib.check`."""
    reasons = ", ".join(report.reasons)

    def ping() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        measured = (Measurement("duration of the check", round(report.duration_s * 1e3, 2), "ms"),)
        return (Verdict.PASS, "", measured) if report.ready else (Verdict.FAIL, reasons, measured)

    def reach() -> tuple[Verdict, str, tuple[Measurement, ...]]:
        return (Verdict.PASS, "", ()) if report.healthy else (Verdict.FAIL, f"{reasons}: {report.detail}", ())

    return (
        judge("U-4", "The health check gets PONG for its PING", ping),
        judge("I-3", "The application side reads and writes", reach),
    )

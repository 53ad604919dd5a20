"""The compose files: what they resolve to is the story's table, and what the engine then runs is what they resolve to."""

import functools
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cachelib import connect
from runbook.targets.compose import DEV, PROD, Compose
from tests.compose.conftest import COMPOSE_FOLDER, ENVIRON, composes

pytestmark = pytest.mark.timeout(120)

OWNED = "owned.yml"
# How to reach an engine, and no variable of the files.
BARE = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT") if name in os.environ}
COMMAND = "redis-server --appendonly yes --appendfsync everysec --maxmemory 512mb --maxmemory-policy noeviction"
# Each variable, another value than the usual one, and what shows it.
VARIABLES = [
    ("REDIS_CONTAINER", "other", "redis", "container_name", "other"),
    ("REDIS_IMAGE", "redis:7.2", "redis", "image", "redis:7.2"),
    ("REDIS_PORT", "7000", "redis", "ports", ["127.0.0.1:7000:6379/tcp"]),
    ("REDIS_BIND", "10.1.2.3", "redis", "ports", ["10.1.2.3:6379:6379/tcp"]),
    ("REDIS_MAXMEMORY", "64mb", "redis", "command", COMMAND.replace("512mb", "64mb").split()),
    ("REDIS_MEM_LIMIT", "200m", "redis", "mem_limit", 200 * 1024**2),
    ("HEALTH_CONTAINER", "other", "health", "container_name", "other"),
    ("HEALTH_IMAGE", "other", "health", "image", "other"),
    ("HEALTH_PORT", "9000", "health", "ports", ["127.0.0.1:9000:8080/tcp"]),
    ("HEALTH_BIND", "10.1.2.3", "health", "ports", ["10.1.2.3:8080:8080/tcp"]),
    ("PYTHON_IMAGE", "python:3.13", "health", "build_args", {"PYTHON_IMAGE": "python:3.13"}),
    ("REDIS_POOL_SIZE", "3", "health", "environment", {"REDIS_POOL_SIZE": "3"}),
]
UNITS = {"b": 1, "k": 1024, "kb": 1024, "m": 1024**2, "mb": 1024**2, "g": 1024**3, "gb": 1024**3}

each_compose = pytest.mark.parametrize("command", composes())
each_file = pytest.mark.parametrize("file", [DEV, PROD])


def run_config(command: tuple[str, ...], *files: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `config`; a file .env that a developer has beside the files does not count."""
    with tempfile.NamedTemporaryFile() as no_variables:
        options = ["--env-file", no_variables.name, *(word for file in files for word in ("--file", str(COMPOSE_FOLDER / file)))]
        environ = BARE | variables
        return subprocess.run([*command, *options, "config"], env=environ, capture_output=True, text=True, timeout=60, check=False)


@functools.cache
def config(command: tuple[str, ...], files: tuple[str, ...], variables: frozenset[tuple[str, str]]) -> str:
    result = run_config(command, *files, **dict(variables))
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def resolve(command: tuple[str, ...], *files: str, **variables: str) -> dict[str, Any]:
    """Return what the files resolve to, each thing in one notation whichever Compose wrote it."""
    resolved: dict[str, Any] = yaml.safe_load(config(command, files, frozenset(variables.items())))
    for service in resolved["services"].values():
        if isinstance(service.get("command"), str):
            service["command"] = shlex.split(service["command"])
        service["healthcheck"]["test"] = [word.replace("$$", "$") for word in service["healthcheck"]["test"]]
        for timing in ("interval", "timeout"):
            service["healthcheck"][timing] = in_seconds(service["healthcheck"][timing])
        service["stop_grace_period"] = in_seconds(service["stop_grace_period"])
        service["mem_limit"] = in_bytes(service["mem_limit"])
        service["networks"] = {name: options or {} for name, options in service["networks"].items()}
        service["build_args"] = service.get("build", {}).pop("args", {})
        service["ports"] = [
            port if isinstance(port, str) else "{host_ip}:{published}:{target}/{protocol}".format(**port) for port in service["ports"]
        ]
        service["volumes"] = {mount["target"]: mount for mount in map(as_mount, service.get("volumes", []))}
    return resolved


def as_mount(written: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(written, str):
        source, target, mode = written.split(":")
        return {"type": "bind" if source.startswith("/") else "volume", "source": source, "target": target, "read_only": mode == "ro"}
    return {"read_only": False} | {name: written[name] for name in ("type", "source", "target", "read_only") if name in written}


def in_seconds(text: str) -> int:
    parts = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert parts, text
    return int(parts[1] or 0) * 60 + int(parts[2] or 0)


def in_bytes(text: str | int) -> int:
    number, unit = re.fullmatch(r"(\d+)([a-z]*)", str(text).lower()).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit or "b"]


def flag(command: list[str], name: str) -> str:
    return command[command.index(f"--{name}") + 1]


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("secret") / "redis_password"
    path.write_text("a-password-of-this-test")
    return str(path)


@each_compose
@each_file
def test_file_resolves_to_the_table_of_the_story(command: tuple[str, ...], file: str, secret: str) -> None:
    resolved = resolve(command, file, REDIS_PASSWORD_FILE=secret)
    redis = resolved["services"]["redis"]
    assert redis["image"] == "redis:7-alpine"
    assert redis["container_name"] == "binance-bot-redis"
    assert redis["ports"] == ["127.0.0.1:6379:6379/tcp"]
    assert redis["volumes"]["/data"] == {"type": "volume", "source": "redis_data", "target": "/data", "read_only": False}
    assert redis["command"] == COMMAND.split()
    assert redis["healthcheck"]["interval"] == 10
    assert redis["healthcheck"]["test"][0] == "CMD-SHELL"
    assert re.search(r"\bredis-cli (--user app )?ping\b", redis["healthcheck"]["test"][1])
    assert list(redis["networks"]) == ["trading-network"]
    assert redis["restart"] == "unless-stopped"
    assert list(resolved["networks"]) == ["trading-network"]
    assert list(resolved["volumes"]) == ["redis_data"]
    assert (resolved["volumes"]["redis_data"] or {}).get("name", "_redis_data").endswith("_redis_data")
    assert set(resolved["services"]) == {"redis", "health"}


@each_compose
@each_file
def test_server_has_time_and_memory_and_its_log_is_bounded(command: tuple[str, ...], file: str, secret: str) -> None:
    services = resolve(command, file, REDIS_PASSWORD_FILE=secret)["services"]
    redis = services["redis"]
    assert redis["stop_grace_period"] >= 30
    assert redis["mem_limit"] >= 2 * in_bytes(flag(redis["command"], "maxmemory"))
    check = redis["healthcheck"]
    assert (check["interval"] + check["timeout"]) * check["retries"] <= 30, "a sick server is told within three intervals"
    for service in services.values():
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


@each_compose
@each_file
def test_health_endpoint_asks_the_server_in_its_network(command: tuple[str, ...], file: str, secret: str) -> None:
    services = resolve(command, file, REDIS_PASSWORD_FILE=secret)["services"]
    health = services["health"]
    assert health["environment"].items() >= {"REDIS_HOST": "redis", "REDIS_PORT": "6379"}.items()
    assert list(health["networks"]) == list(services["redis"]["networks"])
    assert health["ports"] == ["127.0.0.1:8080:8080/tcp"]
    assert health["restart"] == "unless-stopped"
    assert health["read_only"] is True
    assert health["cap_drop"] == ["ALL"]
    assert health["security_opt"] == ["no-new-privileges:true"]
    assert health["volumes"] == {}


@each_compose
def test_production_adds_least_rights_and_changes_nothing_else(command: tuple[str, ...], secret: str) -> None:
    dev = resolve(command, DEV)
    prod = resolve(command, PROD, REDIS_PASSWORD_FILE=secret)
    redis = prod["services"]["redis"]
    assert prod["secrets"]["redis_password"]["file"] == secret
    assert [entry["source"] for entry in redis["secrets"]] == ["redis_password"]
    assert redis["read_only"] is True
    assert redis["cap_drop"] == ["ALL"]
    assert redis["security_opt"] == ["no-new-privileges:true"]
    assert redis["user"].split(":")[0] not in {"", "0", "root"}
    assert {target for target, mount in redis["volumes"].items() if not mount["read_only"]} == {"/data"}
    added = {"entrypoint", "secrets", "user", "read_only", "tmpfs", "cap_drop", "security_opt"}
    assert redis.keys() - dev["services"]["redis"].keys() == added
    assert dev["services"]["redis"].keys() <= redis.keys()
    changed = {name for name, value in dev["services"]["redis"].items() if redis[name] != value}
    assert changed == {"healthcheck", "volumes"}
    health = prod["services"]["health"]
    assert [entry["source"] for entry in health["secrets"]] == ["redis_password"]
    assert health["environment"].items() >= {"REDIS_USERNAME": "app", "REDIS_PASSWORD_FILE": "/run/secrets/redis_password"}.items()
    assert {name for name, value in dev["services"]["health"].items() if health[name] != value} == {"environment"}


def test_production_repeats_nothing_of_the_story() -> None:
    text = (COMPOSE_FOLDER / PROD).read_text()
    assert text.count(f"extends: {{file: {DEV}, service: ") == 2
    for word in (
        "redis:7-alpine",
        "redis-server",
        "appendonly",
        "maxmemory",
        "container_name",
        "restart",
        "ports",
        "interval",
        "mem_limit",
    ):
        assert word not in text


@each_compose
def test_secret_of_production_has_a_place_beside_the_files(command: tuple[str, ...]) -> None:
    secrets = resolve(command, PROD)["secrets"]
    assert secrets["redis_password"]["file"] == str(COMPOSE_FOLDER / "secrets" / "redis_password")


@each_compose
@each_file
@pytest.mark.parametrize(("variable", "value", "service", "key", "shown"), VARIABLES, ids=[row[0] for row in VARIABLES])
def test_variable_changes_what_it_names_and_nothing_else(
    command: tuple[str, ...], file: str, variable: str, value: str, service: str, key: str, shown: Any, secret: str
) -> None:
    usual = resolve(command, file, REDIS_PASSWORD_FILE=secret)
    changed = resolve(command, file, REDIS_PASSWORD_FILE=secret, **{variable: value})
    found, was = (resolved["services"][service].pop(key) for resolved in (changed, usual))
    # Of several arguments or variables the one, and the others as they were.
    assert found == (was | shown if isinstance(was, dict) else shown) != was
    assert changed == usual


def test_files_read_no_other_variable() -> None:
    text = (COMPOSE_FOLDER / DEV).read_text() + (COMPOSE_FOLDER / PROD).read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert set(re.findall(r"\$\{([A-Z_]+)", "\n".join(lines))) == {"REDIS_PASSWORD_FILE", *(row[0] for row in VARIABLES)}


@each_compose
@each_file
def test_runbook_adds_nothing_but_its_label(command: tuple[str, ...], file: str, secret: str) -> None:
    variables = {"COMPOSE_PROJECT_NAME": "a-project", "REDIS_PASSWORD_FILE": secret}
    alone = resolve(command, file, **variables)
    owned = resolve(command, file, OWNED, **variables)
    label = {"redis-runbook.project": "a-project"}
    for name in ("redis", "health"):
        assert owned["services"][name].pop("labels") == label
    assert owned["networks"]["trading-network"].pop("labels") == label
    assert owned["volumes"]["redis_data"].pop("labels") == label
    assert without_empty_anchors(owned) == without_empty_anchors(alone)


def without_empty_anchors(resolved: dict[str, Any]) -> dict[str, Any]:
    """Leave out what v2 repeats of a file's `x-` parts, which make nothing."""
    return {name: value for name, value in resolved.items() if not name.startswith("x-")}


@each_compose
def test_label_is_never_empty(command: tuple[str, ...]) -> None:
    """With an empty one, a run would take another's containers for its own: v1 refuses, v2 names a project by its folder."""
    result = run_config(command, DEV, OWNED, COMPOSE_PROJECT_NAME="")
    if result.returncode:
        assert "COMPOSE_PROJECT_NAME" in result.stderr
    else:
        assert yaml.safe_load(result.stdout)["services"]["redis"]["labels"] == {"redis-runbook.project": COMPOSE_FOLDER.name}


@pytest.fixture(scope="module", params=[DEV, PROD])
def live(request: pytest.FixtureRequest) -> Iterator[tuple[str, Compose]]:
    with Compose(ENVIRON, request.param) as project:
        yield request.param, project


@pytest.fixture
def resolved(live: tuple[str, Compose]) -> dict[str, Any]:
    """What the file resolves to for the project that runs."""
    file, project = live
    variables = {
        "COMPOSE_PROJECT_NAME": project.project,
        "REDIS_CONTAINER": project.container.name,
        "REDIS_BIND": project.config.host,
        "REDIS_PORT": str(project.config.port),
        "REDIS_PASSWORD_FILE": str(project.folder / "redis_password"),
    }
    given = {name: ENVIRON[name] for name in ("REDIS_IMAGE", "PYTHON_IMAGE", "HEALTH_IMAGE") if name in ENVIRON}
    return resolve(project.docker.compose, file, OWNED, **variables, **given)


def test_container_is_what_the_file_says(live: tuple[str, Compose], resolved: dict[str, Any]) -> None:
    project, redis = live[1], resolved["services"]["redis"]
    found = project.container.inspect()
    config, host = found["Config"], found["HostConfig"]
    assert found["Name"] == f"/{redis['container_name']}"
    assert config["Image"] == redis["image"]
    assert found["Image"] == project.docker.inspect(redis["image"])["Id"]
    assert config["Cmd"] == redis["command"]
    assert host["RestartPolicy"]["Name"] == redis["restart"]
    assert host["Memory"] == redis["mem_limit"]
    assert host["LogConfig"] == {"Type": redis["logging"]["driver"], "Config": redis["logging"]["options"]}
    assert config["StopTimeout"] == redis["stop_grace_period"]
    checked = config["Healthcheck"]
    assert (checked["Test"], checked["Retries"]) == (redis["healthcheck"]["test"], redis["healthcheck"]["retries"])
    assert checked["Interval"] == redis["healthcheck"]["interval"] * 10**9
    assert checked["Timeout"] == redis["healthcheck"]["timeout"] * 10**9
    ports = {f"{one['HostIp']}:{one['HostPort']}:{inner}" for inner, bound in host["PortBindings"].items() for one in bound}
    assert ports == set(redis["ports"])
    assert found["NetworkSettings"]["Ports"] == host["PortBindings"]
    assert list(found["NetworkSettings"]["Networks"]) == [f"{project.project}_trading-network"]
    assert config["Labels"].items() >= redis["labels"].items()


def test_mounts_are_what_the_file_says(live: tuple[str, Compose], resolved: dict[str, Any]) -> None:
    project, redis = live[1], resolved["services"]["redis"]
    mounts = {mount["Destination"]: mount for mount in project.container.inspect()["Mounts"]}
    data = mounts["/data"]
    assert (data["Type"], data["Name"], data["RW"]) == ("volume", project.volume, True)
    binds = {target: mount["Source"] for target, mount in mounts.items() if mount["Type"] == "bind"}
    said = {target: mount["source"] for target, mount in redis["volumes"].items() if mount["type"] == "bind"}
    secrets = {f"/run/secrets/{entry['source']}": str(project.folder / entry["source"]) for entry in redis.get("secrets", [])}
    assert binds == said | secrets
    assert not any(mounts[target]["RW"] for target in said)
    assert project.docker.inspect(project.volume)["Labels"].items() >= resolved["volumes"]["redis_data"]["labels"].items()


def test_privileges_are_what_the_file_says(live: tuple[str, Compose], resolved: dict[str, Any]) -> None:
    redis = resolved["services"]["redis"]
    found = live[1].container.inspect()
    assert found["HostConfig"]["ReadonlyRootfs"] is redis.get("read_only", False)
    assert found["HostConfig"]["CapDrop"] == redis.get("cap_drop")
    assert found["HostConfig"]["SecurityOpt"] == redis.get("security_opt")
    assert found["Config"]["User"] == redis.get("user", "")
    assert [":".join(item) for item in (found["HostConfig"].get("Tmpfs") or {}).items()] == redis.get("tmpfs", [])
    assert found["HostConfig"]["Privileged"] is False
    if "entrypoint" in redis:
        assert found["Config"]["Entrypoint"] == redis["entrypoint"]


def test_server_says_the_flags_of_the_file(live: tuple[str, Compose], resolved: dict[str, Any]) -> None:
    file, project = live
    command = resolved["services"]["redis"]["command"]
    with connect(project.config, decode_responses=True) as client:
        said = client.info("memory") | client.info("persistence")
        if file == DEV:  # where the user may ask
            assert client.config_get("appendfsync") == {"appendfsync": flag(command, "appendfsync")}
    assert said["maxmemory"] == in_bytes(flag(command, "maxmemory"))
    assert said["maxmemory_policy"] == flag(command, "maxmemory-policy")
    assert said["aof_enabled"] == (flag(command, "appendonly") == "yes")

"""Production: a password that nobody sees, a user with the least rights, and a health check that is not fooled."""

import hashlib
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
import yaml

from cachelib import connect
from runbook.targets import TargetError
from runbook.targets.compose import DEV, PROD, Compose
from tests.compose.conftest import COMPOSE_FOLDER, ENVIRON

pytestmark = pytest.mark.timeout(120)

COMMANDS = ("PING", "GET a", "SET a b", "INCR a", "DEL a", "MULTI", "EVAL return 0", "SUBSCRIBE a", "INFO", "CLIENT LIST", "SCAN 0")
DENIED = tuple(
    command.strip()
    for command in """
        FLUSHALL | FLUSHDB | SWAPDB 0 1 | KEYS * | SORT a | RESTORE a 0 x | MIGRATE 127.0.0.1 1 a 0 1 | PFDEBUG ENCODING a | PFSELFTEST
        | CONFIG GET * | CONFIG SET maxmemory 0 | CONFIG RESETSTAT | CONFIG REWRITE
        | ACL LIST | ACL GETUSER app | ACL WHOAMI | ACL SETUSER app +@all | MODULE LIST | MODULE LOAD /data/x.so
        | DEBUG SLEEP 0 | DEBUG JMAP | SHUTDOWN NOSAVE | BGREWRITEAOF | BGSAVE | SAVE | LASTSAVE
        | REPLICAOF NO ONE | SLAVEOF NO ONE | FAILOVER | CLUSTER RESET | SYNC | PSYNC ? -1 | REPLCONF listening-port 1 | ROLE
        | MONITOR | CLIENT LIST | CLIENT KILL TYPE normal | CLIENT PAUSE 1 | SLOWLOG GET | SLOWLOG RESET | LATENCY RESET | LATENCY DOCTOR
    """.split("|")
)
# The server refuses these to everybody who does not sit on its own host, before it looks at users.
LOCAL = ("DEBUG", "MODULE")


@pytest.fixture(scope="module")
def prod() -> Iterator[Compose]:
    with Compose(ENVIRON, PROD) as project:
        project.up_health()
        yield project


@pytest.fixture
def app(prod: Compose) -> Iterator[redis.Redis]:
    """redis-py's own client as the application's user."""
    config = prod.config
    assert config.password
    with redis.Redis(config.host, config.port, username="app", password=config.password.reveal(), decode_responses=True) as app:
        yield app


@pytest.fixture
def password(prod: Compose) -> str:
    assert prod.config.password
    return prod.config.password.reveal()


@pytest.fixture
def put_secret(prod: Compose, password: str) -> Iterator[Callable[[str], None]]:
    """Change what both containers read as the secret, without a word to the server."""
    path = prod.folder / "redis_password"

    def put(text: str) -> None:
        path.chmod(0o644)
        path.write_text(text)

    yield put
    put(password)


def raw(project: Compose, *lines: str) -> list[str]:
    """Send each line on a connection that says nothing else, and return the first line of each answer."""
    address = (project.config.host, project.config.port)
    with closing(socket.create_connection(address, timeout=10)) as connection, connection.makefile("rwb") as stream:
        answers = []
        for line in lines:
            stream.write(line.encode() + b"\r\n")
            stream.flush()
            answers.append(stream.readline().decode().strip())
        return answers


def execute(project: Compose, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run something in the server's container."""
    return subprocess.run(
        ["docker", "exec", project.container.name, *command],
        env=project.docker.environ,
        capture_output=True,
        text=True,
        check=False,
        **{"timeout": 20, **options},
    )


def check_of(file: str) -> str:
    """Return the shell's command line of the health check in a compose file."""
    test = yaml.safe_load((COMPOSE_FOLDER / file).read_text())["services"]["redis"]["healthcheck"]["test"]
    assert test[0] == "CMD-SHELL"
    return str(test[1]).replace("$$", "$")


def test_nothing_is_answered_without_a_password(prod: Compose) -> None:
    for command in (*COMMANDS, *DENIED, "HELLO 3"):
        assert is_refused(raw(prod, command)[0], command, "-NOAUTH"), command


def is_refused(answer: str, command: str, error: str) -> bool:
    return answer.startswith((error, "-ERR " + command.split()[0] + " command not allowed") if command.startswith(LOCAL) else error)


def test_default_user_is_off(prod: Compose, password: str) -> None:
    for attempt in (
        "AUTH default x",
        f"AUTH {password}",
        f"AUTH default {password}",
        'AUTH default ""',
        f"HELLO 3 AUTH default {password}",
    ):
        assert raw(prod, attempt)[0].startswith("-WRONGPASS"), attempt
        assert raw(prod, attempt, "PING")[1].startswith("-NOAUTH"), attempt


def test_wrong_password_is_refused(prod: Compose, password: str) -> None:
    for attempt in (password[:-1], password + "x", password.upper(), "", hashlib.sha256(password.encode()).hexdigest()):
        assert raw(prod, f'AUTH app "{attempt}"', "PING") == [
            "-WRONGPASS invalid username-password pair or user is disabled.",
            "-NOAUTH Authentication required.",
        ]
    assert raw(prod, f"AUTH app {password}", "PING") == ["+OK", "+PONG"]


def test_application_has_what_it_needs(app: redis.Redis) -> None:
    assert app.ping()
    assert app.set("a", 1, ex=60)
    assert app.get("a") == "1"
    assert app.incr("a") == 2
    with app.pipeline(transaction=True) as transaction:
        transaction.watch("a")
        transaction.multi()
        transaction.incr("a").get("a")
        assert transaction.execute() == [3, "3"]
    assert app.eval("return redis.call('INCR', KEYS[1])", 1, "a") == 4
    assert app.hset("h", "field", "value") == app.zadd("z", {"member": 1}) == app.rpush("l", "item") == 1
    assert {*app.scan_iter()} >= {"a", "h", "z", "l"}
    assert app.info("server")["redis_version"]
    with app.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("channel")
        subscriber.get_message(timeout=5)
        assert app.publish("channel", "message") == 1
        assert (subscriber.get_message(timeout=5) or {})["data"] == "message"
    assert app.delete("a", "h", "z", "l") == 4


@pytest.mark.parametrize("command", DENIED)
def test_application_may_not(command: str, prod: Compose, password: str, app: redis.Redis) -> None:
    app.set("kept", "value")
    words = ", ".join(repr(word) for word in command.split())
    login = f"AUTH app {password}"
    assert is_refused(raw(prod, login, command)[1], command, "-NOPERM")
    scripted = raw(prod, login, f'EVAL "return redis.call({words})" 0')[1]
    assert re.match("-ERR .*(can't run this command|not allowed from script)", scripted), "nor by way of a script"
    refused, executed = raw(prod, login, "MULTI", command, "EXEC")[2:]
    assert (refused[0], executed[:10]) == ("-", "-EXECABORT"), "nor within a transaction"
    assert app.get("kept") == "value"


def test_denied_commands_are_commands(compose: Compose) -> None:
    """A server denies what it does not know as well."""
    known = execute(compose, "redis-cli", "command", "list").stdout.upper().split()
    assert {command.split()[0] for command in DENIED} <= {*known}


def test_password_is_nowhere_to_be_seen(prod: Compose, password: str) -> None:
    containers = (prod.container, prod.health_endpoint.container)
    config = prod.docker.run_compose(
        "--file", str(COMPOSE_FOLDER / PROD), command=("config",), environ={"REDIS_PASSWORD_FILE": str(prod.folder / "redis_password")}
    )
    seen = {"config": config, "health": "".join(prod.health_endpoint.ask(path).text for path in ("/health", "/metrics", "/readyz"))}
    for container in containers:
        seen |= {
            f"inspect {container.name}": json.dumps(container.inspect()),
            f"top {container.name}": prod.docker.run("top", container.name, "-eo", "pid,args"),
            f"environ {container.name}": prod.docker.run("exec", container.name, "cat", "/proc/1/environ", "/proc/1/cmdline"),
            f"log {container.name}": container.log(),
        }
    assert all(seen.values()), "each of it shows something"
    for name, text in seen.items():
        assert password not in text, name
    files = execute(prod, "grep", "-rlF", password, "/data", "/run/redis", "/usr/local/etc", "/tmp").stdout.split()
    assert files == []
    assert execute(prod, "grep", "-rlF", password, "/run/secrets").stdout.split() == ["/run/secrets/redis_password"]


def test_process_list_of_a_check_shows_no_password(prod: Compose, password: str, eventually: Any) -> None:
    """Of a server that stands still, so that the check waits; with `-a` it would show it."""

    def processes_of_check() -> str:
        listed = prod.docker.run("top", prod.container.name, "-eo", "pid,args")
        return listed if re.search(r"^ *\d+ +redis-cli ", listed, re.MULTILINE) else ""

    trap = 'redis-cli --user app -a "$(cat /run/secrets/redis_password)" ping'
    for check, shown in ((check_of(PROD), False), (trap, True)):
        prod.pause()
        try:
            command = ["docker", "exec", prod.container.name, "sh", "-c", check]
            waiting = subprocess.Popen(command, env=prod.docker.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            processes = eventually(processes_of_check)
        finally:
            prod.resume()
        assert waiting.wait(timeout=20) == 0
        assert (password in processes) == shown


def test_only_the_hash_is_kept_and_for_the_server_alone(prod: Compose, password: str) -> None:
    users = execute(prod, "cat", "/run/redis/users.acl").stdout
    assert f"#{hashlib.sha256(password.encode()).hexdigest()} " in users
    assert "PASSWORD_SHA256" not in users
    assert execute(prod, "stat", "-c", "%a %u", "/run/redis/users.acl").stdout.split() == ["600", "999"]
    assert execute(prod, "stat", "-c", "%a %u", "/run/redis").stdout.split() == ["700", "999"]
    with pytest.raises(TargetError, match="Permission denied"):
        prod.docker.run("exec", "--user", "65534", prod.container.name, "cat", "/run/redis/users.acl")


@pytest.mark.parametrize("user", ["0", "999"])
def test_nothing_but_the_data_can_be_written(user: str, prod: Compose) -> None:
    paths = ("/x", "/etc/x", "/usr/local/bin/x", "/run/secrets/x", "/usr/local/etc/redis/start.sh", "/usr/local/etc/redis/users.acl")
    touch = ["docker", "exec", "--user", user, prod.container.name, "touch"]
    for path in paths:
        touched = subprocess.run([*touch, path], env=prod.docker.environ, capture_output=True, text=True, timeout=20, check=False)
        assert touched.returncode, path
        assert "Read-only file system" in touched.stderr or (user != "0" and "Permission denied" in touched.stderr), path
    assert execute(prod, "sh", "-c", "touch /data/x && rm /data/x").returncode == 0


@pytest.mark.parametrize(("service", "user"), [("redis", 999), ("health", 65534)])
def test_process_has_no_privileges(service: str, user: int, prod: Compose) -> None:
    container = prod.container if service == "redis" else prod.health_endpoint.container
    lines = prod.docker.run("exec", container.name, "cat", "/proc/1/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Name"] == ["redis-server" if service == "redis" else "python"]
    assert status["Uid"] == [str(user)] * 4
    assert "0" not in status["Gid"] or service == "health"
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities][0], 16) == 0, capabilities
    assert status["NoNewPrivs"] == ["1"]


def test_data_survive_a_new_container(prod: Compose, app: redis.Redis) -> None:
    before = prod.container.inspect()["Id"]
    with app.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.set(f"survives:{number}", number)
        pipeline.execute()
    prod.recreate()
    assert prod.container.inspect()["Id"] != before
    assert app.mget(f"survives:{number}" for number in range(1000)) == [str(number) for number in range(1000)]


def test_health_endpoint_logs_in(prod: Compose) -> None:
    answer = prod.health_endpoint.ask("/health")
    assert (answer.status, json.loads(answer.text)["status"]) == (200, "healthy")
    assert prod.health_endpoint.ask("/readyz").status == 200


def test_engine_finds_the_server_healthy(prod: Compose) -> None:
    prod.await_health("healthy")
    assert prod.container.inspect()["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", check_of(PROD)]


def test_check_succeeds_on_a_good_server(prod: Compose) -> None:
    checked = execute(prod, "sh", "-c", check_of(PROD))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_check_fails_with_a_wrong_password(prod: Compose, put_secret: Callable[[str], None]) -> None:
    """`redis-cli` alone exits with 0."""
    put_secret("wrong")
    assert execute(prod, "sh", "-c", check_of(PROD)).returncode
    trap = execute(prod, "sh", "-c", check_of(PROD).replace("| grep -qx PONG", ""))
    assert "WRONGPASS" in trap.stdout + trap.stderr
    assert trap.returncode == 0


def test_check_fails_without_a_password(prod: Compose) -> None:
    """The check of the other file, on a server that wants a password; `redis-cli ping` alone exits with 0."""
    assert execute(prod, "sh", "-c", check_of(DEV)).returncode
    trap = execute(prod, "redis-cli", "ping")
    assert (trap.returncode, trap.stdout.strip()) == (0, "NOAUTH Authentication required.")


def test_check_fails_while_the_server_stands_still(prod: Compose, eventually: Any) -> None:
    def failed() -> list[dict[str, Any]]:
        health = prod.container.inspect()["State"]["Health"]
        return [probe for probe in health["Log"] if probe["ExitCode"] != 0] if health["FailingStreak"] else []

    prod.await_health("healthy")
    prod.pause()
    try:
        probe = eventually(failed, timeout_s=15.0)[-1]
    finally:
        prod.resume()
    assert "timeout" in probe["Output"]


def test_check_fails_on_a_dead_server(prod: Compose) -> None:
    """On a port where none listens."""
    assert execute(prod, "sh", "-c", check_of(PROD).replace("redis-cli ", "redis-cli -p 1 ")).returncode


def test_check_fails_while_the_server_loads(own_compose: Compose) -> None:
    """A server that takes 10 ms for each of its keys; `redis-cli ping` alone exits with 0."""
    with connect(own_compose.config) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(3000):
            pipeline.set(f"key:{number}", "x" * 1000)
        pipeline.execute()
    assert execute(own_compose, "redis-cli", "save").stdout == "OK\n"
    own_compose.stop()
    image, name = own_compose.container.inspect()["Config"]["Image"], f"{own_compose.project}-loads"
    flags = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    label = f"redis-runbook.project={own_compose.project}"
    run = ("run", "--detach", "--name", name, "--label", label, "--network", "none", "--volume", f"{own_compose.volume}:/data")
    own_compose.docker.run(*run, image, "redis-server", *flags)
    try:

        def ask(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["docker", "exec", name, *command], env=own_compose.docker.environ, capture_output=True, text=True, timeout=20, check=False
            )

        trap = ask("redis-cli", "ping")
        assert (trap.returncode, trap.stdout.split()[0]) == (0, "LOADING")
        assert ask("sh", "-c", check_of(DEV)).returncode
        assert ask("redis-cli", "ping").stdout.startswith("LOADING"), "it still loads"
    finally:
        own_compose.docker.run("rm", "--force", name)
    own_compose.start()
    assert execute(own_compose, "sh", "-c", check_of(DEV)).returncode == 0


@pytest.mark.parametrize(
    "blank",
    [
        pytest.param("", id="empty", marks=pytest.mark.nightly),
        pytest.param("\n", id="line end", marks=pytest.mark.nightly),
        pytest.param("\r\n", id="line end of Windows"),
    ],
)
def test_blank_secret_is_an_error_at_the_start(blank: str, prod: Compose, put_secret: Callable[[str], None], password: str) -> None:
    put_secret(blank)
    with pytest.raises(TargetError, match=r"start\.sh: /run/secrets/redis_password is blank"):
        prod.recreate()
    # Before it finds a password: the shell, as the container's first process, is deaf to SIGTERM, and the stop would take a minute.
    prod.stop()
    put_secret(password)
    prod.recreate()


def test_absent_secret_is_an_error_at_the_start(open_compose: Callable[..., Compose]) -> None:
    prod = open_compose(PROD)
    secret = prod.folder / "redis_password"
    secret.unlink()
    with pytest.raises(TargetError, match="redis_password"):
        prod.recreate()


@pytest.mark.parametrize(
    "end", [pytest.param("\n", id="line end", marks=pytest.mark.nightly), pytest.param("\r\n", id="line end of Windows")]
)
def test_line_end_of_the_secret_is_no_part_of_the_password(
    end: str, prod: Compose, put_secret: Callable[[str], None], password: str, app: redis.Redis
) -> None:
    put_secret(password + end)
    prod.recreate()
    assert app.ping()
    assert execute(prod, "sh", "-c", check_of(PROD)).returncode == 0
    prod.docker.run("restart", prod.health_endpoint.container.name)
    prod.health_endpoint.await_answer()
    assert prod.health_endpoint.ask("/health").status == 200


def test_secret_that_the_server_may_not_read_is_an_error_at_the_start(open_compose: Callable[..., Compose]) -> None:
    prod = open_compose(PROD)
    (prod.folder / "redis_password").chmod(0o400)
    with pytest.raises(TargetError, match="user 999 may not read it"):
        prod.recreate()

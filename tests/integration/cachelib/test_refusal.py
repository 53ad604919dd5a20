"""What the server refuses: the login, a right, a command that a shared connection can't take. It is told at once, and no secret with it."""

import contextlib
from typing import Any

import pytest
import redis

from cachelib import CacheError, Event, Refused, Unavailable
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.integration.cachelib.commands import ping_alone, subscribe
from tests.pairs import pairs
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)

PASSWORD = "correct-horse-battery-staple"
AT_ONCE_S = 0.3

REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": ({"password": "wr0ng-password"}, "it does not accept this user name and password"),
    # Redis's own words hold it, and must not be taken for the secret.
    "password that is a word of the answer": ({"password": "user"}, "it does not accept this user name and password"),
    "no password": ({}, "it asks for a password, and none is set"),
    "unknown user": ({"username": "nobody", "password": PASSWORD}, "it does not accept this user name and password"),
    "wrong database": ({"password": PASSWORD, "db": 99}, "DB index is out of range"),
    "missing right": ({"username": "timid", "password": PASSWORD, "db": 1}, "no permissions"),
}

USES = {
    "fifty INCR": lambda client: [raised(outcome) for outcome in results([Task(lambda: client.incr("n")) for _ in range(50)])],
    "pipeline": lambda client: client.pipeline().get("k").execute(),
    "WATCH": lambda client: client.pipeline().watch("k"),
    "SUBSCRIBE": subscribe,
    "single connection": ping_alone,
}


def raised(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.mark.parametrize(
    ("refusal", "name"),
    pairs([*((refusal, "fifty INCR") for refusal in REFUSALS), *(("wrong password", name) for name in USES)], REFUSALS, USES),
)
def test_wrong_credentials_are_refused_at_once(refusal: str, name: str, own_server: Embedded, admin: Any, open_client: Any) -> None:
    changes, reason = REFUSALS[refusal]
    admin.execute_command("ACL", "SETUSER", "timid", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-select")
    admin.config_set("requirepass", PASSWORD)
    client = open_client(own_server, deadline_s=10.0, **changes)
    before = admin.info("stats")["total_connections_received"]
    end = end_of(lambda: USES[name](client))
    error = end.outcome
    assert (end.kind, end.is_by(AT_ONCE_S)) == (Refused, True)
    assert isinstance(error, redis.AuthenticationError)
    assert admin.info("stats")["total_connections_received"] - before <= (50 if name == "fifty INCR" else 1)  # one attempt a call
    assert f"127.0.0.1:{own_server.config.port}/{changes.get('db', 0)} refused the connection: " in str(error)
    assert reason in str(error)
    assert "Check REDIS_USERNAME, REDIS_PASSWORD and REDIS_DB" in str(error)
    assert [secret for secret in (PASSWORD, "wr0ng") if secret in repr(error) + repr(error.__cause__) + repr(client)] == []
    assert (client.pool_stats().in_use, client.pool_stats().waiting, client.pool_stats().outages) == (0, 0, 0)


def test_right_password_is_accepted_after_it_was_set(own_server: Embedded, admin: Any, open_client: Any) -> None:
    client = open_client(own_server, password=PASSWORD)
    admin.config_set("requirepass", "another")
    with pytest.raises(Refused):
        client.get("k")
    admin.config_set("requirepass", PASSWORD)
    assert client.get("k") is None
    shown = [client, client.connection_pool, client.connection_pool.config, client.pipeline()]
    assert [text for text in map(repr, shown) if PASSWORD in text] == []


@pytest.mark.parametrize("password", [PASSWORD, "token-" * 40], ids=["short", "longer than what is repeated"])
def test_password_that_a_server_without_hello_repeats_is_not_shown(password: str, start_server: Any, open_client: Any) -> None:
    server = start_server("--rename-command", "HELLO", "")
    with pytest.raises(Refused, match=r"\*\*\*") as caught:
        open_client(server, password=password).get("k")
    error: BaseException | None = caught.value
    while error is not None:
        assert password[:6] not in repr(error)
        error = error.__cause__ or error.__context__


def test_full_server_is_named_as_the_reason(own_server: Embedded, admin: Any, open_client: Any) -> None:
    admin.ping()
    admin.config_set("maxclients", 1)
    with pytest.raises(Unavailable, match="max number of clients"):
        open_client(own_server, deadline_s=0.2).get("k")


def test_missing_right_is_told_at_once_and_nothing_is_tried_again(own_server: Embedded, admin: Any, open_client: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", f">{PASSWORD}", "~*", "+@all", "-incrby")
    with pytest.raises(redis.exceptions.NoPermissionError):
        open_client(own_server, username="bot", password=PASSWORD).incrby("n")
    assert admin.info("commandstats")["cmdstat_incrby"]["rejected_calls"] == 1


def test_command_that_was_refused_for_want_of_a_login_did_nothing(own_server: Embedded, admin: Any, open_client: Any) -> None:
    """Its connection had lost the login, which RESET does."""
    admin.config_set("requirepass", PASSWORD)
    with open_client(own_server, password=PASSWORD).client() as single:
        single.execute_command("RESET")
        with pytest.raises(redis.AuthenticationError):
            single.execute_command("DECR", "n")
    assert not admin.exists("n")


@pytest.mark.parametrize("command", ["MULTI", "WATCH k", "SELECT 2", "MONITOR", "SUBSCRIBE c", "CLIENT REPLY OFF", "RESET", "multi"])
def test_command_that_changes_its_connection_is_refused_where_others_share_it(command: str, server: Embedded, open_client: Any) -> None:
    client = open_client(server)
    with pytest.raises(redis.DataError, match=r"client\.client\(\)"):
        client.execute_command(*command.split())
    with pytest.raises(redis.DataError):
        client.pipeline(transaction=False).select(2).execute()


def test_error_reply_is_raised_at_once_and_frees_the_connection(server: Embedded, open_client: Any) -> None:
    client = open_client(server, decode_responses=True)
    client.set("k", "text")
    uses: list[tuple[Any, type[Exception]]] = [
        (lambda: client.execute_command("FROBNICATE"), redis.ResponseError),
        (lambda: client.execute_command("GET"), redis.ResponseError),
        (lambda: client.incr("k"), redis.ResponseError),
        (lambda: client.evalsha("0" * 40, 0), redis.exceptions.NoScriptError),
        (lambda: client.set("k", object()), redis.DataError),
        (lambda: client.pipeline().execute_command("FROBNICATE").execute(), redis.ResponseError),
    ]
    for use, kind in uses:
        end = end_of(use)
        assert (isinstance(end.outcome, kind), end.is_by(AT_ONCE_S)) == (True, True)
    assert client.pool_stats().in_use == 0


def test_reply_that_can_not_be_decoded_concerns_its_own_caller_only(server: Embedded, open_client: Any) -> None:
    client = open_client(server, decode_responses=True)
    with redis.Redis(port=server.config.port) as writer:
        writer.set("binary", b"\xff\xfe")
    for use in (
        lambda: client.get("binary"),
        lambda: client.pipeline().get("binary").execute(),
        lambda: client.execute_command("get", "binary"),
    ):
        with pytest.raises(UnicodeDecodeError):
            use()
        assert client.incr("n")
    assert (client.pool_stats().unknown, client.pool_stats().in_use) == (0, 0)


def test_arguments_of_a_batch_are_told_to_nobody(own_server: Embedded, admin: Any, open_client: Any) -> None:
    """redis-py writes them into the error of the command that failed."""
    events: list[Event] = []
    admin.execute_command("REPLICAOF", "127.0.0.1", own_server.config.port)
    client = open_client(own_server, deadline_s=0.1, observers=[events.append])
    with pytest.raises(CacheError) as caught:
        client.pipeline().set("k", PASSWORD).set("k2", PASSWORD).execute()
    assert events
    assert PASSWORD not in f"{events} {caught.value}"


def test_name_that_can_not_be_looked_up_is_a_redis_error(server: Embedded, open_client: Any) -> None:
    with pytest.raises(redis.RedisError, match=r"nowhere\.invalid"):
        open_client(server, host="nowhere.invalid", deadline_s=0.3).ping()


def test_wait_of_asyncio_is_refused_where_it_could_say_nothing_about_the_writes(
    server: Embedded, open_client: Any, client_kind: str
) -> None:
    """They travel over the shared line, and it would over another connection, on which there was no write to wait for."""
    client = open_client(server)
    with contextlib.nullcontext() if client_kind == "threads" else pytest.raises(redis.DataError, match="one pipeline"):
        client.wait(0, 1)
    with pytest.raises(redis.ResponseError if client_kind == "threads" else redis.DataError):
        client.execute_command("WAITAOF", 0)
    with client.client() as single:
        single.set("k", "v")
        assert single.wait(0, 1) == 0
    assert client.pipeline(transaction=False).set("k", "v").wait(0, 1).execute() == [True, 0]

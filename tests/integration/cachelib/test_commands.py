"""Both clients as drop-ins for those of redis-py: every command is compared with theirs, side by side."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

import cachelib
from runbook.targets.embedded import Embedded
from tests.integration.cachelib.background import Task, results
from tests.integration.cachelib.bridge import bridged
from tests.integration.cachelib.commands import increment
from tests.pairs import pairs

pytestmark = pytest.mark.timeout(60)

Request = tuple[str, tuple[Any, ...], dict[str, Any]]


def method(name: str, *args: Any, **options: Any) -> Request:
    return name, args, options


COMMANDS = """
SET k v EX 100; SET k w NX; SET k é GET; GET k; GET missing; get k; Get k; APPEND k !; STRLEN k; MSET a 1 b 2.5;
MGET a missing b; INCR a; INCRBYFLOAT b 0.25; INCR k; SETBIT bits 7 1; BITCOUNT bits; EXPIREAT a 4000000000; EXPIRETIME a; PERSIST a;
TYPE k; EXISTS k a missing; COPY k copied; OBJECT ENCODING a; MEMORY USAGE missing; RPUSH l a b c; LRANGE l 0 -1; LPOS l b; LMPOP 1 l LEFT;
LMOVE l m LEFT RIGHT; BLPOP l 1; SORT m ALPHA; SADD s a b; SMEMBERS s; SMISMEMBER s a z; SINTERCARD 1 s; HSET h f 1 g é; HGETALL h;
hgetall h; HMGET h f missing; HINCRBYFLOAT h f 0.5; HRANDFIELD missing 2; ZADD z 1.5 a 2 b; ZADD z INCR 1 a; ZSCORE z a; ZPOPMIN z;
ZRANGE z 0 -1 WITHSCORES; ZMSCORE z a missing; BZPOPMIN z 1; GEOADD geo 13.4 52.5 berlin; GEOPOS geo berlin nowhere; PFADD hll a b;
PFCOUNT hll; XADD x 1-1 f é; XRANGE x - +; XREAD STREAMS x 0; XREAD BLOCK 10 STREAMS x 0; XREAD BLOCK 10 STREAMS x $; XLEN x;
XGROUP CREATE x group 0; XREADGROUP GROUP group me BLOCK 10 STREAMS x >; XPENDING x group; XACK x group 1-1; XINFO STREAM x; DUMP missing;
EVALSHA no-such-sha 0; SCRIPT EXISTS no; GET h; Config Get maxmemory; CONFIG SET no-such-parameter 1; CLIENT SETNAME me; ACL WHOAMI;
LCS a b; PING; ECHO é; PUBLISH nobody v; PUBSUB NUMSUB nobody; RENAME k renamed; RENAME missing renamed;
DEL renamed missing; DBSIZE; LASTSAVE; SCAN 0 MATCH h COUNT 1000; TOUCH h l; UNLINK h; EXISTS h
"""

ORDINARY = [
    *(method("execute_command", *command.split()) for command in COMMANDS.replace("\n", " ").split(";")),
    *(method("set", "k", value) for value in ("v", b"\x00\r\n", "é", "", 7, 1.5, 1e22, float("inf"), bytearray(b"b"), memoryview(b"m"))),
    method("get", memoryview(b"k")),
    method("sort", "m", alpha=True, store="sorted"),
    method("hset", "h", mapping={"f": 1, "g": "é"}),
    method("zadd", "z", {"a": 1.5, "b": 2}),
    method("zadd", "z", {"a": 1}, incr=True),
    method("zrangebyscore", "z", "-inf", "+inf", withscores=True, score_cast_func=str),
    method("geosearch", "geo", member="berlin", radius=1, unit="km", withdist=True),
    method("xreadgroup", "group", "me", {"x": "0"}, block=10),
    method("eval", "return {KEYS[1], ARGV[1], 3, {false, 'é'}}", 1, "k", "v"),
    method("eval", "return redis.error_reply('MY own')", 0),
    method("config_get", "maxmemory-policy"),
]

# What a pipeline refuses as a whole, or does not know.
ODD = [
    method("dump", "h"),
    method("execute_command", b"GET", b"a"),
    method("execute_command", "GET a"),
    method("execute_command", "CONFIG GET", "maxmemory"),
    method("execute_command", "GET", "a", NEVER_DECODE=True),
    method("execute_command", "HGETALL", "h", unknown_option=None),
    method("execute_command", "GET"),
    method("execute_command", "FROBNICATE", "k"),
    *(method("execute_command", "SET", "k", value) for value in (None, True, object(), "\ud800", ["v"])),
    method("execute_command", "COMMAND", "COUNT"),
    method("command_count"),
    method("execute_command", "UNWATCH"),
]


def perform(client: Any, made: Request) -> Any:
    name, args, options = made
    return getattr(client, name)(*args, **options)


def outcome(client: Any, made: Request) -> Any:
    """Return the reply, or the kind of the error and its text."""
    try:
        return perform(client, made)
    except redis.DataError:
        return redis.DataError  # redis-py words it differently from case to case
    except Exception as error:
        return type(error), str(error)


@contextlib.contextmanager
def redis_py(client_kind: str, server: Embedded, decode_responses: bool) -> Iterator[Any]:
    """redis-py's own client of the same kind, on a database of its own."""
    options = {"port": server.config.port, "db": 2, "decode_responses": decode_responses}
    with redis.Redis(**options) if client_kind == "threads" else bridged(lambda: redis.asyncio.Redis(**options)) as client:
        yield client


@pytest.mark.parametrize(("single", "decode_responses"), pairs([(False, False), (True, True)], [False, True], [False, True]))
def test_every_command_replies_as_that_of_redis_py(
    single: bool, decode_responses: bool, server: Embedded, open_client: Any, client_kind: str
) -> None:
    ours = open_client(server, db=1, decode_responses=decode_responses)
    with redis_py(client_kind, server, decode_responses) as theirs:
        client = ours.client() if single else ours
        for made in ORDINARY + ODD:
            assert (made, outcome(client, made)) == (made, outcome(theirs, made))
        client.close()


@pytest.mark.parametrize(("transaction", "decode_responses"), pairs([(True, True), (False, False)], [False, True], [False, True]))
def test_pipeline_replies_as_that_of_redis_py(
    transaction: bool, decode_responses: bool, server: Embedded, open_client: Any, client_kind: str
) -> None:
    def replies(client: Any) -> list[Any]:
        pipe = client.pipeline(transaction=transaction)
        assert all(perform(pipe, made) is pipe for made in ORDINARY)
        got = pipe.execute(raise_on_error=False)
        return [(made, repr(reply)) for made, reply in zip(ORDINARY, got, strict=True)]

    ours = open_client(server, db=1, decode_responses=decode_responses)
    with redis_py(client_kind, server, decode_responses) as theirs:
        assert replies(ours) == replies(theirs)


BATCHES = {
    "empty": [],
    "wrong type": [method("set", "k", "v"), method("incr", "k"), method("get", "k")],
    "arity": [method("set", "k", "v"), method("execute_command", "GET"), method("get", "k")],
    "unknown": [method("set", "k", "v"), method("execute_command", "FROBNICATE"), method("set", "k", "w")],
    "unencodable": [method("set", "k", "v"), method("set", "k", None)],
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("transaction", "raise_on_error"), pairs([(True, True), (False, False)], [False, True], [False, True]))
def test_error_in_a_pipeline_is_that_of_redis_py(
    batch: str, transaction: bool, raise_on_error: bool, server: Embedded, open_client: Any, client_kind: str
) -> None:
    def attempt(client: Any) -> Any:
        pipe = client.pipeline(transaction=transaction)
        for made in BATCHES[batch]:
            perform(pipe, made)
        return repr(outcome(pipe, method("execute", raise_on_error))), len(pipe), client.get("k")

    ours = open_client(server, db=1, decode_responses=True)
    with redis_py(client_kind, server, True) as theirs:
        assert attempt(ours) == attempt(theirs)
    assert ours.pool_stats().in_use == 0


def test_client_is_one_of_redis_py() -> None:
    assert issubclass(cachelib.Client, redis.Redis)
    assert issubclass(cachelib.AsyncClient, redis.asyncio.Redis)


def test_scans_find_everything_and_a_dump_is_restored(server: Embedded, open_client: Any) -> None:
    client = open_client(server, decode_responses=True)
    names = {f"ké{number}": number for number in range(600)}
    client.mset(names)
    client.hset("h", mapping=names)
    assert set(client.scan_iter("k*", 50)) == set(names)
    assert {name: int(value) for name, value in client.hscan_iter("h")} == names
    client.restore("copy", 0, client.dump("h"))
    assert client.hgetall("copy") == client.hgetall("h")


def test_empty_command_is_refused_at_once(server: Embedded, open_client: Any) -> None:
    client = open_client(server)
    for args in ((), ("",), (b"",), ("  ",)):
        with pytest.raises(redis.DataError, match="a command needs a name"):
            client.execute_command(*args)
    assert client.ping()


def test_every_caller_gets_its_own_reply(server: Embedded, open_client: Any) -> None:
    """Short and huge ones, raw ones, errors, and those of other connections."""
    client = open_client(server, decode_responses=True, deadline_s=20.0)

    def ask(number: int) -> None:
        for step in range(10):
            word = f"{number}:{step}:" + "é" * (1, 100, 70_000)[(number + step) % 3]
            if number % 7 == 0:
                assert client.pipeline(transaction=False).echo(word).execute() == [word]
            elif number % 7 == 1:
                assert client.execute_command("ECHO", word, NEVER_DECODE=True) == word.encode()
            elif number % 7 == 2:
                with pytest.raises(redis.ResponseError):
                    client.incr("text")
            else:
                assert client.echo(word) == word

    client.set("text", "v" * 20_000_000)  # more than may be in flight
    assert results([Task(lambda number=number: ask(number)) for number in range(35)]) == [None] * 35
    stats = client.pool_stats()
    assert (stats.lost, stats.unknown, stats.in_use, stats.waiting) == (0, 0, 0, 0)


def test_transaction_counts_right_under_contention(server: Embedded, open_client: Any) -> None:
    client = open_client(server, deadline_s=20.0)
    tasks = [Task(lambda: [increment(client) for _ in range(10)]) for _ in range(4)]
    assert results(tasks) == [[[True]] * 10] * 4
    assert client.get("w") == b"40"
    assert client.transaction(lambda pipe: "value", "w", value_from_callable=True) == "value"
    assert client.pool_stats().in_use == 0


def test_script_is_loaded_when_it_is_needed(server: Embedded, open_client: Any) -> None:
    client = open_client(server)
    script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert script(keys=["n"], args=[5]) == 5
    client.script_flush()
    assert script(keys=["n"], args=[5]) == 10
    client.script_flush()
    with client.pipeline() as pipe:
        script(keys=["n"], args=[1], client=pipe)
        script(keys=["n"], args=[1], client=pipe)
        assert pipe.execute() == [11, 12]


def test_lock_is_held_by_one(server: Embedded, open_client: Any) -> None:
    client = open_client(server)
    with client.lock("l", timeout=10) as lock:
        assert lock.owned()
        assert client.lock("l").acquire(blocking=False) is False
        assert lock.extend(10)
    assert client.exists("l") == 0


def test_shutdown_returns_when_the_server_is_gone(own_server: Embedded, open_client: Any) -> None:
    open_client(own_server, deadline_s=1.0).shutdown(nosave=True)


def test_connections_speak_resp3_and_end_with_the_block_of_the_client(
    own_server: Embedded, admin: Any, open_client: Any, eventually: Any
) -> None:
    client = open_client(own_server)
    for number in (1, 2):
        with client:
            assert client.incr("n") == number
            client.pipeline().get("n").execute()
            assert {peer["resp"] for peer in admin.client_list() if peer["id"] != str(admin.client_id())} == {"3"}
        eventually(lambda: len(admin.client_list()) == 1)
        assert (client.pool_stats().idle, client.pool_stats().in_use) == (0, 0)


def test_repr_and_pool_stats_of_a_client_that_has_done_nothing(server: Embedded, open_client: Any, client_kind: str) -> None:
    client = open_client(server, pool_size=2)
    kind, pool, size = ("Client", "FairPool", 2) if client_kind == "threads" else ("AsyncClient", "AsyncPool", 3)
    shown = f"<{pool} {server.config.endpoint} 0/{size} in use, 0 waiting>"
    assert repr(client) == f"<cachelib.{kind} {shown}>"
    assert repr(client.pipeline().get("k")) == f"<cachelib pipeline of 1 commands, {shown}>"
    assert {name: value for name, value in dataclasses.asdict(client.pool_stats()).items() if value} == {"size": size}


@pytest.mark.parametrize(("make", "advice"), [(cachelib.Client, "connect"), (cachelib.AsyncClient, "connect_async")])
def test_client_that_is_not_made_by_connect_is_refused_with_advice(make: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=rf"{advice}\(Config"):
        make(host="127.0.0.1")


@pytest.mark.parametrize("connect", [cachelib.connect, cachelib.connect_async])
def test_connect_reads_the_environment_if_given_nothing(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REDIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_PORT", "7000")
    monkeypatch.setenv("REDIS_DB", "1")
    assert connect().connection_pool.config.endpoint == "redis:7000/1"


def test_configured_database_and_user_are_used(own_server: Embedded, admin: Any, open_client: Any) -> None:
    admin.execute_command("ACL", "SETUSER", "bot", "on", ">S3cr3t", "~*", "+@all")
    client = open_client(own_server, db=3, username="bot", password="S3cr3t")
    client.set("k", "v")
    assert (client.acl_whoami(), client.client_info()["db"]) == (b"bot", 3) or client.acl_whoami() == "bot"
    assert admin.exists("k") == 0
    with redis.Redis(port=own_server.config.port, db=3) as other:
        assert other.get("k") == b"v"

"""The asyncio client against real servers: a drop-in `redis.asyncio.Redis`, where possible compared with it side by side."""

import asyncio
import contextlib
import dataclasses
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

import cachelib
from runbook.drills.faults import Proxy, delayed, losing_replies
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(30)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Request = tuple[str, tuple[Any, ...], dict[str, Any]]

PASSWORD = "S3cr3t-hunter2"
AT_ONCE_S = 0.5
# How late a failure may be on a noisy host; the design allows 0.05 s.
SLACK_S = 0.5
LONG_S = 10.0


@pytest.fixture
def admin(own_server: Embedded) -> Iterator[Any]:
    """redis-py's own client of the test's own server."""
    with redis.Redis(port=own_server.config.port) as admin:
        yield admin


@contextlib.asynccontextmanager
async def connected(server: Embedded, *, decode_responses: bool = False, observers: Any = None, **changes: Any) -> AsyncIterator[Any]:
    """Build a client for a server with some settings changed, closed after the block."""
    config = dataclasses.replace(server.config, **changes)
    client = cachelib.connect_async(config, decode_responses=decode_responses, observers=observers)
    try:
        yield client
    finally:
        await client.aclose()


def run(main: Any, server: Embedded, *, loop_factory: LoopFactory | None = None, **changes: Any) -> None:
    """Run a function of a client as `asyncio.run` does."""

    async def connect_and_run() -> None:
        async with asyncio.timeout(20.0), connected(server, **changes) as client:
            await main(client)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(connect_and_run())


async def failed_after_s(attempt: Callable[[], Any], kind: type[Exception] = cachelib.Unavailable) -> float:
    began_s = time.monotonic()
    with pytest.raises(kind):
        await attempt()
    return time.monotonic() - began_s


async def until(question: Callable[[], object]) -> None:
    """Wait until the answer is true."""
    async with asyncio.timeout(LONG_S):
        while not question():
            await asyncio.sleep(0.002)


# --- side by side with redis.asyncio ---


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


async def outcome(client: Any, made: Request) -> Any:
    """Return the reply, or the kind of the error and its text."""
    try:
        return await perform(client, made)
    except redis.DataError:
        return redis.DataError  # redis-py words it differently from case to case
    except Exception as error:
        return type(error), str(error)


@contextlib.asynccontextmanager
async def both(server: Embedded, *, decode_responses: bool) -> AsyncIterator[tuple[Any, Any]]:
    """Our client and redis.asyncio's, each with a database of its own."""
    async with (
        redis.asyncio.Redis(port=server.config.port, db=2, decode_responses=decode_responses) as theirs,
        connected(server, db=1, decode_responses=decode_responses) as ours,
    ):
        yield ours, theirs


@pytest.mark.parametrize("decode_responses", [False, True], ids=["bytes", "str"])
@pytest.mark.parametrize("single", [False, True], ids=["shared", "single connection"])
def test_every_command_replies_as_that_of_redis_asyncio(single: bool, decode_responses: bool, server: Embedded) -> None:
    async def main() -> None:
        async with both(server, decode_responses=decode_responses) as (ours, theirs):
            client = ours.client() if single else ours
            for made in ORDINARY + ODD:
                assert (made, await outcome(client, made)) == (made, await outcome(theirs, made))
            await client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("decode_responses", [False, True], ids=["bytes", "str"])
@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
def test_pipeline_replies_as_that_of_redis_asyncio(transaction: bool, decode_responses: bool, server: Embedded) -> None:
    async def replies(client: Any) -> list[Any]:
        pipe = client.pipeline(transaction=transaction)
        assert all(perform(pipe, made) is pipe for made in ORDINARY)
        got = await pipe.execute(raise_on_error=False)
        return [(made, repr(reply)) for made, reply in zip(ORDINARY, got, strict=True)]

    async def main() -> None:
        async with both(server, decode_responses=decode_responses) as (ours, theirs):
            assert await replies(ours) == await replies(theirs)

    asyncio.run(main())


BATCHES = {
    "empty": [],
    "wrong type": [method("set", "k", "v"), method("incr", "k"), method("get", "k")],
    "arity": [method("set", "k", "v"), method("execute_command", "GET"), method("get", "k")],
    "unknown": [method("set", "k", "v"), method("execute_command", "FROBNICATE"), method("set", "k", "w")],
    "unencodable": [method("set", "k", "v"), method("set", "k", None)],
}


@pytest.mark.parametrize("raise_on_error", [True, False], ids=["raised", "returned"])
@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "plain"])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_error_in_a_pipeline_is_that_of_redis_asyncio(batch: Any, transaction: bool, raise_on_error: bool, server: Embedded) -> None:
    async def attempt(client: Any) -> Any:
        pipe = client.pipeline(transaction=transaction)
        for made in batch:
            perform(pipe, made)
        return repr(await outcome(pipe, method("execute", raise_on_error))), len(pipe), await client.get("k")

    async def main() -> None:
        async with both(server, decode_responses=True) as (ours, theirs):
            assert await attempt(ours) == await attempt(theirs)
            assert ours.pool_stats().in_use == 0

    asyncio.run(main())


def test_scans_find_everything_and_a_dump_is_restored(server: Embedded) -> None:
    async def main(client: Any) -> None:
        names = {f"ké{number}": number for number in range(600)}
        await asyncio.gather(client.mset(names), client.hset("h", mapping=names))
        assert {name async for name in client.scan_iter("k*", 50)} == set(names)
        assert {name: int(value) async for name, value in client.hscan_iter("h")} == names
        await client.restore("copy", 0, await client.dump("h"))
        assert await client.hgetall("copy") == await client.hgetall("h")

    run(main, server, decode_responses=True)


def test_empty_command_is_refused_at_once(server: Embedded) -> None:
    async def main(client: Any) -> None:
        for args in ((), ("",), (b"",), ("  ",)):
            with pytest.raises(redis.DataError, match="a command needs a name"):
                await client.execute_command(*args)
        assert await client.ping()

    run(main, server)


def test_commands_of_one_turn_of_the_loop_leave_in_one_write(server: Embedded, direct: Any, loop_factory: LoopFactory) -> None:
    async def main(client: Any) -> None:
        await client.ping()
        before = direct.info("stats")["total_reads_processed"]
        assert await asyncio.gather(*(client.rpush("l", number) for number in range(200))) == list(range(1, 201))
        assert direct.info("stats")["total_reads_processed"] - before == 2  # the other one is that of INFO
        assert client.pool_stats().made == 1
        assert direct.lrange("l", 0, -1) == [str(number) for number in range(200)]  # in the order of asking

    run(main, server, loop_factory=loop_factory)


def test_every_caller_gets_its_own_reply(server: Embedded, loop_factory: LoopFactory) -> None:
    """Short and huge ones, raw ones, errors, and those of other connections."""

    async def main(client: Any) -> None:
        async def ask(number: int) -> None:
            for step in range(20):
                word = f"{number}:{step}:" + "é" * (1, 100, 70_000)[(number + step) % 3]
                if number % 7 == 0:
                    assert await client.pipeline(transaction=False).echo(word).execute() == [word]
                elif number % 7 == 1:
                    assert await client.execute_command("ECHO", word, NEVER_DECODE=True) == word.encode()
                elif number % 7 == 2:
                    await failed_after_s(lambda: client.incr("text"), redis.ResponseError)
                else:
                    assert await client.echo(word) == word

        big = "v" * 20_000_000  # more than may be in flight
        assert await asyncio.gather(client.set("text", big), client.get("missing"), client.get("text")) == [True, None, big]
        await asyncio.gather(*(ask(number) for number in range(70)))
        stats = client.pool_stats()
        assert (stats.lost, stats.unknown, stats.in_use, stats.waiting) == (0, 0, 0, 0)

    run(main, server, decode_responses=True, deadline_s=LONG_S, loop_factory=loop_factory)


def test_transaction_counts_right_under_contention(server: Embedded) -> None:
    async def increment(pipe: Any) -> None:
        value = int(await pipe.get("n") or 0)
        pipe.multi()
        pipe.set("n", value + 1)

    async def main(client: Any) -> None:
        assert await asyncio.gather(*(client.transaction(increment, "n") for _ in range(30))) == [[True]] * 30
        assert await client.get("n") == b"30"
        assert await client.transaction(lambda pipe: "value", "n", value_from_callable=True) == "value"
        assert client.pool_stats().in_use == 0

    run(main, server, deadline_s=LONG_S)


def test_script_is_loaded_when_it_is_needed(server: Embedded) -> None:
    async def main(client: Any) -> None:
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        assert await script(keys=["n"], args=[5]) == 5
        await client.script_flush()
        assert await script(keys=["n"], args=[5]) == 10
        await client.script_flush()
        pipe = client.pipeline()
        await script(keys=["n"], args=[1], client=pipe)
        await script(keys=["n"], args=[1], client=pipe)
        assert await pipe.execute() == [11, 12]

    run(main, server)


# --- what needs a connection of its own ---


async def next_message(pubsub: Any) -> Any:
    while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=LONG_S)) is None:
        pass
    return message


def test_published_messages_arrive_however_late(server: Embedded, direct: Any, loop_factory: LoopFactory) -> None:
    async def main(client: Any) -> None:
        heard: list[Any] = []
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news", handled=heard.append)
            await pubsub.psubscribe("new?")
            assert [(await pubsub.get_message(timeout=5))["type"] for _ in range(3)] == ["subscribe", "subscribe", "psubscribe"]
            assert [await client.publish("handled", "hello"), await client.publish("news", "hello")] == [1, 2]
            messages = [await next_message(pubsub) for _ in range(2)]
            assert [(message["type"], message["data"]) for message in messages] == [("message", b"hello"), ("pmessage", b"hello")]
            assert [message["data"] for message in heard] == [b"hello"]
            assert await pubsub.get_message(timeout=0.4) is None
            message = asyncio.create_task(pubsub.get_message(timeout=None))
            await asyncio.sleep(0.4)  # past the deadline
            direct.publish("news", "late")
            assert (await message)["data"] == b"late"
        assert client.pool_stats().in_use == 0

    run(main, server, deadline_s=0.3, loop_factory=loop_factory)


def test_subscriber_hears_again_after_each_restart(own_server: Embedded) -> None:
    async def main(client: Any) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub, asyncio.timeout(LONG_S):
            await pubsub.subscribe("news")
            await pubsub.psubscribe("sport.*")
            for _ in range(2):
                own_server.kill()
                hearing = asyncio.create_task(next_message(pubsub))
                await asyncio.to_thread(own_server.start)
                while not await client.publish("sport.chess", "draw"):
                    await asyncio.sleep(0.005)
                assert (await hearing)["data"] == b"draw"
                assert await client.publish("news", "hello") == 1
                assert (await next_message(pubsub))["data"] == b"hello"

    run(main, own_server, deadline_s=LONG_S)


BLOCKING: dict[str, tuple[Any, list[Any]]] = {
    "BLPOP": (lambda client: client.blpop("nothing", 0.5), [None]),
    "BLPOP for ever": (lambda client: client.blpop("queue", 0), [[b"queue", b"v"], (b"queue", b"v")]),
    "XREAD": (lambda client: client.xread({"nothing": "$"}, block=500), [{}, [], None]),
    "pipeline": (lambda client: client.pipeline(transaction=False).blpop("nothing", 0.5).execute(), [[None]]),
}


@pytest.mark.parametrize(("block", "replies"), BLOCKING.values(), ids=BLOCKING)
def test_blocking_command_outlasts_the_deadline_and_holds_nobody_up(
    block: Any, replies: list[Any], server: Embedded, loop_factory: LoopFactory
) -> None:
    async def main(client: Any) -> None:
        began_s = time.monotonic()
        blocked = asyncio.create_task(block(client))
        while not blocked.done():
            assert await client.get("k") is None
            await asyncio.sleep(0.01)
            if time.monotonic() - began_s > 0.5:
                await client.rpush("queue", "v")
        assert await blocked in replies
        assert 0.45 <= time.monotonic() - began_s < 0.8 + SLACK_S

    run(main, server, deadline_s=0.3, loop_factory=loop_factory)


def test_single_connection_client_keeps_one_connection(server: Embedded) -> None:
    async def main(client: Any) -> None:
        async with client.client() as single:
            assert len(set(await asyncio.gather(*(single.client_id() for _ in range(20))))) == 1
            await single.select(3)
            assert await single.set("k", "v")
            assert client.pool_stats().in_use == 1
            assert await client.get("k") is None
        assert client.pool_stats().in_use == 0

    run(main, server)


def test_reply_to_a_call_under_way_on_a_single_connection_that_is_closed_is_nobody_elses(server: Embedded, direct: Any) -> None:
    async def main(client: Any) -> None:
        for number in range(5):
            single = client.client()
            popping = asyncio.create_task(single.blpop("nothing", 10))
            await until(lambda: direct.info("clients")["blocked_clients"])
            await single.aclose()
            assert await client.pipeline().echo(str(number)).execute() == [b"%d" % number]
            with pytest.raises(cachelib.OutcomeUnknown):
                await popping
        assert client.pool_stats().in_use == 0

    run(main, server, pool_size=1)


def test_closed_single_connection_client_keeps_no_connection(server: Embedded, direct: Any) -> None:
    """Not for a call that was under way and is made again, nor for one that waited for its turn."""

    async def main(client: Any) -> None:
        single = client.client()
        reading = [asyncio.create_task(single.xread({"s": "0"}, block=300)) for _ in range(2)]
        await until(lambda: direct.info("clients")["blocked_clients"] == 1)
        await single.aclose()
        assert await asyncio.gather(*reading) == [[], []]
        assert single.connection is None
        assert client.pool_stats().in_use == 0
        assert await client.pipeline().echo("mine").execute() == [b"mine"]

    run(main, server, pool_size=2)


def test_monitor_sees_commands(server: Embedded) -> None:
    async def main(client: Any) -> None:
        async with client.monitor() as monitor:
            await client.set("k", "v")
            while "SET k v" not in (await monitor.next_command())["command"]:
                pass
        assert client.pool_stats().in_use == 0
        assert await client.pipeline().get("k").execute() == [b"v"]

    run(main, server)


# --- one client, and what becomes of it ---


def test_client_is_used_and_closed_in_one_loop_after_another(
    own_server: Embedded, admin: Any, loop_factory: LoopFactory, eventually: Any
) -> None:
    client: Any = cachelib.connect_async(own_server.config)

    async def use() -> None:
        await asyncio.gather(client.pipeline().incr("n").execute(), client.incr("n"), client.blpop("nothing", 0.01))

    for main in (use, use, use, client.aclose, use):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        gc.collect()
        eventually(lambda: len(admin.client_list()) <= 1 + 3)  # ours and the last loop's
    stats = client.pool_stats()
    assert (int(admin.get("n")), stats.in_use, stats.waiting, stats.unknown) == (8, 0, 0, 0)


def test_connections_speak_resp3_and_end_with_the_block_of_the_client(own_server: Embedded, admin: Any) -> None:
    async def main(client: Any) -> None:
        for number in (1, 2):
            async with client:
                assert await client.incr("n") == number
                await client.pipeline().get("n").execute()
                assert sorted(peer["resp"] for peer in admin.client_list()) == ["3", "3", "3"]
            await until(lambda: len(admin.client_list()) == 1)
            assert (client.pool_stats().idle, client.pool_stats().in_use) == (0, 0)

    run(main, own_server)


def test_repr_and_pool_stats_count_connections_and_callers(own_server: Embedded) -> None:
    def shown(in_use: str, waiting: int, state: str = "") -> str:
        return f"<AsyncPool {own_server.config.endpoint} {in_use} in use, {waiting} waiting{state}>"

    async def main(client: Any) -> None:
        nothing = cachelib.PoolStats(**dict.fromkeys((field.name for field in dataclasses.fields(cachelib.PoolStats)), 0))
        assert client.pool_stats() == dataclasses.replace(nothing, size=3)
        assert repr(client) == f"<cachelib.AsyncClient {shown('0/3', 0)}>"
        assert repr(client.pipeline().get("k")) == f"<cachelib pipeline of 1 commands, {shown('0/3', 0)}>"
        await client.ping()
        poppers = [asyncio.create_task(client.blpop("queue", 30)) for _ in range(2)]
        waiting = asyncio.create_task(client.client_id())
        await until(lambda: client.pool_stats().made == 3)
        assert client.pool_stats() == dataclasses.replace(nothing, size=3, in_use=2, idle=1, waiting=1, made=3)
        assert repr(client) == f"<cachelib.AsyncClient {shown('2/3', 1)}>"
        await client.rpush("queue", "a", "b")
        await asyncio.gather(*poppers, waiting)
        assert client.pool_stats() == dataclasses.replace(nothing, size=3, idle=3, made=3)
        await client.shutdown(nosave=True)
        await failed_after_s(lambda: client.get("k"))
        assert repr(client) == f"<cachelib.AsyncClient {shown('0/3', 0, ', server away')}>"
        assert client.pool_stats().outages == 1

    run(main, own_server, pool_size=2, deadline_s=1.0, slow_call_s=LONG_S)
    assert issubclass(cachelib.AsyncClient, redis.asyncio.Redis)
    with pytest.raises(TypeError, match=r"connect_async\(Config"):
        cachelib.AsyncClient(host="127.0.0.1")


def test_deadline_bounds_what_a_task_does_and_the_tasks_that_it_starts(server: Embedded, paused: Any) -> None:
    async def main(client: Any) -> None:
        with cachelib.deadline(LONG_S):
            await asyncio.gather(client.ping(), client.pipeline().get("k").execute())
        with paused(server):
            unbound = asyncio.create_task(failed_after_s(lambda: client.get("k")))
            await asyncio.sleep(0)
            with cachelib.deadline(0.2):
                tasks = [asyncio.create_task(failed_after_s(use)) for use in (lambda: client.get("k"), client.pipeline().get("k").execute)]
                took_s = [await failed_after_s(lambda: client.get("k")), *await asyncio.gather(*tasks)]
            with cachelib.deadline(2.0):
                longer_s = await failed_after_s(lambda: client.get("k"))
            assert all(0.18 <= took < 0.2 + SLACK_S for took in took_s)
            assert 0.9 <= await unbound < 1.0 + SLACK_S
            assert 1.9 <= longer_s < 2.0 + SLACK_S

    run(main, server, deadline_s=1.0)


# --- refusals ---

REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong password": ({"password": "wr0ng-password"}, "it does not accept this user name and password"),
    "no password": ({}, "it asks for a password, and none is set"),
    "unknown user": ({"username": "nobody", "password": PASSWORD}, "it does not accept this user name and password"),
    "wrong database": ({"password": PASSWORD, "db": 99}, "DB index is out of range"),
    "missing right": ({"username": "timid", "password": PASSWORD, "db": 1}, "no permissions"),
}

USES = {
    "a hundred INCR": lambda client: asyncio.gather(*(client.incr("n") for _ in range(100))),
    "pipeline": lambda client: client.pipeline().get("k").execute(),
    "SUBSCRIBE": lambda client: client.pubsub().subscribe("news"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(("changes", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_wrong_credentials_are_refused_at_once_after_one_attempt(
    use: Any, changes: Any, reason: str, own_server: Embedded, admin: Any
) -> None:
    admin.execute_command("ACL", "SETUSER", "timid", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-select")
    admin.config_set("requirepass", PASSWORD)

    async def main(client: Any) -> None:
        began_s, before = time.monotonic(), admin.info("stats")["total_connections_received"]
        with pytest.raises(cachelib.Refused, match=reason) as caught:
            await use(client)
        assert time.monotonic() - began_s < AT_ONCE_S
        assert admin.info("stats")["total_connections_received"] - before == 1
        text = repr(caught.value) + repr(caught.value.__cause__) + repr(client)
        assert own_server.config.host in text
        assert [secret for secret in (PASSWORD, "wr0ng", "server away", "1 waiting") if secret in text] == []
        assert client.pool_stats().in_use == 0

    run(main, own_server, deadline_s=LONG_S, **changes)


# --- what observers are told ---


def test_observers_are_told_of_retries_and_unknown_outcomes(server: Embedded, proxy: Proxy) -> None:
    events: list[Any] = []

    async def main(client: Any) -> None:
        await asyncio.gather(client.ping(), client.pipeline().get("k").execute())
        for use in (lambda: client.get("k"), client.pipeline(transaction=False).get("k").execute):
            with losing_replies(proxy, b"GET"):
                await use()
        for use in (lambda: client.incr("account-of-bob"), client.pipeline(transaction=False).incr("account-of-bob").execute):
            with losing_replies(proxy, b"INCRBY"):
                await failed_after_s(use, cachelib.OutcomeUnknown)
        told = [(type(event), event.command) for event in events]
        assert told == [*[(cachelib.Retried, "GET")] * 2, *[(cachelib.OutcomeLost, "INCRBY")] * 2]
        assert {event.endpoint for event in events} == {f"127.0.0.1:{proxy.port}/0"}
        assert "bob" not in repr(events)
        assert (client.pool_stats().retried, client.pool_stats().unknown) == (2, 2)

    def fail(event: object) -> None:
        raise ValueError("an observer's own fault")

    run(main, server, port=proxy.port, observers=[fail, events.append])


def test_observers_are_told_of_an_outage_once(own_server: Embedded) -> None:
    events: list[Any] = []

    async def main(client: Any) -> None:
        await client.ping()
        own_server.kill()
        calls = [asyncio.create_task(client.get("k")) for _ in range(10)]
        await asyncio.sleep(0.1)  # the length of the outage
        await asyncio.to_thread(own_server.start)
        await asyncio.gather(*calls)
        told: list[Any] = [event for event in events if isinstance(event, cachelib.Disconnected | cachelib.Reconnected)]
        assert [type(event) for event in told] == [cachelib.Disconnected, cachelib.Reconnected]
        assert told[1].away_s > 0.1
        assert told[1].attempts >= 1

    run(main, own_server, deadline_s=LONG_S, observers=[events.append])


def test_observers_are_told_of_slow_calls_that_succeed(server: Embedded, proxy: Proxy) -> None:
    events: list[Any] = []

    async def main(client: Any) -> None:
        with delayed(proxy, 0.25):
            await client.get("k")
            await client.pipeline().get("a").get("b").execute()
            await failed_after_s(lambda: client.execute_command("GET"), redis.ResponseError)
            await failed_after_s(lambda: client.execute_command("CONFIG", "GET"), redis.ResponseError)
        told = [(type(event), event.command) for event in events]
        assert told == [(cachelib.SlowCall, "GET"), (cachelib.SlowCall, "a batch of 2 commands")]
        assert all(0.25 <= event.duration_s < 0.5 + SLACK_S for event in events)
        await client.blpop("nothing", 0.3)
        assert client.pool_stats().slow == 2

    run(main, server, port=proxy.port, slow_call_s=0.2, observers=[events.append])

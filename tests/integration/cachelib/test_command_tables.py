"""The tables of commands against a server's own: what only reads, what blocks, and what may be applied twice."""

import re
import shlex
from typing import Any

import pytest

from cachelib import commands
from cachelib.commands import Effect, command_name, effect_of
from runbook.targets.embedded import Embedded


@pytest.fixture
def flags(server: Embedded, connect_to: Any) -> dict[str, set[str]]:
    """The flags of each command in the server's own table."""
    return _flags_by_command(connect_to(server, decode_responses=True))


def test_read_commands_carry_no_write_flag_in_the_servers_own_table(flags: dict[str, set[str]]) -> None:
    known = commands._READ & flags.keys()
    assert len(known) > 100
    assert {name for name in known if "write" in flags[name]} == set()


def test_every_command_that_only_reads_by_the_servers_own_table_is_repeated(flags: dict[str, set[str]]) -> None:
    reading = {name for name, words in flags.items() if "readonly" in words}
    assert len(reading) > 80
    assert {name for name in reading if effect_of((name,)) is Effect.ONCE} == set()


def test_no_command_that_shares_a_connection_blocks(flags: dict[str, set[str]]) -> None:
    assert {name for name in commands.PLAIN & flags.keys() if flags[name] & {"blocking", "pubsub"}} <= {"PUBLISH", "SPUBLISH"}


def test_every_command_that_the_server_may_block_on_is_given_its_time(flags: dict[str, set[str]]) -> None:
    blocking = {name for name, words in flags.items() if "blocking" in words and not name.startswith("CLIENT")}
    assert blocking <= commands._BLOCKING


# One call of each command that counts as idempotent, on the data that `_fill` makes.
IDEMPOTENT_CALLS = """
    CLIENT NO-EVICT off | CLIENT SETNAME me | CONFIG SET slowlog-max-len 128 | SCRIPT LOAD "return 1" | SLOWLOG RESET
    DEL text | EXPIRE text 100 | EXPIREAT text 9999999999 | GEOADD geo 13 38 Palermo | GETEX text EX 100 | HDEL hash f
    HMSET hash f 2 | HSET hash g 3 | MSET text x new y | PERSIST text | PEXPIRE text 100000
    PEXPIREAT text 9999999999999 | PFADD hll c | PFMERGE hll hll2 | PSETEX text 100000 x | SADD set1 9
    SET text x EX 100 | SETEX text 100 x | SETRANGE text 2 xyz
    SINTERSTORE new set1 set2 | SINTERSTORE set2 set1 set2 | SREM set1 1 | SUNIONSTORE new set1 set2
    SUNIONSTORE set2 set1 set2 | TOUCH text | UNLINK text | XACK stream group 1-1 | XDEL stream 1-1 | ZADD sorted 5 a
    ZREM sorted a | ZREMRANGEBYLEX sorted [a [b | ZREMRANGEBYSCORE sorted 1 2
"""


def test_every_idempotent_command_leaves_the_same_data_when_it_is_applied_twice(server: Embedded, connect_to: Any) -> None:
    client, tried = connect_to(server), set()
    for call in re.split(r"\s*[|\n]\s*", IDEMPOTENT_CALLS.strip()):
        command = tuple(shlex.split(call))
        assert effect_of(command) is Effect.IDEMPOTENT
        tried.add(command_name(command))
        client.flushall()
        _fill(client)
        client.execute_command(*command)
        once = {key: client.dump(key) for key in client.scan_iter()}
        client.execute_command(*command)
        assert (call, {key: client.dump(key) for key in client.scan_iter()}) == (call, once)
    assert tried == commands._IDEMPOTENT


def _fill(client: Any) -> None:
    client.set("text", "value", ex=1000)
    client.hset("hash", mapping={"f": 1, "h": 1})
    client.sadd("set1", 1, 2)
    client.sadd("set2", 2, 3)
    client.zadd("sorted", {"a": 1, "b": 2, "c": 3})
    client.geoadd("geo", (15, 37, "Catania"))
    client.pfadd("hll", "a")
    client.pfadd("hll2", "b")
    client.xgroup_create("stream", "group", mkstream=True)
    client.xadd("stream", {"f": 1}, id="1-1")
    client.xreadgroup("group", "me", {"stream": ">"})


def _flags_by_command(client: Any) -> dict[str, set[str]]:
    """Read COMMAND, subcommands included, as `{"CONFIG GET": {"admin", …}}`."""
    # Under another name, so that redis-py's parser, which drops the subcommands, is not applied.
    client.set_response_callback("COMMAND", lambda reply, **_: reply)
    flags = {}
    for entry in client.execute_command("COMMAND"):
        for name, _, words, *_ in [entry, *entry[9]]:
            flags[name.upper().replace("|", " ")] = set(words)
    return flags

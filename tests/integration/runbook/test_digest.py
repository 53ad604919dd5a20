"""The digest of a server's data: the same for the same data, another one for each thing that can change."""

import random
from collections.abc import Callable

import pytest

from cachelib import Client
from runbook.drills.digest import digest_of, digests_of
from runbook.targets import Embedded

FLAGS = ("--save", "", "--appendonly", "no")

Write = Callable[[Client], object]

WRITES: dict[str, Write] = {
    "a string": lambda client: client.set("string", b"\x00\xffvalue"),
    "a list": lambda client: client.rpush("list", "a", "b", "c"),
    "a set": lambda client: client.sadd("set", "a", "b", "c"),
    "a hash": lambda client: client.hset("hash", mapping={"a": "1", "b": "2"}),
    "a sorted set": lambda client: client.zadd("zset", {"a": 1.5, "b": float("inf")}),
    "a stream": lambda client: [client.xadd("stream", {"a": number}, id=f"1-{number}") for number in range(1, 20)],
    "a group": lambda client: client.xgroup_create("stream", "group", "0"),
    "a key that expires": lambda client: client.set("expiring", "value", ex=1000),
}

CHANGES: dict[str, Write] = {
    "another byte of a string": lambda client: client.setrange("string", 1, b"\xfe"),
    "another order of a list": lambda client: client.rpush("list", client.lpop("list")),  # type: ignore[arg-type]
    "a member moved from one value into two": lambda client: (client.srem("set", "a", "b"), client.sadd("set", "ab")),
    "two fields swapped": lambda client: client.hset("hash", mapping={"a": "2", "b": "1"}),
    "a score": lambda client: client.zadd("zset", {"a": 1.5000000001}),
    "the last entry of a stream": lambda client: client.xdel("stream", "1-19"),
    "a group's progress": lambda client: client.xreadgroup("group", "consumer", {"stream": ">"}, count=1),
    "a time to live": lambda client: client.expire("string", 1000),
    "none any more": lambda client: client.persist("expiring"),
    "one key more": lambda client: client.set("other", ""),
    "one key less": lambda client: client.delete("string"),
    "another name": lambda client: client.rename("string", "string2"),
    "another type": lambda client: (client.delete("list"), client.sadd("list", "a", "b", "c")),
}


def _fill(client: Client) -> str:
    client.flushall()
    for write in WRITES.values():
        write(client)
    return digest_of(client)


def test_the_same_data_give_the_same_digest_whatever_the_order_of_writing(engine: Embedded, client: Client) -> None:
    before = _fill(client)
    client.flushall()
    writes = [write for name, write in WRITES.items() if name != "a group"]
    random.Random(1).shuffle(writes)
    for write in [*writes, WRITES["a group"]]:
        write(client)
    assert digest_of(client) == before


def test_many_members_that_are_kept_in_another_encoding_give_the_same_digest(engine: Embedded, client: Client) -> None:
    members = [f"member {number}" for number in range(600)]
    client.sadd("set", *members)
    client.hset("hash", mapping=dict.fromkeys(members, "value"))
    before = digest_of(client)
    client.delete("set", "hash")
    client.sadd("set", *reversed(members))
    client.hset("hash", mapping=dict.fromkeys(reversed(members), "value"))
    assert digest_of(client) == before


def test_each_change_gives_another_digest(engine: Embedded, client: Client) -> None:
    unseen = []
    for name, change in CHANGES.items():
        before = _fill(client)
        change(client)
        if digest_of(client) == before:
            unseen.append(name)
    assert unseen == []


def test_the_digests_of_keys_tell_which_of_them_differs(engine: Embedded, client: Client) -> None:
    for number in range(1200):
        client.set(f"key:{number}", "value")
    before = digests_of(client)
    client.set("key:1100", "other")
    after = digests_of(client)
    assert {key for key in before if before[key] != after[key]} == {b"key:1100"}
    assert len(after) == 1200


def test_a_client_that_decodes_is_refused(engine: Embedded, connect_to: Callable[..., Client]) -> None:
    client = connect_to(engine, decode_responses=True)
    client.set("key", "value")
    with pytest.raises(TypeError, match="does not decode"):
        digest_of(client)

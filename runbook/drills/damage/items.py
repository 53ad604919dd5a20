"""Items that are written under keys of their own, and read back as they are: what a server holds is held against these values.

The digest too is judged by them, so nothing here is made of `digest.py`.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import redis

LASTS_S = 10_000_000


class Value(NamedTuple):
    """What a key holds.

    Attributes:
        type: in the server's words.
        content: of a list a list, of a set a set, of a hash and of a sorted set a dictionary, of a stream a list of its entries.
        expires_ms: when, since 1970; -1 where it does not.
    """

    type: bytes
    content: Any
    expires_ms: int = -1


Values = Mapping[bytes, Value]


def write_items(client: redis.Redis, numbers: Iterable[int], chance: random.Random) -> dict[bytes, Value]:
    """Write items of several types, now and then two of them in a transaction, one of which expires; return what was written by key."""
    written: dict[bytes, Value] = {}
    for number in numbers:
        key, text = b"runbook:aof:%04d" % number, b"%040x" % chance.getrandbits(160)
        match number % 8:
            case 0 | 1:
                client.set(key, text)
                written[key] = Value(b"string", text)
            case 2:
                client.rpush(key, text, "second", text)
                written[key] = Value(b"list", [text, b"second", text])
            case 3:
                client.sadd(key, text, "second")
                written[key] = Value(b"set", {text, b"second"})
            case 4:
                client.hset(key, mapping={"first": text, "second": text})
                written[key] = Value(b"hash", {b"first": text, b"second": text})
            case 5:
                client.zadd(key, {text: number, b"second": 0.5})
                written[key] = Value(b"zset", {text: float(number), b"second": 0.5})
            case 6:
                client.xadd(key, {"field": text}, id="7-1")
                written[key] = Value(b"stream", [(b"7-1", {b"field": text})])
            case _:
                second, expires_ms = key + b":second", int(time.time() + LASTS_S) * 1000
                with client.pipeline() as transaction:
                    transaction.set(key, text, pxat=expires_ms)
                    transaction.set(second, text)
                    transaction.execute()
                written |= {key: Value(b"string", text, expires_ms), second: Value(b"string", text)}
    return written


def read_values(client: redis.Redis) -> dict[bytes, Value]:
    """Read all keys, and of each all that `Value` holds."""
    keys: list[bytes] = client.keys()  # type: ignore[assignment]
    with client.pipeline(transaction=False) as asking:
        for key in keys:
            asking.type(key)
            asking.pexpiretime(key)  # type: ignore[arg-type]
        answers = asking.execute()
        types, expiries = answers[::2], answers[1::2]
        for key, kind in zip(keys, types, strict=True):
            _READ[kind](asking, key)
        contents = asking.execute()
    made = zip(keys, types, contents, expiries, strict=True)
    return {key: Value(kind, dict(content) if kind == b"zset" else content, expires_ms) for key, kind, content, expires_ms in made}


_READ: dict[bytes, Callable[[redis.Redis, bytes], object]] = {
    b"string": lambda client, key: client.get(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
    b"stream": lambda client, key: client.xrange(key),
}

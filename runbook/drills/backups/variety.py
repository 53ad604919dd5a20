"""Data of every type that a Redis knows, chosen by chance: what a backup, a restart or an upgrade has to carry over."""

import random

import redis

# A key that expires must not do so while a drill looks.
STAYS_MS = 3_600_000
# Of the members of a collection: few are kept packed in one piece, many are not, and both have to be carried over.
FEW, MANY = 5, 300


def write_variety(client: redis.Redis, chance: random.Random, rounds: int) -> int:
    """Write keys of every type, packed and not, some of which expire, and return how many.

    Args:
        client: of the database into which they go.
        chance: by which their values are chosen.
        rounds: how often each kind of key is written.
    """
    for number in range(rounds):
        with client.pipeline(transaction=False) as writing:
            for size, count in (("few", FEW), ("many", MANY)):
                key = f"runbook:variety:{number}:{size}"
                words = [chance.randbytes(chance.randint(1, 40)).hex() for _ in range(count)]
                writing.set(f"{key}:string", "".join(words))
                writing.rpush(f"{key}:list", *words)
                writing.sadd(f"{key}:set", *words)
                writing.sadd(f"{key}:integers", *range(count))
                writing.hset(f"{key}:hash", mapping={f"{place}": word for place, word in enumerate(words)})
                writing.zadd(f"{key}:zset", {word: chance.uniform(-1e9, 1e9) for word in words})
                writing.pfadd(f"{key}:hyperloglog", *words)
                for place, word in enumerate(words, 1):
                    writing.xadd(f"{key}:stream", {"word": word, "same": "field"}, id=f"{place}-0")
                writing.xdel(f"{key}:stream", "2-0")
                writing.xgroup_create(f"{key}:stream", "group", "0")
                writing.xreadgroup("group", "consumer", {f"{key}:stream": ">"}, count=3)
                writing.set(f"{key}:counter", chance.randint(-(2**62), 2**62))
                writing.setbit(f"{key}:bits", chance.randint(0, 10_000), 1)
                writing.rpush(f"{key}:expiring", *words)
                writing.pexpire(f"{key}:expiring", STAYS_MS + chance.randint(0, STAYS_MS))
            writing.execute()
    return int(client.dbsize())

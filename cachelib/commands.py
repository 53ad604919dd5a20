"""What is known of Redis commands: what sending one twice would do, whether it blocks, and whether it may share a connection."""

import enum
from collections.abc import Iterable
from typing import Any

import redis


class Effect(enum.IntEnum):
    """What sending a command once more would do; a batch has the greatest effect of its commands."""

    READ = 0  # changes nothing
    IDEMPOTENT = 1  # changes the same thing to the same value
    ONCE = 2  # changes something each time, or its reply tells who was first


def effect_of(command: tuple[Any, ...]) -> Effect:
    """Tell what sending a command once more would do; a command unknown to the tables counts as `ONCE`.

    Args:
        command: name and arguments as given to `execute_command`: ("SET", "k", "v") as well as ("CONFIG GET", "save").
    """
    name = command_name(command)
    if name == "XREAD" and "$" in _words(command):
        return Effect.ONCE  # what came between two attempts would be missed
    if name in _READ:
        return Effect.READ
    if name in _IDEMPOTENT:
        conditions = _CONDITIONS.get(name)
        return Effect.ONCE if conditions and conditions & set(_words(command)[2:]) else Effect.IDEMPOTENT
    if name == "SORT":
        return Effect.ONCE if "STORE" in _words(command)[2:] else Effect.READ
    return Effect.ONCE


def may_be_readonly(command: tuple[Any, ...]) -> bool:
    """Tell whether a server that is no master may answer READONLY: to SORT it does even where that only reads, to TOUCH it does not."""
    name = command_name(command)
    return name == "SORT" or (name != "TOUCH" and effect_of(command) is not Effect.READ)


def worst_effect(commands: Iterable[tuple[Any, ...]]) -> Effect:
    """Tell the effect of a batch: that of its least repeatable command; an empty batch only reads.

    A batch that reads what it writes afterwards would read something else the second time, such as LRANGE and DEL of one key.
    """
    batch = list(commands)
    effect = max(map(effect_of, batch), default=Effect.READ)
    if effect is not Effect.IDEMPOTENT or len(batch) == 1:
        return effect
    read: set[str] = set()
    for command in batch:
        name, arguments = command_name(command), _arguments(command)
        writes = effect_of(command) is Effect.IDEMPOTENT
        if writes and ("*" in read or read & arguments):
            return Effect.ONCE
        if not writes or name in _READ_OTHER_KEYS:
            read |= {"*"} if name in _READ_ANY_KEY else arguments
    return effect


def blocking_s(command: tuple[Any, ...]) -> float:
    """Return the seconds that a command asks the server to block: 0 if it does not, infinite for "for ever".

    A time-out that is no number is left to the server to refuse.
    """
    if command_name(command) not in _BLOCKING:
        return 0.0
    words = _words(command)
    try:
        match words[0]:
            case "BLMPOP" | "BZMPOP":
                seconds = float(words[1])
            case "WAIT" | "WAITAOF":
                seconds = float(words[-1]) / 1000
            case "XREAD" | "XREADGROUP":
                options = words[4 if words[0] == "XREADGROUP" else 1 :]  # past the names of the group and of the consumer
                options = options[: options.index("STREAMS")]
                if "BLOCK" not in options:
                    return 0.0
                seconds = float(options[options.index("BLOCK") + 1]) / 1000
            case _:
                seconds = float(words[-1])
    except (ValueError, IndexError):
        return 0.0
    if not seconds >= 0:  # nan is not either
        return 0.0
    return seconds or float("inf")


def check_shareable(command: tuple[Any, ...], *, in_pipeline: bool = False) -> None:
    """Refuse a command that a connection can't be shared with.

    Args:
        command: name and arguments.
        in_pipeline: whether it is one of a pipeline, whose transaction ends with it.

    Raises:
        redis.DataError: it says what to use instead.
    """
    name = command_name(command)
    if name in _CHANGES_CONNECTION and not (in_pipeline and name in ("MULTI", "WATCH")):
        raise redis.DataError(
            f"{name} changes its connection, which other calls would find changed: keep one with client.client(), use pubsub() or "
            "monitor(), or pipeline() for a transaction, or set REDIS_DB, REDIS_USERNAME or REDIS_PASSWORD"
        )


def command_name(command: tuple[Any, ...]) -> str:
    """Return the command's name without its arguments, which may hold secrets; an empty command has an empty one."""
    words = _words(command[:2]) if command else [""]
    return " ".join(words[:2]) if words[0] in _CONTAINERS else words[0]


def _arguments(command: tuple[Any, ...]) -> set[str]:
    return {word.decode("latin-1") if isinstance(word, bytes) else str(word) for word in command[1:]}


def _words(command: tuple[Any, ...]) -> list[str]:
    """Upper-case what may be a keyword; long values can't be one, and are not copied."""
    head, *rest = command
    name = head.decode("latin-1") if isinstance(head, bytes) else str(head)
    words = name.upper().split() or [""]
    for word in rest:
        if isinstance(word, bytes | bytearray | memoryview):
            words.append(bytes(word).decode("latin-1").upper() if len(word) < 20 else "")
        elif isinstance(word, str):
            words.append(word.upper() if len(word) < 20 else "")
        else:
            words.append(str(word) if isinstance(word, int | float) else "")
    return words


# Commands whose second word decides.
_CONTAINERS = frozenset(
    """
    ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO
    """.split()
)

_BLOCKING = frozenset(
    """
    BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF XREAD XREADGROUP
    """.split()
)

# Leave their connection changed, or are not answered by one reply: of shared connections, the next caller would get what comes of it.
_CHANGES_CONNECTION = frozenset(
    """
    ASKING AUTH HELLO MONITOR MULTI PSUBSCRIBE PSYNC PUNSUBSCRIBE QUIT READONLY READWRITE RESET SELECT SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE
    REPLCONF SYNC UNSUBSCRIBE WATCH
    """.split()
) | {"CLIENT CACHING", "CLIENT REPLY", "CLIENT TRACKING", "SCRIPT DEBUG"}

# What the server's own COMMAND table flags `readonly`, and what only looks at the server.
_READ = frozenset(
    """
    BITCOUNT BITFIELD_RO BITPOS CLUSTERSCAN DBSIZE DUMP ECHO EVAL_RO EVALSHA_RO EXISTS EXPIRETIME FCALL_RO GEODIST GEOHASH
    GEOPOS GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HEXPIRETIME HGET HGETALL HKEYS
    HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS INFO KEYS LASTSAVE LCS LINDEX LLEN LOLWUT LPOS
    LRANGE MGET PEXPIRETIME PFCOUNT PING PTTL RANDOMKEY ROLE SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS
    SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TIME TTL TYPE XLEN XPENDING XRANGE XREAD XREVRANGE
    ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK
    ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION
    """.split()
) | {
    *(f"ACL {word}" for word in ("CAT", "GETUSER", "LIST", "USERS", "WHOAMI")),
    *(f"CLIENT {word}" for word in ("GETNAME", "ID", "INFO", "LIST")),
    *(f"CLUSTER {word}" for word in ("INFO", "KEYSLOT", "NODES", "SHARDS", "SLOTS")),
    *(f"COMMAND {word}" for word in ("COUNT", "DOCS", "GETKEYS", "INFO", "LIST")),
    *("WATCH", "UNWATCH"),
    "COMMAND",
    "CONFIG GET",
    *(f"FUNCTION {word}" for word in ("DUMP", "LIST", "STATS")),
    *(f"LATENCY {word}" for word in ("DOCTOR", "GRAPH", "HISTOGRAM", "HISTORY", "LATEST")),
    *(f"MEMORY {word}" for word in ("DOCTOR", "MALLOC-STATS", "STATS", "USAGE")),
    "MODULE LIST",
    *(f"OBJECT {word}" for word in ("ENCODING", "FREQ", "IDLETIME", "REFCOUNT")),
    *(f"PUBSUB {word}" for word in ("CHANNELS", "NUMPAT", "NUMSUB", "SHARDCHANNELS", "SHARDNUMSUB")),
    "SCRIPT EXISTS",
    *(f"SLOWLOG {word}" for word in ("GET", "LEN")),
    *(f"XINFO {word}" for word in ("CONSUMERS", "GROUPS", "STREAM")),
}

# Reviewed by hand: applied twice in a row, each leaves the same data as once. Its reply may differ (DEL counts 0 the second time).
_IDEMPOTENT = frozenset(
    """
    DEL EXPIRE EXPIREAT GEOADD GETEX HDEL HMSET HSET MSET PERSIST PEXPIRE PEXPIREAT PFADD PFMERGE PSETEX SADD
    SET SETEX SETRANGE SINTERSTORE SREM SUNIONSTORE TOUCH UNLINK XACK XDEL ZADD ZREM ZREMRANGEBYLEX
    ZREMRANGEBYSCORE
    """.split()
) | {"CLIENT NO-EVICT", "CLIENT SETNAME", "CONFIG SET", "SCRIPT LOAD", "SLOWLOG RESET"}

# In a batch, what these read is theirs to say, or every key.
_READ_OTHER_KEYS = frozenset({"GETEX", "PFMERGE", "SINTERSTORE", "SUNIONSTORE"})
_READ_ANY_KEY = frozenset({"DBSIZE", "KEYS", "RANDOMKEY", "SCAN"})

# With one of these words the reply tells who was first, or the value depends on the one before.
_CONDITIONS: dict[str, frozenset[str]] = {
    "SET": frozenset({"NX", "XX", "GET", "IFEQ", "IFNE", "IFDEQ", "IFDNE"}),
    "GEOADD": frozenset({"NX", "XX", "CH"}),
    "ZADD": frozenset({"NX", "XX", "GT", "LT", "CH", "INCR"}),
    "GETEX": frozenset({"EXAT", "PXAT"}),  # a time that is past deletes the value, and only the first reply holds it
    **dict.fromkeys(("EXPIRE", "EXPIREAT", "PEXPIRE", "PEXPIREAT"), frozenset({"NX", "XX", "GT", "LT"})),
}

# Change something each time, but neither block nor touch the connection.
_PLAIN_ONCE = frozenset(
    """
    APPEND BITFIELD BITOP COPY DECR DECRBY EVAL EVALSHA FCALL GETDEL GETSET HINCRBY HINCRBYFLOAT HSETNX INCR INCRBY
    INCRBYFLOAT LINSERT LMOVE LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM MSETNX PUBLISH RENAME RENAMENX RPOP RPOPLPUSH
    RPUSH RPUSHX SETBIT SETNX SMOVE SPOP SPUBLISH XADD XAUTOCLAIM XCLAIM XTRIM ZINCRBY ZMPOP ZPOPMAX ZPOPMIN
    ZRANGESTORE
    """.split()
)

# Each takes one round trip, leaves nothing behind on its connection, and has a name of one word, in the case in which redis-py sends it.
PLAIN = frozenset(name for name in (_READ | _IDEMPOTENT | _PLAIN_ONCE) - _BLOCKING - {"WATCH", "UNWATCH"} if " " not in name)

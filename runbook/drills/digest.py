"""A digest over all that a Redis holds, as a client reads it: the same data give the same digest, however they are kept and ordered.

Of a key that expires it covers only that it does, since how much time is left changes by itself; of a stream its entries and its groups.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis

_KEYS_AT_ONCE = 500


def digest_of(client: redis.Redis) -> str:
    """Return a digest over all keys and values of the client's database; nobody may write meanwhile.

    Args:
        client: one that does not decode replies.

    Raises:
        TypeError: the client decodes, or a key is of a type that is not known here, such as a module's.
    """
    return combined(digests_of(client))


def digests_of(client: redis.Redis) -> dict[bytes, str]:
    """Return a digest for each key, over its type, its value and whether it expires; comparing two of them tells which keys differ.

    Args:
        client: one that does not decode replies.

    Raises:
        TypeError: the client decodes, or a key is of a type that is not known here, such as a module's.
    """
    keys = sorted(set(client.scan_iter(count=_KEYS_AT_ONCE)))
    if keys and not isinstance(keys[0], bytes):
        raise TypeError("a digest is made of bytes: give it a client that does not decode replies")
    digests: dict[bytes, str] = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        digests |= _digests(client, keys[start : start + _KEYS_AT_ONCE])
    return digests


def combined(digests: Mapping[bytes, str]) -> str:
    """Return one digest for those of all keys."""
    return _hash(part for key, digest in sorted(digests.items()) for part in (key, digest.encode()))


def _digests(client: redis.Redis, keys: Sequence[bytes]) -> dict[bytes, str]:
    with client.pipeline(transaction=False) as asking:
        for key in keys:
            asking.type(key)
            asking.pttl(key)
        answers = asking.execute()
    kinds, remaining_ms = answers[::2], answers[1::2]
    with client.pipeline(transaction=False) as asking:
        for key, kind in zip(keys, kinds, strict=True):
            if kind not in _READERS:
                raise TypeError(f"{key!r} is of the type {kind.decode()}, of which no digest can be made")
            for ask in _READERS[kind].asks:
                ask(asking, key)
        replies = iter(asking.execute())
    digests = {}
    for key, kind, left_ms in zip(keys, kinds, remaining_ms, strict=True):
        parts = _READERS[kind].parts(*(next(replies) for _ in _READERS[kind].asks))
        digests[key] = _hash([kind, b"expires" if left_ms >= 0 else b"stays", *parts])
    return digests


class _Reader(NamedTuple):
    """How a type is read: what to ask for, and what the replies hold, in an order of our own where the server keeps none."""

    asks: tuple[Callable[[Any, bytes], Any], ...]
    parts: Callable[..., Iterable[bytes]]


def _scored(members: Iterable[tuple[bytes, float]]) -> Iterable[bytes]:
    return (part for member, score in members for part in (member, repr(float(score)).encode()))


def _paired(fields: Mapping[bytes, bytes]) -> Iterable[bytes]:
    return (part for pair in fields.items() for part in pair)


def _streamed(entries: Iterable[Any], groups: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    for number, fields in entries:
        yield _hash([number, *_paired(fields)]).encode()
    for group in groups:
        yield _hash(repr(group[name]).encode() for name in ("name", "last-delivered-id", "pending")).encode()


def _hash(parts: Iterable[bytes]) -> str:
    """Hash parts so that no other list of parts gives the same bytes: each follows its length."""
    return hashlib.sha256(b"".join(b"%d:%s," % (len(part), part) for part in parts)).hexdigest()


_READERS = {
    b"string": _Reader((lambda client, key: client.get(key),), lambda value: [value]),
    b"list": _Reader((lambda client, key: client.lrange(key, 0, -1),), lambda values: values),
    b"set": _Reader((lambda client, key: client.smembers(key),), sorted),
    b"hash": _Reader((lambda client, key: client.hgetall(key),), lambda fields: _paired(dict(sorted(fields.items())))),
    b"zset": _Reader((lambda client, key: client.zrange(key, 0, -1, withscores=True),), _scored),
    b"stream": _Reader((lambda client, key: client.xrange(key), lambda client, key: client.xinfo_groups(key)), _streamed),
}

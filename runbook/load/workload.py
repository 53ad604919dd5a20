"""Seeded streams of operations."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import redis


@dataclass(frozen=True, slots=True)
class Operation:
    """One call to make.

    Attributes:
        name: as it appears in the history.
        value: what identifies it, or empty.
        call: makes it and returns the reply.
        expected: the reply that counts as success; None accepts any.
        read: turns the reply into the value that the history holds; None keeps the one above.
    """

    name: str
    value: str
    call: Callable[[redis.Redis], Any]
    expected: Any = None
    read: Callable[[Any], str] | None = None


class Workload(Protocol):
    """Operations without end, for each worker its own."""

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield the operations of one worker; the same seed yields the same stream."""
        ...


@dataclass(frozen=True, slots=True)
class Ledger:
    """Appends to one list, each with a value of its own: `<worker>:<number>`; not idempotent, so a repeated one shows as a duplicate.

    Attributes:
        key: of the list.
    """

    key: str

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield appends numbered from 0."""
        return (self._append(f"{worker}:{number}") for number in itertools.count())

    def _append(self, value: str) -> Operation:
        return Operation("RPUSH", value, lambda client: client.rpush(self.key, value))


@dataclass(frozen=True, slots=True)
class Counter:
    """Increments of one number, each of them numbered: not idempotent, so that one too many shows in the sum.

    Attributes:
        key: of the number.
    """

    key: str

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield increments numbered from 0."""
        return (Operation("INCR", f"{worker}:{number}", lambda client: client.incr(self.key)) for number in itertools.count())


@dataclass(frozen=True, slots=True)
class Register:
    """A key for each worker, which alone writes it: `<worker>:<number>`, and reads it back after each write.

    Attributes:
        prefix: of the keys, which must not exist before.
    """

    prefix: str

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield SET and GET in turn, the writes numbered from 0; a read that finds nothing reads an empty value."""
        key = self.key(worker)
        read = Operation("GET", "", lambda client: client.get(key), read=_text)
        for number in itertools.count():
            value = f"{worker}:{number}"
            yield Operation("SET", value, partial(redis.Redis.set, name=key, value=value), True)
            yield read

    def key(self, worker: int) -> str:
        """Name the key of one worker."""
        return f"{self.prefix}{worker}"


@dataclass(frozen=True, slots=True)
class Members:
    """Additions to one set, each of a member of its own: `<worker>:<number>`.

    Attributes:
        key: of the set.
    """

    key: str

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield additions numbered from 0."""
        return (self._add(f"{worker}:{number}") for number in itertools.count())

    def _add(self, value: str) -> Operation:
        return Operation("SADD", value, lambda client: client.sadd(self.key, value))


@dataclass(frozen=True, slots=True)
class Ping:
    """Nothing but PING: may be repeated, changes nothing."""

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield PING after PING."""
        return itertools.repeat(Operation("PING", "", lambda client: client.ping(), True))


@dataclass(frozen=True, slots=True)
class Repeated:
    """One operation, again and again.

    Attributes:
        operation: which.
    """

    operation: Operation

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield the same for every worker."""
        return itertools.repeat(self.operation)


@dataclass(frozen=True, slots=True)
class Basics:
    """GET, SET and PING in equal shares and random order, replies checked.

    Attributes:
        prefix: of the keys.
        keys: how many there are.
        size_bytes: length of each value.
        seed: of the order.
    """

    prefix: str
    keys: int = 1000
    size_bytes: int = 64
    seed: int = 1

    @property
    def value(self) -> bytes:
        """What every key holds."""
        return b"x" * self.size_bytes

    def load(self, client: redis.Redis) -> None:
        """Write every key once."""
        with client.pipeline(transaction=False) as pipeline:
            for number in range(self.keys):
                pipeline.set(f"{self.prefix}{number}", self.value)
            pipeline.execute(raise_on_error=False)  # what was refused shows as a failed operation later

    def unload(self, client: redis.Redis) -> None:
        """Delete every key."""
        client.unlink(*(f"{self.prefix}{number}" for number in range(self.keys)))

    def operations(self, worker: int) -> Iterator[Operation]:
        """Yield operations of the three kinds in random order."""
        choice, value = random.Random(f"{self.seed}:{worker}"), self.value
        while True:
            key = f"{self.prefix}{choice.randrange(self.keys)}"
            match choice.randrange(3):
                case 0:
                    yield Operation("GET", "", partial(redis.Redis.get, name=key), value)
                case 1:
                    yield Operation("SET", "", partial(redis.Redis.set, name=key, value=value), True)
                case _:
                    yield Operation("PING", "", lambda client: client.ping(), True)


def _text(reply: Any) -> str:
    return reply.decode(errors="backslashreplace") if isinstance(reply, bytes) else str(reply or "")

"""What is asked of the server: a seeded mix of commands, encoded in advance, each with the reply that counts as success."""

import bisect
import functools
import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import redis

OPERATIONS = ("GET", "SET", "PING", "INCR", "HSET", "MGET")
DISTRIBUTIONS = ("uniform", "zipfian", "sequential")
LARGEST_BYTES = 1 << 20
# Requests are encoded before the run and sent in turn, again and again: so many distinct ones, or so many bytes of them.
MOST_REQUESTS = 65_536
MOST_ENCODED_BYTES = 64 << 20
MGET_KEYS = 10
# The skew of the Yahoo! Cloud Serving Benchmark (Cooper et al., SoCC 2010): 0.99.
ZIPF_EXPONENT = 0.99
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One command, ready to be sent.

    Attributes:
        operation: its name.
        wire: its bytes.
        expected: the reply that counts as success; None where several do.
        prefix: what any other successful reply begins with, such as `:` for an integer; None if there is no other.
    """

    operation: str
    wire: bytes
    expected: bytes | None
    prefix: bytes | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """A seeded mix of commands on keys of our own.

    Attributes:
        prefix: of the keys.
        operations: weight of each command, such as `{"GET": 9, "SET": 1}`; `ECHO` is for a server that sends back what it reads.
        sizes_bytes: weight of each length of a value; a key keeps its length. 1 byte to 1 MiB.
        keys: how many there are, of each type that the commands need.
        distribution: how keys are chosen: `uniform`, `zipfian` (exponent 0.99) or `sequential`.
        ttl_s: lifetime of the strings, in whole seconds; None keeps them. An expired key answers GET with nil, which counts as success.
        seed: of the choices.

    Raises:
        ValueError: one of them is impossible; the message says which, and what it takes.
    """

    prefix: str
    operations: Mapping[str, float] = field(default_factory=lambda: {"GET": 1, "SET": 1, "PING": 1})
    sizes_bytes: Mapping[int, float] = field(default_factory=lambda: {64: 1})
    keys: int = 1000
    distribution: str = "uniform"
    ttl_s: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in _ENCODERS:
                raise ValueError(f"there is no operation {name!r} to offer: choose of {', '.join(OPERATIONS)}")
        _check_weights("operations", self.operations.values())
        for size in self.sizes_bytes:
            if not 1 <= size <= LARGEST_BYTES:
                raise ValueError(f"a value takes 1 to {LARGEST_BYTES:,} bytes, got {size}")
        _check_weights("sizes", self.sizes_bytes.values())
        if self.keys < 1:
            raise ValueError(f"it takes at least one key, got {self.keys}")
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"there is no distribution {self.distribution!r} of keys: choose of {', '.join(DISTRIBUTIONS)}")
        if self.ttl_s is not None and self.ttl_s < 1:
            raise ValueError(f"keys live for whole seconds from 1, got {self.ttl_s}")

    def fill(self, client: redis.Redis) -> None:
        """Write every key once.

        Args:
            client: answers with bytes.

        Raises:
            redis.RedisError: the server refused, or could not be reached.
        """
        pipeline, held_bytes = client.pipeline(transaction=False), 0
        for number in range(self.keys):
            value = b"x" * self._size_of(number)
            if self.operations.keys() & {"GET", "SET", "MGET"}:
                pipeline.set(self._key(number), value, ex=self.ttl_s)
                held_bytes += len(value)
            if "HSET" in self.operations:
                pipeline.hset(self._key(number, "hash"), "field", value)
                held_bytes += len(value)
            held_bytes += 100
            if held_bytes > _CHUNK_BYTES:
                pipeline.execute()
                held_bytes = 0
        pipeline.execute()

    def clear(self, client: redis.Redis) -> None:
        """Delete every key that these requests can make."""
        kinds = [kind for kind, users in _KINDS.items() if users & self.operations.keys()]
        names = (self._key(number, kind) for number in range(self.keys) for kind in kinds)
        while batch := list(itertools.islice(names, 1000)):
            client.unlink(*batch)

    def requests(self, stream: int = 0, count: int = MOST_REQUESTS) -> list[Request]:
        """Encode the requests; the same seed and stream give the same ones.

        Args:
            stream: number of the process that sends them.
            count: how many are sent, so that no more are encoded.
        """
        choice = random.Random(f"{self.seed}:{stream}")
        names, weights = list(self.operations), list(self.operations.values())
        numbers = self._numbers(choice)
        encoded: list[Request] = []
        replies: set[bytes] = set()  # equal ones are one object
        held_bytes = 0
        while len(encoded) < min(count, MOST_REQUESTS) and held_bytes < MOST_ENCODED_BYTES:
            request = _ENCODERS[choice.choices(names, weights)[0]](self, numbers)
            encoded.append(request)
            held_bytes += len(request.wire)
            if request.expected and request.expected not in replies:
                replies.add(request.expected)
                held_bytes += len(request.expected)
        return encoded

    def _numbers(self, choice: random.Random) -> Iterator[int]:
        match self.distribution:
            case "sequential":
                return itertools.cycle(range(self.keys))
            case "zipfian":
                totals = list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, self.keys + 1)))
                # The keys that are wanted most lie anywhere among the others.
                shuffled = random.Random(self.seed).sample(range(self.keys), self.keys)
                return (shuffled[bisect.bisect(totals, choice.random() * totals[-1], hi=self.keys - 1)] for _ in itertools.repeat(None))
        return (choice.randrange(self.keys) for _ in itertools.repeat(None))

    def _size_of(self, number: int) -> int:
        if len(self.sizes_bytes) == 1:
            return next(iter(self.sizes_bytes))
        # A hash, since it takes a tenth of the time of a generator that is seeded anew.
        digest = hashlib.blake2b(f"{self.seed}:size:{number}".encode(), digest_size=8).digest()
        totals = list(itertools.accumulate(self.sizes_bytes.values()))
        at = bisect.bisect(totals, int.from_bytes(digest) / 2**64 * totals[-1], hi=len(totals) - 1)
        return list(self.sizes_bytes)[at]

    def _key(self, number: int, kind: str = "string") -> str:
        return f"{self.prefix}{kind}:{number}"

    def _get(self, numbers: Iterator[int]) -> Request:
        number = next(numbers)
        return Request("GET", encode("GET", self._key(number)), _bulk(self._size_of(number)), b"$-1\r\n" if self.ttl_s else None)

    def _set(self, numbers: Iterator[int]) -> Request:
        number = next(numbers)
        lifetime = ("EX", str(self.ttl_s)) if self.ttl_s else ()
        return Request("SET", encode("SET", self._key(number), b"x" * self._size_of(number), *lifetime), b"+OK\r\n")

    def _ping(self, numbers: Iterator[int]) -> Request:
        return Request("PING", encode("PING"), b"+PONG\r\n")

    def _incr(self, numbers: Iterator[int]) -> Request:
        return Request("INCR", encode("INCR", self._key(next(numbers), "counter")), None, b":")

    def _hset(self, numbers: Iterator[int]) -> Request:
        number = next(numbers)
        return Request("HSET", encode("HSET", self._key(number, "hash"), "field", b"x" * self._size_of(number)), b":0\r\n", b":1\r\n")

    def _mget(self, numbers: Iterator[int]) -> Request:
        chosen = [next(numbers) for _ in range(MGET_KEYS)]
        expected = _bulks(tuple(self._size_of(number) for number in chosen))
        return Request("MGET", encode("MGET", *map(self._key, chosen)), expected, b"*%d\r\n" % MGET_KEYS if self.ttl_s else None)

    def _echo(self, numbers: Iterator[int]) -> Request:
        """Expect the same bytes back, as the server of `runbook.load.echo` sends them; a Redis answers otherwise."""
        wire = encode("ECHO", b"x" * self._size_of(next(numbers)))
        return Request("ECHO", wire, wire)


_ENCODERS: dict[str, Callable[[Traffic, Iterator[int]], Request]] = {
    "GET": Traffic._get,
    "SET": Traffic._set,
    "PING": Traffic._ping,
    "INCR": Traffic._incr,
    "HSET": Traffic._hset,
    "MGET": Traffic._mget,
    "ECHO": Traffic._echo,
}
_KINDS = {"string": {"GET", "SET", "MGET"}, "counter": {"INCR"}, "hash": {"HSET"}}


def encode(*words: str | bytes) -> bytes:
    """Encode a command for the wire ("Redis serialization protocol specification", arrays of bulk strings)."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


@functools.lru_cache(maxsize=1024)  # replies of the same length are one object: a thousand of 1 MiB need not fit into memory
def _bulk(size_bytes: int) -> bytes:
    return b"$%d\r\n%s\r\n" % (size_bytes, b"x" * size_bytes)


@functools.lru_cache(maxsize=1024)
def _bulks(sizes_bytes: tuple[int, ...]) -> bytes:
    return b"*%d\r\n" % len(sizes_bytes) + b"".join(map(_bulk, sizes_bytes))


def _check_weights(what: str, weights: Iterable[float]) -> None:
    numbers = list(weights)
    if not numbers or not all(0 <= number < float("inf") for number in numbers) or not sum(numbers):
        raise ValueError(f"the weights of {what} are numbers from 0 with a sum above 0, got {numbers}")

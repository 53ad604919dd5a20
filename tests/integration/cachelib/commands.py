"""Commands that several tests use, each with what the proxy knows it by and what it leaves behind."""

import time
from collections.abc import Callable
from typing import Any

import redis

from runbook.targets.embedded import Embedded

# Flags of a server that takes long to load its data, so many microseconds a key, and answers meanwhile.
SLOW_TO_LOAD = ("--appendonly", "no", "--save", "", "--loading-process-events-interval-bytes", "1024", "--key-load-delay")


def wait_until_loading(server: Embedded) -> None:
    """Return as soon as a server that starts answers LOADING."""
    with redis.Redis(port=server.config.port, retry=None) as observer:
        while True:
            try:
                observer.get("k")
                raise AssertionError("it answered without having loaded")
            except redis.BusyLoadingError:
                return
            except redis.ConnectionError:
                time.sleep(0.001)


def increment(client: Any) -> Any:
    """Increment a key by WATCH, GET, MULTI, SET and EXEC."""

    def change(pipe: Any) -> None:
        value = int(pipe.get("w") or 0)
        pipe.multi()
        pipe.set("w", value + 1)

    return client.transaction(change, "w")


def count(key: str) -> Callable[[Any], int]:
    return lambda direct: int(direct.get(key) or 0)


# Writes that must not be applied twice: a word in the request, the write with a number of its own, and how often it was applied.
WRITES: dict[str, tuple[bytes, Callable[[Any, int], Any], Callable[[Any], int]]] = {
    "INCR": (b"INCRBY", lambda client, number: client.incr("n"), count("n")),
    "RPUSH": (b"RPUSH", lambda client, number: client.rpush("l", number), lambda direct: int(direct.llen("l"))),
    "XADD": (b"XADD", lambda client, number: client.xadd("x", {"f": number}), lambda direct: int(direct.xlen("x"))),
    "SET NX": (b"SET", lambda client, number: client.set(f"nx{number}", 1, nx=True), lambda direct: len(direct.keys("nx*"))),
    "MULTI": (b"EXEC", lambda client, number: client.pipeline().set("other", 1).incr("m").execute(), count("m")),
    "pipeline": (b"INCRBY", lambda client, number: client.pipeline(transaction=False).get("other").incr("p").execute(), count("p")),
    "EVAL": (b"EVAL", lambda client, number: client.eval("return redis.call('INCR', 'e')", 0), count("e")),
    "WATCH": (b"EXEC", lambda client, number: increment(client), count("w")),
    # One that our tables don't know.
    "APPEND": (b"APPEND", lambda client, number: client.execute_command("APPEND", "a", "v"), lambda direct: int(direct.strlen("a"))),
}


def subscribe(client: Any) -> None:
    with client.pubsub() as pubsub:
        pubsub.subscribe("news")


def ping_alone(client: Any) -> Any:
    with client.client() as single:
        return single.ping()


# One command for each way through the clients.
USES: dict[str, Callable[[Any], Any]] = {
    "GET": lambda client: client.get("k"),
    "INCR": lambda client: client.incr("n"),
    "pipeline": lambda client: client.pipeline(transaction=False).get("k").execute(),
    "MULTI": lambda client: client.pipeline().incr("n").execute(),
    "WATCH": lambda client: client.transaction(lambda pipe: pipe.get("k") and None, "k"),
    "CLIENT ID": lambda client: client.client_id(),
    "EVAL": lambda client: client.eval("return 1", 0),
    "SUBSCRIBE": subscribe,
    "single connection": ping_alone,
    "BLPOP": lambda client: client.blpop("nothing", 0.1),
}

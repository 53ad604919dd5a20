"""Writes that must not be applied twice, for clients of both kinds."""

from collections.abc import Callable
from typing import Any

# Each with a word by which the proxy knows it, and how often it was applied.
WRITES: dict[str, tuple[bytes, Any, Callable[[Any], int]]] = {
    "INCR": (b"INCRBY", lambda client, number: client.incr("n"), lambda direct: int(direct.get("n") or 0)),
    "RPUSH": (b"RPUSH", lambda client, number: client.rpush("l", number), lambda direct: int(direct.llen("l"))),
    "XADD": (b"XADD", lambda client, number: client.xadd("x", {"f": number}), lambda direct: int(direct.xlen("x"))),
    "SET NX": (b"SET", lambda client, number: client.set(f"nx{number}", 1, nx=True), lambda direct: len(direct.keys("nx*"))),
    "MULTI": (b"EXEC", lambda client, number: client.pipeline().incr("m").execute(), lambda direct: int(direct.get("m") or 0)),
    "pipeline": (b"INCRBY", lambda client, number: client.pipeline(False).incr("p").execute(), lambda direct: int(direct.get("p") or 0)),
    "EVAL": (b"EVAL", lambda client, number: client.eval("return redis.call('INCR', 'e')", 0), lambda direct: int(direct.get("e") or 0)),
}

"""How a command becomes bytes, and a reply becomes a value, where we do it instead of redis-py; the result is the same."""

from collections.abc import Mapping
from typing import Any

import hiredis
import redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.connection import HiredisRespSerializer

_get: Any = dict.get  # that of redis-py's dictionary upper-cases the name each time
_pack_words = HiredisRespSerializer().pack


def pack(args: tuple[Any, ...]) -> bytes:
    """Return a command as bytes of the protocol.

    Args:
        args: a name of one word, and arguments.

    Raises:
        redis.DataError: an argument is none of bytes, str, int and float.
    """
    try:
        packed: bytes = hiredis.pack_command(args)
        return packed
    except TypeError:  # a bytearray, a memoryview, or nothing that can be sent
        return b"".join(_pack_words(*args))


def parse(callbacks: Mapping[Any, Any], name: str, reply: Any, options: dict[str, Any]) -> Any:
    """Turn a reply into what redis-py's method returns, or raise it if it is an error.

    Args:
        callbacks: `response_callbacks` of the client, their keys in upper case.
        name: of the command, in upper case.
        reply: as the server gave it.
        options: which the method passed to `execute_command`.
    """
    if isinstance(reply, Exception):
        if EMPTY_RESPONSE in options and isinstance(reply, redis.ResponseError):
            return options[EMPTY_RESPONSE]
        raise reply
    callback = _get(callbacks, name)
    if callback is None:
        return reply
    if options:
        options = {key: value for key, value in options.items() if key not in (NEVER_DECODE, EMPTY_RESPONSE, "keys")}
    return callback(reply, **options)

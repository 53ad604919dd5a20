"""A server that is full and rewrites its append-only file, while all of its data change, stays within its container's memory."""

import contextlib
import time

import pytest
import redis

from cachelib import connect
from runbook.targets.compose import Compose

VALUE_BYTES = 256 * 1024
# With what the server needs beside the values, so many fill its 512 MB.
MOST_VALUES = 2048


def fill(client: redis.Redis, letter: bytes) -> int:
    """Set values until the server is full, and return how many there are."""
    for number in range(MOST_VALUES):
        try:
            client.set(f"value:{number}", letter * VALUE_BYTES)
        except redis.OutOfMemoryError:
            return number
    raise AssertionError("it took more than its 512 MB")


@pytest.mark.timeout(180)
def test_a_rewrite_of_a_full_server_under_overwrites_is_not_killed(own_compose: Compose) -> None:
    with connect(own_compose.config) as client:
        count = fill(client, b"a")
        assert client.info("memory")["used_memory"] > 500 * 2**20
        with contextlib.suppress(redis.ResponseError):  # the server may have begun one by itself, since the file has grown
            client.bgrewriteaof()
        overwritten = 0
        began_s = time.monotonic()
        while client.info("persistence")["aof_rewrite_in_progress"] or overwritten < count:
            assert time.monotonic() - began_s < 120
            try:
                client.set(f"value:{overwritten % count}", b"b" * VALUE_BYTES)
            except redis.OutOfMemoryError:  # at the limit, one in place of another may be one too much
                client.delete(f"value:{overwritten % count}")
            overwritten += 1
        with pytest.raises(redis.OutOfMemoryError):  # noqa: PT012
            client.mset({f"more:{number}": b"c" * VALUE_BYTES for number in range(count // 8)})
            client.mset({f"last:{number}": b"c" * VALUE_BYTES for number in range(count // 8)})
        assert client.get("value:1") in (None, b"b" * VALUE_BYTES)
        assert client.delete(*(f"value:{number}" for number in range(count))) > 0
        assert client.set("room", "again")
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    inspected = own_compose.container.inspect()
    assert inspected["HostConfig"]["Memory"] == 1280 * 2**20
    assert (inspected["State"]["OOMKilled"], inspected["RestartCount"], inspected["State"]["Running"]) == (False, 0, True)

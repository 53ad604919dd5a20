"""A full server that rewrites its append-only file while all of its data change stays within the memory of its container."""

import contextlib
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import redis

from runbook.targets.compose import Compose

pytestmark = pytest.mark.timeout(120)

MIB = 1024**2
# Values that can't be compressed, a megabyte of them to a pipeline.
SIZE, BATCH = 10_000, 100
# More than fit into 512 MB.
MOST = 60_000
# Of each key while the file is rewritten: it does not get far before it is held, however fast the disk is.
SAVE_DELAY_US = 100


def client_of(project: Compose) -> redis.Redis:
    """redis-py's own client, which neither bounds nor repeats anything."""
    return redis.Redis(project.config.host, project.config.port, socket_timeout=30)


def write(client: redis.Redis, numbers: Iterable[int], salt: bytes, *, size: int = SIZE, batch: int = BATCH) -> int:
    """Set keys of these numbers until the first is refused for want of memory, and return how many were set."""
    noise = random.Random(salt).randbytes(2 * size)
    count, rest = 0, iter(numbers)
    while some := list(itertools.islice(rest, batch)):
        with client.pipeline(transaction=False) as pipeline:
            for number in some:
                pipeline.set(f"key:{number}", salt + noise[number % size :][: size - len(salt)])
            answers = pipeline.execute(raise_on_error=False)
        refused = [answer for answer in answers if answer is not True]
        assert all(isinstance(answer, redis.OutOfMemoryError) for answer in refused), refused
        count += len(answers) - len(refused)
        if refused:
            break
    return count


def fill(client: redis.Redis, salt: bytes, keys: int = 0) -> int:
    """Set further keys until none goes in, a large one or a small one; return how many there are."""
    for size, batch in ((SIZE, BATCH), (SIZE, 1), (100, 1)):
        # What was sent and not yet read counts as memory, so less goes in together than one by one.
        keys += write(client, range(keys, keys + MOST), salt, size=size, batch=batch)
    return keys


def change_all_during_a_rewrite(project: Compose, client: redis.Redis, keys: int) -> None:
    """Change all keys while the process that rewrites the file is held: it gives back what it has written, so this is the worst case."""
    # The server may be at one that it began by itself, since the file had grown.
    client.config_set("auto-aof-rewrite-percentage", 0)
    await_rewrite(client)
    client.config_set("rdb-key-save-delay", SAVE_DELAY_US)
    client.bgrewriteaof()
    signal_rewrite(project, signal.SIGSTOP)
    assert write(client, range(keys), b"after") == keys


def signal_rewrite(project: Compose, number: signal.Signals) -> None:
    """Send a signal to the process that rewrites the file."""
    pids: list[str] = []
    until_s = time.monotonic() + 10
    while not pids and time.monotonic() < until_s:  # just forked, it has its parent's name yet
        processes = project.docker.run("top", project.container.name, "-eo", "pid,args").splitlines()
        pids = [line.split()[0] for line in processes if "redis-aof-rewrite" in line]
    (pid,) = pids
    project.container.signal(number, int(pid))


def await_rewrite(client: redis.Redis) -> dict[str, Any]:
    """Wait until none is at work, and return what is known of the last one."""
    while (persistence := client.info("persistence"))["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]:
        time.sleep(0.05)
    return dict(persistence)


def was_killed(project: Compose) -> bool:
    """Tell whether the kernel ended a process of the container for want of memory."""
    found = project.container.inspect()
    return bool(found["State"]["OOMKilled"]) or found["RestartCount"] > 0


def assert_full(project: Compose, salt: bytes) -> None:
    """Reads are answered, writes are refused, and nothing is thrown out to make room."""
    with client_of(project) as client:
        for command in (("SET", "new", "x"), ("SET", "key:0", "x"), ("INCR", "counter"), ("LPUSH", "list", "x"), ("APPEND", "key:0", "x")):
            with pytest.raises(redis.OutOfMemoryError):
                client.execute_command(*command)
        value = client.get("key:0")
        assert isinstance(value, bytes)
        assert (value.startswith(salt), len(value)) == (True, SIZE)
        assert client.exists("new", "counter", "list") == 0
        assert client.info("stats")["evicted_keys"] == 0


@pytest.mark.nightly
def test_full_server_survives_the_rewrite_of_its_file(own_compose: Compose) -> None:
    """With the story's 512 MB and the limit of the compose file."""
    with client_of(own_compose) as client:
        keys = fill(client, b"before")
        memory = client.info("memory")
        # What is on its way to the file does not count.
        assert memory["maxmemory"] == 512 * MIB
        assert 500 * MIB < memory["used_memory"] - memory["mem_not_counted_for_evict"] < 520 * MIB
        assert client.dbsize() == keys
        assert_full(own_compose, b"before")

        # Just enough room to write at all.
        gone = range(keys * 19 // 20, keys)
        assert client.delete(*(f"key:{number}" for number in gone)) == len(gone)
        change_all_during_a_rewrite(own_compose, client, gone.start)
        assert fill(client, b"during", gone.start) > gone.start
        assert_full(own_compose, b"after")
        assert client.delete("key:1", "key:2") == 2
        assert client.info("persistence")["aof_rewrite_in_progress"] == 1, "all of this was during the rewrite"
        signal_rewrite(own_compose, signal.SIGCONT)
        persistence = await_rewrite(client)
        assert not was_killed(own_compose)
        assert persistence["aof_last_bgrewrite_status"] == "ok"
        assert persistence["aof_last_cow_size"] > 0.8 * 512 * MIB, "most of it was there twice"


def test_limit_without_room_for_a_copy_ends_in_a_kill(open_compose: Callable[..., Compose], eventually: Any) -> None:
    """The same with an eighth of the data, in a container of only 1.25 times as much."""
    project = open_compose(REDIS_MAXMEMORY="64mb", REDIS_MEM_LIMIT="80m")
    with client_of(project) as client:
        keys = fill(client, b"before")
        assert not was_killed(project)
        gone = range(keys * 19 // 20, keys)
        client.delete(*(f"key:{number}" for number in gone))
        with contextlib.suppress(redis.ConnectionError):  # unless the kernel takes the child first
            change_all_during_a_rewrite(project, client, gone.start)
    assert eventually(lambda: was_killed(project))

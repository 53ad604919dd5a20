"""A master that becomes a replica: writes wait for the next master, and reads go on."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from cachelib import Unavailable
from runbook.targets.embedded import Embedded
from tests.conftest import SERVER_ENVIRON
from tests.integration.cachelib.background import Task, results

pytestmark = pytest.mark.timeout(60)

# The contract's bound on connection attempts of all callers together.
MOST_PER_S = 25

WRITES: dict[str, Callable[[Any], Any]] = {
    "SET": lambda client: client.set("k", "v"),
    "INCR": lambda client: client.incr("n"),
    "MULTI INCR": lambda client: client.pipeline().incr("n").execute(),
    "MULTI GET INCR": lambda client: client.pipeline().get("k").incr("n").execute(),
    "batch of SET and INCR": lambda client: client.pipeline(transaction=False).set("k", "v").incr("n").execute(),
    "WATCH and MULTI": lambda client: client.transaction(lambda pipe: pipe.multi() or pipe.incr("n"), "n") and None,
    "EVAL": lambda client: client.eval("return redis.call('INCR', KEYS[1])", 1, "n"),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Embedded, Embedded]]:
    """A server to demote, and a master for it."""
    flags = ("--appendonly", "no", "--save", "", "--repl-diskless-sync-delay", "0")
    with Embedded(SERVER_ENVIRON, flags) as server, Embedded(SERVER_ENVIRON, flags) as master:
        yield server, master


@pytest.fixture
def demoted(servers: tuple[Embedded, Embedded]) -> Iterator[Callable[[bool], None]]:
    """Make the server a replica, or a master again."""
    server, master = servers
    with redis.Redis(port=server.config.port, retry=None) as admin:
        admin.flushall()

        def demote(wanted: bool) -> None:
            if not wanted:
                admin.execute_command("REPLICAOF", "NO", "ONE")
                return
            admin.execute_command("REPLICAOF", "127.0.0.1", master.config.port)
            until_s = time.monotonic() + 15.0
            while admin.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < until_s
                time.sleep(0.01)

        yield demote
        demote(False)


@pytest.mark.parametrize("name", [name for name in WRITES if name not in ("EVAL", "WATCH and MULTI")])
def test_write_to_a_demoted_server_waits_until_it_is_promoted(
    name: str, servers: tuple[Embedded, Embedded], demoted: Any, open_client: Any
) -> None:
    client = open_client(servers[0], connected=True, deadline_s=10.0)
    demoted(True)
    tasks = [Task(lambda: WRITES[name](client)) for _ in range(3)]
    time.sleep(0.2)  # the length of the demotion
    assert all(task.running for task in tasks)
    demoted(False)
    assert [outcome for outcome in results(tasks) if isinstance(outcome, Exception)] == []
    assert client.get("n") == (None if name == "SET" else b"3")
    assert (client.pool_stats().unknown, client.pool_stats().lost > 0) == (0, True)  # the connections to the replica


@pytest.mark.parametrize("name", WRITES)
def test_write_to_a_server_that_stays_demoted_fails_and_its_outcome_is_known(
    name: str, servers: tuple[Embedded, Embedded], demoted: Any, open_client: Any
) -> None:
    """It answered that it did nothing; another attempt would be made after the deadline, and could meet it."""
    client = open_client(servers[0], connected=True, deadline_s=1.0, backoff_base_s=1000.0, backoff_cap_s=1000.0)
    demoted(True)
    for _ in range(2):
        with pytest.raises((Unavailable, redis.ReadOnlyError)) as caught:
            WRITES[name](client)
        assert type(caught.value) is redis.ReadOnlyError or "was answered READONLY by 127.0.0.1" in str(caught.value)
    assert client.pool_stats().unknown == 0


def test_script_that_a_demoted_server_refuses_half_way_is_run_once(
    servers: tuple[Embedded, Embedded], demoted: Any, open_client: Any
) -> None:
    client = open_client(servers[0], connected=True, deadline_s=1.0)
    demoted(True)
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("news")
        assert pubsub.get_message(timeout=5) is None
        with pytest.raises(redis.ReadOnlyError):
            client.eval("redis.call('PUBLISH', 'news', 'x'); return redis.call('INCR', KEYS[1])", 1, "n")
        messages = [pubsub.get_message(timeout=0.1) for _ in range(3)]
    assert sum(message is not None for message in messages) == 1


def test_hundred_writers_wait_out_a_demotion_while_reads_go_on(servers: tuple[Embedded, Embedded], demoted: Any, open_client: Any) -> None:
    """All share few connections, so most of their commands travel in the write of another caller."""
    client, reader = open_client(servers[0], deadline_s=20.0, pool_size=2), open_client(servers[0], deadline_s=5.0)
    client.ping()
    demoted(True)
    before = reader.info("stats")["total_connections_received"]
    began_s = time.monotonic()
    tasks = [Task(lambda number=number: client.set("k", "v") if number % 2 else client.incr("n")) for number in range(100)]
    while time.monotonic() < began_s + 0.5:
        assert reader.get("missing") is None
    assert all(task.running for task in tasks)
    tried = reader.info("stats")["total_connections_received"] - before
    took_s = time.monotonic() - began_s
    demoted(False)
    outcomes = results(tasks)
    assert outcomes[1::2] == [True] * 50
    assert sorted(outcomes[::2]) == list(range(1, 51))
    assert tried <= MOST_PER_S * took_s + 4

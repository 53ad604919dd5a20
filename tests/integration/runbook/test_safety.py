"""What a drill refuses, against real servers that are not ours to break, or not well."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cachelib import connect
from runbook.drills.drill import STEADY_CLAIM, Ground
from runbook.drills.safety import Refusal, check_ours, problems_of
from runbook.drills.undo import UndoLog
from runbook.evidence import Verdict
from runbook.targets import Embedded
from tests.conftest import SERVER_ENVIRON

StartServer = Callable[..., Embedded]


def test_an_empty_server_that_is_well_may_be_broken(server: Embedded) -> None:
    check_ours(server)


def test_keys_of_our_own_are_no_obstacle(server: Embedded) -> None:
    with connect(server.config) as client:
        client.set("runbook:something", 1)
    check_ours(server)


def test_a_key_of_somebody_else_is_named(server: Embedded) -> None:
    with connect(server.config) as client:
        client.set("balance:btc", 1)
    with pytest.raises(Refusal, match="keys that are not ours, first b'balance:btc'"):
        check_ours(server)


def test_a_client_of_somebody_else_is_named(own_server: Embedded) -> None:
    with connect(own_server.config) as client:
        client.ping()
        with pytest.raises(Refusal, match=r"1 other clients are connected, first 127\.0\.0\.1"):
            check_ours(own_server)


def test_a_replica_is_refused_and_so_is_its_primary(start_server: StartServer) -> None:
    primary = start_server()
    replica = start_server("--replicaof", "127.0.0.1", str(primary.config.port))
    with connect(primary.config) as client:
        until_s = time.monotonic() + 20
        while client.info("replication")["connected_slaves"] != 1:
            assert time.monotonic() < until_s
            time.sleep(0.05)
    with pytest.raises(Refusal, match="1 replicas follow it"):
        check_ours(primary)
    with pytest.raises(Refusal, match="it is a slave, whose primary is not ours"):
        check_ours(replica)


def test_a_server_that_does_not_answer_is_refused_in_time(
    own_server: Embedded, paused: Callable[..., contextlib.AbstractContextManager[None]]
) -> None:
    began_s = time.monotonic()
    with paused(own_server), pytest.raises(Refusal, match="can't be looked at"):
        check_ours(own_server)
    assert time.monotonic() - began_s < 10


def test_a_server_that_takes_no_writes_is_not_steady(start_server: StartServer) -> None:
    full = start_server("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    (problem,) = problems_of(full)
    assert "do not succeed" in problem
    with pytest.raises(Refusal, match="do not succeed"):
        check_ours(full)


class TestGround:
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Ground:
        said: list[str] = []
        return Ground("test", SERVER_ENVIRON, "embedded", "quick", 1, 1, tmp_path, UndoLog(tmp_path / "state"), said.append)

    def test_a_server_that_is_left_as_it_was_found_is_told_to_be_steady(self, ground: Ground) -> None:
        with ground.server("I-4"):
            pass
        assert [(finding.claim, finding.verdict) for finding in ground.findings] == [(STEADY_CLAIM, Verdict.PASS)]
        assert ground.engine is not None

    def test_a_server_that_a_drill_leaves_broken_is_a_failure(self, ground: Ground) -> None:
        with ground.server("I-4") as target, connect(target.config) as client:
            client.config_set("maxmemory", 1)
        (finding,) = ground.findings
        assert finding.verdict is Verdict.FAIL
        assert "do not succeed" in finding.reason

    def test_the_same_seed_gives_the_same_choices_and_another_purpose_others(self, ground: Ground) -> None:
        assert ground.chance("a").random() == ground.chance("a").random()
        assert ground.chance("a").random() != ground.chance("b").random()

"""Loads recorded against a real server that is killed meanwhile, and what their checkers make of it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cachelib import Client, connect
from runbook.drills import persistence
from runbook.drills.checkers import account, membership, readings, tally
from runbook.drills.faults import killed
from runbook.evidence import Verdict
from runbook.load import Counter, Journal, Ledger, Load, Members, Outcome, Register, read_journal
from runbook.targets import Embedded

# What a SIGKILL may take, with appendfsync everysec.
WINDOW_S = 2.0


@pytest.mark.parametrize("decode_responses", [False, True])
def test_the_checkers_pass_a_good_server_across_two_kills(own_server: Embedded, decode_responses: bool) -> None:
    with connect(own_server.config, decode_responses=decode_responses) as client:
        with (
            Load(client, Ledger("ledger"), rate_per_s=200, workers=2) as appends,
            Load(client, Counter("counter"), rate_per_s=200, workers=2) as increments,
            Load(client, Members("members"), rate_per_s=200, workers=2) as additions,
            Load(client, Register("register:"), rate_per_s=400, workers=2) as registers,
        ):
            cuts_ns = []
            for _ in range(2):
                time.sleep(0.4)
                with killed(own_server) as outage:
                    time.sleep(0.1)
                cuts_ns.append(outage.down_ns)
            time.sleep(0.4)
        text = str if decode_responses else bytes.decode
        accounted = account(appends.history, [text(value) for value in client.lrange("ledger", 0, -1)], cuts_ns)
        counted = tally(increments.history, int(client.get("counter") or 0), cuts_ns, WINDOW_S)
        members = membership(additions.history, [text(value) for value in client.smembers("members")], cuts_ns)
        read = readings(registers.history, cuts_ns, WINDOW_S)
    for found in (accounted, counted, members, read):
        assert found.corrupt == (), found.counter_examples()
    assert min(accounted.acknowledged, counted.acknowledged, members.acknowledged, read.written, read.read) > 100
    assert max(*accounted.windows_s, *members.windows_s, read.lost_window_s) <= WINDOW_S


def test_the_checkers_accuse_a_server_that_forgets(start_server: Callable[..., Embedded]) -> None:
    server = start_server("--appendonly", "no", "--save", "")
    with connect(server.config) as client:
        with (
            Load(client, Counter("counter"), rate_per_s=200, workers=1) as increments,
            Load(client, Members("members"), rate_per_s=200, workers=1) as additions,
            Load(client, Register("register:"), rate_per_s=400, workers=1) as registers,
        ):
            time.sleep(0.4)
            with killed(server) as outage:
                client.close()
            time.sleep(0.2)
        cuts_ns = [outage.down_ns]
        assert tally(increments.history, int(client.get("counter") or 0), cuts_ns, 0.1).corrupt
        assert membership(additions.history, [value.decode() for value in client.smembers("members")], cuts_ns).lost_window_s > 0.1
        assert readings(registers.history, cuts_ns, WINDOW_S).corrupt == ()


def test_a_register_that_another_client_sets_back_is_stale(server: Embedded, connect_to: Callable[..., Client]) -> None:
    client = connect_to(server)
    with Load(client, Register("register:"), rate_per_s=1000, workers=1) as load:
        for _ in range(50):
            client.set("register:0", "0:0")
            time.sleep(0.003)
    found = readings(load.history)
    assert found.stale
    assert "stale: worker 0 GET '0:0', sent at " in found.counter_examples()


def test_several_kills_of_one_load_are_each_accounted_for(own_server: Embedded) -> None:
    result = persistence.drill(own_server, fault="SIGKILL", rate_per_s=600, writers=3, before_s=0.4, down_s=0.25, after_s=0.4, times=2)
    assert [finding.verdict for finding in result.findings] == [Verdict.PASS] * 5, result.findings
    assert len(result.outages) == len(result.account.windows_s) == 2


def test_a_load_can_be_looked_at_while_it_runs_and_leaves_its_journal(own_server: Embedded, tmp_path: Path) -> None:
    with connect(own_server.config) as client, Load(client, Ledger("l"), rate_per_s=500, workers=3, journal=Journal(tmp_path)) as load:
        time.sleep(0.3)
        early = load.history
        assert 0 < early.count(Outcome.OK) == len(early)
        time.sleep(0.1)
    assert [*load.history][: len(early) // 2] == [*early][: len(early) // 2]
    assert len(load.history) > len(early)
    assert [*read_journal(tmp_path)] == [*load.history]


def test_an_operation_that_crashed_its_worker_is_unknown(own_server: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the client's own fault")

    with connect(own_server.config) as client:
        monkeypatch.setattr(client, "sadd", crash)
        load = Load(client, Members("members"), rate_per_s=500, workers=1)
        with pytest.raises(ZeroDivisionError), load:
            time.sleep(0.1)
    assert [(record.value, record.outcome) for record in load.history] == [("0:0", Outcome.UNKNOWN)]

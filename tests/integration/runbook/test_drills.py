"""The drills against real servers: good ones pass, and each kind of bad one is found out."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from cachelib import Client, Config, connect
from runbook.drills import attribution, connections, latency, lost_replies, persistence, reconnection, setup, sweep
from runbook.drills.faults import Outage, killed, stopped
from runbook.drills.persistence_faults import FAULTS
from runbook.drills.pool import fill_pool
from runbook.drills.reconnection_judging import CLAIMS, SHORTEST_OUTAGE_S
from runbook.evidence import Finding, Verdict
from runbook.load import Outcome
from runbook.targets import Embedded, Engine, Remote

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL

StartServer = Callable[..., Embedded]
Connect = Callable[..., Client]
Fault = Callable[[Embedded], AbstractContextManager[Outage]]

BOTH_FAULTS = pytest.mark.parametrize("fault", [stopped, killed])
WITHOUT_PERSISTENCE = ("--appendonly", "no", "--save", "")


def _drill(target: Any, fault: str, *, before_s: float = 0.6, down_s: float = 0.4) -> persistence.Result:
    return persistence.drill(target, fault=fault, rate_per_s=1000, writers=4, before_s=before_s, down_s=down_s, after_s=0.5)


def _verdicts(findings: tuple[Finding, ...]) -> dict[str, tuple[Verdict, str]]:
    return {finding.criterion: (finding.verdict, finding.reason) for finding in findings}


def _remote(server: Embedded, **more: str) -> Remote:
    return Remote({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.config.port), **more})


def _run_id(server: Embedded) -> str:
    with connect(server.config) as client:
        return str(client.info("server")["run_id"])


class Pretender:
    """A target that says it ended its server, and leaves it alone."""

    name = "pretender"

    def __init__(self, server: Embedded) -> None:
        self._server = server

    @property
    def config(self) -> Config:
        return self._server.config

    @property
    def engine(self) -> Engine:
        return self._server.engine

    def stop(self) -> int:
        return 0

    def kill(self) -> int:
        return -9

    def start(self) -> None: ...

    def log(self) -> str:
        return ""

    def close(self) -> None: ...


class TestPersistence:
    @pytest.mark.parametrize("fault", ["SIGTERM", "SIGKILL"])
    def test_a_server_with_the_storys_flags_passes(self, fault: str, own_server: Embedded) -> None:
        result = _drill(own_server, fault)
        assert [(finding.verdict, finding.reason) for finding in result.findings] == [(PASS, "")] * 5
        assert [(finding.criterion, finding.claim) for finding in result.findings] == [*FAULTS[fault].claims.values()]
        assert result.account.acknowledged > 200
        assert result.outages[0].duration_s >= 0.4
        assert result.probes.count(Outcome.FAIL) > 0

    @pytest.mark.parametrize(("fault", "before_s"), [("SIGTERM", 0.6), pytest.param("SIGKILL", 2.6, marks=pytest.mark.nightly)])
    def test_a_server_without_persistence_fails(self, fault: str, before_s: float, start_server: StartServer) -> None:
        """SIGKILL may cost the writes of two seconds, so it takes more than two seconds of them to tell. Each witness finds it."""
        result = _drill(start_server(*WITHOUT_PERSISTENCE), fault, before_s=before_s)
        assert [finding.verdict for finding in result.data] == [FAIL] * 3
        assert f"{len(result.account.lost)} of {result.account.acknowledged} acknowledged writes lost" in result.data[0].reason
        assert len(result.account.lost) > 100 * before_s

    def test_a_server_that_keeps_nothing_fails_at_the_times_of_the_notebook(self, start_server: StartServer) -> None:
        result = persistence.drill(start_server(*WITHOUT_PERSISTENCE), fault="SIGKILL", rate_per_s=500, writers=2, times=2, seed=1)
        assert [finding.verdict for finding in result.data] == [FAIL] * 3

    @pytest.mark.parametrize("fault", ["SIGTERM", "SIGKILL"])
    def test_the_control_finds_the_loss_of_a_server_without_a_file(self, fault: str) -> None:
        (finding,) = persistence.lossy_control(fault)
        assert (finding.verdict, finding.reason) == (PASS, "")

    def test_it_leaves_the_server_as_it_found_it(self, own_server: Embedded, connect_to: Connect) -> None:
        client = connect_to(own_server, decode_responses=True)
        client.set("the application's", "state")
        before = _run_id(own_server)
        _drill(own_server, "SIGTERM", before_s=0.2, down_s=0.1)
        assert client.keys() == ["the application's"]
        assert _run_id(own_server) != before

    @pytest.mark.parametrize(("fault", "where"), [("SIGKILL", "embedded or compose"), ("recreation", "compose"), ("crash", "compose")])
    def test_a_remote_server_is_not_touched_and_nothing_is_concluded(self, fault: str, where: str, server: Embedded) -> None:
        before = _run_id(server)
        result = _drill(_remote(server), fault)
        assert [finding.verdict for finding in result.findings] == [INCONCLUSIVE] * 5
        assert {finding.reason for finding in result.findings} == {f"a remote target is not ours to stop: run this drill on {where}"}
        assert _run_id(server) == before
        assert len(result.writes) == len(result.probes) == 0

    def test_a_fault_that_did_not_take_place_proves_nothing(self, server: Embedded) -> None:
        result = persistence.drill(Pretender(server), fault="SIGKILL", rate_per_s=1000, writers=2, before_s=0.3, down_s=0.1, after_s=0.3)
        assert [finding.verdict for finding in result.findings] == [INCONCLUSIVE] * 5
        assert all("the same server process answers as before" in finding.reason for finding in result.findings)


class TestFaults:
    @BOTH_FAULTS
    def test_the_server_is_away_within_the_block_and_back_behind_it(self, fault: Fault, own_server: Embedded) -> None:
        before = _run_id(own_server)
        with fault(own_server) as outage:
            assert own_server.pid is None
        assert outage.doubts == ()
        assert outage.broken_ns <= outage.down_ns <= outage.ready_ns
        assert _run_id(own_server) != before

    @BOTH_FAULTS
    def test_a_block_that_raises_heals_the_server_and_its_error_comes_through(self, fault: Fault, own_server: Embedded) -> None:
        with pytest.raises(ZeroDivisionError, match="within the outage"), fault(own_server):
            raise ZeroDivisionError("within the outage")
        assert own_server.pid is not None
        assert _run_id(own_server)

    def test_an_interrupted_block_heals_the_server(self, own_server: Embedded) -> None:
        with pytest.raises(KeyboardInterrupt), killed(own_server):
            raise KeyboardInterrupt
        assert _run_id(own_server)

    @BOTH_FAULTS
    def test_a_server_that_did_not_end_leaves_its_doubts(self, fault: Fault, server: Embedded) -> None:
        with fault(Pretender(server)) as outage:  # type: ignore[arg-type]
            assert outage.doubts == ("its port still accepted connections after it ended",)
        assert outage.doubts[1:] == ("the same server process answers as before",)

    def test_a_server_that_ended_otherwise_than_it_should_leaves_its_doubts(
        self, own_server: Embedded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(own_server, "stop", own_server.kill)
        with stopped(own_server) as outage:
            pass
        assert outage.doubts == ("the server ended with status -9 instead of 0",)

    @BOTH_FAULTS
    def test_each_is_named_for_its_signal(self, fault: Fault, server: Embedded) -> None:
        with fault(Pretender(server)) as outage:  # type: ignore[arg-type]
            assert outage.fault == {"stopped": "SIGTERM", "killed": "SIGKILL"}[fault.__name__]


class TestSetup:
    def test_an_embedded_server_passes_every_check(self, server: Embedded) -> None:
        findings = setup.check_settings(server) + setup.check_client(server, 5) + setup.check_health(server)
        assert _verdicts(findings) == dict.fromkeys(("AC-2", "AC-5", "AC-6", "U-3", "U-4", "I-3"), (PASS, ""))

    def test_a_server_without_persistence_fails_and_says_what_was_found(self, start_server: StartServer) -> None:
        server = start_server(*WITHOUT_PERSISTENCE)
        (finding,) = setup.check_settings(server)
        assert finding.verdict is FAIL
        assert "appendonly is no, not yes" in finding.reason
        assert "maxmemory is 0, not 536870912" in finding.reason

    def test_the_settings_shown_are_those_of_the_live_server(self, own_server: Embedded, connect_to: Connect) -> None:
        """Not those of the command line with which it was started."""
        connect_to(own_server).config_set("appendfsync", "always")
        found = {setting.name: setting.found for setting in setup.read_settings(own_server)}
        assert found == setup.STORY_SETTINGS | {"appendfsync": "always"}
        assert setup.check_settings(own_server)[0].reason == "appendfsync is always, not everysec"

    def test_a_user_without_the_right_to_see_the_settings_is_told_what_to_grant(self, own_server: Embedded, connect_to: Connect) -> None:
        connect_to(own_server).execute_command("ACL", "SETUSER", "bot", "on", ">hunter2", "~*", "+@all", "-config")
        remote = _remote(own_server, REDIS_USERNAME="bot", REDIS_PASSWORD="hunter2")
        (finding,) = setup.check_settings(remote)
        assert finding.verdict is INCONCLUSIVE
        assert finding.reason == "the server does not tell appendfsync: grant +config|get"

    def test_a_server_that_is_away_never_passes(self, own_server: Embedded) -> None:
        remote = _remote(own_server, REDIS_DEADLINE_S="0.2")
        own_server.stop()
        findings = setup.check_settings(remote) + setup.check_client(remote, 3) + setup.check_health(remote)
        assert PASS not in {finding.verdict for finding in findings}
        assert all(finding.reason for finding in findings)

    def test_a_full_server_fails_the_health_check(self, start_server: StartServer) -> None:
        findings = _verdicts(setup.check_health(start_server("--maxmemory", "1", *WITHOUT_PERSISTENCE)))
        assert findings["U-4"] == (PASS, "")
        assert findings["I-3"][0] is FAIL
        assert "out-of-memory" in findings["I-3"][1]

    def test_on_a_remote_server_only_looks_and_keys_of_our_own_are_used(self, own_server: Embedded, connect_to: Connect) -> None:
        client, remote = connect_to(own_server, decode_responses=True), _remote(own_server)
        client.set("somebody's", "value")
        client.config_resetstat()
        setup.check_settings(remote)
        setup.check_client(remote, 3)
        setup.check_health(remote)
        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        assert used <= set("config|get config|resetstat info hello client|setinfo select ping set get del blpop rpush unlink".split())
        assert client.keys() == ["somebody's"]


@pytest.fixture
def own_threads() -> Iterator[None]:
    """Wait for the threads that the test leaves behind, so that what they raise is not blamed on the next one."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(15)


class TestPool:
    @pytest.mark.parametrize("size", [1, 7])
    def test_a_pool_is_filled_to_its_last_connection_and_no_further(self, size: int, server: Embedded, connect_to: Connect) -> None:
        assert fill_pool(server.config, size) == (size, True)
        assert connect_to(server).dbsize() == 0

    def test_pools_filled_one_after_another_do_not_count_each_other(self, server: Embedded) -> None:
        assert [fill_pool(server.config, size) for size in (3, 12, 1, 6)] == [(3, True), (12, True), (1, True), (6, True)]

    def test_what_blocks_beside_it_is_not_counted(self, own_server: Embedded, connect_to: Connect, eventually: Callable[..., Any]) -> None:
        client = connect_to(own_server)
        somebody = threading.Thread(target=lambda: connect_to(own_server).blpop(["somebody's"], timeout=30))
        somebody.start()
        eventually(lambda: client.info("clients")["blocked_clients"] == 1)
        try:
            assert fill_pool(own_server.config, 4) == (4, True)
        finally:
            client.rpush("somebody's", "go on")
            somebody.join()

    def test_all_of_its_callers_have_ended(self, server: Embedded) -> None:
        before = threading.active_count()
        fill_pool(server.config, 3)
        assert threading.active_count() == before

    @pytest.mark.usefixtures("own_threads")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_full_server_has_connections_all_the_same(self, start_server: StartServer) -> None:
        """BLPOP needs no memory, and the callers must be let go although RPUSH is refused."""
        assert fill_pool(start_server("--maxmemory", "1", *WITHOUT_PERSISTENCE).config, 3) == (3, True)


def _failed(finding: Finding) -> object:
    return next(measurement.value for measurement in finding.measured if measurement.name.endswith(" failed"))


@pytest.fixture(scope="module")
def result(shared_server: Embedded) -> latency.Result:
    """A second is too short for any verdict, so all three looks are needed."""
    return latency.measure(shared_server, rate_per_s=600, duration_s=1.0)


class TestLatency:
    def test_each_operation_is_measured_and_judged_and_no_call_fails(self, result: latency.Result, shared_server: Embedded) -> None:
        assert [finding.claim.split()[4] for finding in result.findings[:3]] == ["GET", "SET", "PING"]
        assert {(finding.criterion, finding.verdict) for finding in result.findings[:3]} == {("P-2", INCONCLUSIVE)}
        assert all("too few" in finding.reason for finding in result.findings[:3])
        assert [_failed(finding) for finding in result.findings] == [0, 0, 0, 0]
        bare, client = (result.offered[name].recording for name in (latency.BARE, latency.CLIENT))
        assert bare.count() == 600
        assert bare.operations == client.operations == sorted(latency.OPERATIONS)
        with connect(shared_server.config) as looking:
            assert looking.keys("runbook:*") == []

    @pytest.mark.measures
    def test_a_slow_server_fails_and_what_it_did_is_marked(self, own_server: Embedded, connect_to: Connect) -> None:
        """Scripts of 6 ms, one after the other with a pause of 6 ms between: half of all calls wait for one of them."""
        client, stop = connect_to(own_server), threading.Event()
        script = (
            "local t = redis.call('TIME'); local e = t[1] * 1e6 + t[2] + 6000; repeat t = redis.call('TIME') until t[1] * 1e6 + t[2] > e"
        )

        def disturb() -> None:
            while not stop.wait(0.006):
                client.eval(script, 0)

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        try:
            result = latency.measure(own_server, rate_per_s=2000, duration_s=10.0)
        finally:
            stop.set()
            disturbing.join()
        assert FAIL in {finding.verdict for finding in result.findings}
        assert any("EVAL" in mark.what.upper() for mark in result.offered[latency.BARE].marks)

    def test_where_the_time_went_is_told_and_adds_up(self, result: latency.Result) -> None:
        medians = [layer for layer in result.layers if layer.p == 0.5]
        assert [layer.operation for layer in medians] == list(latency.OPERATIONS)
        for layer in result.layers:
            assert sum(part or 0.0 for part in layer.parts_ms) + layer.rest_ms == pytest.approx(layer.whole_ms)
            assert all(part is None or part >= 0 for part in layer.parts_ms)
            assert layer.parts_ms[attribution.PARTS.index("server: the command, at most")] is not None

    def test_many_connections_are_served_in_each_way(self, server: Embedded, connect_to: Connect) -> None:
        result = connections.measure(server, connections=10, rate_per_s=500, duration_s=0.6)
        assert [finding.verdict for finding in result.findings] == [PASS, PASS, PASS]
        assert {record.worker for record in result.calls} == set(range(10))
        rated, saturated = (result.offered[name].recording for name in (connections.RATED, connections.SATURATED))
        assert rated.rate_per_s == pytest.approx(500, rel=0.3)
        assert saturated.rate_per_s > 5 * rated.rate_per_s
        assert connect_to(server).dbsize() == 0

    def test_a_server_that_takes_too_few_connections_is_inconclusive_and_says_what_to_do(self, start_server: StartServer) -> None:
        result = connections.measure(start_server("--maxclients", "20"), connections=30, rate_per_s=500, duration_s=0.3)
        assert {finding.verdict for finding in result.findings} == {INCONCLUSIVE}
        assert "raise the server's maxclients" in result.findings[0].reason

    def test_a_server_that_becomes_full_meanwhile_fails_and_is_named_for_it(
        self, own_server: Embedded, connect_to: Connect, eventually: Callable[..., Any]
    ) -> None:
        client = connect_to(own_server)

        def fill() -> None:
            eventually(lambda: client.dbsize() >= 1000)  # the keys of the load are there
            client.config_set("maxmemory", 1)

        filling = threading.Thread(target=fill)
        filling.start()
        try:
            result = latency.measure(own_server, rate_per_s=300, duration_s=1.0)
        finally:
            filling.join()
        get, set_, ping, client_finding = result.findings
        assert (set_.verdict, client_finding.verdict) == (FAIL, FAIL)
        assert "SET failed, first: error OOM" in set_.reason
        assert (_failed(get), _failed(ping)) == (0, 0)

    def test_a_server_that_is_full_from_the_beginning_fails_and_is_named_for_it(self, start_server: StartServer) -> None:
        full = start_server("--maxmemory", "1", *WITHOUT_PERSISTENCE)
        result = latency.measure(full, rate_per_s=300, duration_s=1.0)
        finding = next(finding for finding in result.findings if " SET " in finding.claim)
        assert finding.verdict is FAIL
        assert "could not be written" in finding.reason

    def test_a_server_that_is_away_is_inconclusive(self, own_server: Embedded) -> None:
        own_server.stop()
        result = latency.measure(_remote(own_server, REDIS_DEADLINE_S="0.3"), rate_per_s=300, duration_s=1.0)
        assert {finding.verdict for finding in result.findings} == {INCONCLUSIVE}
        assert result.layers == ()

    @pytest.mark.parametrize(("rate_per_s", "duration_s"), [(0, 1), (-1, 1), (float("nan"), 1), (100, 0), (100, float("nan"))])
    def test_an_impossible_load_is_refused_in_words(self, rate_per_s: float, duration_s: float, server: Embedded) -> None:
        with pytest.raises(ValueError, match=r"takes (operations a second|seconds) above 0"):
            latency.measure(server, rate_per_s=rate_per_s, duration_s=duration_s)


class TestSweep:
    def test_it_ends_at_a_rate_that_the_server_does_not_bear(self, server: Embedded, connect_to: Connect) -> None:
        """Ten values of 8 KiB in each reply: some ten thousand calls a second are all that the wire carries."""
        result = sweep.measure(server, rate_per_s=4000, step_s=0.3, operations=("MGET",), size_bytes=1 << 13)
        rates = [step.rate_per_s for step in result.steps]
        assert rates == sorted(rates)
        assert not result.steps[-1].keeps_limit
        assert result.steps[-1].rate_per_s < sweep.HIGHEST_RATE_PER_S / 10
        assert result.best is None or result.best.rate_per_s < result.steps[-1].rate_per_s
        assert connect_to(server).dbsize() == 0

    def test_a_server_that_is_away_is_inconclusive(self, own_server: Embedded) -> None:
        own_server.stop()
        result = sweep.measure(_remote(own_server, REDIS_DEADLINE_S="0.3"), rate_per_s=100, step_s=0.1)
        assert [finding.verdict for finding in result.findings] == [INCONCLUSIVE]
        assert result.steps == ()


# --- reconnection ---


def _reconnect(target: Any, *, down_s: float, callers: int = 20, with_asyncio: bool = False) -> dict[str, tuple[Verdict, str]]:
    """Drill with one kill; return what became of each claim."""
    times = {"before_s": 0.5, "down_s": down_s, "after_s": 0.5}
    result = reconnection.drill(target, with_asyncio=with_asyncio, kills=1, callers=callers, rate_per_s=500, **times)
    return {finding.claim: (finding.verdict, finding.reason) for finding in result.findings}


def _claim(name: str) -> str:
    return CLAIMS[name][1]


class TestReconnection:
    @pytest.mark.nightly  # the notebook of the drill does the same on each change
    @pytest.mark.parametrize("with_asyncio", [False, True], ids=["threads", "asyncio"])
    def test_our_client_survives_a_kill_without_a_storm(self, with_asyncio: bool, own_server: Embedded) -> None:
        verdicts = _reconnect(own_server, down_s=SHORTEST_OUTAGE_S + 0.2, callers=100, with_asyncio=with_asyncio)
        for name in ("storm", "backoff", "twice", "survival", "grace"):
            assert verdicts[_claim(name)] == (PASS, ""), name
        assert len(verdicts) == len(CLAIMS)

    def test_client_that_probes_too_often_fails(self, own_server: Embedded) -> None:
        own_server.config = dataclasses.replace(own_server.config, backoff_base_s=0.005, backoff_cap_s=0.005)
        verdict, reason = _reconnect(own_server, down_s=SHORTEST_OUTAGE_S + 0.2)[_claim("storm")]
        assert verdict is FAIL
        assert "attempts a second" in reason

    def test_client_with_less_patience_than_the_outage_lasts_fails(self, own_server: Embedded) -> None:
        own_server.config = dataclasses.replace(own_server.config, deadline_s=0.3)
        verdicts = _reconnect(own_server, down_s=0.8)
        assert verdicts[_claim("survival")][0] is not PASS
        assert verdicts[_claim("storm")][0] is INCONCLUSIVE  # too short to tell

    def test_server_that_is_not_ours_is_left_alone(self, server: Embedded) -> None:
        before = _run_id(server)
        verdicts = _reconnect(_remote(server), down_s=0.1)
        assert {verdict for verdict, _ in verdicts.values()} == {INCONCLUSIVE}
        assert _run_id(server) == before


# --- lost replies ---


class TestLostReplies:
    def test_ours_count_once_and_redis_py_twice(self, server: Embedded) -> None:
        result = lost_replies.drill(server, increments=5)
        assert [(finding.verdict, finding.reason) for finding in result.findings] == [(PASS, "")]
        assert {name: tally.counted for name, tally in result.tallies.items()} == {
            "cachelib.connect": 5,
            "cachelib.connect_async": 5,
            "redis.Redis": 10,
        }
        with connect(server.config) as client:
            assert client.dbsize() == 0  # its keys are gone

    def test_server_that_is_not_ours_gives_no_verdict(self, server: Embedded) -> None:
        assert [finding.verdict for finding in lost_replies.drill(_remote(server), increments=1).findings] == [INCONCLUSIVE]

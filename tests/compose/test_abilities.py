"""What a project of Compose can do and have done to it, on a real engine."""

import dataclasses
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis

from cachelib import Client, Config, Unavailable, connect, deadline
from runbook.drills.checkers import account
from runbook.drills.faults import crashed
from runbook.load import Ledger, Load
from runbook.targets import Contained, Local, Pausable, Restartable
from runbook.targets.compose import DEV, PROD, Compose
from runbook.targets.container import Container
from runbook.targets.docker import Docker
from tests.compose.conftest import composes

Ask = Callable[[Callable[[], Any]], Any]
OpenCompose = Callable[..., Compose]


def run_id(config: Config) -> str:
    with connect(config) as client:
        return str(client.info("server")["run_id"])


def answers(config: Config) -> bool:
    with connect(config) as client, deadline(0.3):
        try:
            return bool(client.ping())
        except Unavailable:
            return False


def test_it_has_the_abilities_that_drills_ask_for(compose: Compose) -> None:
    assert all(isinstance(compose, ability) for ability in (Restartable, Pausable, Contained, Local))


def test_it_says_which_server_and_which_image(compose: Compose, client: Client) -> None:
    assert (compose.engine.product, compose.engine.version) == ("redis", client.info("server")["redis_version"])
    labels = compose.container.inspect()["Config"]["Labels"]
    assert compose.engine.found_by.startswith("image redis:7-alpine")
    assert ("stand-in" in compose.image) == ("redis-runbook.stand-in" in labels)


def test_the_process_id_is_the_servers(compose: Compose) -> None:
    assert compose.pid == compose.container.inspect()["State"]["Pid"]
    with open(f"/proc/{compose.pid}/comm") as name:
        assert name.read() == "redis-server\n"


def test_a_stop_lets_it_close_its_files(compose: Compose, client: Client) -> None:
    client.set("kept", "stop")
    before = run_id(compose.config)
    assert compose.stop() == 0
    assert compose.pid is None
    assert not answers(compose.config)
    compose.start()
    assert client.get("kept") == "stop"
    assert run_id(compose.config) != before
    assert "User requested shutdown" in compose.log()


def test_after_a_kill_it_stays_down_since_the_policy_takes_it_for_a_stop(compose: Compose, client: Client) -> None:
    client.set("kept", "kill")
    assert compose.kill() == -signal.SIGKILL
    assert not answers(compose.config)
    assert compose.container.inspect()["State"]["Running"] is False
    compose.start()
    assert client.get("kept") == "kill"


@pytest.mark.parametrize(
    "here", [pytest.param(True, id="this kernel"), pytest.param(False, id="another kernel", marks=pytest.mark.nightly)]
)
def test_a_crash_is_healed_by_the_restart_policy(here: bool, own_compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    if not here:
        monkeypatch.setattr(Container, "pid", None)
    with connect(own_compose.config) as client:
        client.set("kept", "crash")
        before, container = run_id(own_compose.config), own_compose.instance
        own_compose.crash()
        own_compose.await_restart()
        assert client.get("kept") == b"crash"
    assert run_id(own_compose.config) != before
    assert own_compose.instance == container
    assert own_compose.container.inspect()["RestartCount"] == 1


def test_a_policy_that_does_not_act_is_told_and_healed_by_hand(
    own_compose: Compose, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook.targets.compose.RESTART_TIMEOUT_S", 1.0)
    docker.run("update", "--restart", "no", own_compose.container.name)
    with crashed(own_compose) as outage:
        assert answers(own_compose.config)
    assert "was not started again within 1 s; its log ends:" in outage.unhealed


def test_a_restart_keeps_the_container(compose: Compose) -> None:
    before, container = run_id(compose.config), compose.instance
    compose.restart()
    assert run_id(compose.config) != before
    assert compose.instance == container


def test_a_paused_server_keeps_its_connections_and_answers_nothing(compose: Compose, client: Client) -> None:
    client.ping()
    made = client.pool_stats().made
    compose.pause()
    try:
        assert not answers(compose.config)
        assert compose.container.runs
    finally:
        compose.resume()
    assert client.ping()
    assert client.pool_stats().made == made


def test_a_recreation_makes_another_container_on_the_same_volume(compose: Compose, client: Client) -> None:
    client.set("kept", "recreate")
    before = compose.container.inspect()
    compose.recreate()
    after = compose.container.inspect()
    assert before["Id"] != after["Id"]
    assert [mount["Name"] for mount in before["Mounts"]] == [mount["Name"] for mount in after["Mounts"]] == [compose.volume]
    assert client.get("kept") == "recreate"


def test_down_keeps_the_volume_and_up_finds_the_data(compose: Compose, client: Client, docker: Docker) -> None:
    client.set("kept", "down")
    compose.down()
    ours = f"label=redis-runbook.project={compose.project}"
    assert [docker.found(kind, ours) for kind in ("container", "network", "volume")] == [[], [], [compose.volume]]
    compose.up()
    assert client.get("kept") == "down"


def test_the_log_is_gathered_over_recreations(own_compose: Compose) -> None:
    for _ in range(2):
        own_compose.recreate()
    assert own_compose.log().count("Ready to accept connections") == 3
    own_compose.close()
    assert own_compose.log() == ""


def test_each_step_is_timed(own_compose: Compose) -> None:
    own_compose.stop()
    own_compose.start()
    assert [step.name for step in own_compose.steps] == ["up", "stop", "start"]
    assert all(0 < step.took_s < 30 for step in own_compose.steps)


@pytest.mark.parametrize("file", [DEV, pytest.param(PROD, marks=pytest.mark.nightly)])
def test_the_health_endpoint_tells_when_the_server_is_away(file: str, open_compose: OpenCompose, eventually: Ask) -> None:
    compose = open_compose(file)
    compose.up_health()
    endpoint = compose.health_endpoint
    assert endpoint.container.inspect()["Config"]["Image"] != "redis-runbook-health", "which is a deployment's"
    eventually(lambda: endpoint.ask("/readyz").status == 200)
    compose.stop()
    answer = endpoint.ask("/health")
    assert (answer.status, json.loads(answer.text)["reasons"]) == (503, ["unreachable"])
    assert endpoint.ask("/livez").status == 200
    compose.start()
    eventually(lambda: endpoint.ask("/readyz").status == 200)


def test_the_endpoint_starts_while_the_server_is_down(own_compose: Compose, eventually: Ask) -> None:
    own_compose.stop()
    own_compose.up_health()
    assert own_compose.health_endpoint.ask("/readyz").status == 503
    own_compose.start()
    eventually(lambda: own_compose.health_endpoint.ask("/readyz").status == 200)


@pytest.mark.parametrize("command", composes())
def test_each_compose_leads_it_through_its_life(
    command: tuple[str, ...], open_compose: OpenCompose, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Docker.find
    monkeypatch.setattr(Docker, "find", lambda environ: dataclasses.replace(find(environ), compose=command))
    compose = open_compose()
    compose.up_health()
    with connect(compose.config) as client:
        client.set("kept", "by each")
        compose.recreate()
        compose.down()
        compose.up()
        assert client.get("kept") == b"by each"


def test_two_projects_stand_side_by_side(open_compose: OpenCompose) -> None:
    one, other = open_compose(DEV), open_compose(PROD)
    assert one.config.port != other.config.port
    assert one.volume != other.volume
    with connect(one.config) as here, connect(other.config) as there:
        here.set("key", "one")
        assert there.get("key") is None
        one.close()
        assert there.set("key", "other")
        assert there.get("key") == b"other"


def test_a_named_projects_volume_outlives_the_run_that_did_not_make_it(open_compose: OpenCompose, docker: Docker) -> None:
    maker = open_compose(DEV)
    volume = f"kept-{maker.project}_redis_data"
    docker.run("volume", "create", "--label", f"redis-runbook.project=kept-{maker.project}", volume)
    try:
        for expected in (None, b"1"):
            compose = open_compose(DEV, RUNBOOK_PROJECT=f"kept-{maker.project}")
            with connect(compose.config) as client:
                assert client.get("runs") == expected
                client.set("runs", 1)
            compose.close()
            assert docker.found("volume", f"name=^{volume}$") == [volume]
    finally:
        docker.run("volume", "rm", volume)


@pytest.mark.no_cover
@pytest.mark.timeout(180)
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.nightly)])
def test_recreations_under_load_lose_no_acknowledged_write(times: int, own_compose: Compose) -> None:
    # The patience is for a host on which a recreation takes longer than a caller would wait: what counts is that nothing is lost.
    with connect(dataclasses.replace(own_compose.config, deadline_s=30.0)) as client:
        with Load(client, Ledger("ledger"), rate_per_s=300, workers=4) as load:
            containers = {own_compose.instance}
            for _ in range(times):
                own_compose.recreate()
                containers.add(own_compose.instance)
        present = [value.decode() for value in client.lrange("ledger", 0, -1)]
    found = account(load.history, present, cuts_ns=())
    assert len(containers) == times + 1
    assert found.acknowledged > times * 100
    assert (found.lost, found.duplicated, found.phantom, found.out_of_order, found.failed) == ((), (), (), (), 0)


def test_a_container_that_is_removed_behind_our_back_is_told(own_compose: Compose, docker: Docker) -> None:
    docker.run("rm", "--force", own_compose.container.name)
    with pytest.raises(Exception, match=own_compose.container.name):
        own_compose.stop()
    with pytest.raises(redis.RedisError), connect(own_compose.config) as client, deadline(0.3):
        client.ping()


def test_a_paused_context_is_left_by_close(own_compose: Compose, docker: Docker) -> None:
    """Whoever is interrupted in a stall leaves a server that stands still."""
    own_compose.pause()
    own_compose.close()
    assert not docker.found("container", f"label=redis-runbook.project={own_compose.project}")

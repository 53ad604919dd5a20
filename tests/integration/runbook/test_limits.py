"""Each limit on a real server: that it is reached, that somebody meets it, and that all is as before in the end."""

import contextlib
import resource
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cachelib import Client
from runbook.drills.faults import limits
from runbook.drills.faults.limits import Reach, Scene
from runbook.drills.limits import CASES
from runbook.targets import Embedded, Remote, TargetError

pytestmark = pytest.mark.timeout(60)

# Of those limits that show only on somebody who meets them.
DOUBTS = {
    "maxmemory with noeviction": "the server refused no write for want of memory",
    "maxclients": "the server rejected no connection",
    "the output buffer of a deaf subscriber": "the client that does not read was not cut",
}


@pytest.fixture
def scene(own_server: Embedded, connect_to: Any) -> Scene:
    caller = connect_to(own_server, deadline_s=0.2, pool_size=2)
    return Scene(own_server, connect_to(own_server, connected=True), caller)


def _meet(name: str, client: Client, times: int = 1) -> list[str]:
    """Call as a caller of the case does; return the errors."""
    errors = []
    for _ in range(times):
        try:
            CASES[name].meet.call(client)
        except redis.RedisError as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


def _state(scene: Scene) -> dict[str, Any]:
    assert isinstance(scene.target, Embedded)
    assert scene.target.pid
    settings = ("maxmemory", "maxclients", "client-output-buffer-limit")
    return {
        "settings": [scene.direct.config_get(name) for name in settings],
        "files": resource.prlimit(scene.target.pid, resource.RLIMIT_NOFILE),
        "keys": scene.direct.keys("*"),
    }


@pytest.mark.parametrize("name", CASES)
def test_limit_is_reached_met_and_relieved(name: str, scene: Scene) -> None:
    before = _state(scene)
    with CASES[name].reach(scene) as reach:
        errors = _meet(name, scene.caller, times=16 if not CASES[name].told else 1)
        if CASES[name].goes_on:
            assert scene.direct.ping()
    assert reach.doubts == ()
    assert 0 < reach.reached_ns < reach.relieved_ns
    assert [CASES[name].tells(error) for error in errors] == [True] * bool(CASES[name].told)
    scene.direct.unlink("runbook:limits:key")
    assert _state(scene) == before
    assert _meet(name, scene.caller) == []


@pytest.mark.parametrize("name", CASES)
def test_limit_is_relieved_after_an_exception(name: str, scene: Scene) -> None:
    before = _state(scene)
    with pytest.raises(LookupError), CASES[name].reach(scene):
        raise LookupError
    assert _state(scene) == before
    assert _meet(name, scene.caller) == []


@pytest.mark.parametrize("name", DOUBTS)
def test_limit_that_nobody_met_says_so(name: str, scene: Scene) -> None:
    with CASES[name].reach(scene) as reach:
        pass
    assert reach.doubts == (DOUBTS[name],)


def test_limit_that_was_lifted_meanwhile_says_so(scene: Scene) -> None:
    @contextlib.contextmanager
    def doubtful(name: str) -> Iterator[Reach]:
        with CASES[name].reach(scene) as reach:
            yield reach
        assert reach.doubts

    with doubtful("maxmemory with noeviction"):
        scene.direct.unlink(limits.FILLER)
    with doubtful("the size of the pool"):
        scene.direct.client_unblock(next(client["id"] for client in scene.direct.client_list() if client["cmd"] == "blpop"))
        while scene.direct.info("clients")["blocked_clients"] == 2:
            pass


def test_process_that_is_not_ours_is_left_alone(scene: Scene) -> None:
    config = scene.target.config
    remote = Remote({"REDIS_HOST": config.host, "REDIS_PORT": str(config.port)})
    elsewhere = Scene(remote, scene.direct, scene.caller)
    with pytest.raises(TargetError, match="can't be seen from this host"), limits.descriptors_used_up(elsewhere):
        pass

"""What a server is asked of its configuration: by reading alone, never for a secret, and as much as its ACL lets us."""

import dataclasses
from collections.abc import Callable

import pytest

from cachelib import Config, connect
from cachelib.config import Secret
from runbook.targets import Embedded, Remote
from runbook.targets.settings import SETTINGS, settings_of


def _as_user(server: Embedded, *rules: str) -> Config:
    with connect(server.config) as client:
        client.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">open-sesame-7", "~*", *rules)
    return dataclasses.replace(server.config, username="looker", password=Secret("open-sesame-7"))


def test_the_settings_that_verdicts_depend_on_are_told_as_the_server_tells_them(server: Embedded) -> None:
    found = server.engine.settings
    assert set(found) == {"build", *SETTINGS}
    assert (found["appendonly"], found["appendfsync"], found["maxmemory"]) == ("yes", "everysec", "536870912")


def test_no_setting_that_is_asked_for_is_a_secret_or_a_pattern() -> None:
    assert not [name for name in SETTINGS if "pass" in name or "auth" in name or "acl" in name or "*" in name]


def test_a_server_is_only_read(own_server: Embedded) -> None:
    with connect(own_server.config) as client:
        client.config_resetstat()
        settings_of(client)
        assert {name for name in client.info("commandstats") if "ping" not in name and "hello" not in name} <= {
            "cmdstat_info",
            "cmdstat_config|get",
            "cmdstat_config|resetstat",
        }


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        (("+@all", "-config"), {"appendonly": "yes", "maxmemory": "536870912", "maxmemory-policy": "noeviction", "maxclients": "10000"}),
        (("+@all", "-config", "-info"), {}),
    ],
    ids=["without CONFIG", "without INFO too"],
)
def test_where_the_acl_refuses_it_what_info_tells_or_nothing(rules: tuple[str, ...], found: dict[str, str], own_server: Embedded) -> None:
    with connect(_as_user(own_server, *rules)) as client:
        told = settings_of(client)
    assert {name: value for name, value in told.items() if name != "build"} == found


def test_a_password_of_the_server_is_not_among_them(start_server: Callable[..., Embedded]) -> None:
    server = start_server("--requirepass", "open-sesame-7")
    engine = Remote({"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.config.port), "REDIS_PASSWORD": "open-sesame-7"}).engine
    assert engine.settings["appendonly"] == "no"
    assert "open-sesame-7" not in repr(engine)
